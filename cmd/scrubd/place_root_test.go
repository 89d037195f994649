package main

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/scrubd/scrubd/internal/lab"
)

// A path that leads to no XFS filesystem: one reason, one advice.
func TestPathsWithoutXFS(t *testing.T) {
	lab.Require(t, lab.Root, lab.Loop)
	scrubd := program(t)
	tmpfs := t.TempDir()
	require.NoError(t, unix.Mount("tmpfs", tmpfs, "tmpfs", 0, ""))
	defer func() { assert.NoError(t, unix.Unmount(tmpfs, 0)) }()
	run := func(paths ...string) answer {
		return call(t, "/", append([]string{scrubd, "run", "--now"}, paths...)...)
	}

	oneSentence(t, run(tmpfs), tmpfs+": not an XFS filesystem (tmpfs is mounted at "+tmpfs+")", "findmnt -t xfs")
	oneSentence(t, run(filepath.Join(tmpfs, "nope")), "no such file or directory", "check the spelling")
	oneSentence(t, run("/dev/null"), "not an XFS filesystem", "findmnt -t xfs")
	loop := filepath.Join(tmpfs, "loop")
	require.NoError(t, os.Symlink(loop, loop))
	oneSentence(t, run(loop), "too many levels of symbolic links", "namei -l")
	oneSentence(t, run("/dev/null/sub"), "look up /dev/null/sub: not a directory", "namei -l")

	// The others are checked all the same.
	fs := lab.NewLoopFS(t, lab.MkfsOptions{})
	a := run(tmpfs, fs.Dir())
	assert.Equal(t, exitOperational, a.status)
	assert.Contains(t, a.out, fs.Dir()+": clean")
	assert.Contains(t, a.log, "not an XFS filesystem")
	a = call(t, "/", scrubd, "run", fs.Dir())
	assert.Equal(t, exitOperational, a.status)
	assert.Contains(t, a.log, "without --now")
	assert.Contains(t, a.log, "scrubd run --now "+fs.Dir())
}

// Somebody else than root gets told what is missing, from run and from probe.
func TestAsNobody(t *testing.T) {
	lab.Require(t, lab.Root, lab.Loop)
	scrubd := program(t)
	base, err := os.MkdirTemp("", "scrubd-nobody-")
	require.NoError(t, err)
	defer func() { assert.NoError(t, os.RemoveAll(base)) }()
	require.NoError(t, os.Chmod(base, 0o755))
	fs := lab.NewLoopFS(t, lab.MkfsOptions{Dir: base})
	defer func() { assert.NoError(t, fs.Close()) }()
	as := func(argv ...string) answer {
		var out, log bytes.Buffer
		cmd := exec.Command(argv[0], argv[1:]...)
		cmd.Dir, cmd.Stdout, cmd.Stderr = "/", &out, &log
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534, NoSetGroups: true}}
		if err := cmd.Run(); err != nil {
			var exit *exec.ExitError
			require.ErrorAs(t, err, &exit)
		}
		return answer{cmd.ProcessState.ExitCode(), out.String(), log.String()}
	}

	require.NoError(t, os.Chmod(fs.Dir(), 0o755))
	oneSentence(t, as(scrubd, "run", "--now", fs.Dir()), "not permitted", "run scrubd as root")
	a := as(scrubd, "probe", fs.Dir())
	assert.Equal(t, exitOperational, a.status)
	assert.Contains(t, a.out, fs.Dir()+": XFS on ", "what needs no privilege is shown")
	assert.Contains(t, a.log, "not permitted")
	assert.Contains(t, a.log, "what to do: run scrubd as root")

	require.NoError(t, os.Chmod(fs.Dir(), 0o700))
	oneSentence(t, as(scrubd, "run", "--now", fs.Dir()), "not permitted", "run scrubd as root")
}

