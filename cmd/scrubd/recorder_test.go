package main

import (
	"context"
	"errors"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/scrubd/scrubd/ioctl"
	"github.com/scrubd/scrubd/scrub"
	"github.com/scrubd/scrubd/scrub/kernel"
	"github.com/scrubd/scrubd/service/config"
	"github.com/scrubd/scrubd/service/daemon"
	"github.com/scrubd/scrubd/service/metrics"
	"github.com/scrubd/scrubd/service/record"
)

// kept is an engine that repairs one thing of two and tells how long it took.
func kept(_ context.Context, _ *ioctl.FS, o scrub.Options) (*scrub.Summary, error) {
	start := *testStart
	start.RunID, start.UUID = "00ff", testUUID
	o.Events(&start)
	for _, err := range []error{nil, errors.New("no space")} {
		o.Events(&scrub.RepairEvent{What: "rebuild", Type: ioctl.ScrubTypeRMAPBT, Began: true})
		o.Events(&scrub.RepairEvent{What: "rebuild", Type: ioctl.ScrubTypeRMAPBT, Err: err})
	}
	s := testSummary(offsetFinding(), heldFinding())
	s.RunID, s.ComparedBytes, s.Throttled = "00ff", 1<<20, 1500*time.Millisecond
	times := kernel.Timing{Calls: 3, Total: 2 * time.Second}
	times.Buckets[0], times.Buckets[5] = 2, 1
	s.KernelTimes = []kernel.TypeTiming{{Type: ioctl.ScrubTypeRMAPBT, Timing: times}}
	return s, nil
}

// A run that is no unit leaves a record too, with a report, and nothing of that
// shows in what it prints.
func TestRunsAreRecorded(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "state")
	conf := filepath.Join(t.TempDir(), "scrubd.toml")
	status, out, log := runOn(t, newKernel(t), kept, func(o *runOptions) {
		o.record, o.stateDir, o.config = true, dir, conf
	}, "/")
	assert.Equal(t, exitCorruption, status)
	assert.Empty(t, log)
	assert.Contains(t, out, "/: 2 findings")
	store := record.New(dir)
	runs, err := store.History(testUUID)
	require.NoError(t, err)
	require.Len(t, runs, 1)
	r := runs[0]
	assert.Equal(t, "person", r.Trigger)
	assert.Equal(t, "/", r.Mount)
	assert.Equal(t, record.ResultCorruption, r.Result())
	assert.Equal(t, 2, r.Repairs)
	assert.Equal(t, 1, r.RepairsFailed)
	assert.Equal(t, map[string]map[string]int{"rmapbt": {"repaired": 1}, "undecided": {"held": 1}}, r.Verdicts)
	report, err := os.ReadFile(store.Report(&r))
	require.NoError(t, err)
	messages := jsonLines(t, report)
	assert.Equal(t, "summary", messages[len(messages)-1]["message_type"])
	totals, err := store.Totals(testUUID)
	require.NoError(t, err)
	assert.Equal(t, uint64(1<<20), totals.CheckedBytes)
	assert.InDelta(t, 1.5, totals.ThrottledSeconds, 1e-9)
	require.Len(t, totals.KernelCalls, 1)
	c := totals.KernelCalls[0]
	assert.Equal(t, "rmapbt", c.ScrubType)
	assert.Equal(t, uint64(3), c.Count)
	assert.InDelta(t, 2, c.Seconds, 1e-9)
	assert.Equal(t, []float64{0.0001, 0.001, 0.01, 0.1, 1, 10, 60, 600, 3600}, c.Bounds)
	assert.Equal(t, []uint64{2, 0, 0, 0, 0, 1, 0, 0, 0}, c.Buckets)
}

// Without a place for it, the record is lost and the run is not.
func TestRunsWithoutAPlaceForTheirRecord(t *testing.T) {
	r, _ := recorderOn(t, "state")
	require.NoError(t, os.WriteFile(r.stateDir, nil, 0o600))
	require.NoError(t, os.WriteFile(r.asideDir, nil, 0o600))
	said := finish(r, testSummary(), nil)
	assert.Contains(t, said, "/data: the record of this run is not kept: ")

	r, _ = recorderOn(t, "state")
	require.NoError(t, os.WriteFile(r.stateDir, nil, 0o600))
	said = finish(r, testSummary(), nil)
	assert.Contains(t, said, "/data: the record of this run is not where it should be: it is in "+r.asideDir)
	runs, err := record.New(r.asideDir).History(testUUID)
	require.NoError(t, err)
	assert.Len(t, runs, 1)
}

