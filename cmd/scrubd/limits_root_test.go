package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/scrubd/scrubd/internal/lab"
	"github.com/scrubd/scrubd/ioctl"
	"github.com/scrubd/scrubd/ioctl/ioctltest"
	"github.com/scrubd/scrubd/scrub"
)

// sentences are what a command said on standard error, without its name.
func sentences(t *testing.T, log string) []string {
	t.Helper()
	var said []string
	for line := range strings.Lines(log) {
		line = strings.TrimSuffix(line, "\n")
		text, ok := strings.CutPrefix(line, "scrubd: ")
		require.True(t, ok, "not a sentence of scrubd: %s", line)
		said = append(said, text)
	}
	return said
}

// oneSentence checks that scrubd did not start, and gave one reason and one
// advice.
func oneSentence(t *testing.T, a answer, reason, todo string) {
	t.Helper()
	assert.Equal(t, exitOperational, a.status, a.out+a.log)
	assert.Empty(t, a.out)
	said := sentences(t, a.log)
	require.Len(t, said, 2, a.log)
	assert.Contains(t, said[0], reason)
	advice, ok := strings.CutPrefix(said[1], "what to do: ")
	assert.True(t, ok, said[1])
	assert.Contains(t, advice, todo)
}

// kernelScrub asks the kernel itself whether it has online scrub: machines
// differ.
func kernelScrub(t *testing.T, dir string) bool {
	t.Helper()
	fs, err := ioctl.Open(dir)
	require.NoError(t, err)
	defer func() { assert.NoError(t, fs.Close()) }()
	return fs.Features().Has(ioctl.FeatureScrub)
}

// A kernel without online scrub: what can be checked is checked and well, what
// cannot be is said in the first lines, and --require makes that an error.
func TestKernelWithoutScrub(t *testing.T) {
	lab.Require(t, lab.Root, lab.Loop)
	scrubd := program(t)
	fs := lab.NewLoopFS(t, lab.MkfsOptions{})
	require.NoError(t, os.WriteFile(fs.Path("file"), []byte("data"), 0o600))
	run := func(flags ...string) answer {
		return call(t, "/", append(append([]string{scrubd, "run", "--now"}, flags...), fs.Dir())...)
	}
	has := kernelScrub(t, fs.Dir())

	a := run()
	assert.Zero(t, a.status, a.out+a.log)
	lines := strings.Split(a.out, "\n")
	require.GreaterOrEqual(t, len(lines), 4, a.out)
	if has {
		assert.Contains(t, lines[1], "checked: kernel-scrub, rmapbt, ")
		assert.Zero(t, run("--require", "kernel-scrub,rmapbt").status)
		return
	}
	assert.Equal(t, "checked: rmapbt, bnobt", lines[1])
	assert.Contains(t, lines[2], "not checked: kernel-scrub and repair (online scrub is not supported")
	assert.Contains(t, lines[2], "CONFIG_XFS_ONLINE_SCRUB")
	assert.Contains(t, a.out, fs.Dir()+": clean: all that this kernel and filesystem allow to check is well\n")
	assert.Equal(t, []string{fs.Dir() + ": " + gapScrub.String()}, sentences(t, a.log))

	assert.Zero(t, run("--require", "rmapbt").status)
	oneSentence(t, run("--require", "kernel-scrub"), "required kernel-scrub is missing: online scrub is not supported", "without --require")
	oneSentence(t, run("--require", "rmapbt,repair"), "required repair is missing: online scrub is not supported", "scrubd probe")

	m := jsonLines(t, []byte(run("--json", "--require", "kernel-scrub").out))
	require.Len(t, m, 1)
	assert.Equal(t, "summary", m[0]["message_type"])
	assert.InDelta(t, exitOperational, m[0]["exit_status"], 0)
	assert.Contains(t, m[0]["error"], "required kernel-scrub is missing")
	assert.NotEmpty(t, m[0]["advice"])

	m = jsonLines(t, []byte(run("--json").out))
	require.GreaterOrEqual(t, len(m), 2)
	for _, end := range []map[string]any{m[0], m[len(m)-1]} {
		coverage, ok := end["coverage"].(map[string]any)
		require.True(t, ok, end)
		assert.Equal(t, false, coverage["kernel_scrub"])
		assert.Equal(t, false, coverage["repair"])
		assert.Equal(t, true, coverage["rmapbt"])
		assert.Len(t, coverage["not_checked"], 2)
	}

	probe := call(t, "/", scrubd, "probe", fs.Dir())
	assert.Zero(t, probe.status)
	assert.Contains(t, probe.out, "\nno scrub type can be checked: ")
	assert.Contains(t, probe.out, "\n"+gapScrub.String()+"\n")
}

