package ioctl_test

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/scrubd/scrubd/ioctl"
	"github.com/scrubd/scrubd/ioctl/ioctltest"
)

// withFile returns a filesystem with a file of n extents, one block each.
func withFile(t *testing.T, n int) (*ioctl.FS, *ioctltest.Kernel) {
	t.Helper()
	model := ioctltest.NewModel()
	model.Geometry.AGBlocks, model.Geometry.DataBlocks = 1<<20, 4<<20
	model.Geometry.LogStart = model.Geometry.AGToFSB(2, 500)
	i := &ioctltest.Inode{Ino: 131, Gen: 7}
	for b := range n {
		i.Data = append(i.Data, ioctltest.Extent{Offset: uint64(2 * b), AGNo: 1, AGBno: ioctl.AGBlock(1000 + 2*b), Length: 1})
	}
	model.AddInode(i)
	return ioctltest.NewWithModel(t, model)
}

func TestBmapBufferGrows(t *testing.T) {
	fs, k := withFile(t, 100)
	fd := mustOpen(t, fs, 131)
	buf := ioctl.NewBmapBuffer(10)
	k.ResetCalls()
	require.NoError(t, fs.Bmap(fd, ioctl.DataFork, buf))
	assert.True(t, buf.Complete())
	assert.Len(t, buf.Records(), 100)
	assert.Equal(t, ioctl.DAddr(199*8), buf.Next())
	var counts []int
	for _, c := range k.Calls(ioctltest.OpBmap) {
		counts = append(counts, c.Bmap.Count)
	}
	assert.Equal(t, []int{10, 20, 40, 80, 160}, counts)

	// The next file needs one call only, and an empty fork none of that.
	k.ResetCalls()
	require.NoError(t, fs.Bmap(fd, ioctl.DataFork, buf))
	assert.Len(t, k.Calls(ioctltest.OpBmap), 1)
	require.NoError(t, fs.Bmap(fd, ioctl.AttrFork, buf))
	assert.Empty(t, buf.Records())
	assert.True(t, buf.Complete())
}

// A fork with more extents than a buffer may have is read in pieces.
func TestBmapBufferHasALimit(t *testing.T) {
	const extents = ioctl.MaxBmapRecords + 1000
	fs, _ := withFile(t, extents)
	fd := mustOpen(t, fs, 131)
	buf := ioctl.NewBmapBuffer(1 << 30)
	assert.Equal(t, ioctl.MaxBmapRecords, buf.Cap())
	require.NoError(t, fs.Bmap(fd, ioctl.DataFork, buf))
	assert.False(t, buf.Complete())
	assert.Len(t, buf.Records(), ioctl.MaxBmapRecords)
	last := buf.Records()[ioctl.MaxBmapRecords-1]
	assert.Equal(t, last.Offset+last.Length, buf.Next())
	require.NoError(t, fs.BmapRange(fd, ioctl.DataFork, buf.Next(), 1<<60, buf))
	assert.True(t, buf.Complete())
	require.Len(t, buf.Records(), 1000)
	assert.Greater(t, buf.Records()[0].Offset, last.Offset)
}

func TestBmapRecords(t *testing.T) {
	fs, k := ioctltest.New(t)
	k.Update(func(m *ioctltest.Model) {
		m.AddInode(&ioctltest.Inode{
			Ino: 131, Gen: 7, Reflink: true,
			Data: []ioctltest.Extent{
				{Offset: 0, AGNo: 1, AGBno: 100, Length: 10},
				{Offset: 10, Length: 5, Delalloc: true},
				{Offset: 20, AGNo: 3, AGBno: 50, Length: 4, Unwritten: true},
			},
			Attr: []ioctltest.Extent{{AGNo: 0, AGBno: 90, Length: 1}},
		})
		m.AddInode(&ioctltest.Inode{Ino: 132, Gen: 7, Reflink: true, Data: []ioctltest.Extent{{AGNo: 1, AGBno: 103, Length: 4}}})
		m.Derive()
	})
	g := fs.Geometry()
	fd := mustOpen(t, fs, 131)
	buf := ioctl.NewBmapBuffer(64)
	require.NoError(t, fs.Bmap(fd, ioctl.DataFork, buf))
	assert.Equal(t, []ioctl.BmapRecord{
		{Offset: 0, Block: g.AGToDAddr(1, 100), Length: 24},
		{Offset: 24, Block: g.AGToDAddr(1, 103), Length: 32, Flags: ioctl.BmapShared},
		{Offset: 56, Block: g.AGToDAddr(1, 107), Length: 24},
		{Offset: 80, Block: ioctl.BmapBlockDelalloc, Length: 40, Flags: ioctl.BmapDelalloc},
		{Offset: 160, Block: g.AGToDAddr(3, 50), Length: 32, Flags: ioctl.BmapPrealloc | ioctl.BmapLast},
	}, buf.Records())
	assert.True(t, buf.Records()[0].HasBlocks())
	assert.False(t, buf.Records()[3].HasBlocks())
	assert.False(t, (&ioctl.BmapRecord{Block: ioctl.BmapBlockHole}).HasBlocks())
	require.NoError(t, fs.Bmap(fd, ioctl.AttrFork, buf))
	assert.Equal(t, []ioctl.BmapRecord{{Block: g.AGToDAddr(0, 90), Length: 8, Flags: ioctl.BmapLast}}, buf.Records())

	k.Update(func(m *ioctltest.Model) { m.Inodes[131].DamagedData = true })
	require.ErrorIs(t, fs.Bmap(fd, ioctl.DataFork, buf), ioctl.ErrCorrupt)
	assert.Empty(t, buf.Records(), "what was there before is gone")
	assert.False(t, buf.Complete())
}

