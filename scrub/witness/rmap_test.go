package witness_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/scrubd/scrubd/ioctl"
	"github.com/scrubd/scrubd/ioctl/ioctltest"
	"github.com/scrubd/scrubd/scrub/witness"
	"github.com/scrubd/scrubd/shadow"
)

// view collects a whole RmapView.
func view(fs *ioctl.FS, agno ioctl.AGNumber, batch int) ([]shadow.Rmap, error) {
	var all []shadow.Rmap
	for recs, err := range witness.RmapView(context.Background(), fs, agno, ioctl.NewFSMapBuffer(batch)) {
		if err != nil {
			return all, err
		}
		all = append(all, recs...)
	}
	return all, nil
}

// drawRecord draws a record that may overlap any other: in a few blocks, of a
// few owners, at a few offsets.
func drawRecord(t *rapid.T) shadow.Rmap {
	r := shadow.Rmap{
		StartBlock: rapid.Uint32Range(0, 40).Draw(t, "start"),
		BlockCount: rapid.Uint32Range(1, 12).Draw(t, "count"),
	}
	switch rapid.IntRange(0, 9).Draw(t, "kind") {
	case 0:
		r.Owner = rapid.SampledFrom([]uint64{shadow.OwnerFS, shadow.OwnerAG, shadow.OwnerCoW, shadow.OwnerInodes}).Draw(t, "special")
		return r
	case 1:
		r.Offset = shadow.OffsetBmbtBlock
	case 2:
		r.Offset = shadow.OffsetAttrFork | rapid.Uint64Range(0, 5).Draw(t, "offset")
	case 3:
		r.Offset = shadow.OffsetUnwritten | rapid.Uint64Range(0, 20).Draw(t, "offset")
	default:
		r.Offset = rapid.Uint64Range(0, 20).Draw(t, "offset")
	}
	r.Owner = rapid.Uint64Range(131, 134).Draw(t, "owner")
	return r
}

// Whatever overlaps, and wherever batches end: nothing is skipped and nothing
// comes twice.
func TestRmapViewIsExact(t *testing.T) {
	for kind := range behaviour(numKinds) {
		for _, reflink := range []bool{true, false} {
			t.Run(fmt.Sprintf("kind %d reflink %v", kind, reflink), func(t *testing.T) {
				rapid.Check(t, func(rt *rapid.T) {
					want := inOrder(rapid.SliceOfN(rapid.Custom(drawRecord), 0, 60).Draw(rt, "records"))
					batch := rapid.IntRange(4, 70).Draw(rt, "batch")
					fs, _ := newFakeAG(t, kind, reflink, want)
					got, err := view(fs, 0, batch)
					if errors.Is(err, witness.ErrStuck) {
						require.Greater(rt, crowding(want, reflink)+5, batch, "stuck without a crowd")
						require.Equal(rt, normal(want[:len(got)]), normal(got))
						return
					}
					require.NoError(rt, err)
					require.Equal(rt, normal(want), normal(got))
				})
			})
		}
	}
}

// normal orders records with equal keys, whose order nobody promises.
func normal(records []shadow.Rmap) []shadow.Rmap {
	n := append([]shadow.Rmap{}, records...)
	slices.SortFunc(n, func(a, b shadow.Rmap) int {
		if c := lowKey(&a).compare(lowKey(&b)); c != 0 {
			return c
		}
		if a.BlockCount != b.BlockCount {
			return int(a.BlockCount) - int(b.BlockCount)
		}
		return int(a.Offset>>61&1) - int(b.Offset>>61&1)
	})
	return n
}

// crowding is how many records there are at most that only a crowd can tell
// apart: those of one start block and owner with reflink, else those that touch
// one block.
func crowding(records []shadow.Rmap, reflink bool) int {
	most := 0
	for i := range records {
		n := 0
		for j := range records {
			a, b := &records[i], &records[j]
			same := a.StartBlock == b.StartBlock && (a.Owner == b.Owner || !a.IsInode() && !b.IsInode())
			if !reflink {
				same = b.StartBlock <= a.StartBlock && uint64(a.StartBlock) < b.End()
			}
			if same {
				n++
			}
		}
		most = max(most, n)
	}
	return most
}