// Without an rmapbt the forks can be held against free space and against each
// other. A fault that shows there is held: nobody can tell who is right.
func TestWithoutRmapbt(t *testing.T) {
	lab.Require(t, lab.Root, lab.Loop)
	scrubd := program(t)
	fs := lab.NewLoopFS(t, lab.MkfsOptions{Args: []string{"-m", "rmapbt=0,reflink=0", "-d", "agcount=2"}})
	for _, name := range []string{"alone", "other"} {
		require.NoError(t, os.Mkdir(fs.Path(name), 0o700))
		require.NoError(t, os.WriteFile(fs.Path(name, "file"), make([]byte, 16*4096), 0o600))
	}
	require.NoError(t, fs.Sync())
	run := func(flags ...string) answer {
		return call(t, "/", append(append([]string{scrubd, "run", "--now"}, flags...), fs.Dir())...)
	}

	a := run()
	assert.Zero(t, a.status, a.out+a.log)
	assert.Contains(t, a.out, "not checked: ")
	assert.Contains(t, a.out, "rmapbt (rmapbt is not supported: this filesystem was made without it)")
	assert.Contains(t, a.out, fs.Dir()+": clean: all that this kernel and filesystem allow to check is well\n")
	assert.Contains(t, a.log, "scrubd: "+fs.Dir()+": "+gapRmapbt.String()+"\n")
	oneSentence(t, run("--require", "rmapbt"), "required rmapbt is missing", "without --require")

	ino := inodeOf(t, fs.Path("alone", "file"))
	for _, c := range []struct {
		fault   lab.Fault
		summary string
	}{
		{lab.Fault{Class: lab.FaultForkStart, Ino: ino, Delta: 16}, "that the bnobt has free"},
		{lab.Fault{Class: lab.FaultCrossLink, Ino: ino}, "two files use the same blocks"},
	} {
		t.Run(string(c.fault.Class), func(t *testing.T) {
			damaged := damagedCopy(t, fs, c.fault)
			a := call(t, "/", scrubd, "run", "--now", damaged.Dir())
			assert.Equal(t, exitCorruption, a.status, a.out+a.log)
			assert.Contains(t, a.out, "\nHELD ")
			assert.Contains(t, a.out, c.summary)
			assert.Contains(t, a.out, "  where: AG ")
			assert.Contains(t, a.out, " alone/file", "the file's name")
			assert.Contains(t, a.out, "without an rmapbt there is no third witness")
			assert.Contains(t, a.out, "  what to do: ")
			assert.Contains(t, a.out, damaged.Dir()+": 1 finding: 1 held\n")
			assert.LessOrEqual(t, strings.Count(a.out, "\n"), 20, a.out)
		})
	}
}

// inodeOf returns the inode number of a file.
func inodeOf(t *testing.T, path string) ioctl.Ino {
	t.Helper()
	var st unix.Stat_t
	require.NoError(t, unix.Lstat(path, &st))
	return ioctl.Ino(st.Ino)
}

// damagedCopy is a mounted copy of a filesystem with a fault in it.
func damagedCopy(t *testing.T, of *lab.LoopFS, fault lab.Fault, options ...string) *lab.LoopFS {
	t.Helper()
	dir := t.TempDir()
	image := filepath.Join(dir, "xfs.img")
	require.NoError(t, of.Unmount())
	require.NoError(t, lab.CopyImage(image, of.Image()))
	require.NoError(t, of.Mount())
	done, err := lab.InjectImage(image, fault)
	require.NoError(t, err)
	t.Log(done.Describe())
	fs, err := lab.OpenLoopFS(image, filepath.Join(dir, "mnt"), append(options, "nouuid")...)
	require.NoError(t, err)
	require.NoError(t, fs.Mount())
	t.Cleanup(func() { assert.NoError(t, fs.Close()) })
	return fs
}

