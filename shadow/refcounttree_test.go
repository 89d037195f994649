package shadow

import (
	"errors"
	"slices"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/scrubd/scrubd/shadow/btree"
)

func newRefcountTree(t require.TestingT) (*RefcountTree, *memPages) {
	m := &memPages{}
	tree, err := NewRefcountTree(m, 5)
	require.NoError(t, err)
	return tree, m
}

// owners is the dumb twin of a refcount tree: a counter for each block. A block
// without a record has one owner here, as far as the tree can know.
type owners struct {
	n   [twinSpace]uint32
	cow [twinSpace]bool
}

func newOwners() *owners {
	o := &owners{}
	for i := range o.n {
		o.n[i] = 1
	}
	return o
}

func (o *owners) records() []Refcount {
	var out []Refcount
	for b := uint32(0); b < twinSpace; b++ {
		start := b
		for b+1 < twinSpace && o.n[b+1] == o.n[start] {
			b++
		}
		if o.n[start] >= 2 {
			out = append(out, Refcount{start, b + 1 - start, o.n[start]})
		}
	}
	for b := uint32(0); b < twinSpace; b++ {
		start := b
		for b < twinSpace && o.cow[b] {
			b++
		}
		if b > start {
			out = append(out, Refcount{RefcountCoW | start, b - start, 1})
		}
	}
	return out
}

func (o *owners) adjust(r Range, by int) {
	for b := uint64(r.Start); b < r.End(); b++ {
		switch {
		case o.n[b] == MaxRefcount:
		case by > 0:
			o.n[b]++
		case o.n[b] > 1:
			o.n[b]--
		}
	}
}

// staged counts the blocks of r in staging extents.
func (o *owners) staged(r Range) (n uint32) {
	for b := uint64(r.Start); b < r.End(); b++ {
		if o.cow[b] {
			n++
		}
	}
	return n
}

func (o *owners) stage(r Range, to bool) {
	for b := uint64(r.Start); b < r.End(); b++ {
		o.cow[b] = to
	}
}

func TestRefcountTreeLikeTwin(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		tree, pages := newRefcountTree(t)
		twin := newOwners()
		if rapid.Bool().Draw(t, "saturated") {
			twin.n[20], twin.n[21], twin.n[22] = MaxRefcount, MaxRefcount-1, MaxRefcount
			require.NoError(t, tree.Load(batches(twin.records(), 1)))
		}
		// try runs an operation, maybe without space, and its twin if it works.
		try := func(t *rapid.T, op func() error, want error, then func()) {
			if rapid.IntRange(0, 4).Draw(t, "starve") == 0 {
				pages.limit, pages.left = true, 0
			}
			err := op()
			pages.limit = false
			switch {
			case errors.Is(err, errNoSpace):
			case want != nil:
				require.ErrorIs(t, err, want)
			default:
				require.NoError(t, err)
				then()
			}
		}
		t.Repeat(map[string]func(*rapid.T){
			"": func(t *rapid.T) {
				require.NoError(t, tree.Check(ctx()))
				require.Equal(t, twin.records(), copies(t, tree.Batches()))
				require.EqualValues(t, len(twin.records()), tree.Len())
			},
			"increase": func(t *rapid.T) {
				r := drawRange(t)
				try(t, func() error { return tree.Increase(r) }, nil, func() { twin.adjust(r, 1) })
			},
			"decrease": func(t *rapid.T) {
				r := drawRange(t)
				try(t, func() error { return tree.Decrease(r) }, nil, func() { twin.adjust(r, -1) })
			},
			"add staging": func(t *rapid.T) {
				r := drawRange(t)
				var want error
				if twin.staged(r) > 0 {
					want = ErrMapped
				}
				try(t, func() error { return tree.AddCoW(r) }, want, func() { twin.stage(r, true) })
			},
			"remove staging": func(t *rapid.T) {
				r := drawRange(t)
				var want error
				if twin.staged(r) < r.Len {
					want = ErrNotMapped
				}
				try(t, func() error { return tree.RemoveCoW(r) }, want, func() { twin.stage(r, false) })
			},
			"at": func(t *rapid.T) {
				b := rapid.Uint32Range(0, twinSpace-1).Draw(t, "block")
				r, ok, err := tree.At(b)
				require.NoError(t, err)
				require.Equal(t, twin.n[b] >= 2, ok)
				if ok {
					require.Equal(t, twin.n[b], r.Count)
				}
			},
			"shared": func(t *rapid.T) {
				var n [twinSpace]uint32
				for _, r := range copies(t, tree.Shared()) {
					for b := uint64(r.Start); b < r.End(); b++ {
						n[b]++
					}
				}
				for b := range n {
					require.Equal(t, twin.n[b] >= 2, n[b] == 1)
				}
			},
		})
	})
}

