package shadow

import (
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestRmapTreeLarge works on a tree of real blocks and several levels, with many
// owners of one block, against a sorted slice.
func TestRmapTreeLarge(t *testing.T) {
	rng := rand.New(rand.NewPCG(21, 22))
	tree, _ := newRmapTree(t)
	var twin []Rmap
	find := func(r Rmap) (int, bool) {
		return slices.BinarySearchFunc(twin, r, func(a, b Rmap) int { return Compare(&a, &b) })
	}
	const space = 30_000
	draw := func() Rmap {
		r := Rmap{rng.Uint32N(space), 1 + rng.Uint32N(20), 100 + rng.Uint64N(500), rng.Uint64N(1 << 40)}
		switch rng.IntN(50) {
		case 0:
			r.BlockCount = 1 + rng.Uint32N(3000)
		case 1:
			r.StartBlock = 77 // many owners of one block
		case 2:
			r.Offset |= OffsetUnwritten
		case 3:
			r.Offset |= OffsetAttrFork
		}
		return r
	}
	check := func() {
		t.Helper()
		require.NoError(t, tree.Check(ctx()))
		require.EqualValues(t, len(twin), tree.Len())
		require.Equal(t, twin, copies(t, tree.Batches()))
		for range 20 {
			start := rng.Uint64N(space)
			end := start + rng.Uint64N(50)
			got, err := collect(tree.Overlaps(start, end))
			require.NoError(t, err)
			var want []Rmap
			for _, r := range twin {
				if uint64(r.StartBlock) < end && r.End() > start {
					want = append(want, r)
				}
			}
			require.Equal(t, want, got)
		}
	}
	grow := func(n int) {
		for range n {
			r := draw()
			i, ok := find(r)
			if ok {
				continue
			}
			// Lines never meet, as offsets hardly ever do: nothing is merged.
			require.NoError(t, tree.Map(r))
			twin = slices.Insert(twin, i, r)
		}
	}
	shrink := func(n int) {
		for range n {
			i := rng.IntN(len(twin))
			r := twin[i]
			l := lineOf(&r)
			twin = slices.Delete(twin, i, i+1)
			gone := r
			if r.BlockCount > 2 && rng.IntN(3) == 0 { // a part of it, from the middle
				lo, hi := uint64(r.StartBlock)+1, r.End()-1
				gone = l.rmap(lo, hi)
				for _, rest := range []Rmap{l.rmap(uint64(r.StartBlock), lo), l.rmap(hi, r.End())} {
					j, ok := find(rest)
					require.False(t, ok)
					twin = slices.Insert(twin, j, rest)
				}
			}
			require.NoError(t, tree.Unmap(gone))
		}
	}
	for round := range 6 {
		grow(4000)
		check()
		require.GreaterOrEqual(t, tree.Height(), 2)
		shrink(1500 + 600*round)
		check()
	}
	for len(twin) > 0 {
		shrink(min(len(twin), 1000))
		require.NoError(t, tree.Check(ctx()))
	}
	require.Zero(t, tree.Bytes())
}

// TestPlainOpsLarge takes the other trees over several levels.
func TestPlainOpsLarge(t *testing.T) {
	rng := rand.New(rand.NewPCG(23, 24))
	const n = 40_000
	set, err := NewInodeSet(&memPages{})
	require.NoError(t, err)
	members := map[uint64]bool{}
	for range n {
		ino := rng.Uint64N(1 << 22)
		require.NoError(t, set.Add(ino))
		members[ino] = true
	}
	require.NoError(t, set.t.Check(ctx()))
	require.EqualValues(t, len(members), set.Len())
	for ino := range members {
		has, err := set.Has(ino)
		require.NoError(t, err)
		require.True(t, has)
	}

	bag, err := NewBag(&memPages{})
	require.NoError(t, err)
	ends := map[uint64]uint64{}
	for range n {
		r := Range{rng.Uint32N(1000), 1 + rng.Uint32N(5000)}
		require.NoError(t, bag.Add(r))
		ends[r.End()]++
	}
	require.NoError(t, bag.t.Check(ctx()))
	for bag.Height() > 0 {
		end, ok := bag.NextEnd()
		require.True(t, ok)
		got, err := bag.RemoveEnding(end)
		require.NoError(t, err)
		require.Equal(t, ends[end], got)
		delete(ends, end)
	}
	require.Empty(t, ends)

	tree, _ := newRefcountTree(t)
	counts := make([]uint32, n) // more owners than one
	for range 4 * n {
		r := Range{rng.Uint32N(n - 10), 1 + rng.Uint32N(9)}
		grow := rng.IntN(5) > 0
		if grow {
			require.NoError(t, tree.Increase(r))
		} else {
			require.NoError(t, tree.Decrease(r))
		}
		for b := uint64(r.Start); b < r.End(); b++ {
			if grow {
				counts[b]++
			} else if counts[b] > 0 {
				counts[b]--
			}
		}
	}
	require.NoError(t, tree.Check(ctx()))
	for b, more := range counts {
		r, ok, err := tree.At(uint32(b))
		require.NoError(t, err)
		require.Equal(t, more > 0, ok)
		if ok {
			require.Equal(t, more+1, r.Count)
		}
	}
}
