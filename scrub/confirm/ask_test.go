package confirm_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/scrubd/scrubd/ioctl"
	"github.com/scrubd/scrubd/ioctl/ioctltest"
	"github.com/scrubd/scrubd/scrub/confirm"
	"github.com/scrubd/scrubd/scrub/verdict"
	"github.com/scrubd/scrubd/shadow"
)

func TestMeasure(t *testing.T) {
	inBubble(t, func(m *ioctltest.Model) { m.Inodes[bob].ExtraBlocks = 5 }, func(r *rig) {
		got, err := r.s.Measure(uint64(bob))
		require.NoError(t, err)
		assert.Equal(t, verdict.OwnerLive, got.State)
		assert.Equal(t, uint64(9), got.ForkBlocks)
		assert.Equal(t, uint64(14), got.Blocks)
		assert.Equal(t, uint64(1), got.Extents)
		assert.Equal(t, uint32(1), got.AExtents)

		// It is read anew each time.
		r.k.Update(func(m *ioctltest.Model) { m.Inodes[bob].ExtraBlocks, m.Inodes[bob].Data = 0, nil })
		got, err = r.s.Measure(uint64(bob))
		require.NoError(t, err)
		assert.Equal(t, [2]uint64{1, 1}, [2]uint64{got.ForkBlocks, got.Blocks})

		r.k.Update(func(m *ioctltest.Model) { m.Inodes[bob].DamagedAttr = true })
		got, err = r.s.Measure(uint64(bob))
		require.NoError(t, err)
		assert.Equal(t, verdict.OwnerUnreadable, got.State)
		assert.True(t, got.UnreadableAttr)

		got, err = r.s.Measure(uint64(ghost))
		require.NoError(t, err)
		assert.Equal(t, verdict.OwnerDead, got.State)

		r.k.OnBmap = func(ioctltest.BmapRequest) ([]ioctl.BmapRecord, unix.Errno) { return nil, unix.ESHUTDOWN }
		_, err = r.s.Measure(uint64(alice))
		require.ErrorIs(t, err, ioctl.ErrShutdown)
		r.k.OnBulkstat = func(ioctltest.BulkRequest) ([]ioctl.BulkstatRecord, ioctl.Ino, unix.Errno) {
			return nil, 0, unix.ENOMEM
		}
		_, err = r.s.Measure(uint64(alice))
		require.ErrorIs(t, err, unix.ENOMEM)
	})
}

// A fork of more mappings than one call may give is read in ranges.
func TestMeasureLargeFork(t *testing.T) {
	inBubble(t, nil, func(r *rig) {
		const records = 2*ioctl.MaxBmapRecords + 10
		r.k.OnBmap = func(req ioctltest.BmapRequest) ([]ioctl.BmapRecord, unix.Errno) {
			if req.Fork == ioctl.AttrFork {
				return nil, 0
			}
			var out []ioctl.BmapRecord
			for at := req.Start / 8; at < records && len(out) < req.Count; at++ {
				out = append(out, ioctl.BmapRecord{Offset: 8 * at, Block: 8 * (300 + at%2), Length: 8})
			}
			return out, 0
		}
		got, err := r.s.Measure(uint64(alice))
		require.NoError(t, err)
		assert.Equal(t, uint64(records), got.ForkBlocks)
	})
}

