package walk_test

import (
	"context"
	"fmt"
	"math/bits"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
	"pgregory.net/rapid"

	"github.com/scrubd/scrubd/ioctl"
	"github.com/scrubd/scrubd/ioctl/ioctltest"
	"github.com/scrubd/scrubd/scrub/throttle"
	"github.com/scrubd/scrubd/scrub/walk"
	"github.com/scrubd/scrubd/shadow"
	"github.com/scrubd/scrubd/xfile"
)

func TestClaims(t *testing.T) {
	fs, k := ioctltest.New(t)
	k.Update(func(m *ioctltest.Model) {
		m.AddInode(&ioctltest.Inode{
			Ino: 131, Gen: 7, Reflink: true, Size: 1,
			Data: []ioctltest.Extent{
				{Offset: 0, AGNo: 0, AGBno: 72, Length: 16},
				{Offset: 16, AGNo: 1, AGBno: 50, Length: 4, Unwritten: true},
				{Offset: 20, AGNo: 1, AGBno: 54, Length: 4},
				{Offset: 40, Length: 8, Delalloc: true},
				{Offset: 1 << 30, AGNo: 1, AGBno: 500, Length: 1}, // past EOF
			},
			Attr: []ioctltest.Extent{{Offset: 0, AGNo: 2, AGBno: 90, Length: 2}},
		})
		m.AddInode(&ioctltest.Inode{Ino: 132, Gen: 8, Reflink: true, Data: []ioctltest.Extent{{AGNo: 0, AGBno: 76, Length: 4}}})
		m.AddInode(&ioctltest.Inode{Ino: 133, Mode: unix.S_IFDIR | 0o755, Inline: true, Attr: []ioctltest.Extent{{AGNo: 3, AGBno: 20, Length: 1}}})
		m.AddInode(&ioctltest.Inode{Ino: 134, Mode: unix.S_IFLNK | 0o777, Data: []ioctltest.Extent{{AGNo: 3, AGBno: 21, Length: 1}}})
		m.AddInode(&ioctltest.Inode{Ino: 135, Mode: unix.S_IFLNK | 0o777, Inline: true})
		m.AddInode(&ioctltest.Inode{Ino: 136, Mode: unix.S_IFIFO | 0o600, Inline: true, Attr: []ioctltest.Extent{{AGNo: 3, AGBno: 30, Length: 3}}})
		m.AddInode(&ioctltest.Inode{Ino: 137, Sick: 5})
		m.Derive()
	})
	res := run(t, fs, walk.Options{Workers: 2})

	require.Equal(t, []shadow.Rmap{
		{StartBlock: 72, BlockCount: 16, Owner: 131}, // SHARED pieces joined
		{StartBlock: 76, BlockCount: 4, Owner: 132},
	}, claims(t, res, 0))
	require.Equal(t, []shadow.Rmap{
		{StartBlock: 50, BlockCount: 4, Owner: 131, Offset: shadow.OffsetUnwritten | 16},
		{StartBlock: 54, BlockCount: 4, Owner: 131, Offset: 20},
		{StartBlock: 500, BlockCount: 1, Owner: 131, Offset: 1 << 30},
	}, claims(t, res, 1))
	require.Equal(t, []shadow.Rmap{{StartBlock: 90, BlockCount: 2, Owner: 131, Offset: shadow.OffsetAttrFork}}, claims(t, res, 2))
	require.Equal(t, []shadow.Rmap{{StartBlock: 20, BlockCount: 1, Owner: 133, Offset: shadow.OffsetAttrFork}}, claims(t, res, 3))

	header, err := res.Claims[3].Get(0)
	require.NoError(t, err)
	require.Equal(t, shadow.Rmap{BlockCount: 1, Owner: shadow.OwnerFS}, header)
	log, err := res.Claims[2].Get(2)
	require.NoError(t, err)
	require.Equal(t, shadow.Rmap{StartBlock: 500, BlockCount: 64, Owner: shadow.OwnerLog}, log)

	require.Equal(t, int64(2), res.Opaque.Len())
	o, ok, err := res.FindOpaque(134)
	require.NoError(t, err)
	require.True(t, ok)
	require.Equal(t, walk.Opaque{Ino: 134, Mode: unix.S_IFLNK | 0o777, Blocks: 1, Extents: 1}, o)
	o, ok, err = res.FindOpaque(136)
	require.NoError(t, err)
	require.True(t, ok)
	require.Equal(t, walk.Opaque{Ino: 136, Mode: unix.S_IFIFO | 0o600, Blocks: 3, AExtents: 1}, o)
	_, ok, err = res.FindOpaque(135)
	require.NoError(t, err)
	require.False(t, ok)

	require.Equal(t, []walk.SickInode{{Ino: 137, Mask: 5}}, res.Sick)
	require.Equal(t, ioctl.InodeHealth(5), res.SickMask)
	require.Equal(t, uint64(8), res.Inodes)
	require.Equal(t, uint64(3), res.Opened, "only what has extents is opened")
	require.Equal(t, uint64(32), res.Blocks)
	for _, c := range k.Calls(ioctltest.OpBmap) {
		require.GreaterOrEqual(t, c.Bmap.Length, ioctl.DAddr(1<<50), "a range that ends at EOF misses extents")
	}
	require.NotEmpty(t, k.Calls(ioctltest.OpFlushInodegc))
}

