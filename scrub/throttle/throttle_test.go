package throttle

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// on is a throttle for a machine.
func on(s *system, workers int, disks ...string) *Throttle {
	t := New(Options{Workers: workers, Disks: disks})
	t.sensors.root = s
	return t
}

// work has so many workers do so many pieces of work each, and returns how long
// that takes, and how many were at work at once.
func work(t *testing.T, pace *Throttle, workers, pieces int, piece time.Duration) (took time.Duration, atOnce int) {
	t.Helper()
	began := time.Now()
	var mu sync.Mutex
	busy := 0
	var wg sync.WaitGroup
	for range workers {
		wg.Go(func() {
			turn := pace.Turn()
			for range pieces {
				if err := turn.Begin(t.Context()); !assert.NoError(t, err) {
					return
				}
				mu.Lock()
				busy++
				atOnce = max(atOnce, busy)
				mu.Unlock()
				time.Sleep(piece)
				mu.Lock()
				busy--
				mu.Unlock()
				assert.NoError(t, turn.End(t.Context(), 0))
			}
		})
	}
	wg.Wait()
	return time.Since(began), atOnce
}

// However much the others want, the work takes 1/Slowest times as long as by one
// worker, and no longer.
func TestFloor(t *testing.T) {
	for name, c := range map[string]struct {
		workers    int
		all, piece time.Duration
	}{
		"one worker":     {1, 20 * time.Second, 20 * time.Millisecond},
		"many workers":   {16, 20 * time.Second, 20 * time.Millisecond},
		"small pieces":   {4, 4 * time.Second, 100 * time.Microsecond},
		"one long piece": {2, time.Minute, 30 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newSystem()
				s.stall(systemFiles[disk], 1)
				pace := on(s, c.workers)
				pieces := int(c.all / c.piece / time.Duration(c.workers))
				took, _ := work(t, pace, c.workers, pieces, c.piece)
				assert.InDelta(t, Slowest, pace.Speed(), 1e-9)
				// What is owed at the end of all work is up to one rest a worker.
				slack := time.Duration(c.workers) * leastRest * 2
				assert.LessOrEqual(t, took, time.Duration(float64(c.all)/Slowest)+slack)
				if c.piece < time.Second {
					assert.GreaterOrEqual(t, took, 7*c.all, "it rests, but for a start at a higher speed")
					assert.InDelta(t, (took - c.all).Seconds(), pace.Throttled().Seconds(), 0.1*took.Seconds())
				}
			})
		})
	}
}

// On a quiet machine a run comes to full speed, and gives way within seconds when
// somebody waits.
func TestAdapts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSystem()
		s.stall(systemFiles[disk], 0)
		pace := on(s, 4)
		_, atOnce := work(t, pace, 4, 500, 20*time.Millisecond)
		assert.InDelta(t, first+10*4./15, pace.Speed(), 2)
		assert.Greater(t, atOnce, 1)
		work(t, pace, 4, 2000, 20*time.Millisecond)
		assert.InDelta(t, 4, pace.Speed(), 1e-9)
		before := pace.Throttled()
		took, atOnce := work(t, pace, 4, 100, 20*time.Millisecond)
		assert.Equal(t, 100*20*time.Millisecond, took, "no rest at full speed")
		assert.Equal(t, 4, atOnce)
		assert.Equal(t, before, pace.Throttled())

		s.files[systemFiles[disk]] = newSystemStall(s, 0.5)
		work(t, pace, 4, 150, 20*time.Millisecond)
		assert.Less(t, pace.Speed(), 1.)
		_, atOnce = work(t, pace, 4, 20, 20*time.Millisecond)
		assert.Equal(t, 1, atOnce, "one at a time, below the speed of one")
	})
}

// newSystemStall goes on from nothing at this moment.
func newSystemStall(s *system, share float64) func(time.Duration) string {
	from := time.Since(s.began)
	other := newSystem()
	other.stall("x", share)
	return func(up time.Duration) string { return other.files["x"](up - from) }
}

// Without anything to measure the speed stays what it is at first.
func TestBlind(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		pace := on(newSystem(), 8)
		took, atOnce := work(t, pace, 8, 100, 10*time.Millisecond)
		assert.Equal(t, 1, atOnce)
		assert.InDelta(t, 8/first, took.Seconds(), 0.5)
		assert.InDelta(t, first, pace.Speed(), 1e-9)
		assert.Equal(t, int(1024*first), pace.Turn().Batch(1024))
	})
}