func TestStillClaims(t *testing.T) {
	w := confirm.Window{Start: 70, Count: 10}
	claim := mapping(72, 16, alice, 0)
	ask := func(r *rig, c shadow.Rmap) []shadow.Rmap {
		got, err := r.s.StillClaims(w, c)
		require.NoError(t, err)
		return got
	}
	inBubble(t, nil, func(r *rig) {
		assert.Equal(t, []shadow.Rmap{mapping(72, 8, alice, 0)}, ask(r, claim))
		header := shadow.Rmap{BlockCount: 1, Owner: shadow.OwnerFS}
		assert.Equal(t, []shadow.Rmap{header}, ask(r, header), "known metadata")
		assert.Empty(t, ask(r, mapping(80, 4, alice, 8)), "behind the window")
		assert.Equal(t, []shadow.Rmap{mapping(72, 8, alice, 0)}, ask(r, mapping(60, 100, alice, 1000)), "what it claims now counts")

		r.k.Update(func(m *ioctltest.Model) { m.Inodes[alice].Data[0].AGBno = 74 })
		assert.Equal(t, []shadow.Rmap{mapping(74, 6, alice, 0)}, ask(r, claim), "it moved")
		r.k.Update(func(m *ioctltest.Model) { m.Inodes[alice].Data = nil })
		assert.Empty(t, ask(r, claim))
		assert.Empty(t, ask(r, mapping(72, 8, ghost, 0)), "a dead owner claims nothing")
	})
	// Who cannot be asked any more is no witness.
	for name, errno := range map[string]unix.Errno{"a lease": unix.EWOULDBLOCK, "unreadable": unix.EUCLEAN, "unknown": unix.ESTALE} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, nil, func(r *rig) {
				r.k.OnOpenByHandle = func(ioctl.Ino, ioctl.Gen, bool) unix.Errno { return errno }
				assert.Empty(t, ask(r, claim))
			})
		})
	}
	inBubble(t, func(m *ioctltest.Model) { m.Inodes[bob].DamagedAttr = true }, func(r *rig) {
		got, err := r.s.StillClaims(confirm.Window{Start: 200, Count: 20}, mapping(200, 8, bob, 0))
		require.NoError(t, err)
		assert.Equal(t, []shadow.Rmap{mapping(200, 8, bob, 0)}, got, "one fork speaks, the other cannot be read")
	})
	inBubble(t, nil, func(r *rig) {
		r.k.OnBmap = func(ioctltest.BmapRequest) ([]ioctl.BmapRecord, unix.Errno) { return nil, unix.ESHUTDOWN }
		_, err := r.s.StillClaims(w, claim)
		require.ErrorIs(t, err, ioctl.ErrShutdown)
		r.k.OnBulkstat = func(ioctltest.BulkRequest) ([]ioctl.BulkstatRecord, ioctl.Ino, unix.Errno) {
			return nil, 0, unix.ENOMEM
		}
		_, err = r.s.StillClaims(w, mapping(72, 8, bob, 0))
		require.ErrorIs(t, err, unix.ENOMEM)
	})
}