// A file that maps one extent more often than a batch has room for.
func TestRmapViewCrowd(t *testing.T) {
	for kind := range behaviour(numKinds) {
		t.Run(fmt.Sprint("kind ", kind), func(t *testing.T) {
			var records []shadow.Rmap
			for owner := range uint64(3) {
				for i := range uint64(5000) {
					records = append(records, shadow.Rmap{StartBlock: 500, BlockCount: 8, Owner: 131 + owner, Offset: 16 * i})
				}
			}
			records = append(records,
				shadow.Rmap{StartBlock: 0, BlockCount: 1, Owner: shadow.OwnerFS},
				shadow.Rmap{StartBlock: 490, BlockCount: 11, Owner: 131, Offset: 1 << 30},
				shadow.Rmap{StartBlock: 500, BlockCount: 2, Owner: 140},
				shadow.Rmap{StartBlock: 501, BlockCount: 2, Owner: 140, Offset: 100},
				shadow.Rmap{StartBlock: 500, BlockCount: 4, Owner: 131, Offset: shadow.OffsetAttrFork},
				shadow.Rmap{StartBlock: 500, BlockCount: 1, Owner: shadow.OwnerCoW},
				shadow.Rmap{StartBlock: 900, BlockCount: 1, Owner: 150, Offset: shadow.OffsetUnwritten | 7},
			)
			records = inOrder(records)
			fs, _ := newFakeAG(t, kind, true, records)
			got, err := view(fs, 0, ioctl.MaxFSMapRecords)
			require.NoError(t, err)
			require.Equal(t, records, got)
		})
	}
}

// Since 6.14 records of a crowd that are shorter than the others cannot be
// reached. That must be an error and not a difference.
func TestRmapViewCrowdOfUnequals(t *testing.T) {
	var records []shadow.Rmap
	for i := range uint64(5000) {
		records = append(records, shadow.Rmap{StartBlock: 500, BlockCount: 8, Owner: 131, Offset: 16 * i})
	}
	records[4000].BlockCount = 3
	fs, _ := newFakeAG(t, newest, true, records)
	got, err := view(fs, 0, ioctl.MaxFSMapRecords)
	require.ErrorIs(t, err, witness.ErrStuck)
	require.Subset(t, records, got[:10])

	fs, _ = newFakeAG(t, middle, true, records)
	got, err = view(fs, 0, ioctl.MaxFSMapRecords)
	require.NoError(t, err)
	require.Equal(t, records, got)
}

// A record whose start block was changed where it lies: the tree hands it out
// in the wrong place.
func TestRmapViewSortsStrays(t *testing.T) {
	for kind := range behaviour(numKinds) {
		for _, reflink := range []bool{true, false} {
			t.Run(fmt.Sprintf("kind %d reflink %v", kind, reflink), func(t *testing.T) {
				rapid.Check(t, func(rt *rapid.T) {
					n := rapid.IntRange(2, 200).Draw(rt, "n")
					records := make([]shadow.Rmap, n)
					for i := range records {
						records[i] = shadow.Rmap{StartBlock: uint32(10 * i), BlockCount: 5, Owner: 131, Offset: uint64(7 * i)}
					}
					stray := rapid.IntRange(0, n-1).Draw(rt, "stray")
					records[stray].StartBlock = rapid.Uint32Range(uint32(10*stray), uint32(10*n+50)).Draw(rt, "moved to")
					fs, _ := newFakeAG(t, kind, reflink, records)
					got, err := view(fs, 0, rapid.IntRange(8, 40).Draw(rt, "batch"))
					require.NoError(rt, err)
					require.Equal(rt, inOrder(records), got)
				})
			})
		}
	}
}

// One that sorts too low is seen by the kernel only as long as the query has
// not gone past it; the others must come all the same.
func TestRmapViewSurvivesLowStray(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		n := rapid.IntRange(2, 200).Draw(rt, "n")
		records := make([]shadow.Rmap, n)
		for i := range records {
			records[i] = shadow.Rmap{StartBlock: uint32(10 * i), BlockCount: 5, Owner: 131, Offset: uint64(7 * i)}
		}
		i := rapid.IntRange(0, n-1).Draw(rt, "stray")
		records[i].StartBlock = rapid.Uint32Range(0, uint32(10*i)).Draw(rt, "moved to")
		stray := records[i]
		fs, _ := newFakeAG(t, behaviour(rapid.IntRange(0, numKinds-1).Draw(rt, "kind")), rapid.Bool().Draw(rt, "reflink"), records)
		got, err := view(fs, 0, rapid.IntRange(8, 40).Draw(rt, "batch"))
		require.NoError(rt, err)
		require.True(rt, slices.IsSortedFunc(got, func(a, b shadow.Rmap) int { return lowKey(&a).compare(lowKey(&b)) }))
		without := func(r shadow.Rmap) bool { return r == stray }
		require.Equal(rt, slices.DeleteFunc(inOrder(records), without), slices.DeleteFunc(got, without))
	})
}

