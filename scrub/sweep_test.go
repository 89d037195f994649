package scrub

import (
	"errors"
	"iter"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/scrubd/scrubd/scrub/confirm"
	"github.com/scrubd/scrubd/scrub/verdict"
)

// stream yields ranges, and then an error if there is one.
func stream(ranges []verdict.Range, err error) iter.Seq2[verdict.Range, error] {
	return func(yield func(verdict.Range, error) bool) {
		for _, r := range ranges {
			if !yield(r, nil) {
				return
			}
		}
		if err != nil {
			yield(verdict.Range{}, err)
		}
	}
}

// genSorted draws ranges sorted by start, which may overlap, touch, and contain
// one another.
func genSorted(t *rapid.T, label string) (out []verdict.Range) {
	at := uint32(0)
	for range rapid.IntRange(0, 10).Draw(t, label) {
		at += rapid.Uint32Range(0, 12).Draw(t, "step")
		out = append(out, verdict.Range{Start: at, Count: rapid.Uint32Range(1, 20).Draw(t, "count")})
	}
	return out
}

func covers(list []verdict.Range, block uint32) bool {
	for _, r := range list {
		if r.Start <= block && block-r.Start < r.Count {
			return true
		}
	}
	return false
}

// The sweep against a twin that looks at every block.
func TestSweepSpaceTwin(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		owned, free := genSorted(t, "owned"), genSorted(t, "free")
		length := rapid.Uint32Range(0, 160).Draw(t, "length")
		want := make(map[uint32]confirm.Conflict)
		for b := range length {
			switch o, f := covers(owned, b), covers(free, b); {
			case o && f:
				want[b] = confirm.OwnedFree
			case !o && !f:
				want[b] = confirm.Neither
			}
		}
		got := make(map[uint32]confirm.Conflict)
		var last conflict
		for c, err := range sweepSpace(length, stream(owned, nil), stream(free, nil)) {
			require.NoError(t, err)
			require.NotZero(t, c.Count)
			require.GreaterOrEqual(t, c.Start, last.Start+last.Count, "in order")
			require.False(t, last.kind == c.kind && last.Start+last.Count == c.Start, "%v and %v are one stretch", last, c)
			last = c
			for b := c.Start; b < c.Start+c.Count; b++ {
				got[b] = c.kind
			}
		}
		require.Equal(t, want, got)
	})
}

func TestSweepSpace(t *testing.T) {
	for _, c := range []struct {
		name        string
		length      uint32
		owned, free []verdict.Range
		want        []conflict
	}{
		{"an empty group", 0, nil, nil, nil},
		{"nothing known", 10, nil, nil, []conflict{{verdict.Range{Start: 0, Count: 10}, confirm.Neither}}},
		{"all owned", 10, []verdict.Range{{Start: 0, Count: 10}}, nil, nil},
		{"all free", 10, nil, []verdict.Range{{Start: 0, Count: 10}}, nil},
		{"healthy", 10, []verdict.Range{{Start: 0, Count: 4}, {Start: 6, Count: 4}}, []verdict.Range{{Start: 4, Count: 2}}, nil},
		{
			"free too long", 10,
			[]verdict.Range{{Start: 0, Count: 4}, {Start: 6, Count: 4}},
			[]verdict.Range{{Start: 4, Count: 3}},
			[]conflict{{verdict.Range{Start: 6, Count: 1}, confirm.OwnedFree}},
		},
		{
			"free too short", 10,
			[]verdict.Range{{Start: 0, Count: 4}, {Start: 6, Count: 4}},
			[]verdict.Range{{Start: 5, Count: 1}},
			[]conflict{{verdict.Range{Start: 4, Count: 1}, confirm.Neither}},
		},
		{
			"free moved", 10,
			[]verdict.Range{{Start: 0, Count: 4}, {Start: 6, Count: 4}},
			[]verdict.Range{{Start: 5, Count: 2}},
			[]conflict{{verdict.Range{Start: 4, Count: 1}, confirm.Neither}, {verdict.Range{Start: 6, Count: 1}, confirm.OwnedFree}},
		},
		{
			"the end of the group is missing", 10,
			[]verdict.Range{{Start: 0, Count: 8}},
			nil,
			[]conflict{{verdict.Range{Start: 8, Count: 2}, confirm.Neither}},
		},
		{
			"records reach beyond the group", 10,
			[]verdict.Range{{Start: 0, Count: 400}},
			[]verdict.Range{{Start: 9, Count: 400}},
			[]conflict{{verdict.Range{Start: 9, Count: 1}, confirm.OwnedFree}},
		},
		{"a whole 32-bit group", 1<<32 - 1, []verdict.Range{{Start: 0, Count: 1<<32 - 1}}, nil, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			var got []conflict
			for one, err := range sweepSpace(c.length, stream(c.owned, nil), stream(c.free, nil)) {
				require.NoError(t, err)
				got = append(got, one)
			}
			assert.Equal(t, c.want, got)
		})
	}
}