func TestStatxAndBulkstatAgree(t *testing.T) {
	fs, k := ioctltest.New(t)
	k.Update(func(m *ioctltest.Model) {
		m.AddInode(&ioctltest.Inode{Ino: 131, Gen: 7, Data: []ioctltest.Extent{{AGNo: 1, AGBno: 100, Length: 10}}, ExtraBlocks: 3})
		m.AddInode(&ioctltest.Inode{Ino: 132, Gen: 7, Mode: unix.S_IFLNK | 0o777, Inline: true, Attr: []ioctltest.Extent{{AGBno: 400, Length: 1}}})
	})
	fd := mustOpen(t, fs, 131)
	s, err := fs.Statx(fd)
	require.NoError(t, err)
	r := stat(t, fs, 131)
	assert.Equal(t, uint64(13), r.Blocks)
	assert.Equal(t, uint64(13*8), s.Blocks)
	assert.Equal(t, uint64(40960), s.Size)
	assert.Equal(t, uint32(1), s.Nlink)
	assert.Equal(t, ioctl.Timestamp{Sec: r.CTime, Nsec: r.CTimeNsec}, s.CTime)
	assert.Equal(t, s.CTime.Sec, s.CTime.Time().Unix())
	k.Update(func(m *ioctltest.Model) { m.Touch(131) })
	touched, err := fs.Statx(fd)
	require.NoError(t, err)
	assert.NotEqual(t, s.CTime, touched.CTime)

	// A symlink is opened by path only, and BULKSTAT does not count the blocks of its attr fork.
	_, err = fs.OpenFD(132, 7)
	require.ErrorIs(t, err, ioctl.ErrPrivilege)
	require.EqualError(t, err, "open by handle inode 132 gen 7 of /srv: not permitted (CAP_SYS_ADMIN is needed, and a regular file or directory)")
	path, err := fs.OpenPathFD(132, 7)
	require.NoError(t, err)
	s, err = fs.Statx(path)
	require.NoError(t, err)
	assert.Equal(t, uint64(8), s.Blocks)
	assert.Zero(t, stat(t, fs, 132).Blocks)
	require.ErrorIs(t, fs.Bmap(path, ioctl.DataFork, ioctl.NewBmapBuffer(1)), unix.EBADF)
	fs.CloseFD(path)
}

