package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/scrubd/scrubd/ioctl"
	"github.com/scrubd/scrubd/ioctl/ioctltest"
	"github.com/scrubd/scrubd/scrub"
)

// runOn runs the command on paths of a fake mount table, over a fake kernel.
func runOn(t *testing.T, k *ioctltest.Kernel, run engine, change func(*runOptions), paths ...string) (status int, out, log string) {
	t.Helper()
	t.Setenv("SCRUBD_CONSISTENT_OUTPUT", "1")
	o := &runOptions{
		now: true,
		mounts: testMounts(map[string]place{
			"/data": {Path: "/data", MountID: 3}, "/data/": {Path: "/data", MountID: 3},
			"/snap": {Path: "/snap", MountID: 7}, "/": {Path: "/", MountID: 1}, "/boot": {Path: "/boot", MountID: 4},
		}),
		open:   func(string) (*ioctl.FS, error) { return ioctl.New(k, ioctltest.Path) },
		thawed: func(context.Context, string, func(string)) error { return nil },
		engine: run,
	}
	if change != nil {
		change(o)
	}
	var stdout, stderr bytes.Buffer
	err := runRun(t.Context(), o, paths, streams{out: &stdout, err: &stderr})
	if err != nil {
		var exit *exitError
		require.ErrorAs(t, err, &exit)
		if !exit.reported {
			complain(&stderr, err)
		}
	}
	return exitStatusOf(err), stdout.String(), stderr.String()
}

// clean is an engine that finds nothing and remembers its options.
func clean(seen *scrub.Options) engine {
	return func(_ context.Context, _ *ioctl.FS, o scrub.Options) (*scrub.Summary, error) {
		if seen != nil {
			*seen = o
		}
		o.Events(testStart)
		return testSummary(), nil
	}
}

func newKernel(t *testing.T) *ioctltest.Kernel {
	t.Helper()
	return ioctltest.NewKernel(t, ioctltest.NewModel())
}

func TestRunPassesItsOptionsOn(t *testing.T) {
	var got scrub.Options
	k := newKernel(t)
	status, out, log := runOn(t, k, clean(&got), func(o *runOptions) {
		o.repair, o.acceptLoss, o.ignoreAutofsck = true, true, true
		o.workers, o.stateDir, o.spillDir = 3, "/state", "/spill"
		o.require, o.beforeRepair = []string{"kernel-scrub"}, "exit 1"
	}, "/")
	assert.Zero(t, status, log)
	assert.Contains(t, out, "/: clean")
	assert.Equal(t, scrub.ModeRepair, got.Mode)
	assert.True(t, got.AcceptLoss && got.IgnoreAutofsck)
	assert.Equal(t, 3, got.Workers)
	assert.Equal(t, "/state", got.StateDir)
	assert.Equal(t, "/spill", got.SpillDir)
	assert.Equal(t, []string{"kernel-scrub"}, got.Require)
	var veto *vetoError
	require.ErrorAs(t, got.BeforeRepair(t.Context(), nil), &veto)
	assert.Zero(t, k.OpenFiles(), "everything is closed again")
}

func TestRunModes(t *testing.T) {
	for _, c := range []struct {
		set  func(*runOptions)
		want scrub.Mode
	}{
		{func(*runOptions) {}, 0},
		{func(o *runOptions) { o.check = true }, scrub.ModeCheck},
		{func(o *runOptions) { o.optimize = true }, scrub.ModeOptimize},
		{func(o *runOptions) { o.repair = true }, scrub.ModeRepair},
	} {
		var got scrub.Options
		runOn(t, newKernel(t), clean(&got), c.set, "/")
		assert.Equal(t, c.want, got.Mode)
		assert.Nil(t, got.BeforeRepair)
	}
}

func TestRunOnAReadOnlyMountOnlyChecks(t *testing.T) {
	var got scrub.Options
	status, _, log := runOn(t, newKernel(t), clean(&got), func(o *runOptions) { o.repair = true }, "/snap")
	assert.Zero(t, status)
	assert.Equal(t, scrub.ModeCheck, got.Mode)
	assert.Contains(t, log, "scrubd: /snap: filesystem is read-only: it is checked, but nothing can be repaired; to repair, mount -o remount,rw")

	_, _, log = runOn(t, newKernel(t), clean(&got), func(o *runOptions) { o.check = true }, "/snap")
	assert.Empty(t, log, "who only checks need not be told")

	_, _, log = runOn(t, newKernel(t), func(_ context.Context, _ *ioctl.FS, o scrub.Options) (*scrub.Summary, error) {
		o.Events(&scrub.StartEvent{Mode: scrub.ModeCheck, Coverage: scrub.Coverage{KernelScrub: true, Rmapbt: true}})
		return testSummary(), nil
	}, func(o *runOptions) { o.check = true }, "/snap")
	assert.Empty(t, log, "that there is no repair is not the kernel's fault")

	status, _, log = runOn(t, newKernel(t), nil, func(o *runOptions) { o.require = []string{"repair"} }, "/snap")
	assert.Equal(t, exitOperational, status)
	assert.Contains(t, log, "/snap: --require repair: filesystem is read-only\n")
}

