package trees

import (
	"context"
	"slices"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/scrubd/scrubd/ioctl"
	"github.com/scrubd/scrubd/scrub/live"
	"github.com/scrubd/scrubd/scrub/walk"
	"github.com/scrubd/scrubd/shadow"
	"github.com/scrubd/scrubd/xfile"
)

// kernel is the twin: inodes 128.. that map blocks of one group at offset =
// block, and everything that was ever done to them.
type kernel struct {
	owner   [space]uint64
	written [space]bool
	clock   uint64
	changes []live.Change
}

func (k *kernel) rmap(b uint32) shadow.Rmap {
	r := shadow.Rmap{StartBlock: b, BlockCount: 1, Owner: k.owner[b], Offset: uint64(b)}
	if !k.written[b] {
		r.Offset |= shadow.OffsetUnwritten
	}
	return r
}

// step maps, unmaps or converts a random block.
func (k *kernel) step(t *rapid.T) {
	k.clock++
	b := rapid.Uint32Range(0, space-1).Draw(t, "block")
	c := live.Change{Time: k.clock}
	switch {
	case k.owner[b] == 0:
		k.owner[b], k.written[b] = rapid.Uint64Range(128, 140).Draw(t, "owner"), rapid.Bool().Draw(t, "written")
		c.Op, c.Rmap = live.OpMap, k.rmap(b)
	case rapid.Bool().Draw(t, "convert"):
		c.Op, c.Rmap = live.OpConvert, k.rmap(b)
		k.written[b] = !k.written[b]
	default:
		c.Op, c.Rmap = live.OpUnmap, k.rmap(b)
		k.owner[b] = 0
	}
	k.changes = append(k.changes, c)
}

// fork is what an inode maps now.
func (k *kernel) fork(ino uint64) (out []shadow.Rmap) {
	for b := range uint32(space) {
		if k.owner[b] == ino {
			out = append(out, k.rmap(b))
		}
	}
	return out
}

// Inodes are read in stretches while a kernel works. When all is over, and those
// that Again names have been read again, the tree is what the kernel has, also if
// the stream is behind at all times, and whether or not the tree was loaded before.
func TestLogFollowsTheKernel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		ctx := context.Background()
		l, err := NewLog(1, Options{})
		require.NoError(t, err)
		k := &kernel{}
		delivered := 0
		deliver := func() {
			require.NoError(t, l.Add(k.changes[delivered:]))
			delivered = len(k.changes)
		}
		l.Sync = func(context.Context) error { deliver(); return nil }
		work := func() {
			for range rapid.IntRange(0, 6).Draw(t, "steps") {
				k.step(t)
			}
			if rapid.Bool().Draw(t, "deliver") {
				deliver()
			}
		}
		claims := make(map[uint64][]shadow.Rmap)
		read := func(first, end uint64) {
			k.clock++
			r := walk.Read{First: ioctl.Ino(first), End: ioctl.Ino(end), Began: k.clock}
			for ino := first; ino < end; ino++ {
				work()
				claims[ino] = k.fork(ino)
			}
			work()
			k.clock++
			r.Done = k.clock
			require.NoError(t, l.Read(r))
		}
		work()
		for first := uint64(128); first < 142; {
			end := min(142, first+rapid.Uint64Range(1, 5).Draw(t, "stretch"))
			read(first, end)
			work()
			first = end
		}
		for {
			again, err := l.Again(ctx)
			require.NoError(t, err)
			if len(again) == 0 {
				break
			}
			require.True(t, slices.IsSorted(again))
			for _, ino := range again {
				claims[uint64(ino)] = k.fork(uint64(ino))
				k.clock++
				require.NoError(t, l.Read(walk.Read{First: ino, End: ino + 1, Began: k.clock, Done: k.clock}))
			}
		}
		var all []shadow.Rmap
		for _, c := range claims {
			all = append(all, c...)
		}
		s, err := New([]*xfile.Array[shadow.Rmap]{claimsOf(t, nil, all)}, Options{Log: l})
		require.NoError(t, err)
		defer s.Close()
		for range 2 {
			_, err = s.Update(ctx, 0)
			require.NoError(t, err)
			checkTwin(t, s, k)
			work()
		}
		_, err = s.Update(ctx, 0)
		require.NoError(t, err)
		checkTwin(t, s, k)
		assert.Zero(t, l.Stats().Misfit)
		assert.EqualValues(t, len(k.changes), l.Stats().Taken)
	})
}