// Headers take one block or, where sectors are as large as blocks, four.
func TestHeaderClaims(t *testing.T) {
	for want, g := range map[uint32][2]uint32{1: {4096, 512}, 4: {512, 512}, 2: {1024, 512}, 3: {1024, 768}} {
		m := ioctltest.NewModel()
		m.Geometry.BlockSize, m.Geometry.SectorSize, m.Geometry.InodeSize = g[0], g[1], 256
		m.Geometry.LogStart = 0
		fs, _ := ioctltest.NewWithModel(t, m)
		res := run(t, fs, walk.Options{})
		for _, a := range res.Claims {
			r, err := a.Get(0)
			require.NoError(t, err)
			require.Equal(t, shadow.Rmap{BlockCount: want, Owner: shadow.OwnerFS}, r)
			require.Equal(t, int64(1), a.Len())
		}
	}
}

// However inodes lie, whatever BULKSTAT cannot read or does not tell of: every
// other inode is walked, and those are named.
func TestNoInodeIsLost(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		m := ioctltest.NewModel()
		want := []ioctl.Ino{}
		bad, hush := map[ioctl.Ino]bool{}, map[ioctl.Ino]bool{}
		for range rapid.IntRange(0, 6).Draw(rt, "runs") {
			agno := ioctl.AGNumber(rapid.IntRange(0, 3).Draw(rt, "agno"))
			first := m.Geometry.AGToIno(agno, 0, 0) + ioctl.Ino(rapid.IntRange(192, 7000).Draw(rt, "first"))
			for _, ino := range addFiles(m, first, rapid.IntRange(1, 200).Draw(rt, "files")) {
				delete(bad, ino)
				delete(hush, ino)
				switch rapid.IntRange(0, 40).Draw(rt, "state") {
				case 0:
					bad[ino] = true
				case 1:
					hush[ino] = true
					m.Inodes[ino].Private = true
				}
			}
		}
		for ino, i := range m.Inodes {
			if len(i.Data) > 0 && !bad[ino] && !hush[ino] {
				want = append(want, ino)
			}
		}
		slices.Sort(want)
		fs, k := ioctltest.NewWithModel(t, m)
		corrupt(k, func(ino ioctl.Ino) bool { return bad[ino] }, unix.EUCLEAN)
		res := run(t, fs, walk.Options{Workers: rapid.IntRange(1, 4).Draw(rt, "workers")})
		require.Equal(rt, want, append([]ioctl.Ino{}, owners(t, res)...))

		// A silent inode right before an unreadable one cannot be told from it.
		for _, ino := range unreadables(res) {
			next := ino + 1
			for m.Inodes[next] != nil && hush[next] {
				next++
			}
			require.True(rt, bad[ino] || hush[ino] && (bad[next] || m.Inodes[next] == nil), "inode %d is readable", ino)
		}
		require.Equal(rt, len(bad)+len(hush), int(res.UnreadableTotal)+int(res.Silent.Len()))
		for ino := range bad {
			require.Contains(rt, unreadables(res), ino)
		}
		for _, ino := range silent(t, res) {
			require.True(rt, hush[ino])
			ok, err := res.IsSilent(ino)
			require.NoError(rt, err)
			require.True(rt, ok)
		}
		ok, err := res.IsSilent(128)
		require.NoError(rt, err)
		require.False(rt, ok)

		var allocated int
		for agno := range res.Chunks {
			for c, err := range res.Chunks[agno].All(context.Background()) {
				require.NoError(rt, err)
				allocated += bits.OnesCount64(c.AllocMask)
				found, ok, err := res.FindChunk(c.StartIno + 5)
				require.NoError(rt, err)
				require.True(rt, ok)
				require.Equal(rt, c, found)
			}
		}
		require.Len(rt, m.Inodes, allocated)
	})
}

// Where BULKSTAT always fails, the calls stay few: one for each inode, and a few
// for each chunk.
func TestAllInodesCorrupt(t *testing.T) {
	for _, why := range []errno{unix.EUCLEAN, unix.EBADMSG, unix.EIO, unix.ENODATA} {
		fs, k := ioctltest.New(t)
		var all []ioctl.Ino
		k.Update(func(m *ioctltest.Model) { all = addFiles(m, 192, 640) })
		corrupt(k, func(ino ioctl.Ino) bool { return ino != 128 }, why)
		res := run(t, fs, walk.Options{Workers: 2})
		require.Equal(t, all, unreadables(res))
		require.Equal(t, walk.StageBulkstat, res.Unreadable[0].Stage)
		require.ErrorIs(t, res.Unreadable[0].Err, why)
		require.Less(t, len(k.Calls(ioctltest.OpBulkstat)), 1500)
	}
}