// recorderOn is a recorder whose state directory is below a temporary directory,
// and with it on the filesystem that the run was over; what is aside is on another.
func recorderOn(t *testing.T, name string) (r *recorder, own string) {
	t.Helper()
	own = t.TempDir()
	var st unix.Stat_t
	require.NoError(t, unix.Stat(own, &st))
	target := &target{Path: "/data", MountPoint: "/data", Device: "/dev/sdb", Major: int(unix.Major(uint64(st.Dev))), Minor: int(unix.Minor(uint64(st.Dev)))} //nolint:unconvert // narrower on some architectures
	r = newRecorder(filepath.Join(own, name), target, triggerPerson)
	other, err := os.MkdirTemp("/dev/shm", "scrubd-test-")
	require.NoError(t, err)
	t.Cleanup(func() { _ = os.RemoveAll(other) })
	r.asideDir = filepath.Join(other, "aside")
	r.store = record.New(r.stateDir).WithAside(r.asideDir)
	return r, own
}

// finish ends a run and returns what was said of its record.
func finish(r *recorder, s *scrub.Summary, err error) string {
	said := ""
	r.say = func(_ error, text string) { said += text + "\n" }
	r.event(unitStart())
	r.end(s, 0, err)
	return said
}

// What was found damaged, and not made good, is not written to.
func TestNoRecordOnADamagedFilesystem(t *testing.T) {
	unsettled := offsetFinding()
	unsettled.Outcome = scrub.Unsettled
	failed := offsetFinding()
	failed.Outcome = scrub.Failed
	noted := offsetFinding()
	noted.Outcome, noted.Severity = scrub.Noted, scrub.Warning
	for _, c := range []struct {
		name    string
		summary *scrub.Summary
		err     error
		sparing bool
		aside   bool
	}{
		{"clean", testSummary(), nil, false, false},
		{"repaired and proven", testSummary(offsetFinding()), nil, false, false},
		{"odd", testSummary(noted), nil, false, false},
		{"stopped, and nothing found so far", testSummary(), &stopError{Signal: os.Interrupt}, false, false},
		{"held", testSummary(heldFinding()), nil, false, true},
		{"failed", testSummary(failed), nil, false, true},
		{"unsettled", testSummary(unsettled), nil, false, true},
		{"shut down", testSummary(), ioctl.ErrShutdown, false, true},
		{"did not come back", nil, &callStuckError{}, false, true},
		{"nothing is to be changed", testSummary(), nil, true, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			r, _ := recorderOn(t, "state")
			r.sparing = c.sparing
			said := finish(r, c.summary, c.err)
			runs, err := r.store.History(testUUID)
			require.NoError(t, err)
			require.Len(t, runs, 1, "nothing is lost")
			if !c.aside {
				assert.Empty(t, said)
				assert.DirExists(t, r.stateDir)
				return
			}
			assert.NoDirExists(t, r.stateDir)
			assert.Contains(t, said, "/data: the state directory lies on this filesystem, ")
			assert.Contains(t, said, "the record of this run is in "+r.asideDir+" until a run may write it there")
		})
	}

	// Nor is the other place if it lies there too.
	r, own := recorderOn(t, "state")
	r.asideDir = filepath.Join(own, "aside")
	said := finish(r, testSummary(heldFinding()), nil)
	assert.Contains(t, said, "the record of this run is not kept: "+r.asideDir+": the state directory lies on the filesystem under repair")
	assert.NoDirExists(t, r.asideDir)

	// The state directory on another filesystem is written to, whatever was found.
	r, _ = recorderOn(t, "state")
	r.t.Minor++
	assert.Empty(t, finish(r, testSummary(heldFinding()), nil))
	assert.DirExists(t, r.stateDir)
}