// An error of either side is the last thing that comes, wherever it is.
func TestSweepSpaceErrors(t *testing.T) {
	odd := errors.New("unreadable")
	some := []verdict.Range{{Start: 2, Count: 2}, {Start: 6, Count: 2}}
	for n := range len(some) + 1 {
		for _, side := range []struct {
			name        string
			owned, free iter.Seq2[verdict.Range, error]
		}{
			{"owned", stream(some[:n], odd), stream(nil, nil)},
			{"free", stream(nil, nil), stream(some[:n], odd)},
		} {
			var got error
			for c, err := range sweepSpace(20, side.owned, side.free) {
				require.NoError(t, got, "%s: nothing comes after an error", side.name)
				if got = err; err != nil {
					assert.Zero(t, c)
				}
			}
			require.ErrorIs(t, got, odd, "%s, after %d", side.name, n)
		}
	}
}

func TestSweepSpaceStops(t *testing.T) {
	owned := []verdict.Range{{Start: 1, Count: 1}, {Start: 3, Count: 1}}
	for stop := 1; stop <= 3; stop++ {
		n := 0
		for _, err := range sweepSpace(10, stream(owned, nil), stream(nil, nil)) {
			require.NoError(t, err)
			if n++; n == stop {
				break
			}
		}
		assert.Equal(t, stop, n)
	}
}

// Joining against the same twin: the same blocks, in as few ranges as can be.
func TestJoinedTwin(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		in := genSorted(t, "ranges")
		var got []verdict.Range
		for r, err := range joined(stream(in, nil)) {
			require.NoError(t, err)
			require.NotZero(t, r.Count)
			if n := len(got); n > 0 {
				require.Greater(t, r.Start, got[n-1].Start+got[n-1].Count, "neither overlapping nor touching")
			}
			got = append(got, r)
		}
		for b := range uint32(200) {
			require.Equal(t, covers(in, b), covers(got, b), "block %d", b)
		}
	})
}

func TestJoinedErrorsAndStops(t *testing.T) {
	odd := errors.New("unreadable")
	var got []verdict.Range
	var err error
	for r, e := range joined(stream([]verdict.Range{{Start: 1, Count: 1}, {Start: 5, Count: 1}}, odd)) {
		if err = e; e == nil {
			got = append(got, r)
		}
	}
	require.ErrorIs(t, err, odd)
	assert.Equal(t, []verdict.Range{{Start: 1, Count: 1}}, got, "what may go on behind the error is not known")
	for r, err := range joined(stream([]verdict.Range{{Start: 1, Count: 1}, {Start: 5, Count: 1}, {Start: 9, Count: 1}}, nil)) {
		require.NoError(t, err)
		assert.Equal(t, verdict.Range{Start: 1, Count: 1}, r)
		break
	}
}