// The lists are bounded, the totals are not.
func TestListsAreBounded(t *testing.T) {
	m := ioctltest.NewModel()
	m.Geometry.AGBlocks, m.Geometry.AGCount, m.Geometry.DataBlocks, m.Geometry.LogStart = 10_000, 1, 10_000, 0
	all := addFiles(m, 192, 2*walk.ListCap)
	for _, ino := range all {
		m.Inodes[ino].Sick = 1
	}
	fs, k := ioctltest.NewWithModel(t, m)
	k.OnOpenByHandle = func(ino ioctl.Ino, _ ioctl.Gen, _ bool) errno {
		return []errno{unix.EUCLEAN, unix.EWOULDBLOCK}[ino%2]
	}
	res := run(t, fs, walk.Options{})
	require.Len(t, res.Sick, walk.ListCap)
	require.Equal(t, uint64(2*walk.ListCap), res.SickTotal)
	require.Len(t, res.Unreadable, walk.ListCap)
	require.Len(t, res.Refused, walk.ListCap)
	require.Equal(t, uint64(walk.ListCap), res.UnreadableTotal)
	require.Equal(t, uint64(walk.ListCap), res.RefusedTotal)
}

func TestOpenFails(t *testing.T) {
	for why, check := range map[errno]func(*testing.T, *walk.Result){
		unix.ESTALE:      func(t *testing.T, r *walk.Result) { require.Equal(t, uint64(1), r.Vanished) },
		unix.ENOENT:      func(t *testing.T, r *walk.Result) { require.Equal(t, uint64(1), r.Vanished) },
		unix.EPERM:       func(t *testing.T, r *walk.Result) { require.Equal(t, ioctl.Ino(193), r.Refused[0].Ino) },
		unix.EACCES:      func(t *testing.T, r *walk.Result) { require.Equal(t, uint64(1), r.Refused[0].Extents) },
		unix.EWOULDBLOCK: func(t *testing.T, r *walk.Result) { require.Equal(t, ioctl.Gen(194), r.Refused[0].Gen) },
		unix.EUCLEAN:     func(t *testing.T, r *walk.Result) { require.Equal(t, walk.StageOpen, r.Unreadable[0].Stage) },
		unix.EIO:         func(t *testing.T, r *walk.Result) { require.Equal(t, ioctl.Gen(194), r.Unreadable[0].Gen) },
	} {
		t.Run(why.Error(), func(t *testing.T) {
			fs, k := ioctltest.New(t)
			k.Update(func(m *ioctltest.Model) { addFiles(m, 192, 3) })
			k.OnOpenByHandle = func(ino ioctl.Ino, gen ioctl.Gen, path bool) errno {
				if ino == 193 {
					return why
				}
				return k.DefaultOpenByHandle(ino, gen, path)
			}
			res := run(t, fs, walk.Options{})
			check(t, res)
			require.Equal(t, uint64(1), res.Vanished+res.RefusedTotal+res.UnreadableTotal)
			require.Equal(t, []ioctl.Ino{192, 194}, owners(t, res))
		})
	}
}

// A directory that its handle does not open is there all the same; it is read
// after it was reached in another way.
func TestDirectoryOutOfReach(t *testing.T) {
	for _, reached := range []bool{false, true} {
		fs, k := ioctltest.New(t)
		k.Update(func(m *ioctltest.Model) {
			addFiles(m, 192, 3)
			m.Inodes[193].Mode = unix.S_IFDIR | 0o755
		})
		open := false
		k.OnOpenByHandle = func(ino ioctl.Ino, gen ioctl.Gen, path bool) errno {
			if ino == 193 && !open {
				return unix.ESTALE
			}
			return k.DefaultOpenByHandle(ino, gen, path)
		}
		var asked map[ioctl.Ino]ioctl.Gen
		res := run(t, fs, walk.Options{Reach: func(_ context.Context, dirs map[ioctl.Ino]ioctl.Gen) error {
			asked, open = dirs, reached
			return nil
		}})
		require.Equal(t, map[ioctl.Ino]ioctl.Gen{193: 194}, asked)
		require.Zero(t, res.Vanished)
		if reached {
			require.Zero(t, res.UnreadableTotal)
			require.Empty(t, res.Unreadable)
			require.Equal(t, []ioctl.Ino{192, 193, 194}, owners(t, res))
			continue
		}
		require.Equal(t, uint64(1), res.UnreadableTotal)
		require.Equal(t, walk.StageReach, res.Unreadable[0].Stage)
		require.Equal(t, []ioctl.Ino{192, 194}, owners(t, res))
	}
}

