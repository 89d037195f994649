package trees

import (
	"context"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/scrubd/scrubd/ioctl"
	"github.com/scrubd/scrubd/shadow"
	"github.com/scrubd/scrubd/xfile"
)

// claimsOf makes an array of records as a walk leaves it.
func claimsOf(t require.TestingT, b *xfile.Budget, recs []shadow.Rmap) *xfile.Array[shadow.Rmap] {
	a, err := xfile.NewArray[shadow.Rmap](xfile.Options{Name: "claims", Budget: b})
	require.NoError(t, err)
	require.NoError(t, a.Append(recs))
	require.NoError(t, a.Sort(context.Background(), shadow.Compare))
	return a
}

// ownersOf is the twin: the owners of a block, one by one.
func ownersOf(recs []shadow.Rmap, block uint32) []uint64 {
	var out []uint64
	for i := range recs {
		if recs[i].StartBlock <= block && uint64(block) < recs[i].End() {
			out = append(out, recs[i].Owner)
		}
	}
	slices.Sort(out)
	return out
}

const space = 200 // blocks that random groups use

// groupOf draws the claims of a group: files at offsets of their own, so that
// no two have one key.
func groupOf(t *rapid.T) []shadow.Rmap {
	n := rapid.IntRange(0, 40).Draw(t, "records")
	recs := make([]shadow.Rmap, 0, n)
	for i := range n {
		start := rapid.Uint32Range(0, space-1).Draw(t, "start")
		recs = append(recs, shadow.Rmap{
			StartBlock: start, BlockCount: rapid.Uint32Range(1, space-start).Draw(t, "blocks"),
			Owner: rapid.Uint64Range(100, 104).Draw(t, "owner"), Offset: uint64(i) * 1000,
		})
	}
	return recs
}

// Every block of every group has the owners that the claims give it, whatever
// order groups are asked for in, and whether or not memory is short.
func TestSetSaysWhatTheClaimsSay(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		ctx := context.Background()
		budget := xfile.NewBudget(xfile.Unlimited)
		groups := make([][]shadow.Rmap, rapid.IntRange(1, 5).Draw(t, "groups"))
		arrays := make([]*xfile.Array[shadow.Rmap], len(groups))
		for i := range groups {
			groups[i] = groupOf(t)
			arrays[i] = claimsOf(t, budget, groups[i])
		}
		if rapid.Bool().Draw(t, "short") {
			used, _ := budget.Used(xfile.Memory)
			budget.SetLimit(xfile.Memory, used+300<<10) // room to load one tree
		}
		s, err := New(arrays, Options{Budget: budget})
		require.NoError(t, err)
		for range 8 {
			agno := rapid.IntRange(0, len(groups)-1).Draw(t, "agno")
			tree, err := s.Rmaps(ctx, ioctl.AGNumber(agno))
			require.NoError(t, err)
			require.NoError(t, tree.Check(ctx))
			block := rapid.Uint32Range(0, space-1).Draw(t, "block")
			var got []uint64
			for r, err := range tree.Overlaps(uint64(block), uint64(block)+1) {
				require.NoError(t, err)
				got = append(got, r.Owner)
			}
			slices.Sort(got)
			require.Equal(t, ownersOf(groups[agno], block), got)
		}
		require.NoError(t, s.Close())
		require.NoError(t, s.Close())
		used, _ := budget.Used(xfile.Memory)
		require.Zero(t, used)
	})
}

// manyGroups makes arrays of n groups with recs files each.
func manyGroups(t *testing.T, b *xfile.Budget, n, recs int) []*xfile.Array[shadow.Rmap] {
	rng := rand.New(rand.NewPCG(7, 7))
	arrays := make([]*xfile.Array[shadow.Rmap], n)
	for i := range arrays {
		claims := make([]shadow.Rmap, recs)
		for j := range claims {
			claims[j] = shadow.Rmap{StartBlock: uint32(10 * j), BlockCount: 1 + rng.Uint32N(9), Owner: 128 + rng.Uint64N(1000)}
		}
		arrays[i] = claimsOf(t, b, claims)
	}
	return arrays
}