// The proof after a repair: what a fork mapped it still maps.
func TestLostSince(t *testing.T) {
	former := []shadow.Rmap{mapping(72, 8, alice, 0), mapping(80, 8, alice, 8)}
	after := time.Unix(1_800_000_000, 0) // the model's stamps are before
	lost := func(r *rig, f ...shadow.Rmap) []shadow.Rmap {
		got, err := r.s.LostSince(f[0].Owner, after, f)
		require.NoError(t, err)
		return got
	}
	for _, c := range []struct {
		name   string
		change func(*ioctltest.Inode)
		want   []shadow.Rmap
	}{
		{"as it was", func(*ioctltest.Inode) {}, nil},
		{"moved", func(i *ioctltest.Inode) { i.Data[0].AGBno = 500 }, nil},
		{"cut in pieces", func(i *ioctltest.Inode) {
			i.Data = nil
			for n := range 16 {
				i.Data = append(i.Data, ioctltest.Extent{Offset: uint64(n), AGBno: ioctl.AGBlock(300 + 2*n), Length: 1})
			}
		}, nil},
		{"all gone", func(i *ioctltest.Inode) { i.Data = nil }, former},
		{"the end is gone", func(i *ioctltest.Inode) { i.Data[0].Length = 15 }, former[1:]},
		{"the start is gone", func(i *ioctltest.Inode) { i.Data[0] = ioctltest.Extent{Offset: 1, AGBno: 73, Length: 15} }, former[:1]},
		{"a hole in the middle", func(i *ioctltest.Inode) {
			i.Data = []ioctltest.Extent{{AGBno: 72, Length: 3}, {Offset: 4, AGBno: 76, Length: 12}}
		}, former[:1]},
		{"reads as zeros now", func(i *ioctltest.Inode) { i.Data[0].Unwritten = true }, former},
		{"cannot be read", func(i *ioctltest.Inode) { i.DamagedData = true }, former},
		{"unlinked", func(i *ioctltest.Inode) { i.Data, i.Nlink = nil, 0 }, nil},
		{"changed since", func(i *ioctltest.Inode) { i.Data, i.CTime.Sec = nil, after.Unix()+5 }, nil},
		{"changed just before the clock's next tick", func(i *ioctltest.Inode) {
			i.Data, i.CTime = nil, ioctl.Timestamp{Sec: after.Unix() - 1, Nsec: 990_000_000}
		}, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			inBubble(t, func(m *ioctltest.Model) { c.change(m.Inodes[alice]) }, func(r *rig) {
				assert.Equal(t, c.want, lost(r, former...))
			})
		})
	}
	inBubble(t, nil, func(r *rig) {
		assert.Nil(t, lost(r, mapping(210, 1, bob, shadow.OffsetAttrFork)))
		assert.Len(t, lost(r, mapping(210, 1, bob, 5|shadow.OffsetAttrFork)), 1, "another offset of the attr fork")
		assert.Nil(t, lost(r, mapping(5, 1, ghost, 0)), "deleted since")
		r.k.Update(func(m *ioctltest.Model) { m.Inodes[alice].Data[0].Unwritten = true })
		assert.Nil(t, lost(r, mapping(72, 8, alice, shadow.OffsetUnwritten)), "was unwritten before")
	})
	// More pieces than one call gives.
	inBubble(t, func(m *ioctltest.Model) {
		m.Inodes[alice].Data = nil
		for n := range 700 {
			m.Inodes[alice].Data = append(m.Inodes[alice].Data, ioctltest.Extent{Offset: uint64(n), AGNo: 1, AGBno: ioctl.AGBlock(30 + n%400*2), Length: 1})
		}
	}, func(r *rig) {
		assert.Nil(t, lost(r, mapping(0, 700, alice, 0)))
		assert.Len(t, lost(r, mapping(0, 701, alice, 0)), 1)
	})
	for _, op := range []ioctltest.Op{ioctltest.OpBulkstat, ioctltest.OpStatx, ioctltest.OpBmap} {
		inBubble(t, nil, func(r *rig) {
			r.k.OnCall = func(c ioctltest.Call) unix.Errno {
				if c.Op == op {
					return unix.ESHUTDOWN
				}
				return 0
			}
			_, err := r.s.LostSince(uint64(alice), after, former)
			require.ErrorIs(t, err, ioctl.ErrShutdown)
			r.k.OnCall = nil
		})
	}
	inBubble(t, nil, func(r *rig) {
		r.k.OnBulkstat = func(ioctltest.BulkRequest) ([]ioctl.BulkstatRecord, ioctl.Ino, unix.Errno) {
			return nil, 0, unix.EUCLEAN
		}
		assert.Equal(t, former, lost(r, former...), "the inode cannot be loaded any more")
	})
}

func TestFork(t *testing.T) {
	inBubble(t, nil, func(r *rig) {
		got, err := r.s.Fork(uint64(bob), ioctl.AttrFork)
		require.NoError(t, err)
		require.Len(t, got, 1)
		assert.Equal(t, ioctl.DAddr(8*210), got[0].Block)
		_, err = r.s.Fork(uint64(alice), ioctl.DataFork)
		require.NoError(t, err)
		assert.Equal(t, ioctl.DAddr(8*210), got[0].Block, "it is the caller's own")

		none, err := r.s.Fork(uint64(ghost), ioctl.DataFork)
		require.NoError(t, err)
		assert.Empty(t, none)

		r.k.Update(func(m *ioctltest.Model) { m.Inodes[alice].DamagedData = true })
		_, err = r.s.Fork(uint64(alice), ioctl.DataFork)
		require.ErrorIs(t, err, ioctl.ErrCorrupt)
	})
}