func TestForkCannotBeRead(t *testing.T) {
	fs, k := ioctltest.New(t)
	k.Update(func(m *ioctltest.Model) {
		addFiles(m, 192, 3)
		m.Inodes[193].DamagedData = true
		m.Inodes[193].Attr = []ioctltest.Extent{{AGNo: 0, AGBno: 90, Length: 1}}
		m.Inodes[194].Attr = []ioctltest.Extent{{AGNo: 0, AGBno: 91, Length: 1}}
		m.Inodes[194].DamagedAttr = true
	})
	res := run(t, fs, walk.Options{Workers: 1})
	require.Equal(t, []ioctl.Ino{192, 193, 194}, owners(t, res), "the other fork of each")
	require.Equal(t, uint64(2), res.UnreadableTotal)
	require.Equal(t, walk.StageDataFork, res.Unreadable[0].Stage)
	require.Equal(t, walk.StageAttrFork, res.Unreadable[1].Stage)
	require.ErrorIs(t, res.Unreadable[1].Err, ioctl.ErrCorrupt)
	require.Equal(t, ioctl.Ino(194), res.Unreadable[1].LastIno)
}

// A range of inodes that INUMBERS cannot list is named, and the rest is walked.
func TestInumbersCorrupt(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		m := ioctltest.NewModel()
		all := addFiles(m, 192, 64*20)
		first := ioctl.Ino(192 + 64*rapid.IntRange(0, 18).Draw(rt, "first"))
		end := min(first+ioctl.Ino(64*rapid.IntRange(1, 10).Draw(rt, "chunks")), 192+64*20)
		fs, k := ioctltest.NewWithModel(t, m)
		k.OnInumbers = func(req ioctltest.BulkRequest) ([]ioctl.InumbersRecord, ioctl.Ino, errno) {
			recs, next, e := k.DefaultInumbers(req)
			for i := range recs {
				if recs[i].StartIno >= first && recs[i].StartIno < end {
					if i == 0 {
						return nil, 0, unix.EUCLEAN
					}
					return recs[:i], recs[i-1].StartIno + 64, 0
				}
			}
			return recs, next, e
		}
		res := run(t, fs, walk.Options{})
		want := slices.DeleteFunc(slices.Clone(all), func(ino ioctl.Ino) bool { return ino >= first && ino < end })
		require.Equal(rt, want, append([]ioctl.Ino(nil), owners(t, res)...))
		require.Len(rt, res.Unreadable, 1)
		require.Equal(rt, walk.Unreadable{Ino: first, LastIno: end - 1, Stage: walk.StageInumbers, Err: res.Unreadable[0].Err}, res.Unreadable[0])
		require.Less(rt, len(k.Calls(ioctltest.OpInumbers)), 60)
	})
}

// An inobt that can be read nowhere is one entry a group.
func TestInumbersAllCorrupt(t *testing.T) {
	fs, k := ioctltest.New(t)
	k.OnInumbers = func(ioctltest.BulkRequest) ([]ioctl.InumbersRecord, ioctl.Ino, errno) { return nil, 0, unix.EBADMSG }
	res := run(t, fs, walk.Options{})
	require.Len(t, res.Unreadable, 4)
	require.Less(t, len(k.Calls(ioctltest.OpInumbers)), 100)
}

// Answers of BULKSTAT and INUMBERS that go backwards or leave the group neither
// loop nor get lost.
func TestMalformedBulk(t *testing.T) {
	fs, k := ioctltest.New(t)
	k.Update(func(m *ioctltest.Model) { addFiles(m, 192, 100) })
	k.OnBulkstat = func(req ioctltest.BulkRequest) ([]ioctl.BulkstatRecord, ioctl.Ino, errno) {
		recs, next, e := k.DefaultBulkstat(req)
		if len(recs) > 10 {
			recs[9], recs[3] = recs[3], recs[9]
		}
		return recs, next, e
	}
	res := run(t, fs, walk.Options{Workers: 1})
	require.Zero(t, res.Silent.Len())
	require.Len(t, owners(t, res), 100)

	k.OnBulkstat = func(ioctltest.BulkRequest) ([]ioctl.BulkstatRecord, ioctl.Ino, errno) {
		return []ioctl.BulkstatRecord{{Ino: 1}}, 0, 0
	}
	res = run(t, fs, walk.Options{})
	require.Equal(t, uint64(101), res.UnreadableTotal)
	require.ErrorIs(t, res.Unreadable[0].Err, ioctl.ErrMalformed)

	for _, start := range []ioctl.Ino{0, 1 << 40} {
		k.OnInumbers = func(ioctltest.BulkRequest) ([]ioctl.InumbersRecord, ioctl.Ino, errno) {
			return []ioctl.InumbersRecord{{StartIno: start, AllocMask: 1}, {StartIno: start, AllocMask: 1}}, start + 64, 0
		}
		res = run(t, fs, walk.Options{})
		require.Len(t, res.Unreadable, 4)
		require.ErrorIs(t, res.Unreadable[0].Err, ioctl.ErrMalformed)
	}
}

