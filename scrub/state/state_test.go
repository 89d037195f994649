package state

import (
	"encoding/json"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/scrubd/scrubd/ioctl"
	"github.com/scrubd/scrubd/ioctl/ioctltest"
)

const uuid = "01020300-0000-0000-0000-000000000000"

// fakeFS is a filesystem on a device of its own.
func fakeFS(t *testing.T) *ioctl.FS {
	t.Helper()
	fs, _ := ioctltest.New(t)
	return fs
}

// fakeFSAt is a filesystem that a path lies on.
func fakeFSAt(t *testing.T, path string) *ioctl.FS {
	t.Helper()
	var st unix.Stat_t
	require.NoError(t, unix.Stat(path, &st))
	m := ioctltest.NewModel()
	m.DevMajor, m.DevMinor = unix.Major(st.Dev), unix.Minor(st.Dev)
	fs, _ := ioctltest.NewWithModel(t, m)
	return fs
}

func modeOf(t *testing.T, path string) os.FileMode {
	t.Helper()
	info, err := os.Lstat(path)
	require.NoError(t, err)
	return info.Mode()
}

func TestOpenMakesPrivateDirectories(t *testing.T) {
	old := unix.Umask(0)
	t.Cleanup(func() { unix.Umask(old) })
	base := filepath.Join(t.TempDir(), "a", "b")
	d, err := Open(base, fakeFS(t))
	require.NoError(t, err)
	assert.Equal(t, filepath.Join(base, uuid), d.Path())
	assert.Empty(t, d.Moved())
	e, err := d.Evidence("run-1", "finding.2")
	require.NoError(t, err)
	assert.Equal(t, filepath.Join(d.Path(), "run-1", "finding.2"), e.Path())
	require.NoError(t, e.JSON("fork", map[string]int{"x": 1}))
	require.NoError(t, e.Close())
	require.NoError(t, d.Close())
	for path := e.Path(); path != filepath.Dir(filepath.Dir(base)); path = filepath.Dir(path) {
		assert.Equal(t, os.ModeDir|0o700, modeOf(t, path), "%s", path)
	}
	assert.Equal(t, os.FileMode(0o600), modeOf(t, filepath.Join(e.Path(), "fork.json")))

	again, err := Open(base, fakeFS(t))
	require.NoError(t, err)
	e, err = again.Evidence("run-1", "finding.2")
	require.NoError(t, err)
	require.NoError(t, e.Close())
	require.NoError(t, again.Close())
}

func TestOpenWhereNothingCanBeMade(t *testing.T) {
	_, err := Open("/proc/scrubd", fakeFS(t))
	require.ErrorIs(t, err, fs.ErrNotExist)
}

func TestOpenUsesTheStandardPlace(t *testing.T) {
	p := places{filepath.Join(t.TempDir(), "lib"), filepath.Join(t.TempDir(), "run")}
	d, err := p.open("", fakeFS(t))
	require.NoError(t, err)
	defer d.Close()
	assert.Equal(t, filepath.Join(p.standard, uuid), d.Path())
}

func TestOpenAvoidsTheFilesystemUnderRepair(t *testing.T) {
	// Two directories on different filesystems: /dev/shm is a tmpfs.
	runtime, err := os.MkdirTemp("/dev/shm", "scrubd-state-")
	require.NoError(t, err)
	t.Cleanup(func() { _ = os.RemoveAll(runtime) })
	own := t.TempDir()
	xfs := fakeFSAt(t, own)
	p := places{filepath.Join(own, "lib"), runtime}
	for _, dir := range []string{"", filepath.Join(own, "not", "there", "yet")} {
		d, err := p.open(dir, xfs)
		require.NoError(t, err)
		assert.Equal(t, filepath.Join(runtime, uuid), d.Path())
		want := dir
		if dir == "" {
			want = p.standard
		}
		assert.Equal(t, want, d.Moved())
		require.NoError(t, d.Close())
	}
	_, err = os.Stat(filepath.Join(own, "lib"))
	require.ErrorIs(t, err, fs.ErrNotExist, "nothing was made on it")

	p.runtime = filepath.Join(own, "run")
	_, err = p.open("", xfs)
	require.ErrorIs(t, err, ErrOwnFilesystem)
}