// With memory enough every array goes when its tree is there, and what stays
// open is one file, however many groups there are.
func TestArraysGoWhenTreesCome(t *testing.T) {
	const groups, recs = 300, 500
	budget := xfile.NewBudget(xfile.Unlimited)
	before := xfile.OpenFiles()
	s, err := New(manyGroups(t, budget, groups, recs), Options{Budget: budget})
	require.NoError(t, err)
	defer s.Close()
	arrays, _ := budget.Used(xfile.Memory)
	for agno := range ioctl.AGNumber(groups) {
		tree, err := s.Rmaps(t.Context(), agno)
		require.NoError(t, err)
		assert.EqualValues(t, recs, tree.Len())
	}
	assert.Equal(t, before+1, xfile.OpenFiles())
	trees, peak := budget.Used(xfile.Memory)
	assert.LessOrEqual(t, trees, arrays*2, "in small groups the last block of a tree is mostly empty")
	assert.LessOrEqual(t, peak, arrays*2)
	assert.GreaterOrEqual(t, trees, s.Bytes())
}

// With little memory trees come and go, within the budget and in the same pages.
func TestTreesComeAndGo(t *testing.T) {
	const groups, recs = 20, 10_000
	budget := xfile.NewBudget(xfile.Unlimited)
	arrays := manyGroups(t, budget, groups, recs)
	used, _ := budget.Used(xfile.Memory)
	const limitTrees = 3
	limit := used + limitTrees*2*recs*shadow.RmapSize
	budget.SetLimit(xfile.Memory, limit)
	s, err := New(arrays, Options{Budget: budget})
	require.NoError(t, err)
	defer s.Close()
	for range 3 {
		for agno := range ioctl.AGNumber(groups) {
			tree, err := s.Rmaps(t.Context(), agno)
			require.NoError(t, err, "AG %d", agno)
			require.EqualValues(t, recs, tree.Len())
		}
	}
	_, peak := budget.Used(xfile.Memory)
	assert.LessOrEqual(t, peak, limit)
	assert.LessOrEqual(t, s.arena.file.Size(), 2*(limit-used), "pages of trees that went are used again")

	budget.SetLimit(xfile.Memory, used+16<<10)
	for agno := range ioctl.AGNumber(groups) {
		if _, err = s.Rmaps(t.Context(), agno); err != nil {
			break
		}
	}
	require.ErrorIs(t, err, xfile.ErrBudget, "not even one tree fits")
}

func TestLoadIsCancelled(t *testing.T) {
	s, err := New(manyGroups(t, nil, 1, 100), Options{})
	require.NoError(t, err)
	defer s.Close()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = s.Rmaps(ctx, 0)
	require.ErrorIs(t, err, context.Canceled)
	tree, err := s.Rmaps(t.Context(), 0)
	require.NoError(t, err, "the array is still there")
	assert.EqualValues(t, 100, tree.Len())
}

// A claim that is there twice is kept beside the tree.
func TestDuplicateClaims(t *testing.T) {
	long := shadow.Rmap{StartBlock: 10, BlockCount: 8, Owner: 131, Offset: 3}
	short := shadow.Rmap{StartBlock: 10, BlockCount: 5, Owner: 131, Offset: 3 | shadow.OffsetUnwritten}
	s, err := New([]*xfile.Array[shadow.Rmap]{claimsOf(t, nil, []shadow.Rmap{short, long})}, Options{})
	require.NoError(t, err)
	defer s.Close()
	tree, err := s.Rmaps(t.Context(), 0)
	require.NoError(t, err)
	assert.EqualValues(t, 1, tree.Len())
	assert.Equal(t, []shadow.Rmap{short}, s.Duplicates(0))
}