// Inodes that are freed while the walk looks for them are not silent.
func TestFreedMeanwhile(t *testing.T) {
	fs, k := ioctltest.New(t)
	k.Update(func(m *ioctltest.Model) { addFiles(m, 192, 100) })
	var once sync.Once
	k.OnBulkstat = func(req ioctltest.BulkRequest) ([]ioctl.BulkstatRecord, ioctl.Ino, errno) {
		if req.Flags&ioctl.BulkAGNo != 0 {
			once.Do(func() {
				k.Update(func(m *ioctltest.Model) {
					for ino := ioctl.Ino(200); ino < 210; ino++ {
						delete(m.Inodes, ino)
					}
					m.Inodes[220].Inactive = true
				})
			})
		}
		return k.DefaultBulkstat(req)
	}
	res := run(t, fs, walk.Options{Workers: 1})
	require.Equal(t, uint64(10), res.Vanished)
	require.Equal(t, []ioctl.Ino{220}, silent(t, res))
	require.Zero(t, res.UnreadableTotal)
}

func TestRealtimeFiles(t *testing.T) {
	fs, k := ioctltest.New(t)
	k.Update(func(m *ioctltest.Model) {
		addFiles(m, 192, 2)
		m.Inodes[192].Attr = []ioctltest.Extent{{AGNo: 0, AGBno: 90, Length: 1}}
	})
	k.OnBulkstat = func(req ioctltest.BulkRequest) ([]ioctl.BulkstatRecord, ioctl.Ino, errno) {
		recs, next, e := k.DefaultBulkstat(req)
		for i := range recs {
			recs[i].XFlags = 1
		}
		return recs, next, e
	}
	res := run(t, fs, walk.Options{})
	require.Equal(t, uint64(2), res.RTInodes, "the root directory is none")
	require.Empty(t, claims(t, res, 0), "the kernel says wrong addresses of its attribute fork")
	o, ok, err := res.FindOpaque(192)
	require.NoError(t, err)
	require.True(t, ok)
	require.Equal(t, uint32(1), o.AExtents)
	_, ok, err = res.FindOpaque(193)
	require.NoError(t, err)
	require.False(t, ok, "without attributes it has nothing on the data device")
}

// Before Linux 5.19 BULKSTAT refuses the flag for 64-bit counts.
func TestOldBulkstat(t *testing.T) {
	fs, k := ioctltest.New(t)
	k.Update(func(m *ioctltest.Model) { addFiles(m, 192, 3) })
	k.OnBulkstat = func(req ioctltest.BulkRequest) ([]ioctl.BulkstatRecord, ioctl.Ino, errno) {
		if req.Flags&ioctl.BulkNrext64 != 0 {
			return nil, 0, unix.EINVAL
		}
		return k.DefaultBulkstat(req)
	}
	require.Len(t, owners(t, run(t, fs, walk.Options{})), 3)
}

// Extents beyond the device are malformed, unless it has grown meanwhile.
func TestGrownMeanwhile(t *testing.T) {
	fs, k := ioctltest.New(t)
	k.Update(func(m *ioctltest.Model) {
		addFiles(m, 192, 2)
		m.Inodes[192].Data[0].AGNo = 5
	})
	res := run(t, fs, walk.Options{})
	require.Zero(t, res.Grown)
	require.Equal(t, []ioctl.Ino{192}, unreadables(res))
	require.ErrorIs(t, res.Unreadable[0].Err, ioctl.ErrMalformed)
	require.Equal(t, []ioctl.Ino{193}, owners(t, res))

	k.Update(func(m *ioctltest.Model) { m.Geometry.AGCount, m.Geometry.DataBlocks = 7, 7000 })
	res = run(t, fs, walk.Options{})
	require.Equal(t, uint64(1), res.Grown)
	require.Zero(t, res.UnreadableTotal)
	require.Len(t, res.Claims, 4)
}

// A fork with more extents than one call may return is read in ranges.
func TestLongFork(t *testing.T) {
	m := ioctltest.NewModel()
	m.Geometry.AGBlocks, m.Geometry.AGCount, m.Geometry.DataBlocks, m.Geometry.LogStart = 1<<20, 1, 1<<20, 0
	i := &ioctltest.Inode{Ino: 192}
	const n = ioctl.MaxBmapRecords + 5000
	for e := range n {
		i.Data = append(i.Data, ioctltest.Extent{Offset: uint64(3 * e), AGBno: ioctl.AGBlock(200 + 2*e), Length: 1})
	}
	m.AddInode(i)
	for f := range ioctl.Ino(20) { // and some that need the middle size
		other := &ioctltest.Inode{Ino: 193 + f}
		for e := range 300 {
			other.Data = append(other.Data, ioctltest.Extent{Offset: uint64(3 * e), AGBno: ioctl.AGBlock(300_000 + 2*e), Length: 1})
		}
		m.AddInode(other)
	}
	fs, k := ioctltest.NewWithModel(t, m)
	res := run(t, fs, walk.Options{Workers: 2})
	require.Equal(t, uint64(n+20*300), res.Extents)
	got := claims(t, res, 0)
	require.Len(t, got, n+20*300)
	require.Equal(t, shadow.Rmap{StartBlock: 200 + 2*(n-1), BlockCount: 1, Owner: 192, Offset: 3 * (n - 1)}, got[n-1])
	for _, c := range k.Calls(ioctltest.OpBmap) {
		require.LessOrEqual(t, c.Bmap.Count, ioctl.MaxBmapRecords)
		if c.Ino > 192 {
			require.Less(t, c.Bmap.Count, 2000)
		}
	}
}