func TestRmapViewConverts(t *testing.T) {
	fs, k := ioctltest.New(t)
	k.Update(func(m *ioctltest.Model) {
		m.AddInode(&ioctltest.Inode{
			Ino: 131, Gen: 7,
			Data:     []ioctltest.Extent{{Offset: 3, AGNo: 1, AGBno: 72, Length: 16}, {Offset: 40, AGNo: 1, AGBno: 100, Length: 4, Unwritten: true}},
			Attr:     []ioctltest.Extent{{Offset: 0, AGNo: 1, AGBno: 120, Length: 2}},
			DataBmbt: []ioctltest.Range{{AGNo: 1, AGBno: 200, Length: 1}},
			AttrBmbt: []ioctltest.Range{{AGNo: 1, AGBno: 300, Length: 1}},
		})
		m.Fixed = []ioctltest.Rmap{{AGNo: 1, AGBno: 400, Length: 8, Owner: uint64(ioctl.FSMapOwnerCoW), Flags: ioctl.FSMapSpecialOwner}}
		m.Derive()
	})
	got, err := view(fs, 1, ioctl.MaxFSMapRecords)
	require.NoError(t, err)
	require.Equal(t, []shadow.Rmap{
		{StartBlock: 0, BlockCount: 1, Owner: shadow.OwnerFS},
		{StartBlock: 1, BlockCount: 3, Owner: shadow.OwnerAG},
		{StartBlock: 4, BlockCount: 2, Owner: shadow.OwnerInobt},
		{StartBlock: 6, BlockCount: 1, Owner: shadow.OwnerRefcbt},
		{StartBlock: 7, BlockCount: 4, Owner: shadow.OwnerAG},
		{StartBlock: 72, BlockCount: 16, Owner: 131, Offset: 3},
		{StartBlock: 100, BlockCount: 4, Owner: 131, Offset: shadow.OffsetUnwritten | 40},
		{StartBlock: 120, BlockCount: 2, Owner: 131, Offset: shadow.OffsetAttrFork},
		{StartBlock: 200, BlockCount: 1, Owner: 131, Offset: shadow.OffsetBmbtBlock},
		{StartBlock: 300, BlockCount: 1, Owner: 131, Offset: shadow.OffsetBmbtBlock | shadow.OffsetAttrFork},
		{StartBlock: 400, BlockCount: 8, Owner: shadow.OwnerCoW},
	}, got)
}

// Records that the kernel cannot have meant end the view with an error that
// names them.
func TestRmapViewRefusesNonsense(t *testing.T) {
	good := ioctl.FSMapRecord{Physical: 4096 * 10, Length: 4096, Owner: 131}
	for name, change := range map[string]func(*ioctl.FSMapRecord){
		"other AG":        func(r *ioctl.FSMapRecord) { r.Physical = 4096 * 1000 },
		"across border":   func(r *ioctl.FSMapRecord) { r.Physical, r.Length = 4096*999, 8192 },
		"past the end":    func(r *ioctl.FSMapRecord) { r.Length = 1 << 63 },
		"no blocks":       func(r *ioctl.FSMapRecord) { r.Length = 0 },
		"part of a block": func(r *ioctl.FSMapRecord) { r.Length = 4097 },
		"odd start":       func(r *ioctl.FSMapRecord) { r.Physical++ },
		"odd offset":      func(r *ioctl.FSMapRecord) { r.Offset = 5 },
		"unknown owner":   func(r *ioctl.FSMapRecord) { r.Owner, r.Flags = 'X'<<32|99, ioctl.FSMapSpecialOwner },
		"huge inode":      func(r *ioctl.FSMapRecord) { r.Owner = 1 << 63 },
	} {
		t.Run(name, func(t *testing.T) {
			fs, k := ioctltest.New(t)
			bad := good
			change(&bad)
			k.OnFSMap = func(ioctltest.FSMapRequest) ([]ioctl.FSMapRecord, errno) {
				return []ioctl.FSMapRecord{bad}, 0
			}
			got, err := view(fs, 0, 16)
			require.ErrorIs(t, err, witness.ErrMalformed)
			require.ErrorContains(t, err, "AG 0")
			require.Empty(t, got)
		})
	}
}

// A kernel that always answers the same is not followed for ever.
func TestRmapViewDoesNotLoop(t *testing.T) {
	for _, reflink := range []bool{true, false} {
		m := ioctltest.NewModel()
		if !reflink {
			m.Geometry.Flags &^= ioctl.FlagReflink
		}
		fs, k := ioctltest.NewWithModel(t, m)
		calls := 0
		k.OnFSMap = func(req ioctltest.FSMapRequest) ([]ioctl.FSMapRecord, errno) {
			calls++
			recs := make([]ioctl.FSMapRecord, req.Count)
			for i := range recs {
				recs[i] = ioctl.FSMapRecord{Physical: 4096 * ioctl.ByteOff(i), Length: 4096, Owner: 131, Offset: 4096 * ioctl.ByteOff(i)}
			}
			return recs, 0
		}
		_, err := view(fs, 0, 8)
		require.ErrorIs(t, err, witness.ErrStuck)
		require.Less(t, calls, 20)
	}
}