func TestFlushInode(t *testing.T) {
	inBubble(t, nil, func(r *rig) {
		require.NoError(t, r.s.FlushInode(r.t.Context(), uint64(ghost)), "nothing to write back")
		// The fake's descriptors are none of this process: fsync says so.
		require.ErrorIs(t, r.s.FlushInode(r.t.Context(), uint64(alice)), unix.EBADF)
		r.k.OnBulkstat = func(ioctltest.BulkRequest) ([]ioctl.BulkstatRecord, ioctl.Ino, unix.Errno) {
			return nil, 0, unix.ENOMEM
		}
		require.ErrorIs(t, r.s.FlushInode(r.t.Context(), uint64(bob)), unix.ENOMEM)
	})
}

// A fork whose mappings are out of order, or overrun one another.
func TestContradictions(t *testing.T) {
	var list, attrs []ioctl.BmapRecord
	whole := func(off, agbno, count int64) ioctl.BmapRecord {
		return ioctl.BmapRecord{Offset: ioctl.DAddr(8 * off), Block: ioctl.DAddr(8 * agbno), Length: ioctl.DAddr(8 * count)}
	}
	inBubble(t, nil, func(r *rig) {
		r.k.OnBmap = func(req ioctltest.BmapRequest) ([]ioctl.BmapRecord, unix.Errno) {
			if req.Fork == ioctl.AttrFork {
				return attrs, 0
			}
			return list, 0
		}
		room := func(claim, record shadow.Rmap) bool {
			got, err := r.s.HasRoomOnlyFor(&claim, &record, 0)
			require.NoError(t, err)
			return got
		}
		overruns := func(claim shadow.Rmap) bool {
			got, err := r.s.OverrunsNext(&claim, 0)
			require.NoError(t, err)
			return got
		}
		list = []ioctl.BmapRecord{whole(10, 100, 1), whole(21, 102, 1), whole(12, 104, 1), whole(21, 106, 1)}
		claim := mapping(102, 1, alice, 21)
		assert.True(t, room(claim, mapping(102, 1, alice, 11)))
		assert.False(t, room(claim, mapping(102, 1, alice, 12)), "taken")
		assert.False(t, room(claim, mapping(102, 1, alice, 9)), "before the one before")
		assert.False(t, room(mapping(104, 1, alice, 12), mapping(104, 1, alice, 13)), "neither has room")
		assert.False(t, room(mapping(106, 1, alice, 21), mapping(106, 1, alice, 13)), "both have room")
		assert.False(t, room(mapping(103, 1, alice, 21), mapping(103, 1, alice, 11)), "no mapping of the fork")
		attr := func(agbno uint32, off uint64) shadow.Rmap {
			m := mapping(agbno, 1, alice, off)
			m.Offset |= shadow.OffsetAttrFork
			return m
		}
		assert.False(t, room(attr(102, 21), attr(102, 11)), "the other fork")
		attrs = []ioctl.BmapRecord{whole(7, 90, 1), whole(8, 92, 1)}
		assert.True(t, room(attr(90, 7), attr(90, 0)), "attributes begin at 0")
		assert.False(t, room(attr(90, 7), attr(90, 3)))
		assert.False(t, room(attr(92, 8), attr(92, 9)), "both have room")
		attrs = []ioctl.BmapRecord{whole(0, 90, 1)}
		assert.False(t, room(attr(90, 0), attr(90, 3)))
		got, err := r.s.HasRoomOnlyFor(&claim, &claim, 1)
		require.NoError(t, err)
		assert.False(t, got, "another AG")

		list = []ioctl.BmapRecord{whole(10, 100, 3), whole(12, 102, 1), whole(20, 110, 2), whole(22, 112, 1)}
		assert.False(t, room(mapping(101, 1, alice, 11), mapping(101, 1, alice, 14)), "a part of a mapping")
		assert.True(t, overruns(mapping(101, 2, alice, 11)))
		assert.True(t, overruns(mapping(102, 1, alice, 12)), "one of the two that have it")
		assert.False(t, overruns(mapping(110, 2, alice, 20)), "the next one follows")
		assert.False(t, overruns(mapping(112, 1, alice, 22)), "there is no next one")
	})
}