// A fork whose list never ends, or goes back, is given up.
func TestEndlessFork(t *testing.T) {
	fs, k := ioctltest.New(t)
	k.Update(func(m *ioctltest.Model) { addFiles(m, 192, 1) })
	for name, offset := range map[string]ioctl.DAddr{"back": 0, "beyond": 1 << 61} {
		t.Run(name, func(t *testing.T) {
			k.ResetCalls()
			k.OnBmap = func(req ioctltest.BmapRequest) ([]ioctl.BmapRecord, errno) {
				recs := make([]ioctl.BmapRecord, req.Count)
				for i := range recs {
					recs[i] = ioctl.BmapRecord{Offset: ioctl.DAddr(8 * i), Block: 800, Length: 8}
				}
				recs[len(recs)-1].Offset = offset
				return recs, 0
			}
			res := run(t, fs, walk.Options{})
			require.Equal(t, []ioctl.Ino{192}, unreadables(res))
			require.ErrorIs(t, res.Unreadable[0].Err, ioctl.ErrMalformed)
			require.Less(t, len(k.Calls(ioctltest.OpBmap)), 30)
		})
	}
}

// One record that cannot be does not hide the others of its fork.
func TestMalformedExtents(t *testing.T) {
	good := ioctl.BmapRecord{Offset: 80, Block: 800, Length: 8}
	for name, bad := range map[string]ioctl.BmapRecord{
		"no blocks":        {Offset: 0, Block: 800, Length: 0},
		"negative block":   {Offset: 0, Block: 1 << 63, Length: 8},
		"negative length":  {Offset: 0, Block: 800, Length: 1<<64 - 8},
		"negative offset":  {Offset: 1<<64 - 8, Block: 800, Length: 8},
		"half a block":     {Offset: 0, Block: 800, Length: 4},
		"odd block":        {Offset: 0, Block: 801, Length: 8},
		"odd offset":       {Offset: 1, Block: 800, Length: 8},
		"beyond the end":   {Offset: 0, Block: 8 * 3890, Length: 8 * 11},
		"far beyond":       {Offset: 0, Block: 1 << 60, Length: 8},
		"offset too big":   {Offset: 1 << 62, Block: 800, Length: 8},
		"longer than 2^32": {Offset: 0, Block: 0, Length: 1 << 36},
	} {
		t.Run(name, func(t *testing.T) {
			fs, k := ioctltest.New(t)
			k.Update(func(m *ioctltest.Model) { addFiles(m, 192, 1) })
			k.OnBmap = func(ioctltest.BmapRequest) ([]ioctl.BmapRecord, errno) {
				return []ioctl.BmapRecord{bad, {Offset: 40, Block: ioctl.BmapBlockHole, Length: 8}, good}, 0
			}
			res := run(t, fs, walk.Options{})
			require.Len(t, res.Unreadable, 1)
			require.ErrorIs(t, res.Unreadable[0].Err, ioctl.ErrMalformed)
			require.Equal(t, walk.StageDataFork, res.Unreadable[0].Stage)
			require.Equal(t, []shadow.Rmap{{StartBlock: 100, BlockCount: 1, Owner: 192, Offset: 10}}, claims(t, res, 0))
		})
	}
}

// An extent that crosses into other groups is cut at each border.
func TestExtentAcrossGroups(t *testing.T) {
	fs, k := ioctltest.New(t)
	k.Update(func(m *ioctltest.Model) { addFiles(m, 192, 1) })
	k.OnBmap = func(ioctltest.BmapRequest) ([]ioctl.BmapRecord, errno) {
		return []ioctl.BmapRecord{{Offset: 80, Block: 8 * 900, Length: 8 * 1200, Flags: ioctl.BmapPrealloc}}, 0
	}
	res := run(t, fs, walk.Options{})
	require.Equal(t, []shadow.Rmap{{StartBlock: 900, BlockCount: 100, Owner: 192, Offset: shadow.OffsetUnwritten | 10}}, claims(t, res, 0))
	require.Equal(t, []shadow.Rmap{{StartBlock: 0, BlockCount: 1000, Owner: 192, Offset: shadow.OffsetUnwritten | 110}}, claims(t, res, 1))
	require.Equal(t, []shadow.Rmap{{StartBlock: 0, BlockCount: 100, Owner: 192, Offset: shadow.OffsetUnwritten | 1110}}, claims(t, res, 2))
	require.Zero(t, res.UnreadableTotal)
}