// testDaemon is a daemon that has /data mounted, and its socket.
func testDaemon(t *testing.T, stateDir string) (d *daemon.Daemon, socket string) {
	t.Helper()
	d = daemon.New(daemon.Options{
		Config: config.Default(), StateDir: stateDir, Runner: noUnits{}, Log: newLogger(os.Stderr, false), Now: time.Now,
		Mounts:   func() ([]daemon.Mount, error) { return []daemon.Mount{{Point: "/data", Number: "8:1"}}, nil },
		Identify: func(string) (string, error) { return testUUID, nil },
		Disks:    func(...string) ([]string, error) { return []string{"8:0"}, nil },
		Peers:    func(context.Context, string) ([]string, error) { return nil, nil },
	})
	d.Step(t.Context(), time.Now())
	socket = filepath.Join(t.TempDir(), "s")
	l, err := net.Listen("unix", socket)
	require.NoError(t, err)
	server := &http.Server{Handler: d.Handler(), ConnContext: daemon.ConnContext, ReadHeaderTimeout: time.Minute}
	go func() { _ = server.Serve(l) }()
	t.Cleanup(func() { _ = server.Close() })
	return d, socket
}

// noUnits is a system without units.
type noUnits struct{}

func (noUnits) Start(context.Context, string) error { return errors.New("no units here") }

func (noUnits) Stop(context.Context, string) error { return errors.New("no units here") }

func (noUnits) Running(context.Context) (map[string]string, error) { return map[string]string{}, nil }

// A run with --now reports itself to the daemon, and ends when the daemon is asked
// to end it.
func TestRunsReportThemselves(t *testing.T) {
	if os.Geteuid() != 0 {
		_, socket := testDaemon(t, t.TempDir())
		assert.True(t, hasDaemon(t.Context(), socket), "one that does not listen to us is one")
		return // the daemon answers root
	}
	dir := t.TempDir()
	d, socket := testDaemon(t, dir)
	state := func() daemon.Status { return d.Status(time.Now())[0] }
	status, _, log := runOn(t, newKernel(t), func(ctx context.Context, _ *ioctl.FS, o scrub.Options) (*scrub.Summary, error) {
		o.Events(unitStart())
		assert.Eventually(t, func() bool { return state().State == daemon.StateRunning }, 20*time.Second, 5*time.Millisecond)
		if err := d.Cancel(ctx, "/data", time.Now()); err != nil {
			t.Error(err) // not in the test's own goroutine
		}
		<-ctx.Done()
		s := testSummary()
		s.Complete = false
		return s, ctx.Err()
	}, func(o *runOptions) {
		o.record, o.stateDir, o.socket, o.config = true, dir, socket, filepath.Join(dir, "none.toml")
	}, "/data")
	assert.Equal(t, exitOperational, status, log)
	require.Eventually(t, func() bool {
		d.Step(t.Context(), time.Now())
		return state().State == daemon.StateIdle
	}, 20*time.Second, 5*time.Millisecond)
	require.NotNil(t, state().Last, "history knows of it")
	assert.True(t, state().Last.Stopped)
	assert.Equal(t, "stopped through the daemon: it was cancelled", state().Last.Reason)
}

func TestMetricsOfRuns(t *testing.T) {
	if os.Geteuid() != 0 {
		return // as above; the daemon's own tests have the rest
	}
	dir, prom := t.TempDir(), t.TempDir()
	conf := filepath.Join(dir, "scrubd.toml")
	require.NoError(t, os.WriteFile(conf, []byte("[metrics]\ntextfile_dir = \""+prom+"\"\n"), 0o600))
	_, socket := testDaemon(t, dir)
	with := func(socket string) func(o *runOptions) {
		return func(o *runOptions) { o.record, o.stateDir, o.socket, o.config = true, dir, socket, conf }
	}
	_, _, log := runOn(t, newKernel(t), kept, with(socket), "/")
	assert.Empty(t, log)
	assert.NoFileExists(t, filepath.Join(prom, metrics.Textfile), "the daemon writes it")
	_, _, log = runOn(t, newKernel(t), kept, with("/nonexistent"), "/")
	assert.Empty(t, log)
	text, err := os.ReadFile(filepath.Join(prom, metrics.Textfile))
	require.NoError(t, err)
	assert.Contains(t, string(text), `scrubd_kernel_call_duration_seconds_count{operation="check",scrub_type="rmapbt"} 6`)

	require.NoError(t, os.WriteFile(conf, []byte("[metrics]\ntextfile_dir = \""+prom+"/none\"\n"), 0o600))
	_, _, log = runOn(t, newKernel(t), kept, with("/nonexistent"), "/")
	assert.Contains(t, log, "scrubd: write metrics to "+prom)
	require.NoError(t, os.WriteFile(conf, []byte("x"), 0o600))
	_, _, log = runOn(t, newKernel(t), kept, with("/nonexistent"), "/")
	assert.Contains(t, log, "scrubd: read where metrics go: "+conf+":1: ")
}
