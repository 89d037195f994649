package lab_test

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"runtime"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/scrubd/scrubd/internal/lab"
)

// recorder is a test that remembers how it ended instead of ending.
type recorder struct {
	testing.TB
	ended string
}

func (*recorder) Helper()      {}
func (*recorder) Name() string { return "TestRecorded" }
func (r *recorder) Skip(...any) {
	r.ended = "skipped"
	runtime.Goexit()
}

func (r *recorder) Fatalf(string, ...any) {
	r.ended = "failed"
	runtime.Goexit()
}

// requireIn calls lab.Require for a recorded test and says how that test ended.
func requireIn(t *testing.T, needs ...lab.Need) string {
	t.Helper()
	r := &recorder{TB: t, ended: "went on"}
	done := make(chan struct{})
	go func() {
		defer close(done)
		lab.Require(r, needs...)
	}()
	<-done
	return r.ended
}

func TestRequireIsLoud(t *testing.T) {
	log := filepath.Join(t.TempDir(), "skips")
	t.Setenv(lab.EnvLevels, "")
	t.Setenv(lab.EnvSkipLog, log)
	t.Setenv(lab.EnvDisallowSkip, "")
	for range 2 {
		assert.Equal(t, "skipped", requireIn(t, lab.Kernel))
	}
	text, err := os.ReadFile(log)
	require.NoError(t, err)
	line := "lab.TestRecorded: $SCRUBD_TEST does not select level lab\n"
	assert.Equal(t, line+line, string(text), "the log is appended to")

	t.Setenv(lab.EnvDisallowSkip, "1")
	assert.Equal(t, "failed", requireIn(t, lab.Root))
	t.Setenv(lab.EnvDisallowSkip, "")
	t.Setenv(lab.EnvSkipLog, filepath.Join(log, "not-a-directory"))
	assert.Equal(t, "failed", requireIn(t, lab.Loop), "a skip that cannot be logged is a failure")
	assert.Equal(t, "went on", requireIn(t))
}

func TestRequireAsksForWhatIsThere(t *testing.T) {
	t.Setenv(lab.EnvLevels, "root,lab")
	t.Setenv(lab.EnvSkipLog, "")
	t.Setenv(lab.EnvDisallowSkip, "")
	t.Setenv("XDG_CACHE_HOME", t.TempDir())
	t.Setenv(lab.EnvKernel, "")
	assert.Equal(t, "skipped", requireIn(t, lab.Kernel), "no kernel is built there")
	assert.Equal(t, "skipped", requireIn(t, lab.SidTools), "no root is made there")
	want := "skipped"
	if os.Geteuid() == 0 {
		want = "went on"
	}
	assert.Equal(t, want, requireIn(t, lab.Root))
	assert.Equal(t, "skipped", requireIn(t, lab.Need(99)))
}

func TestLockCacheWaits(t *testing.T) {
	t.Setenv("XDG_CACHE_HOME", t.TempDir())
	var log bytes.Buffer
	unlock, err := lab.LockCache(t.Context(), "x", &log)
	require.NoError(t, err)
	assert.Empty(t, log.String())

	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	_, err = lab.LockCache(ctx, "x", &log)
	require.ErrorIs(t, err, context.DeadlineExceeded)
	assert.Contains(t, log.String(), "waiting for another process")

	other, err := lab.LockCache(t.Context(), "y", &log)
	require.NoError(t, err, "another lock is free")
	other()
	unlock()
	unlock, err = lab.LockCache(t.Context(), "x", &log)
	require.NoError(t, err)
	unlock()
}

func TestTakeSlotLimitsBoots(t *testing.T) {
	t.Setenv("XDG_CACHE_HOME", t.TempDir())
	t.Setenv(lab.EnvSlots, "2")
	first, err := lab.TakeSlot(t.Context())
	require.NoError(t, err)
	second, err := lab.TakeSlot(t.Context())
	require.NoError(t, err)
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	_, err = lab.TakeSlot(ctx)
	require.ErrorIs(t, err, context.DeadlineExceeded)
	first()
	third, err := lab.TakeSlot(t.Context())
	require.NoError(t, err)
	second()
	third()
	for _, bad := range []string{"0", "many"} {
		t.Setenv(lab.EnvSlots, bad)
		_, err = lab.TakeSlot(t.Context())
		require.ErrorContains(t, err, bad)
	}
}

func TestMemoryDirFallsBack(t *testing.T) {
	assert.Equal(t, "/fallback", lab.MemoryDir("/fallback", 1<<30), "no tmpfs has room for that")
}

func TestExactlyMatchesOneTest(t *testing.T) {
	assert.Equal(t, `^TestX$/^a\.b$/^\[c\]#01$`, lab.Exactly("TestX/a.b/[c]#01"))
}