// One group with all the inodes keeps several workers busy.
func TestHugeGroupIsShared(t *testing.T) {
	m := ioctltest.NewModel()
	m.Geometry.AGBlocks, m.Geometry.AGCount, m.Geometry.DataBlocks, m.Geometry.LogStart = 100_000, 2, 200_000, 0
	all := addFiles(m, 192, 64*64*4)
	fs, k := ioctltest.NewWithModel(t, m)
	var inside, most atomic.Int32
	met := make(chan struct{})
	k.OnBulkstat = func(req ioctltest.BulkRequest) ([]ioctl.BulkstatRecord, ioctl.Ino, errno) {
		if req.Flags&ioctl.BulkAGNo != 0 {
			if n := inside.Add(1); n == 3 && most.CompareAndSwap(0, 3) {
				close(met)
			}
			defer inside.Add(-1)
			select {
			case <-met:
			case <-time.After(10 * time.Second):
				t.Error("three workers never read the one group together")
			}
		}
		return k.DefaultBulkstat(req)
	}
	res := run(t, fs, walk.Options{Workers: 3})
	require.Equal(t, all, owners(t, res))
	require.Equal(t, uint64(len(all))+1, res.Inodes)
}

func TestErrorsThatEndTheWalk(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	for name, c := range map[string]struct {
		prepare func(*ioctltest.Kernel, *walk.Options)
		ctx     context.Context
		want    error
	}{
		"shutdown": {want: ioctl.ErrShutdown, prepare: func(k *ioctltest.Kernel, _ *walk.Options) {
			k.OnOpenByHandle = func(ioctl.Ino, ioctl.Gen, bool) errno {
				k.Update(func(m *ioctltest.Model) { m.Shutdown = true })
				return unix.EIO
			}
		}},
		"shutdown while listing": {want: ioctl.ErrShutdown, prepare: func(k *ioctltest.Kernel, _ *walk.Options) {
			k.OnInumbers = func(ioctltest.BulkRequest) ([]ioctl.InumbersRecord, ioctl.Ino, errno) {
				k.Update(func(m *ioctltest.Model) { m.Shutdown = true })
				return nil, 0, unix.EIO
			}
		}},
		"no descriptors": {want: unix.EMFILE, prepare: func(k *ioctltest.Kernel, _ *walk.Options) {
			k.OnOpenByHandle = func(ioctl.Ino, ioctl.Gen, bool) errno { return unix.EMFILE }
		}},
		"no memory": {want: unix.ENOMEM, prepare: func(k *ioctltest.Kernel, _ *walk.Options) {
			k.OnBmap = func(ioctltest.BmapRequest) ([]ioctl.BmapRecord, errno) { return nil, unix.ENOMEM }
		}},
		"no privilege": {want: ioctl.ErrPrivilege, prepare: func(k *ioctltest.Kernel, _ *walk.Options) {
			k.Update(func(m *ioctltest.Model) { m.NoAdmin = true })
		}},
		"no bulkstat": {want: ioctl.ErrNotSupported, prepare: func(k *ioctltest.Kernel, _ *walk.Options) {
			k.OnBulkstat = func(ioctltest.BulkRequest) ([]ioctl.BulkstatRecord, ioctl.Ino, errno) { return nil, 0, unix.ENOTTY }
		}},
		"budget": {want: xfile.ErrBudget, prepare: func(_ *ioctltest.Kernel, o *walk.Options) {
			o.Budget = xfile.NewBudget(4096)
		}},
		"directory": {want: unix.ENOENT, prepare: func(_ *ioctltest.Kernel, o *walk.Options) { o.Dir = "/nonexistent" }},
		"cancelled": {want: context.Canceled, ctx: ctx, prepare: func(*ioctltest.Kernel, *walk.Options) {}},
	} {
		t.Run(name, func(t *testing.T) {
			fs, k := ioctltest.New(t)
			k.Update(func(m *ioctltest.Model) { addFiles(m, 192, 300) })
			o := walk.Options{Workers: 2}
			c.prepare(k, &o)
			if c.ctx == nil {
				c.ctx = context.Background()
			}
			res, err := walk.Run(c.ctx, fs, o)
			require.ErrorIs(t, err, c.want)
			require.Nil(t, res)
			require.ErrorContains(t, err, ioctltest.Path)
			require.Equal(t, 1, k.OpenFiles(), "files left open")
			require.Zero(t, xfile.OpenFiles())
		})
	}
}

