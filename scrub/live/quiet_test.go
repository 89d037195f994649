package live

import (
	"context"
	"errors"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/scrubd/scrubd/ioctl"
)

func TestQuiet(t *testing.T) {
	drains := [2]span{{10, 20}, {50, 60}}
	seen := span{30, 40}
	hold := func(at uint64) intent { return intent{at, 1} }
	rele := func(at uint64) intent { return intent{at, -1} }
	for name, c := range map[string]struct {
		events []intent
		quiet  bool
	}{
		"nothing":                                {nil, true},
		"before":                                 {[]intent{hold(1), rele(5)}, true},
		"pending when it began, done in a drain": {[]intent{rele(15)}, true},
		"pending in the observation":             {[]intent{hold(25), rele(45)}, false},
		"pending from the drain on":              {[]intent{hold(15), rele(45)}, false},
		"pending from a busy drain on":           {[]intent{hold(12), rele(14), hold(16), rele(45)}, false},
		"begun in the observation":               {[]intent{hold(35), rele(45)}, false},
		"over before the observation":            {[]intent{hold(22), rele(28)}, true},
		"begun after the observation":            {[]intent{hold(45), rele(48)}, true},
		"still pending at the end":               {[]intent{hold(55)}, true},
		// Told before the first drain and counted after it: its end gives it away.
		"missed by the first drain": {[]intent{rele(45)}, false},
		"missed, and another":       {[]intent{rele(45), hold(46)}, false},
		"two pending, one done":     {[]intent{hold(22), hold(23), rele(24), rele(45)}, false},
	} {
		t.Run(name, func(t *testing.T) {
			assert.Equal(t, c.quiet, quiet(c.events, drains, seen))
		})
	}
}

// TestQuietTwin: chains of transactions with intents at random times, and
// drains that end as the kernel's do. An observation that is called quiet never
// lies within a chain.
func TestQuietTwin(t *testing.T) {
	rng := rand.New(rand.NewPCG(4, 9))
	quiets := 0
	for range 20000 {
		// Each chain tells of its first intent and of its end; a second intent
		// may overlap. The kernel counts a moment later.
		const gap = 2
		var events []intent
		var count [200]int // what the kernel counts at each time
		var busy [200]bool
		for range rng.IntN(6) {
			from := rng.IntN(160)
			to := from + gap + 1 + rng.IntN(30)
			events = append(events, intent{uint64(from), 1}, intent{uint64(to), -1})
			for at := from + rng.IntN(gap+1); at < to+rng.IntN(gap+1); at++ {
				count[at]++
			}
			for at := from + gap; at < to; at++ {
				busy[at] = true
			}
		}
		sortIntents(events)
		drain := func(from int) (span, bool) {
			to := from + rng.IntN(10)
			for ; to < len(count) && count[to] != 0; to++ {
			}
			return span{uint64(from), uint64(to + 1)}, to < len(count)-2
		}
		first, ok1 := drain(rng.IntN(100))
		seen := span{first.to + 1, first.to + 1 + uint64(rng.IntN(10))}
		second, ok2 := drain(min(int(seen.to)+1, 198))
		if !ok1 || !ok2 {
			continue
		}
		if !quiet(events, [2]span{first, second}, seen) {
			continue
		}
		quiets++
		for at := seen.from; at <= seen.to; at++ {
			require.False(t, busy[at], "events %v, drains %v %v, seen %v", events, first, second, seen)
		}
	}
	assert.Greater(t, quiets, 2000)
}

func sortIntents(events []intent) {
	for i := range events {
		for j := i; j > 0 && events[j].time < events[j-1].time; j-- {
			events[j], events[j-1] = events[j-1], events[j]
		}
	}
}

// TestQuietStream: intents of other groups do not matter, lost events do, and
// errors come back.
func TestQuietStream(t *testing.T) {
	f := newFakeBuffers(t, 1, Options{})
	drain := func(context.Context, ioctl.AGNumber) error { return nil }
	put := func(agno uint32) func() error {
		return func() error {
			now := Now()
			w := newPageWriter(now)
			w.event(now, testIntent(1, agno))
			f.write(t, 0, w.page(false))
			return nil
		}
	}
	quiet, err := f.Quiet(t.Context(), Group{AGNo: 1}, drain, put(0))
	require.NoError(t, err)
	assert.True(t, quiet)
	quiet, err = f.Quiet(t.Context(), Group{AGNo: 1}, drain, put(1))
	require.NoError(t, err)
	assert.False(t, quiet)
	quiet, err = f.Quiet(t.Context(), Group{AGNo: 1, Realtime: true}, drain, put(1))
	require.NoError(t, err)
	assert.True(t, quiet, "an intent of the AG of that number")
	quiet, err = f.Quiet(t.Context(), Group{AGNo: 1}, drain, func() error {
		f.lose(t, 0, 3)
		return put(0)()
	})
	require.NoError(t, err)
	assert.False(t, quiet)

	bad := errors.New("bad")
	_, err = f.Quiet(t.Context(), Group{AGNo: 1}, drain, func() error { return bad })
	require.ErrorIs(t, err, bad)
	_, err = f.Quiet(t.Context(), Group{AGNo: 1}, func(context.Context, ioctl.AGNumber) error { return bad }, put(1))
	require.ErrorIs(t, err, bad)
	assert.Empty(t, f.watches)
}
