package btree

import (
	"context"
	"errors"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// broken makes a tree of three levels and a way to its blocks.
func brokenTree(t *testing.T) (tree *spanTree, blocks [3][]*block) {
	m := &memPages{}
	tree = smallTree(m, 6, 6)
	require.NoError(t, tree.Load(inBatches(spans(120), 10)))
	require.Equal(t, 3, tree.Height())
	var walk func(n uint32, level int)
	walk = func(n uint32, level int) {
		b, err := tree.c.view(n, level)
		require.NoError(t, err)
		b.mark = 1 // unsealed, so that what is broken is found and not the seal
		blocks[level] = append(blocks[level], b)
		if level > 0 {
			for _, kid := range tree.c.kids(b, int(b.count)) {
				walk(kid, level-1)
			}
		}
	}
	walk(tree.c.root, 2)
	require.NoError(t, tree.Check(context.Background()))
	return tree, blocks
}

func TestCheckFinds(t *testing.T) {
	type tc struct {
		breaks func(tree *spanTree, b [3][]*block)
		path   int // length of the path
		what   string
	}
	for name, c := range map[string]tc{
		"magic":           {func(_ *spanTree, b [3][]*block) { b[0][3].magic++ }, 3, "magic"},
		"self":            {func(_ *spanTree, b [3][]*block) { b[0][3].self++ }, 3, "says it is page"},
		"level":           {func(_ *spanTree, b [3][]*block) { b[1][1].level = 0 }, 2, "level 0 instead of 1"},
		"tag":             {func(_ *spanTree, b [3][]*block) { b[0][3].tag++ }, 3, "owner tag"},
		"count":           {func(_ *spanTree, b [3][]*block) { b[0][3].count = 7 }, 3, "7 records or entries, not 1 to 6"},
		"no records":      {func(_ *spanTree, b [3][]*block) { b[0][3].count = 0 }, 3, "0 records"},
		"too few":         {func(_ *spanTree, b [3][]*block) { b[0][3].count = 2 }, 3, "fewer than 3"},
		"few in the root": {func(_ *spanTree, b [3][]*block) { b[2][0].count = 1 }, 1, "fewer than 2"},
		"no page":         {func(tree *spanTree, b [3][]*block) { tree.c.kids(b[1][0], 1)[0] = 1 << 20 }, 3, "no such page"},
		"order in a leaf": {func(tree *spanTree, b [3][]*block) {
			r := tree.c.recs(b[0][3], 2)
			r[0], r[1] = r[1], r[0]
		}, 3, "record 1 is not greater"},
		"order of leaves": {func(tree *spanTree, b [3][]*block) {
			r := tree.c.recs(b[0][3], 1)
			r[0].start = 0
		}, 3, "in another leaf"},
		"order in a node": {func(tree *spanTree, b [3][]*block) {
			tree.c.keys(b[1][1], 2)[1] = tree.c.keys(b[1][1], 2)[0]
		}, 2, "key 1 is not greater"},
		"least key":          {func(tree *spanTree, b [3][]*block) { tree.c.keys(b[1][1], 2)[1].start-- }, 2, "the child, page"},
		"high key":           {func(tree *spanTree, b [3][]*block) { tree.c.keys(b[1][1], 2)[1].high++ }, 2, "the child, page"},
		"right sibling":      {func(_ *spanTree, b [3][]*block) { b[0][3].right = b[0][2].self }, 3, "as right sibling"},
		"left sibling":       {func(_ *spanTree, b [3][]*block) { b[0][3].left = b[0][1].self }, 3, "left sibling"},
		"last right sibling": {func(_ *spanTree, b [3][]*block) { b[1][len(b[1])-1].right = 3 }, 0, "the last block of level 1"},
		"one block twice":    {func(tree *spanTree, b [3][]*block) { tree.c.kids(b[1][1], 2)[1] = tree.c.kids(b[1][1], 2)[0] }, 3, "used twice"},
		"used and free":      {func(tree *spanTree, b [3][]*block) { tree.c.pool.warm = append(tree.c.pool.warm, b[0][4].self) }, 0, "used and free"},
		"records":            {func(tree *spanTree, _ [3][]*block) { tree.c.count++ }, 0, "120 records in the leaves, 121 counted"},
		"blocks":             {func(tree *spanTree, _ [3][]*block) { tree.c.blocks++ }, 0, "blocks found"},
		"no root":            {func(tree *spanTree, _ [3][]*block) { tree.c.root = null }, 0, "in an empty tree"},
		"checksum": {func(_ *spanTree, b [3][]*block) {
			b[0][3].seal()
			b[0][3].body[bodySize-1] ^= 4
		}, 3, "checksum"},
		"saved copy": {func(tree *spanTree, b [3][]*block) {
			tree.c.saved = append(tree.c.saved, savedPage{0, b[0][0].self})
		}, 0, "used and free"},
	} {
		t.Run(name, func(t *testing.T) {
			tree, blocks := brokenTree(t)
			c.breaks(tree, blocks)
			err := tree.Check(context.Background())
			var ce *CheckError
			require.ErrorAs(t, err, &ce)
			require.ErrorIs(t, err, ErrDamaged)
			assert.Len(t, ce.Path, c.path, "%v", err)
			require.ErrorContains(t, err, c.what)
			if c.path > 1 {
				require.ErrorContains(t, err, "->")
				assert.Equal(t, tree.c.root, ce.Path[0])
			}
		})
	}
}

func TestCheckIsCancelled(t *testing.T) {
	tree, _ := brokenTree(t)
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	require.ErrorIs(t, tree.Check(ctx), context.Canceled)
}

func TestSealFindsRings(t *testing.T) {
	tree, b := brokenTree(t)
	require.NoError(t, tree.Seal())
	require.NoError(t, tree.Check(context.Background()))
	b[0][5].right = b[0][2].self
	require.ErrorIs(t, tree.Seal(), ErrDamaged)
	b[0][5].right = 1 << 20
	require.ErrorIs(t, tree.Seal(), ErrDamaged)
}

// TestWalkOfRings: a walk along siblings that lead back ends.
func TestWalkOfRings(t *testing.T) {
	tree, b := brokenTree(t)
	b[0][5].right = b[0][2].self
	_, err := all(tree.Batches())
	require.ErrorIs(t, err, ErrDamaged)
	_, err = all1(tree.All())
	require.ErrorIs(t, err, ErrDamaged)
	c := tree.Cursor()
	for ok := c.First(); ok; ok = c.Next() {
	}
	require.ErrorIs(t, c.Err(), ErrDamaged)
	b[0][5].left = b[0][8].self
	for ok := c.Last(); ok; ok = c.Prev() {
	}
	require.ErrorIs(t, c.Err(), ErrDamaged)
}

// abuse runs every operation on a tree that may be damaged and fails on errors
// that are not about damage, and on what a tree in order would not say.
func abuse(t *testing.T, tree *spanTree, m *memPages, rng *rand.Rand) {
	fine := func(err error) {
		if err != nil && !errors.Is(err, ErrDamaged) && !errors.Is(err, ErrExists) && !errors.Is(err, ErrNotFound) && !errors.Is(err, ErrTooLarge) {
			t.Fatal(err)
		}
	}
	limit := 0
	for range 60 {
		s := span{rng.Uint32N(300), 1 + rng.Uint32N(30), rng.Uint64N(4)}
		k := keyOfSpan(s)
		switch rng.IntN(9) {
		case 0, 1:
			fine(tree.Insert(s))
		case 2, 3:
			_, err := tree.Delete(k)
			fine(err)
		case 4:
			_, err := tree.Replace(s)
			fine(err)
		case 5:
			_, _, err := tree.GE(k)
			fine(err)
			_, _, err = tree.LE(k)
			fine(err)
			_, _, err = tree.Last()
			fine(err)
			fine(tree.Seal())
		case 6:
			for _, err := range Overlaps(tree, uint64(k.start), uint64(k.start)+40) {
				fine(err)
				if limit++; limit > 5000 {
					break
				}
			}
		case 7:
			for _, err := range tree.Batches() {
				fine(err)
			}
			c := tree.Cursor()
			for ok := c.SeekLE(k); ok; ok = c.Prev() {
			}
			fine(c.Err())
		case 8:
			b := tree.Begin()
			fine(b.Insert(s))
			_, err := b.Delete(k)
			fine(err)
			if rng.IntN(2) == 0 {
				b.Commit()
			}
			b.Cancel()
		}
	}
	fine(tree.Check(context.Background()))
	require.Less(t, len(m.pages), 5000)
}

// FuzzDamage overwrites bytes of the blocks of a tree: operations give errors or
// wrong answers, and neither panic nor go on for ever.
func FuzzDamage(f *testing.F) {
	f.Add(uint64(1), []byte{0, 0, 8, 0xff})
	f.Add(uint64(2), []byte{3, 0, 7, 0xff, 1, 0, 20, 1, 2, 1, 0, 9})
	f.Fuzz(func(t *testing.T, seed uint64, damage []byte) {
		rng := rand.New(rand.NewPCG(seed, 1))
		m := &memPages{}
		tree := smallTree(m, 6, 6)
		for range 100 {
			_ = tree.Insert(span{rng.Uint32N(300), 1 + rng.Uint32N(30), rng.Uint64N(4)})
		}
		for i := 0; i+4 <= len(damage); i += 4 {
			if p := m.Page(int64(damage[i]) % int64(len(m.pages))); p != nil {
				p[(int(damage[i+1])<<8|int(damage[i+2]))%400] = damage[i+3]
			}
		}
		abuse(t, tree, m, rng)
	})
}

func TestDamage(t *testing.T) {
	for seed := range uint64(800) {
		rng := rand.New(rand.NewPCG(seed, 2))
		m := &memPages{}
		tree := smallTree(m, 6, 6)
		for range 100 {
			_ = tree.Insert(span{rng.Uint32N(300), 1 + rng.Uint32N(30), rng.Uint64N(4)})
		}
		for range 1 + rng.IntN(4) {
			if p := m.Page(rng.Int64N(int64(len(m.pages)))); p != nil {
				p[rng.IntN(40+rng.IntN(200))] = byte(rng.Uint32N(16))
			}
		}
		abuse(t, tree, m, rng)
	}
}