func TestRmapViewCorrupt(t *testing.T) {
	var records []shadow.Rmap
	for i := range uint32(100) {
		records = append(records, shadow.Rmap{StartBlock: 10 * i, BlockCount: 5, Owner: 131, Offset: uint64(i) * 7})
	}
	fs, ag := newFakeAG(t, newest, true, records)
	ag.bad[500] = true
	got, err := view(fs, 0, 16)
	var corrupt *witness.CorruptError
	require.ErrorAs(t, err, &corrupt)
	require.ErrorIs(t, err, ioctl.ErrCorrupt)
	require.Equal(t, ioctl.AGNumber(0), corrupt.AGNo)
	require.Equal(t, records[:len(got)], got)
	require.Equal(t, got[len(got)-1].StartBlock, uint32(corrupt.Reached))
	require.Less(t, corrupt.Reached, ioctl.AGBlock(500))
}

func TestRmapViewNeedsRmapbt(t *testing.T) {
	m := ioctltest.NewModel()
	m.Geometry.Flags &^= ioctl.FlagRmapbt
	fs, _ := ioctltest.NewWithModel(t, m)
	_, err := view(fs, 0, 16)
	require.ErrorIs(t, err, ioctl.ErrNotSupported)
	_, err = view(fs, 99, 16)
	require.ErrorIs(t, err, ioctl.ErrNotSupported)
}

func TestRmapViewStopsWithContext(t *testing.T) {
	fs, _ := ioctltest.New(t)
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	for _, err := range witness.RmapView(ctx, fs, 0, ioctl.NewFSMapBuffer(4)) {
		require.ErrorIs(t, err, context.Canceled)
	}
	_, err := view(fs, 4, 16)
	require.ErrorIs(t, err, witness.ErrRange)
}

func TestRmapWindow(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		records := inOrder(rapid.SliceOfN(rapid.Custom(drawRecord), 0, 60).Draw(rt, "records"))
		fs, _ := newFakeAG(t, behaviour(rapid.IntRange(1, numKinds-1).Draw(rt, "kind")), true, records)
		start := rapid.Uint32Range(0, 60).Draw(rt, "window")
		count := rapid.Uint32Range(1, 20).Draw(rt, "blocks")
		got, err := witness.RmapWindow(fs, 0, ioctl.AGBlock(start), ioctl.AGBlock(count), ioctl.NewFSMapBuffer(200), nil)
		require.NoError(rt, err)
		var want, have []shadow.Rmap
		for _, r := range records {
			if uint64(r.StartBlock) < uint64(start)+uint64(count) && r.End() > uint64(start) {
				want = append(want, r)
			}
		}
		for _, r := range got {
			have = append(have, r.Rmap)
		}
		require.Equal(rt, normal(want), normal(have))
	})
}

func TestRmapWindowShared(t *testing.T) {
	fs, k := ioctltest.New(t)
	k.Update(func(m *ioctltest.Model) {
		m.AddInode(&ioctltest.Inode{Ino: 131, Data: []ioctltest.Extent{{AGNo: 0, AGBno: 72, Length: 16}, {Offset: 16, AGNo: 0, AGBno: 100, Length: 1}}})
		m.AddInode(&ioctltest.Inode{Ino: 132, Data: []ioctltest.Extent{{AGNo: 0, AGBno: 80, Length: 4}}})
		m.Derive()
	})
	buf := ioctl.NewFSMapBuffer(64)
	got, err := witness.RmapWindow(fs, 0, 81, 20, buf, nil)
	require.NoError(t, err)
	require.Equal(t, []witness.Record{
		{Rmap: shadow.Rmap{StartBlock: 72, BlockCount: 16, Owner: 131}, Shared: true},
		{Rmap: shadow.Rmap{StartBlock: 80, BlockCount: 4, Owner: 132}, Shared: true},
		{Rmap: shadow.Rmap{StartBlock: 100, BlockCount: 1, Owner: 131, Offset: 16}},
	}, got)

	for _, w := range [][2]ioctl.AGBlock{{0, 0}, {999, 2}, {1000, 1}, {^ioctl.AGBlock(0), 1}} {
		_, err := witness.RmapWindow(fs, 0, w[0], w[1], buf, nil)
		require.ErrorIs(t, err, witness.ErrRange)
	}
}
