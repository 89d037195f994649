package live

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// withTracefs puts a directory in the place of tracefs.
func withTracefs(t *testing.T) string {
	t.Helper()
	old, dir := tracefs, t.TempDir()
	tracefs = []string{dir}
	t.Cleanup(func() { tracefs = old })
	return dir
}

// TestNoTracing: whatever is missing, it is the one error that everybody knows.
func TestNoTracing(t *testing.T) {
	dir := withTracefs(t)
	_, err := findTracefs(changeSources[0].path)
	require.ErrorIs(t, err, ErrNoTracing, "not mounted")
	assert.Zero(t, RemoveStale())

	require.NoError(t, os.MkdirAll(filepath.Join(dir, "events", changeSources[0].path), 0o755))
	root, err := findTracefs(changeSources[0].path)
	require.NoError(t, err)
	_, err = newInstance(root)
	require.ErrorIs(t, err, ErrNoTracing, "no instances")

	require.NoError(t, os.Mkdir(filepath.Join(dir, "instances"), 0o755))
	i, err := newInstance(root)
	require.NoError(t, err)
	require.ErrorIs(t, i.set("no/such/setting", "1"), ErrNoTracing)
	_, err = openBuffers(i, 4096)
	require.ErrorIs(t, err, ErrNoTracing, "no buffers")
	s := &Stream{inst: i}
	require.Error(t, s.setUp())
}

// TestStale: an instance is stale when its process is gone, or when the number
// is another process's by now; nothing else is touched.
func TestStale(t *testing.T) {
	dir := withTracefs(t)
	self, err := owner(os.Getpid())
	require.NoError(t, err)
	ns := pidNamespace()
	mine, later := filepath.Join("instances", "scrubd-"+self+"-1"), fmt.Sprintf("scrubd-%s-%d-7-1", ns, os.Getpid())
	keep := []string{
		mine, "instances/scrubd", "instances/scrubd-x", "instances/foo-" + ns + "-1-1-1",
		"instances/scrubd-1-1073741824-1-1", // of a namespace that cannot be seen
		"instances/scrubd-" + ns + "-many-1-1",
	}
	gone := []string{"instances/" + later, "instances/scrubd-" + ns + "-1073741824-5-2"}
	for _, name := range append(keep, gone...) {
		require.NoError(t, os.MkdirAll(filepath.Join(dir, name), 0o755))
	}
	assert.Equal(t, len(gone), RemoveStale())
	for _, name := range keep {
		assert.DirExists(t, filepath.Join(dir, name))
	}
	for _, name := range gone {
		assert.NoDirExists(t, filepath.Join(dir, name))
	}
}

func TestStartTime(t *testing.T) {
	n, ok := startTime("7 (a) b) c) S 1 7 7 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 4711 9 9")
	assert.True(t, ok)
	assert.Equal(t, uint64(4711), n)
	for _, bad := range []string{"", "7 (x) S 1 2", "7 (x"} {
		_, ok = startTime(bad)
		assert.False(t, ok, "%q", bad)
	}
}

func TestParseStats(t *testing.T) {
	assert.Equal(t, uint64(6), parseStats("entries: 10\noverrun: 1\ncommit overrun: 2\nbytes: 900\nnow ts: 5.1\ndropped events: 3\nread events: 8\n"))
	assert.Zero(t, parseStats("overrun: x\nnonsense\n"))
}
