package main

import (
	"bytes"
	"context"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/scrubd/scrubd/internal/lab"
)

// fakeUnits runs nothing; each run lasts until it was looked for twice.
type fakeUnits struct {
	mu      sync.Mutex
	started []string
	left    map[string]int
	most    int // at once
	fail    error
}

func (u *fakeUnits) Start(_ context.Context, point string) error {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.fail != nil {
		return u.fail
	}
	u.started = append(u.started, point)
	u.left[point] = 2
	u.most = max(u.most, len(u.left))
	return nil
}

// starts are the mount points of the units that were started, in order.
func (u *fakeUnits) starts() []string {
	u.mu.Lock()
	defer u.mu.Unlock()
	return slices.Clone(u.started)
}

func (u *fakeUnits) Stop(context.Context, string) error { return nil }

func (u *fakeUnits) Running(context.Context) (map[string]string, error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	running := map[string]string{}
	for point := range maps.Clone(u.left) {
		if u.left[point]--; u.left[point] < 0 {
			delete(u.left, point)
			continue
		}
		running[point] = ""
	}
	return running, nil
}

// Without a daemon, what a timer asks for is started all the same: as a unit, once,
// after others that start some, and not against the filesystem's property.
func TestDueWithoutADaemon(t *testing.T) {
	lab.Require(t, lab.Loop)
	fs := lab.NewLoopFS(t, lab.MkfsOptions{})
	dir := t.TempDir()
	units := &fakeUnits{left: map[string]int{}}
	o := &dueOptions{
		daemonOptions: daemonOptions{
			config: filepath.Join(dir, "none.toml"), stateDir: filepath.Join(dir, "state"), socket: filepath.Join(dir, "s"),
		},
		runner: units, lock: filepath.Join(dir, "run", "due.lock"), every: 10 * time.Millisecond,
	}
	due := func(path string) (string, string, error) {
		var out, log bytes.Buffer
		err := runDue(t.Context(), o, []string{path}, streams{out: &out, err: &log})
		return out.String(), log.String(), err
	}
	out, log, err := due(fs.Dir())
	require.NoError(t, err, log)
	assert.Equal(t, fs.Dir()+": queued\n", out)
	assert.Equal(t, []string{fs.Dir()}, units.starts())
	assert.NoDirExists(t, o.stateDir, "the daemon's own")

	// Two of them at once wait for each other.
	unlock, err := waitForLock(t.Context(), o.lock, o.every)
	require.NoError(t, err)
	done := make(chan error, 1)
	go func() { _, _, err := due(fs.Dir()); done <- err }()
	time.Sleep(100 * time.Millisecond)
	assert.Len(t, units.starts(), 1)
	unlock()
	require.NoError(t, <-done)
	assert.Len(t, units.starts(), 2)

	require.NoError(t, unix.Setxattr(fs.Dir(), "trusted.xfs:autofsck", []byte("none"), 0))
	out, log, err = due(fs.Dir())
	require.NoError(t, err, log)
	assert.Equal(t, fs.Dir()+": its autofsck property forbids any check\n", out)
	require.NoError(t, unix.Removexattr(fs.Dir(), "trusted.xfs:autofsck"))
	assert.Len(t, units.starts(), 2)

	units.fail = os.ErrPermission
	_, _, err = due(fs.Dir())
	require.ErrorIs(t, err, os.ErrPermission, "a check that could not be started is a failure")
	_, _, err = due(filepath.Join(dir, "elsewhere"))
	require.ErrorContains(t, err, "no XFS filesystem is mounted there")
	require.NoError(t, os.WriteFile(o.config, []byte("x = 1\n"), 0o600))
	_, _, err = due(fs.Dir())
	require.ErrorContains(t, err, o.config+`:1: there is no setting "x"`)
}