// rootFS fills an XFS filesystem with what scrubd needs to run on it as its
// root: the program alone.
func rootFS(t *testing.T, fs *lab.LoopFS) {
	t.Helper()
	for _, dir := range []string{"proc", "dev", "sys", "run", "tmp", "sub", "old"} {
		require.NoError(t, os.Mkdir(fs.Path(dir), 0o755))
	}
	// A test binary may need shared libraries; the program never does.
	build := exec.Command("go", "build", "-o", fs.Path("scrubd"), ".")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	out, err := build.CombinedOutput()
	require.NoError(t, err, string(out))
	require.NoError(t, fs.Sync())
}

// asRoot runs a script in a mount namespace of its own, with $1 as the mount
// point of a filesystem made by [rootFS]. What it mounts goes with it.
func asRoot(t *testing.T, fs *lab.LoopFS, script string) answer {
	t.Helper()
	return call(t, "/", "unshare", "--mount", "--propagation", "private", "sh", "-euc", script, "sh", fs.Dir())
}

// The scripts that make XFS the root of scrubd's world.
const (
	enterChroot = `mount -t proc proc "$1/proc"; chroot "$1" /scrubd `
	enterPivot  = `mount -t proc proc "$1/proc"; cd "$1"; pivot_root . old; cd /; exec /scrubd `
)

// XFS as the root filesystem, of a process and of a mount namespace.
func TestXFSAsRoot(t *testing.T) {
	lab.Require(t, lab.Root, lab.Loop)
	fs := lab.NewLoopFS(t, lab.MkfsOptions{})
	rootFS(t, fs)
	for name, enter := range map[string]string{"chroot": enterChroot, "pivot_root": enterPivot} {
		t.Run(name, func(t *testing.T) {
			a := asRoot(t, fs, enter+"run --now /")
			assert.Zero(t, a.status, a.out+a.log)
			assert.True(t, strings.HasPrefix(a.out, "/: XFS on DEVICE, mode repair\n"), a.out)
			assert.Contains(t, a.out, "\n/: clean: all that this kernel and filesystem allow to check is well\n")
			refused(t, asRoot(t, fs, enter+"run --now /sub"), "/sub: not a mount point (it lies on the XFS filesystem at /)", "scrubd run --now /\n")
			refused(t, asRoot(t, fs, enter+"run --now /proc"), "/proc: not an XFS filesystem (proc is mounted at /proc)", "findmnt")
			a = asRoot(t, fs, enter+"probe /")
			assert.Zero(t, a.status, a.log)
			assert.Contains(t, a.out, "/: XFS, 4 AGs")
		})
	}
	t.Run("without /proc", func(t *testing.T) {
		a := asRoot(t, fs, `chroot "$1" /scrubd run --now /`)
		oneSentence(t, a, "find the mount of /: /proc is not mounted", "type: mount -t proc proc /proc")
	})
}

// A bind mount of the root of a filesystem is as good as the mount itself; one
// of a directory is refused with the name of a better one, where there is one.
func TestBindMounts(t *testing.T) {
	lab.Require(t, lab.Root, lab.Loop)
	scrubd := program(t)
	fs := lab.NewLoopFS(t, lab.MkfsOptions{})
	require.NoError(t, os.Mkdir(fs.Path("sub"), 0o755))
	bind := func(from string) string {
		dir := t.TempDir()
		require.NoError(t, unix.Mount(from, dir, "", unix.MS_BIND, ""))
		t.Cleanup(func() { assert.NoError(t, unix.Unmount(dir, 0)) })
		return dir
	}
	whole, part := bind(fs.Dir()), bind(fs.Path("sub"))

	a := call(t, "/", scrubd, "run", "--now", whole)
	assert.Zero(t, a.status, a.out+a.log)
	assert.Contains(t, a.out, whole+": clean")
	oneSentence(t, call(t, "/", scrubd, "run", "--now", part), "shows only a part of its filesystem (the directory /sub)",
		"type: scrubd run --now "+fs.Dir())

	// As in a container: only the part is there.
	a = call(t, "/", "unshare", "--mount", "--propagation", "private", "sh", "-euc",
		`umount "$1" "$2"; exec "$3" run --now "$4"`, "sh", whole, fs.Dir(), scrubd, part)
	oneSentence(t, a, "shows only a part of its filesystem (the directory /sub)", "on the host, if this is a container")
}