// checkTwin compares the tree, block by block, with what the kernel has.
func checkTwin(t *rapid.T, s *Set, k *kernel) {
	tree, err := s.Rmaps(context.Background(), 0)
	require.NoError(t, err)
	require.NoError(t, tree.Check(context.Background()))
	for b := range uint32(space) {
		var got []shadow.Rmap
		for r, err := range tree.Overlaps(uint64(b), uint64(b)+1) {
			require.NoError(t, err)
			r.Offset += uint64(b - r.StartBlock)
			r.StartBlock, r.BlockCount = b, 1
			got = append(got, r)
		}
		var want []shadow.Rmap
		if k.owner[b] != 0 {
			want = append(want, k.rmap(b))
		}
		require.Equal(t, want, got, "block %d", b)
	}
}

// logOf has one inode, 128, read between 10 and 20, mapping blocks 0..9.
func logOf(t *testing.T) (*Log, *Set, shadow.Rmap) {
	t.Helper()
	l, err := NewLog(2, Options{})
	require.NoError(t, err)
	require.NoError(t, l.Read(walk.Read{First: 128, End: 192, Began: 10, Done: 20}))
	r := shadow.Rmap{BlockCount: 10, Owner: 128}
	s, err := New([]*xfile.Array[shadow.Rmap]{claimsOf(t, nil, []shadow.Rmap{r}), claimsOf(t, nil, nil)}, Options{Log: l})
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, s.Close()) })
	return l, s, r
}

func treeOf(t *testing.T, s *Set, agno ioctl.AGNumber) []shadow.Rmap {
	t.Helper()
	_, err := s.Update(t.Context(), agno)
	require.NoError(t, err)
	tree, err := s.Rmaps(t.Context(), agno)
	require.NoError(t, err)
	var out []shadow.Rmap
	for r, err := range tree.All() {
		require.NoError(t, err)
		out = append(out, r)
	}
	return out
}

func TestLogTakesWhatCounts(t *testing.T) {
	gone := func(at uint64, r shadow.Rmap) live.Change { return live.Change{Time: at, Rmap: r, Op: live.OpUnmap} }
	tail := shadow.Rmap{StartBlock: 5, BlockCount: 5, Owner: 128, Offset: 5}
	head := shadow.Rmap{BlockCount: 5, Owner: 128}
	other := shadow.Rmap{StartBlock: 50, BlockCount: 1, Owner: 900} // never read
	for name, c := range map[string]struct {
		feed func(l *Log)
		want []shadow.Rmap
	}{
		"before it was read": {func(l *Log) { _ = l.Add([]live.Change{gone(9, tail)}) }, []shadow.Rmap{{BlockCount: 10, Owner: 128}}},
		"afterwards":         {func(l *Log) { _ = l.Add([]live.Change{gone(21, tail)}) }, []shadow.Rmap{head}},
		"of a stranger": {func(l *Log) {
			_ = l.Add([]live.Change{{Time: 21, Rmap: other, Op: live.OpMap}})
		}, []shadow.Rmap{{BlockCount: 10, Owner: 128}}},
		"of the group itself": {func(l *Log) {
			_ = l.Add([]live.Change{{Time: 21, Rmap: shadow.Rmap{StartBlock: 60, BlockCount: 1, Owner: shadow.OwnerAG}, Op: live.OpMap}})
		}, []shadow.Rmap{{BlockCount: 10, Owner: 128}}},
		"of a fork's btree": {func(l *Log) {
			_ = l.Add([]live.Change{{Time: 21, Rmap: shadow.Rmap{StartBlock: 60, BlockCount: 1, Owner: 128, Offset: shadow.OffsetBmbtBlock}, Op: live.OpMap}})
		}, []shadow.Rmap{{BlockCount: 10, Owner: 128}}},
		"does not fit": {func(l *Log) {
			_ = l.Add([]live.Change{gone(21, shadow.Rmap{StartBlock: 70, BlockCount: 1, Owner: 128}), gone(22, tail)})
		}, []shadow.Rmap{head}},
		"after a loss": {func(l *Log) {
			l.Lost()
			_ = l.Add([]live.Change{gone(21, tail)})
		}, []shadow.Rmap{{BlockCount: 10, Owner: 128}}},
		"before a loss": {func(l *Log) {
			_ = l.Add([]live.Change{gone(21, tail)})
			l.Lost()
		}, []shadow.Rmap{head}},
		"repaired": {func(l *Log) {
			_ = l.Add([]live.Change{gone(21, tail)})
			l.Invalidate(live.Group{})
			_ = l.Add([]live.Change{gone(22, head)})
		}, []shadow.Rmap{{BlockCount: 10, Owner: 128}}},
		"the other group repaired": {func(l *Log) {
			l.Invalidate(live.Group{AGNo: 1})
			l.Invalidate(live.Group{AGNo: 7})
			_ = l.Add([]live.Change{gone(21, tail)})
		}, []shadow.Rmap{head}},
		"no such group": {func(l *Log) {
			c := gone(21, tail)
			c.AGNo = 9
			_ = l.Add([]live.Change{c})
		}, []shadow.Rmap{{BlockCount: 10, Owner: 128}}},
	} {
		t.Run(name, func(t *testing.T) {
			l, s, _ := logOf(t)
			c.feed(l)
			assert.Equal(t, c.want, treeOf(t, s, 0))
			assert.Empty(t, treeOf(t, s, 1))
		})
	}
}