// On a read-only mount everything is checked, and the report says how a fault
// can be repaired.
func TestReadOnlyMount(t *testing.T) {
	lab.Require(t, lab.Root, lab.Loop)
	scrubd := program(t)
	fs := lab.NewLoopFS(t, lab.MkfsOptions{})
	require.NoError(t, lab.Sample(fs.Dir(), lab.SampleSpec{Files: 20}))
	require.NoError(t, fs.Remount("ro"))

	a := call(t, "/", scrubd, "run", "--now", fs.Dir())
	assert.Zero(t, a.status, a.out+a.log)
	assert.Contains(t, a.out, ", mode check\n")
	assert.Contains(t, a.out, fs.Dir()+": clean")
	assert.Contains(t, a.log, "scrubd: "+fs.Dir()+": "+gapReadOnly.String()+"\n")
	a = call(t, "/", scrubd, "run", "--now", "--check", fs.Dir())
	assert.Zero(t, a.status)
	assert.NotContains(t, a.log, gapReadOnly.String(), "who only checks need not be told")
	oneSentence(t, call(t, "/", scrubd, "run", "--now", "--require", "repair", fs.Dir()), "filesystem is read-only", "remount,rw")

	damaged := damagedCopy(t, fs, lab.Fault{Class: lab.FaultRmapOffset, Seed: 1}, "ro")
	a = call(t, "/", scrubd, "run", "--now", damaged.Dir())
	assert.Equal(t, exitCorruption, a.status, a.out+a.log)
	assert.Contains(t, a.out, damaged.Dir()+": 1 finding: ")

	// A mount may be read-only although its filesystem is not.
	require.NoError(t, fs.Remount("rw"))
	dir := t.TempDir()
	require.NoError(t, unix.Mount(fs.Dir(), dir, "", unix.MS_BIND, ""))
	defer func() { assert.NoError(t, unix.Unmount(dir, 0)) }()
	require.NoError(t, unix.Mount("", dir, "", unix.MS_BIND|unix.MS_REMOUNT|unix.MS_RDONLY, ""))
	a = call(t, "/", scrubd, "run", "--now", dir)
	assert.Zero(t, a.status, a.out+a.log)
	assert.Contains(t, a.out, ", mode check\n")
	assert.Contains(t, a.log, gapReadOnly.problem)
}

// V4 filesystems are checked as far as they go. Few kernels mount one any
// more; those that do not leave nothing for scrubd to find.
func TestV4(t *testing.T) {
	lab.Require(t, lab.Root, lab.Loop)
	scrubd := program(t)
	dir := t.TempDir()
	image := filepath.Join(dir, "xfs.img")
	if err := lab.MakeImage(t.Context(), image, lab.MkfsOptions{Args: []string{"-m", "crc=0"}}); err != nil {
		t.Logf("this mkfs.xfs makes no V4 filesystem: %v", err)
		return
	}
	fs, err := lab.OpenLoopFS(image, filepath.Join(dir, "mnt"))
	require.NoError(t, err)
	defer func() { assert.NoError(t, fs.Close()) }()
	if err := fs.Mount(); err != nil {
		t.Logf("this kernel mounts no V4 filesystem: %v", err)
		oneSentence(t, call(t, "/", scrubd, "run", "--now", fs.Dir()), "not an XFS filesystem", "it is not mounted")
		return
	}
	require.NoError(t, os.WriteFile(fs.Path("file"), make([]byte, 100_000), 0o600))
	a := call(t, "/", scrubd, "run", "--now", fs.Dir())
	assert.Zero(t, a.status, a.out+a.log)
	assert.Contains(t, a.out, fs.Dir()+": clean")
	assert.Contains(t, a.log, "scrubd: "+fs.Dir()+": "+gapV4.String()+"\n")
}

// What a kernel that still mounts V4 shows, from the fake one: the whole pass
// over it.
func TestV4OnAFakeKernel(t *testing.T) {
	model := ioctltest.NewModel()
	model.Geometry.Flags &^= ioctl.FlagV5 | ioctl.FlagRmapbt | ioctl.FlagReflink | ioctl.FlagFinobt | ioctl.FlagSparseInodes
	status, out, log := runOn(t, ioctltest.NewKernel(t, model), scrub.Run, nil, "/")
	assert.Zero(t, status, out+log)
	assert.Contains(t, out, "rmapbt (rmapbt is not supported: this filesystem was made without it)")
	assert.Contains(t, out, "/: clean: all that this kernel and filesystem allow to check is well\n")
	assert.Equal(t, []string{"/: " + gapV4.String()}, sentences(t, log))

	status, out, log = runOn(t, ioctltest.NewKernel(t, model), scrub.Run, func(o *runOptions) {
		o.require = []string{"rmapbt"}
	}, "/")
	assert.Equal(t, exitOperational, status)
	assert.Empty(t, out)
	require.Len(t, sentences(t, log), 2, log)
	assert.Contains(t, log, "required rmapbt is missing")
}