func TestOpenRefusesWhatOthersCouldChange(t *testing.T) {
	base := t.TempDir()
	path := filepath.Join(base, uuid)

	require.NoError(t, os.Mkdir(filepath.Join(base, "elsewhere"), 0o700))
	require.NoError(t, os.Symlink("elsewhere", path))
	_, err := Open(base, fakeFS(t))
	require.ErrorIs(t, err, ErrUnsafe)
	require.NoError(t, os.Remove(path))

	require.NoError(t, os.WriteFile(path, nil, 0o600))
	_, err = Open(base, fakeFS(t))
	require.ErrorIs(t, err, ErrUnsafe)
	require.NoError(t, os.Remove(path))

	require.NoError(t, os.Mkdir(path, 0o700))
	require.NoError(t, os.Chmod(path, 0o770))
	_, err = Open(base, fakeFS(t))
	require.ErrorIs(t, err, ErrUnsafe)

	// Readable by others is put right.
	require.NoError(t, os.Chmod(path, 0o755))
	d, err := Open(base, fakeFS(t))
	require.NoError(t, err)
	require.NoError(t, d.Close())
	assert.Equal(t, os.ModeDir|0o700, modeOf(t, path))

	_, err = Open(filepath.Join(base, uuid, "file", "below"), fakeFS(t))
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(filepath.Join(base, "file"), nil, 0o600))
	_, err = Open(filepath.Join(base, "file", "below"), fakeFS(t))
	require.ErrorIs(t, err, unix.ENOTDIR)
}

func TestNamesStayInTheirDirectory(t *testing.T) {
	d, err := Open(t.TempDir(), fakeFS(t))
	require.NoError(t, err)
	defer d.Close()
	for _, name := range []string{"", ".", "..", "../x", "a/b", "/etc", ".hidden", "a\x00b", "ü", "a b"} {
		_, err := d.Evidence(name, "f")
		require.ErrorIs(t, err, ErrBadName, "%q", name)
		_, err = d.Evidence("r", name)
		require.ErrorIs(t, err, ErrBadName, "%q", name)
	}
	e, err := d.Evidence("r", "f")
	require.NoError(t, err)
	defer e.Close()
	for _, name := range []string{"", "..", "../x", "a/b", ".hidden"} {
		require.ErrorIs(t, e.JSON(name, 1), ErrBadName, "%q", name)
	}
	// Nor through a link that somebody put there.
	outside := t.TempDir()
	require.NoError(t, os.Symlink(outside, filepath.Join(d.Path(), "r2")))
	_, err = d.Evidence("r2", "f")
	require.Error(t, err)
	entries, err := os.ReadDir(outside)
	require.NoError(t, err)
	assert.Empty(t, entries)
}

func TestJSONIsReadableAndReplaced(t *testing.T) {
	d, err := Open(t.TempDir(), fakeFS(t))
	require.NoError(t, err)
	defer d.Close()
	e, err := d.Evidence("r", "f")
	require.NoError(t, err)
	type record struct {
		Start uint32 `json:"start_block"`
		Says  string `json:"says"`
	}
	require.NoError(t, e.JSON("rmap.json", record{1, "old"}))
	require.NoError(t, e.JSON("rmap", []record{{72, "<owner> & offset"}}))
	text, err := os.ReadFile(filepath.Join(e.Path(), "rmap.json"))
	require.NoError(t, err)
	assert.Equal(t, []string{"[", "  {", `    "start_block": 72,`, `    "says": "<owner> & offset"`, "  }", "]", ""},
		strings.Split(string(text), "\n"), "for people to read")

	require.Error(t, e.JSON("bad", func() {}))
	require.NoError(t, e.Close())
	require.NoError(t, e.Close())
	require.ErrorIs(t, e.JSON("late", 1), fs.ErrClosed)
	require.ErrorIs(t, e.RawBlocks("", nil), fs.ErrClosed)
	entries, err := os.ReadDir(e.Path())
	require.NoError(t, err)
	require.Len(t, entries, 1, "nothing unfinished is left")
}

func TestEvidenceFromSeveralGoroutines(t *testing.T) {
	d, err := Open(t.TempDir(), fakeFS(t))
	require.NoError(t, err)
	defer d.Close()
	e, err := d.Evidence("r", "f")
	require.NoError(t, err)
	defer e.Close()
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			assert.NoError(t, e.JSON("same", i))
			assert.NoError(t, e.JSON("own"+string(rune('a'+i)), i))
		})
	}
	wg.Wait()
	entries, err := os.ReadDir(e.Path())
	require.NoError(t, err)
	assert.Len(t, entries, 9)
}

func TestFailedWriteLeavesTheOldFile(t *testing.T) {
	d, err := Open(t.TempDir(), fakeFS(t))
	require.NoError(t, err)
	defer d.Close()
	e, err := d.Evidence("r", "f")
	require.NoError(t, err)
	defer e.Close()
	require.NoError(t, os.Mkdir(filepath.Join(e.Path(), "taken.json"), 0o700))
	require.Error(t, e.JSON("taken", 1))
	entries, err := os.ReadDir(e.Path())
	require.NoError(t, err)
	assert.Len(t, entries, 1)
}

// manifest reads the list of blocks.
func manifest(t *testing.T, e *Evidence) (m blocksManifest) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(e.Path(), BlocksList))
	require.NoError(t, err)
	require.NoError(t, json.Unmarshal(text, &m))
	return m
}