// A cancelled context ends the walk between two calls.
func TestCancelMidway(t *testing.T) {
	fs, k := ioctltest.New(t)
	k.Update(func(m *ioctltest.Model) { addFiles(m, 192, 5000) })
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	o := walk.Options{Workers: 2, Progress: func(inodes, _ uint64) {
		if inodes > 1000 {
			cancel()
		}
	}}
	_, err := walk.Run(ctx, fs, o)
	require.ErrorIs(t, err, context.Canceled)
	require.Less(t, len(k.Calls(ioctltest.OpOpenByHandle)), 4000)
}

func TestProgress(t *testing.T) {
	fs, k := ioctltest.New(t)
	k.Update(func(m *ioctltest.Model) { addFiles(m, 192, 3000) })
	var inodes, extents atomic.Uint64
	res := run(t, fs, walk.Options{
		Workers:  2,
		Progress: func(i, e uint64) { inodes.Store(max(inodes.Load(), i)); extents.Store(max(extents.Load(), e)) },
	})
	require.Equal(t, res.Inodes, inodes.Load())
	require.Equal(t, res.Extents, extents.Load())
}

// A paced walk rests between smaller batches, and reads the same.
func TestThrottle(t *testing.T) {
	fs, k := ioctltest.New(t)
	k.Update(func(m *ioctltest.Model) { addFiles(m, 192, 3000) })
	k.OnBulkstat = func(req ioctltest.BulkRequest) ([]ioctl.BulkstatRecord, ioctl.Ino, errno) {
		time.Sleep(3 * time.Millisecond)
		return k.DefaultBulkstat(req)
	}
	fast := run(t, fs, walk.Options{Workers: 2})
	// Nothing can be measured there: the speed stays what it is at first.
	pace := throttle.New(throttle.Options{Workers: 2, Root: t.TempDir()})
	k.ResetCalls()
	slow := run(t, fs, walk.Options{Workers: 2, Throttle: pace})
	require.Equal(t, fast.Inodes, slow.Inodes)
	require.Equal(t, fast.Extents, slow.Extents)
	require.Positive(t, pace.Throttled())
	for i, c := range k.Calls(ioctltest.OpBulkstat) {
		if i > 0 { // not the probe
			require.LessOrEqual(t, c.Bulk.Count, 512)
		}
	}
}

// A read-only mount has no inodegc to flush.
func TestReadOnly(t *testing.T) {
	fs, k := ioctltest.New(t)
	k.Update(func(m *ioctltest.Model) { m.ReadOnly = true })
	require.Equal(t, uint64(1), run(t, fs, walk.Options{}).Inodes)
}

// Statx of an inline inode with attribute blocks may fail; the inode is opaque
// all the same.
func TestOpaqueWithoutStatx(t *testing.T) {
	for _, why := range []errno{unix.ESTALE, unix.EIO, unix.ENOTTY} {
		fs, k := ioctltest.New(t)
		k.Update(func(m *ioctltest.Model) {
			m.AddInode(&ioctltest.Inode{Ino: 192, Mode: unix.S_IFSOCK, Inline: true, Attr: []ioctltest.Extent{{AGBno: 90, Length: 1}}})
		})
		k.OnOpenByHandle = func(ioctl.Ino, ioctl.Gen, bool) errno { return why }
		res := run(t, fs, walk.Options{})
		o, ok, err := res.FindOpaque(192)
		require.NoError(t, err)
		require.True(t, ok)
		require.Equal(t, walk.Opaque{Ino: 192, Mode: unix.S_IFSOCK, AExtents: 1}, o)

		k.OnOpenByHandle = nil
		k.OnStatx = func(ioctl.Ino) (ioctl.Statx, errno) { return ioctl.Statx{}, unix.EUCLEAN }
		_, ok, err = run(t, fs, walk.Options{}).FindOpaque(192)
		require.NoError(t, err)
		require.True(t, ok)
	}
}

// Claims of many groups wait in few slots and still all arrive.
func TestManyGroups(t *testing.T) {
	m := ioctltest.NewModel()
	m.Geometry.AGBlocks, m.Geometry.AGCount, m.Geometry.DataBlocks, m.Geometry.LogStart = 1000, 300, 300_000, 0
	i := &ioctltest.Inode{Ino: 192}
	want := map[ioctl.AGNumber]int{}
	for e := range 20_000 {
		agno := ioctl.AGNumber(e * 7919 % 300)
		i.Data = append(i.Data, ioctltest.Extent{Offset: uint64(2 * e), AGNo: agno, AGBno: ioctl.AGBlock(100 + e/300), Length: 1})
		want[agno]++
	}
	m.AddInode(i)
	fs, _ := ioctltest.NewWithModel(t, m)
	res := run(t, fs, walk.Options{Workers: 3})
	for agno := range ioctl.AGNumber(300) {
		require.Len(t, claims(t, res, agno), want[agno], fmt.Sprint("AG ", agno))
	}
}