func TestBulkLimits(t *testing.T) {
	fs, k := ioctltest.New(t)
	k.Update(func(m *ioctltest.Model) {
		for i := range ioctl.Ino(10) {
			m.AddInode(&ioctltest.Inode{Ino: 200 + i, Gen: 1})
		}
		m.Inodes[203].Private, m.Inodes[204].Inactive, m.Inodes[205].Metadir = true, true, true
	})
	buf := ioctl.NewBulkstatBuffer(100)
	req := ioctl.BulkRequest{Ino: 200, Limit: 4}
	n, err := fs.Bulkstat(&req, buf)
	require.NoError(t, err)
	assert.Equal(t, 4, n)
	var inos []ioctl.Ino
	for _, r := range buf.Records() {
		inos = append(inos, r.Ino)
	}
	assert.Equal(t, []ioctl.Ino{200, 201, 202, 206}, inos)
	assert.Equal(t, ioctl.Ino(207), req.Ino)
	req = ioctl.BulkRequest{Ino: 205, Flags: ioctl.BulkMetadir}
	n, err = fs.Bulkstat(&req, buf)
	require.NoError(t, err)
	assert.Equal(t, 5, n)
	assert.Zero(t, buf.Records()[0].Nlink, "little is told of a metadata file")
	n, err = fs.Bulkstat(&req, buf)
	require.NoError(t, err)
	assert.Zero(t, n)

	chunks := ioctl.NewInumbersBuffer(100)
	req = ioctl.BulkRequest{Ino: 192, Limit: 1}
	n, err = fs.Inumbers(&req, chunks)
	require.NoError(t, err)
	require.Equal(t, 1, n)
	r := &chunks.Records()[0]
	assert.Equal(t, ioctl.Ino(192), r.StartIno)
	assert.Equal(t, uint8(10), r.AllocCount)
	assert.True(t, r.Allocated(204), "inactive and private inodes are allocated")
	assert.False(t, r.Allocated(199))
	assert.False(t, r.Allocated(191))
	assert.False(t, r.Allocated(256))
	assert.Equal(t, ioctl.Ino(256), req.Ino)
}

// A kernel that claims more records than it was given room for is not believed.
func TestTooManyRecords(t *testing.T) {
	fs, k := ioctltest.New(t)
	fd := mustOpen(t, fs, 128)
	k.OnFSMap = func(ioctltest.FSMapRequest) ([]ioctl.FSMapRecord, unix.Errno) { return make([]ioctl.FSMapRecord, 3), 0 }
	k.OnBmap = func(ioctltest.BmapRequest) ([]ioctl.BmapRecord, unix.Errno) { return make([]ioctl.BmapRecord, 3), 0 }
	k.OnBulkstat = func(ioctltest.BulkRequest) ([]ioctl.BulkstatRecord, ioctl.Ino, unix.Errno) {
		return make([]ioctl.BulkstatRecord, 3), 0, 0
	}
	k.OnInumbers = func(ioctltest.BulkRequest) ([]ioctl.InumbersRecord, ioctl.Ino, unix.Errno) {
		return make([]ioctl.InumbersRecord, 3), 0, 0
	}
	low, high := fs.FSMapAGKeys(0)
	fsmap, bmap, bulk, inumbers := ioctl.NewFSMapBuffer(2), ioctl.NewBmapBuffer(2), ioctl.NewBulkstatBuffer(2), ioctl.NewInumbersBuffer(2)
	require.ErrorIs(t, fs.FSMap(low, high, fsmap), ioctl.ErrMalformed)
	require.ErrorIs(t, fs.Bmap(fd, ioctl.DataFork, bmap), ioctl.ErrMalformed)
	require.ErrorIs(t, second(fs.Bulkstat(&ioctl.BulkRequest{}, bulk)), ioctl.ErrMalformed)
	require.ErrorIs(t, second(fs.Inumbers(&ioctl.BulkRequest{}, inumbers)), ioctl.ErrMalformed)
	assert.Empty(t, fsmap.Records())
	assert.Empty(t, bmap.Records())
	assert.Empty(t, bulk.Records())
	assert.Empty(t, inumbers.Records())
}

func TestFSMapRecords(t *testing.T) {
	r := ioctl.FSMapRecord{Device: 1, Flags: ioctl.FSMapShared | ioctl.FSMapLast, Physical: 4096, Owner: 131, Offset: 8192, Length: 512}
	assert.True(t, r.Shareable())
	assert.Equal(t, ioctl.FSMapKey{Device: 1, Flags: ioctl.FSMapShared, Physical: 4096, Owner: 131, Offset: 8192, Length: 512}, r.Key())
	assert.False(t, r.Is(ioctl.FSMapOwner(131)))
	for _, f := range []ioctl.FSMapFlags{ioctl.FSMapPrealloc, ioctl.FSMapAttrFork, ioctl.FSMapExtentMap, ioctl.FSMapSpecialOwner} {
		r.Flags = f
		assert.False(t, r.Shareable(), "%s", f)
	}
	r.Owner = uint64(ioctl.FSMapOwnerCoW)
	assert.True(t, r.Is(ioctl.FSMapOwnerCoW))
	assert.Equal(t, ioctl.MaxFSMapRecords, ioctl.NewFSMapBuffer(1<<30).Cap())
	assert.Equal(t, 1, ioctl.NewFSMapBuffer(0).Cap())
}