// Realtime groups have trees of their own behind those of the AGs, and changes
// go to the group of their kind.
func TestLogOfRealtimeGroups(t *testing.T) {
	o := Options{AGs: 1}
	l, err := NewLog(2, o)
	require.NoError(t, err)
	require.NoError(t, l.Read(walk.Read{First: 128, End: 192, Began: 10, Done: 20}))
	r := shadow.Rmap{BlockCount: 10, Owner: 128}
	o.Log = l
	s, err := New([]*xfile.Array[shadow.Rmap]{claimsOf(t, nil, nil), claimsOf(t, nil, []shadow.Rmap{r})}, o)
	require.NoError(t, err)
	defer func() { assert.NoError(t, s.Close()) }()
	assert.Equal(t, 1, s.AGs())
	require.EqualValues(t, 1, s.RT(0))

	tail := shadow.Rmap{StartBlock: 5, BlockCount: 5, Owner: 128, Offset: 5}
	attr := shadow.Rmap{StartBlock: 5, BlockCount: 1, Owner: 128, Offset: shadow.OffsetAttrFork}
	require.NoError(t, l.Add([]live.Change{
		{Time: 21, Rmap: tail, Op: live.OpUnmap, Realtime: true},
		{Time: 22, Rmap: attr, Op: live.OpMap},
		{Time: 23, Rmap: attr, Op: live.OpMap, AGNo: 1},                 // no such AG
		{Time: 24, Rmap: tail, Op: live.OpMap, AGNo: 1, Realtime: true}, // nor such a realtime group
	}))
	assert.Equal(t, []shadow.Rmap{attr}, treeOf(t, s, 0))
	assert.Equal(t, []shadow.Rmap{{BlockCount: 5, Owner: 128}}, treeOf(t, s, s.RT(0)))
	assert.EqualValues(t, 2, l.Stats().Taken)

	l.Invalidate(live.Group{Realtime: true})
	require.NoError(t, l.Add([]live.Change{
		{Time: 25, Rmap: tail, Op: live.OpMap, Realtime: true},
		{Time: 26, Rmap: attr, Op: live.OpUnmap},
	}))
	assert.Empty(t, treeOf(t, s, 0))
	assert.Equal(t, []shadow.Rmap{{BlockCount: 5, Owner: 128}}, treeOf(t, s, s.RT(0)))
}

// What follows from a tree goes when the tree changes.
func TestUpdateDropsRefcounts(t *testing.T) {
	l, s, _ := logOf(t)
	refs, err := s.Refcounts(t.Context(), 0)
	require.NoError(t, err)
	assert.Zero(t, refs.Len())
	clone := shadow.Rmap{StartBlock: 2, BlockCount: 4, Owner: 130, Offset: 100}
	require.NoError(t, l.Add([]live.Change{{Time: 30, Rmap: clone, Op: live.OpMap}}))
	refs, err = s.Refcounts(t.Context(), 0)
	require.NoError(t, err)
	assert.Zero(t, refs.Len(), "not before Update")
	changed, err := s.Update(t.Context(), 0)
	require.NoError(t, err)
	assert.True(t, changed)
	refs, err = s.Refcounts(t.Context(), 0)
	require.NoError(t, err)
	got, ok, err := refs.At(3)
	require.NoError(t, err)
	assert.True(t, ok)
	assert.Equal(t, shadow.Refcount{StartBlock: 2, BlockCount: 4, Count: 2}, got)
	changed, err = s.Update(t.Context(), 0)
	require.NoError(t, err)
	assert.False(t, changed)
}

// A log without room ends, and nothing else does.
func TestLogWithoutRoom(t *testing.T) {
	budget := xfile.NewBudget(64 << 10)
	l, err := NewLog(1, Options{Budget: budget})
	require.NoError(t, err)
	defer l.Close()
	require.NoError(t, l.Read(walk.Read{First: 128, End: 192, Began: 10, Done: 20}))
	for at := range uint64(4096) {
		require.NoError(t, l.Add([]live.Change{{Time: 21 + at, Rmap: shadow.Rmap{StartBlock: uint32(at), BlockCount: 1, Owner: 128}, Op: live.OpMap}}))
	}
	assert.True(t, l.Stats().Ended)
	assert.Less(t, l.Stats().Taken, uint64(4096))
	require.NoError(t, l.Close())
	require.NoError(t, l.Close())
	require.NoError(t, (*Log)(nil).Close())
}