// Hurry lets all that rest or wait go on, and nobody rests again.
func TestHurry(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSystem()
		s.stall(systemFiles[memory], 1)
		pace := on(s, 4)
		work(t, pace, 4, 100, 20*time.Millisecond)
		time.AfterFunc(time.Second, pace.Hurry)
		took, _ := work(t, pace, 4, 100, time.Second)
		assert.Less(t, took, 103*time.Second)
		pace.Hurry()
		before := pace.Throttled()
		took, atOnce := work(t, pace, 4, 100, 20*time.Millisecond)
		assert.Equal(t, 2*time.Second, took)
		assert.Equal(t, 4, atOnce)
		assert.Equal(t, before, pace.Throttled())
		assert.Zero(t, pace.Turn().Inside(time.Second))
		assert.Equal(t, 1024, pace.Turn().Batch(1024))
	})
}

// A run that is to end does so from any rest and from the queue, and leaves the
// place to others.
func TestContextEndsRests(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSystem()
		s.stall(systemFiles[disk], 1)
		pace := on(s, 2)
		work(t, pace, 2, 100, 20*time.Millisecond)
		ctx, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		wg.Go(func() {
			turn := pace.Turn()
			if err := turn.Begin(ctx); !assert.NoError(t, err) {
				return
			}
			time.Sleep(10 * time.Second)
			assert.ErrorIs(t, turn.End(ctx, 0), context.Canceled)
		})
		wg.Go(func() {
			time.Sleep(time.Second)
			assert.ErrorIs(t, pace.Turn().Begin(ctx), context.Canceled)
		})
		time.Sleep(11 * time.Second)
		began := time.Now()
		cancel()
		wg.Wait()
		assert.Zero(t, time.Since(began))
		assert.Zero(t, pace.taken)
		assert.Zero(t, pace.resting)
		assert.Empty(t, pace.waiting)
		turn := pace.Turn()
		require.NoError(t, turn.Begin(t.Context()))
		turn.Leave()
		turn.Leave()
		assert.Zero(t, pace.taken)
	})
}

// What a vector of checks has rested inside of the kernel counts, and is not
// rested for again.
func TestRestInside(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSystem()
		s.stall(systemFiles[disk], 1)
		pace := on(s, 1)
		work(t, pace, 1, 500, 20*time.Millisecond)
		turn := pace.Turn()
		assert.Zero(t, turn.Inside(10*time.Microsecond), "too short to be worth it")
		rest := turn.Inside(100 * time.Microsecond)
		assert.InDelta(t, (1/Slowest-1)*100*time.Microsecond.Seconds(), rest.Seconds(), 1e-6)
		assert.Equal(t, 5*time.Millisecond, turn.Inside(time.Second))

		before, began := pace.Throttled(), time.Now()
		const vectors, checks = 1000, 7
		for range vectors {
			require.NoError(t, turn.Begin(t.Context()))
			time.Sleep(checks * (100*time.Microsecond + rest))
			require.NoError(t, turn.End(t.Context(), checks*rest))
		}
		took := time.Since(began)
		worked := vectors * checks * 100 * time.Microsecond
		assert.InDelta(t, worked.Seconds()/Slowest, took.Seconds(), 0.05)
		assert.InDelta(t, (took - worked).Seconds(), (pace.Throttled() - before).Seconds(), 0.05)
	})
}

// In the foreground there is no throttle, and nothing ever waits but for ctx.
func TestNone(t *testing.T) {
	var pace *Throttle
	turn := pace.Turn()
	ctx, cancel := context.WithCancelCause(t.Context())
	for _, do := range []func() error{
		func() error { return turn.Begin(ctx) },
		func() error { return turn.End(ctx, time.Hour) },
		func() error { return turn.Rest(ctx) },
	} {
		require.NoError(t, do())
	}
	turn.Leave()
	pace.Hurry()
	assert.Equal(t, 7, turn.Batch(7))
	assert.Zero(t, turn.Inside(time.Hour))
	assert.Zero(t, pace.Throttled())
	cancel(errors.New("over"))
	require.ErrorIs(t, turn.Rest(ctx), context.Canceled)
}
