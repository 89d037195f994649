package main

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/scrubd/scrubd/ioctl"
)

// watchFor runs watchThaw in fake time. The other process waits for the thaw
// until it comes, and then needs a moment to end.
func watchFor(t *testing.T, thaw, end time.Duration) (took time.Duration, notices int, err error) {
	t.Helper()
	synctest.Test(t, func(*testing.T) {
		began := time.Now()
		done := make(chan struct{})
		timer := time.AfterFunc(end, func() { close(done) })
		defer timer.Stop()
		err = watchThaw(context.Background(), done, func() bool { return time.Since(began) < thaw }, func() { notices++ })
		took = time.Since(began)
	})
	return took, notices, err
}

func TestWatchThaw(t *testing.T) {
	t.Run("not frozen", func(t *testing.T) {
		took, notices, err := watchFor(t, 0, 5*time.Millisecond)
		require.NoError(t, err)
		assert.Zero(t, notices)
		assert.Less(t, took, 10*time.Millisecond)
	})
	t.Run("a snapshot", func(t *testing.T) {
		_, notices, err := watchFor(t, 4*time.Second, 4100*time.Millisecond)
		require.NoError(t, err)
		assert.Equal(t, 1, notices, "the person is told why nothing happens")
	})
	t.Run("frozen for good", func(t *testing.T) {
		took, _, err := watchFor(t, time.Hour, time.Hour)
		require.ErrorIs(t, err, ioctl.ErrFrozen)
		assert.InDelta(t, thawPatience, took, float64(time.Second))
	})
	t.Run("slow", func(t *testing.T) {
		took, notices, err := watchFor(t, 0, time.Hour)
		require.NoError(t, err, "what is slow is not frozen")
		assert.Zero(t, notices)
		assert.InDelta(t, slowPatience, took, float64(time.Second))
	})
	t.Run("stopped", func(t *testing.T) {
		stop := errors.New("enough")
		ctx, cancel := context.WithCancelCause(t.Context())
		cancel(stop)
		done := make(chan struct{})
		require.ErrorIs(t, watchThaw(ctx, done, func() bool { return true }, func() {}), stop)
	})
}