// TestRefcountTreeFollowsRmaps: what the sweep derives loads, and says the same as
// counting one mapping after the other.
func TestRefcountTreeFollowsRmaps(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		records := sortRmaps(rapid.SliceOfN(rapid.Custom(drawShared), 0, 40).Draw(t, "records"))
		for b := uint32(0); b < twinSpace; b += 5 {
			records = append(records, Rmap{b, 3, OwnerCoW, 0})
		}
		sortRmaps(records)
		tree, _ := newRefcountTree(t)
		require.NoError(t, tree.Derive(batches(records, 4), &memPages{}, nil))
		require.NoError(t, tree.Check(ctx()))
		require.NoError(t, tree.Seal())
		require.Positive(t, tree.Bytes())
		want, _ := twinRefcounts(records)
		all, err := collect(tree.All())
		require.NoError(t, err)
		require.Equal(t, want, append([]Refcount(nil), slices.DeleteFunc(all, Refcount.IsCoW)...))
		var ranges []Range
		for _, r := range want {
			ranges = append(ranges, Range{r.StartBlock, r.BlockCount})
		}
		diffs, err := collect(DiffShared(tree.Shared(), batches(ranges, 3)))
		require.NoError(t, err)
		require.Empty(t, diffs)
	})
}

// TestAdjustManyRecords crosses more records than are rewritten at a time.
func TestAdjustManyRecords(t *testing.T) {
	tree, pages := newRefcountTree(t)
	const n = 5 * adjustRecords
	for i := range uint32(n) {
		require.NoError(t, tree.Increase(Range{i * 3, 1 + i%2}))
	}
	before := copies(t, tree.Batches())
	require.NoError(t, tree.Increase(Range{1, 3*n - 2}))
	require.NoError(t, tree.Check(ctx()))
	require.NoError(t, tree.Decrease(Range{1, 3*n - 2}))
	require.NoError(t, tree.Check(ctx()))
	require.Equal(t, before, copies(t, tree.Batches()))

	// All or nothing, however far it gets.
	for left := 0; ; left++ {
		pages.limit, pages.left = true, left
		err := tree.Increase(Range{1, 3*n - 2})
		pages.limit = false
		require.NoError(t, tree.Check(ctx()))
		if err == nil {
			break
		}
		require.ErrorIs(t, err, errNoSpace)
		require.Equal(t, before, copies(t, tree.Batches()))
	}
}

func TestRefcountTreeErrors(t *testing.T) {
	broken := errors.New("broken")
	for name, c := range map[string]struct {
		records []Refcount
		want    error
	}{
		"overlap":       {[]Refcount{{5, 3, 2}, {7, 1, 3}}, ErrUnsorted},
		"not merged":    {[]Refcount{{5, 3, 2}, {8, 1, 2}}, ErrUnsorted},
		"domains":       {[]Refcount{{RefcountCoW | 5, 3, 1}, {8, 1, 2}}, ErrUnsorted},
		"no blocks":     {[]Refcount{{5, 0, 2}}, ErrBadRecord},
		"one owner":     {[]Refcount{{5, 1, 1}}, ErrBadRecord},
		"shared staged": {[]Refcount{{RefcountCoW | 5, 1, 2}}, ErrBadRecord},
		"too long":      {[]Refcount{{5, 1 << 31, 2}}, ErrBadRecord},
	} {
		tree, _ := newRefcountTree(t)
		require.ErrorIs(t, tree.Load(batches(c.records, 2)), c.want, name)
		require.Zero(t, tree.Len())
		if name == "domains" {
			continue // this one is no order of keys either
		}
		require.NoError(t, tree.t.Load(batches(c.records, 2)))
		err := tree.Check(ctx())
		require.ErrorIs(t, err, btree.ErrDamaged, name)
		require.ErrorIs(t, err, c.want, name)
	}
	tree, pages := newRefcountTree(t)
	require.ErrorIs(t, tree.Load(failing([]Refcount{{5, 1, 2}}, broken)), broken)
	require.ErrorIs(t, tree.Derive(failing([]Rmap{{5, 1, 7, 0}}, broken), &memPages{}, nil), broken)
	require.ErrorIs(t, tree.Derive(batches([]Rmap{{5, 0, OwnerCoW, 0}}, 1), &memPages{}, nil), ErrBadRecord)
	require.ErrorIs(t, tree.Increase(Range{5, 0}), ErrBadRecord)
	require.ErrorIs(t, tree.Decrease(Range{5, 1 << 31}), ErrBadRecord)
	require.ErrorIs(t, tree.AddCoW(Range{1 << 31, 1}), ErrBadRecord)
	require.ErrorIs(t, tree.RemoveCoW(Range{5, 0}), ErrBadRecord)
	require.NoError(t, tree.Load(batches([]Refcount{{5, 1, 2}}, 1)))
	require.Equal(t, []Range{{5, 1}}, only(t, tree.Shared()))
	pages.smash()
	_, _, err := tree.At(5)
	require.ErrorIs(t, err, btree.ErrDamaged)
	_, err = collect(tree.Shared())
	require.ErrorIs(t, err, btree.ErrDamaged)
	require.ErrorIs(t, tree.Check(ctx()), btree.ErrDamaged)
	require.ErrorIs(t, tree.Increase(Range{4, 3}), btree.ErrDamaged)
	require.ErrorIs(t, tree.AddCoW(Range{4, 3}), btree.ErrDamaged)
	require.ErrorIs(t, tree.RemoveCoW(Range{4, 3}), btree.ErrDamaged)
	assert.Equal(t, "[5,8) staging", Refcount{RefcountCoW | 5, 3, 1}.String())
	assert.Equal(t, "[5,8) ×4", Refcount{5, 3, 4}.String())
}