func TestRunTellsWhatWouldBringMore(t *testing.T) {
	for _, c := range []struct {
		name     string
		coverage scrub.Coverage
		v4       bool
		want     gap
	}{
		{"scrub", scrub.Coverage{Rmapbt: true}, false, gapScrub},
		{"repair", scrub.Coverage{Rmapbt: true, KernelScrub: true}, false, gapRepair},
		{"rmapbt", scrub.Coverage{KernelScrub: true}, false, gapRmapbt},
		{"V4", scrub.Coverage{KernelScrub: true}, true, gapV4},
	} {
		t.Run(c.name, func(t *testing.T) {
			model := ioctltest.NewModel()
			if c.v4 {
				model.Geometry.Flags &^= ioctl.FlagV5
			}
			status, _, log := runOn(t, ioctltest.NewKernel(t, model),
				func(_ context.Context, _ *ioctl.FS, o scrub.Options) (*scrub.Summary, error) {
					o.Events(&scrub.StartEvent{Mode: scrub.ModeRepair, Coverage: c.coverage})
					return testSummary(), nil
				}, nil, "/")
			assert.Zero(t, status)
			assert.Equal(t, "scrubd: /: "+c.want.String()+"\n", log)
		})
	}
}

func TestRunAddsTheStatusesUp(t *testing.T) {
	runs := 0
	status, out, log := runOn(t, newKernel(t),
		func(_ context.Context, _ *ioctl.FS, o scrub.Options) (*scrub.Summary, error) {
			runs++
			o.Events(testStart)
			f := heldFinding()
			if runs == 2 {
				f.Outcome, f.Severity = scrub.Optimizable, scrub.Optimization
			}
			return testSummary(f), nil
		}, nil, "/data", "/boot", "/data/", "/")
	assert.Equal(t, exitCorruption|exitWarnings|exitOperational, status)
	assert.Equal(t, 2, runs)
	assert.Contains(t, out, "/data: 1 finding: 1 held\n")
	assert.Contains(t, out, "/: 1 finding: 1 optimizable\n")
	assert.Contains(t, log, "/boot: not an XFS filesystem")
	assert.Contains(t, log, "/data/: the same filesystem as /data, checked once\n")
}

func TestRunJSONEndsEveryPathWithASummary(t *testing.T) {
	status, out, _ := runOn(t, newKernel(t), clean(nil), func(o *runOptions) { o.json = true }, "/boot", "/data")
	assert.Equal(t, exitOperational, status)
	var got []string
	for _, m := range jsonLines(t, []byte(out)) {
		got = append(got, fmt.Sprint(m["path"], " ", m["message_type"], " ", m["exit_status"], " ", m["error"]))
	}
	assert.Equal(t, []string{
		"/boot summary 4 /boot: not an XFS filesystem (ext4 is mounted at /boot)",
		"/data start <nil> <nil>",
		"/data summary 0 <nil>",
	}, got)
}

func TestRunIsRefused(t *testing.T) {
	never := func(context.Context, *ioctl.FS, scrub.Options) (*scrub.Summary, error) {
		panic("it must not start")
	}
	for _, c := range []struct {
		name   string
		model  func(*ioctltest.Model)
		kernel func(*ioctltest.Kernel)
		change func(*runOptions)
		want   string
	}{
		{name: "second run", kernel: func(k *ioctltest.Kernel) { k.Lock(true) }, want: "another scrubd is at work"},
		{name: "no CAP_SYS_ADMIN", model: func(m *ioctltest.Model) { m.NoAdmin = true }, want: "run scrubd as root"},
		{name: "shut down", model: func(m *ioctltest.Model) { m.Shutdown = true }, want: "filesystem is shut down"},
		{
			name: "frozen",
			change: func(o *runOptions) {
				o.thawed = func(context.Context, string, func(string)) error { return ioctl.ErrFrozen }
			},
			want: "xfs_freeze -u",
		},
		{
			name: "not XFS after all", model: func(m *ioctltest.Model) { m.FSType = 0xef53 },
			want: "not an XFS filesystem",
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			model := ioctltest.NewModel()
			if c.model != nil {
				c.model(model)
			}
			k := ioctltest.NewKernel(t, model)
			if c.kernel != nil {
				c.kernel(k)
			}
			status, out, log := runOn(t, k, never, c.change, "/")
			assert.Equal(t, exitOperational, status)
			assert.Empty(t, out)
			assert.Contains(t, log, c.want)
			assert.Equal(t, 2, strings.Count(log, "\n"), "a problem and what to do about it: %s", log)
			assert.Zero(t, k.OpenFiles())
		})
	}
}

