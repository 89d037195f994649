package kernel_test

import (
	"context"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/scrubd/scrubd/ioctl"
	"github.com/scrubd/scrubd/scrub/kernel"
)

// An AG that is never quiet holds nobody up for long, nor do others wait for it;
// and the barrier of a call that nobody waits for any more is nobody's.
func TestDrainThatStarves(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, k, _ := newFake(t)
		quiet := make(chan struct{})
		var asked atomic.Int32
		k.OnScrub = func(req ioctl.ScrubRequest) (ioctl.ScrubFlags, unix.Errno) {
			if req.AGNo == 1 {
				asked.Add(1)
				<-quiet
			}
			return 0, 0
		}
		began := time.Now()
		require.ErrorIs(t, s.Drain(t.Context(), 1), ioctl.ErrBusy)
		assert.Equal(t, 5*time.Second, time.Since(began))
		require.NoError(t, s.Drain(t.Context(), 2))
		for range 40 {
			require.ErrorIs(t, s.Drain(t.Context(), 1), ioctl.ErrBusy)
		}
		assert.Less(t, time.Since(began), 15*time.Second)
		assert.EqualValues(t, 1, asked.Load(), "one call at a time stays in the kernel")
		assert.Len(t, s.InFlight(), 1)

		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(time.Millisecond, cancel)
		require.ErrorIs(t, s.Drain(ctx, 1), context.Canceled)

		close(quiet)
		require.NoError(t, s.Drain(t.Context(), 1))
		assert.EqualValues(t, 2, asked.Load(), "the first one began before this barrier was asked for")
		assert.Empty(t, s.InFlight())
	})
}

// What is told while the barrier lasts.
func TestDrainEndsWithItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, k, _ := newFake(t)
		quiet := make(chan struct{})
		k.OnScrub = func(ioctl.ScrubRequest) (ioctl.ScrubFlags, unix.Errno) {
			<-quiet
			return 0, 0
		}
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(time.Second, cancel)
		require.ErrorIs(t, s.Drain(ctx, 0), context.Canceled)
		assert.Equal(t, "scrub of AGFL of AG 0", s.InFlight()[0].String())
		assert.Equal(t, kernel.Object{Type: ioctl.ScrubTypeAGFL}, s.InFlight()[0].Object)
		close(quiet)
		synctest.Wait()
	})
}