func TestRunWithoutNowNamesTheCommand(t *testing.T) {
	status, _, log := runOn(t, newKernel(t), nil, func(o *runOptions) { o.now, o.socket = false, "/nonexistent" }, "/data")
	assert.Equal(t, exitOperational, status)
	assert.Contains(t, log, "scrubd run --now /data")
}

func TestRunStopsBeforeTheNextPath(t *testing.T) {
	status, _, log := runOn(t, newKernel(t),
		func(ctx context.Context, _ *ioctl.FS, o scrub.Options) (*scrub.Summary, error) {
			o.Events(testStart)
			raise(t)
			<-ctx.Done()
			s := testSummary()
			s.Complete, s.Incomplete = false, "stopped in phase walk"
			return s, ctx.Err()
		}, nil, "/data", "/")
	assert.Equal(t, exitOperational, status)
	assert.Contains(t, log, "scrubd: /: not checked: stopped by a signal (terminated)\n")
}

func TestProbeOverTheFakeKernel(t *testing.T) {
	t.Setenv("SCRUBD_CONSISTENT_OUTPUT", "1")
	for _, c := range []struct {
		name   string
		change func(*ioctltest.Model)
		has    []string
		hasNot []string
	}{
		{
			"everything", func(*ioctltest.Model) {},
			[]string{"sb yes yes the secondary superblocks", "rmapbt yes yes", "kernel-scrub yes"},
			[]string{"this kernel has no", "healthy yes yes"},
		},
		{
			"no scrub", func(m *ioctltest.Model) { m.NoScrub = true },
			[]string{"kernel-scrub no", "no scrub type can be checked: ", gapScrub.String()},
			[]string{"SCRUB TYPE"},
		},
		{
			"no repair", func(m *ioctltest.Model) { m.NoRepair = true },
			[]string{"rmapbt yes no", "CONFIG_XFS_ONLINE_REPAIR", gapRepair.String()},
			[]string{gapScrub.String()},
		},
		{
			"no rmapbt", func(m *ioctltest.Model) { m.Geometry.Flags &^= ioctl.FlagRmapbt },
			[]string{"bmapbtd yes no the repair needs rmapbt", gapRmapbt.String(), "fscounters yes yes"},
			nil,
		},
		{
			"V4", func(m *ioctltest.Model) { m.Geometry.Flags &^= ioctl.FlagV5 | ioctl.FlagRmapbt },
			[]string{"fscounters yes no this filesystem has no checksums (V4)", gapV4.String()},
			[]string{gapRmapbt.String(), gapRepair.String()},
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			model := ioctltest.NewModel()
			c.change(model)
			k := ioctltest.NewKernel(t, model)
			o := &probeOptions{
				mounts: testMounts(map[string]place{"/": {Path: "/", MountID: 1}}),
				open:   func(string) (*ioctl.FS, error) { return ioctl.New(k, ioctltest.Path) },
				thawed: func(context.Context, string, func(string)) error { return nil },
			}
			var out, log bytes.Buffer
			require.NoError(t, runProbe(t.Context(), o, "/", streams{out: &out, err: &log}))
			squeezed := strings.Join(strings.FieldsFunc(out.String(), func(c rune) bool { return c == ' ' }), " ")
			for _, want := range c.has {
				assert.Contains(t, squeezed, want)
			}
			for _, not := range c.hasNot {
				assert.NotContains(t, squeezed, not)
			}

			o.json = true
			out.Reset()
			require.NoError(t, runProbe(t.Context(), o, "/", streams{out: &out, err: &log}))
			report := jsonLines(t, out.Bytes())[0]
			assert.Len(t, report["scrub_types"], int(ioctl.ScrubTypeCount)-1)
			assert.Len(t, report["features"], len(ioctl.AllFeatures())+1, "and live-updates")
			assert.Zero(t, k.OpenFiles())
		})
	}
}

func TestProbeWithoutPrivilegeSaysSo(t *testing.T) {
	model := ioctltest.NewModel()
	model.NoAdmin = true
	k := ioctltest.NewKernel(t, model)
	o := &probeOptions{
		mounts: testMounts(map[string]place{"/": {Path: "/", MountID: 1}}),
		open:   func(string) (*ioctl.FS, error) { return ioctl.New(k, ioctltest.Path) },
		thawed: func(context.Context, string, func(string)) error { return nil },
	}
	var out bytes.Buffer
	err := runProbe(t.Context(), o, "/", streams{out: &out, err: &out})
	require.ErrorIs(t, err, ioctl.ErrPrivilege)
	assert.Equal(t, exitOperational, exitStatusOf(err))
	assert.Contains(t, out.String(), "cannot be told without CAP_SYS_ADMIN")
}

func TestExitStatusOf(t *testing.T) {
	assert.Zero(t, exitStatusOf(nil))
	assert.Equal(t, 5, exitStatusOf(fmt.Errorf("wrapped: %w", &exitError{status: 5})))
	assert.Equal(t, exitUsage, exitStatusOf(errors.New("unknown flag: --bogus")))
}
