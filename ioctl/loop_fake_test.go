package ioctl_test

import (
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
	"pgregory.net/rapid"

	"github.com/scrubd/scrubd/ioctl"
	"github.com/scrubd/scrubd/ioctl/ioctltest"
)

// likeIt returns a model with the geometry and device of a real filesystem, and nothing in it.
func likeIt(t *testing.T, fs *ioctl.FS) *ioctltest.Model {
	t.Helper()
	st, err := fs.Statx(mustOpen(t, fs, fs.RootIno()))
	require.NoError(t, err)
	m := ioctltest.NewModel()
	m.Geometry = *fs.Geometry()
	m.DevMajor, m.DevMinor = st.DevMajor, st.DevMinor
	m.Rmaps, m.Free, m.Shared = nil, nil, nil
	m.RootIno = fs.RootIno()
	clear(m.Inodes)
	m.AddInode(&ioctltest.Inode{Ino: st.Ino, Mode: st.Mode, Inline: true})
	return m
}

// The fake kernel answers GETFSMAP as the real one does, for any keys.
func TestLoopFakeFSMapAnswersLikeTheKernel(t *testing.T) { fakeFSMapAnswersLikeTheKernel(t) }

func fakeFSMapAnswersLikeTheKernel(t *testing.T) {
	loop, fs := openLoop(t, "-d", "agcount=3")
	populate(t, loop)
	f := writeFile(t, loop.Path("self"), 4)
	for block := uint64(8); block < 40; block += 4 {
		clone(t, f, f, 0, 4, block)
	}
	require.NoError(t, loop.Sync())
	view, err := fs.OpenBnobtView()
	require.NoError(t, err)
	defer view.Close()

	// The model is what the kernel has, read in one call per group.
	model := likeIt(t, fs)
	buf := ioctl.NewFSMapBuffer(2048)
	var interesting []ioctl.FSMapRecord
	for agno := range ioctl.AGNumber(fs.Geometry().AGCount) {
		low, high := fs.FSMapAGKeys(agno)
		require.NoError(t, fs.FSMap(low, high, buf))
		require.False(t, buf.Full())
		for i := range buf.Records() {
			r := &buf.Records()[i]
			interesting = append(interesting, *r)
			if !r.Is(ioctl.FSMapOwnerFree) {
				model.Rmaps = append(model.Rmaps, rmapOf(fs.Geometry(), r))
			}
		}
		require.NoError(t, view.FSMap(low, high, buf))
		for i := range buf.Records() {
			if r := &buf.Records()[i]; r.Is(ioctl.FSMapOwnerFree) {
				m := rmapOf(fs.Geometry(), r)
				model.Free = append(model.Free, ioctltest.Range{AGNo: m.AGNo, AGBno: m.AGBno, Length: m.Length})
			}
		}
	}
	model.DeriveShared()
	fake, _ := ioctltest.NewWithModel(t, model)
	fakeView, err := fake.OpenBnobtView()
	require.NoError(t, err)
	defer fakeView.Close()

	key := func(t *rapid.T, label string) ioctl.FSMapKey {
		r := rapid.SampledFrom(interesting).Draw(t, label)
		k := ioctl.FSMapKey{Device: r.Device, Physical: r.Physical}
		switch rapid.SampledFrom([]string{"fresh", "inside", "continue", "owner", "anywhere", "before"}).Draw(t, label+" kind") {
		case "inside":
			k.Physical += ioctl.ByteOff(rapid.Uint64Range(0, uint64(r.Length)).Draw(t, label+" inside"))
		case "continue":
			k = r.Key()
		case "owner":
			k.Owner, k.Flags = r.Owner, r.Flags&^ioctl.FSMapLast
		case "anywhere":
			k.Physical = ioctl.ByteOff(rapid.Uint64Range(0, fs.Geometry().DataBlocks+5).Draw(t, label+" block")) * 4096
		case "before":
			k = r.Key()
			k.Owner--
			k.Length = 4096
		}
		return k
	}
	rapid.Check(t, func(t *rapid.T) {
		low := key(t, "low")
		_, high := fs.FSMapKeys(0, key(t, "high").Physical)
		n := rapid.SampledFrom([]int{1, 2, 3, 7, 50, 2048}).Draw(t, "records")
		unprivileged := rapid.Bool().Draw(t, "unprivileged")
		want, got := ioctl.NewFSMapBuffer(n), ioctl.NewFSMapBuffer(n)
		wantErr, gotErr := fs.FSMap(low, high, want), fake.FSMap(low, high, got)
		if unprivileged {
			wantErr, gotErr = view.FSMap(low, high, want), fakeView.FSMap(low, high, got)
		}
		if wantErr != nil || gotErr != nil {
			require.ErrorIs(t, wantErr, unix.EINVAL, "the fake kernel says: %v", gotErr)
			require.ErrorIs(t, gotErr, unix.EINVAL)
			return
		}
		require.Equal(t, want.Records(), got.Records())
	})
}

// rmapOf turns a record into one of the model.
func rmapOf(g *ioctl.Geometry, r *ioctl.FSMapRecord) ioctltest.Rmap {
	agno, agbno := g.BytesToAG(r.Physical)
	return ioctltest.Rmap{
		AGNo: agno, AGBno: agbno, Length: ioctl.AGBlock(g.BytesToBlocks(r.Length)), Owner: r.Owner,
		Offset: g.BytesToBlocks(r.Offset), Flags: r.Flags &^ (ioctl.FSMapShared | ioctl.FSMapLast),
	}
}

// And GETBMAPX, for any range and buffer.
func TestLoopFakeBmapAnswersLikeTheKernel(t *testing.T) { fakeBmapAnswersLikeTheKernel(t) }

func fakeBmapAnswersLikeTheKernel(t *testing.T) {
	loop, fs := openLoop(t, "-d", "agcount=3")
	populate(t, loop)
	f := writeFile(t, loop.Path("self"), 16)
	for block := uint64(20); block < 60; block += 10 {
		clone(t, f, f, block/10, 5, block)
	}
	require.NoError(t, loop.Sync())
	model := likeIt(t, fs)
	g := fs.Geometry()
	fds := make(map[ioctl.Ino]int)
	buf := ioctl.NewBmapBuffer(256)
	extents := func(fd int, fork ioctl.Fork) (all []ioctltest.Extent, shared bool) {
		require.NoError(t, fs.Bmap(fd, fork, buf))
		require.True(t, buf.Complete())
		for _, r := range buf.Records() {
			agno, agbno := g.DAddrToAG(r.Block)
			e := ioctltest.Extent{
				Offset: g.DAddrToBlocks(r.Offset), AGNo: agno, AGBno: agbno,
				Length: ioctl.AGBlock(g.DAddrToBlocks(r.Length)), Unwritten: r.Flags.Has(ioctl.BmapPrealloc),
			}
			shared = shared || r.Flags.Has(ioctl.BmapShared)
			// The pieces of an extent that is shared in part belong together.
			if n := len(all); n > 0 && all[n-1].Offset+uint64(all[n-1].Length) == e.Offset &&
				all[n-1].AGNo == e.AGNo && all[n-1].AGBno+all[n-1].Length == e.AGBno && all[n-1].Unwritten == e.Unwritten {
				all[n-1].Length += e.Length
				continue
			}
			all = append(all, e)
		}
		return all, shared
	}
	for _, name := range []string{"base", "dir/a", "dir/b", "dir/c", "holes", "prealloc", "attrs", "self"} {
		ino := inode(t, loop.Path(name))
		fds[ino] = mustOpen(t, fs, ino)
		data, shared := extents(fds[ino], ioctl.DataFork)
		attr, _ := extents(fds[ino], ioctl.AttrFork)
		model.AddInode(&ioctltest.Inode{Ino: ino, Gen: stat(t, fs, ino).Gen, Data: data, Attr: attr, Reflink: shared})
	}
	model.Derive()
	fake, k := ioctltest.NewWithModel(t, model)
	k.LogCalls(false)
	fakeFDs := make(map[ioctl.Ino]int)
	inos := model.InodeNumbers()
	inos = slices.DeleteFunc(inos, func(ino ioctl.Ino) bool { return fds[ino] == 0 })
	for _, ino := range inos {
		fakeFDs[ino] = mustOpen(t, fake, ino)
	}
	rapid.Check(t, func(t *rapid.T) {
		ino := rapid.SampledFrom(inos).Draw(t, "inode")
		fork := rapid.SampledFrom([]ioctl.Fork{ioctl.DataFork, ioctl.AttrFork}).Draw(t, "fork")
		n := rapid.SampledFrom([]int{1, 2, 5, 100}).Draw(t, "records")
		start := ioctl.DAddr(rapid.Uint64Range(0, 600).Draw(t, "start"))
		length := ioctl.DAddr(rapid.SampledFrom([]uint64{1, 7, 8, 9, 80, 300, 1 << 60}).Draw(t, "length"))
		want, got := ioctl.NewBmapBuffer(n), ioctl.NewBmapBuffer(n)
		require.NoError(t, fs.BmapRange(fds[ino], fork, start, length, want))
		require.NoError(t, fake.BmapRange(fakeFDs[ino], fork, start, length, got))
		require.Equal(t, want.Records(), got.Records())
		require.Equal(t, want.Complete(), got.Complete())
		require.Equal(t, want.Next(), got.Next())
	})
}

// And BULKSTAT and INUMBERS, wherever they begin.
func TestLoopFakeBulkAnswersLikeTheKernel(t *testing.T) { fakeBulkAnswersLikeTheKernel(t) }

func fakeBulkAnswersLikeTheKernel(t *testing.T) {
	loop, fs := openLoop(t, "-d", "agcount=3")
	populate(t, loop)
	for i := range 150 {
		require.NoError(t, unix.Mkdir(loop.Path("dir", string(rune('A'+i/26))+string(rune('a'+i%26))), 0o755))
	}
	require.NoError(t, loop.Sync())
	model := likeIt(t, fs)
	clear(model.Inodes)
	inumbers := ioctl.NewInumbersBuffer(1000)
	_, err := fs.Inumbers(&ioctl.BulkRequest{}, inumbers)
	require.NoError(t, err)
	for i := range inumbers.Records() {
		r := &inumbers.Records()[i]
		model.Chunks = append(model.Chunks, r.StartIno)
		for ino := range r.AllocatedInodes {
			model.AddInode(&ioctltest.Inode{Ino: ino, Private: true})
		}
	}
	bulkstat := ioctl.NewBulkstatBuffer(1000)
	_, err = fs.Bulkstat(&ioctl.BulkRequest{}, bulkstat)
	require.NoError(t, err)
	for _, r := range bulkstat.Records() {
		model.AddInode(&ioctltest.Inode{Ino: r.Ino, Gen: r.Gen, Mode: r.Mode})
	}
	fake, k := ioctltest.NewWithModel(t, model)
	k.LogCalls(false)
	numbers := model.InodeNumbers()
	rapid.Check(t, func(t *rapid.T) {
		req := ioctl.BulkRequest{Limit: rapid.SampledFrom([]int{0, 1, 2, 60}).Draw(t, "limit")}
		if rapid.Bool().Draw(t, "one group") {
			req.Flags, req.AGNo = ioctl.BulkAGNo, ioctl.AGNumber(rapid.Uint32Range(0, 3).Draw(t, "agno"))
		}
		if rapid.Bool().Draw(t, "from an inode") {
			req.Ino = rapid.SampledFrom(numbers).Draw(t, "inode") + ioctl.Ino(rapid.Uint64Range(0, 70).Draw(t, "and"))
		}
		for _, what := range []string{"bulkstat", "inumbers"} {
			a, b := req, req
			for range 3 {
				want, wantErr := bulkNumbers(fs, what, &a)
				got, gotErr := bulkNumbers(fake, what, &b)
				require.Equal(t, wantErr == nil, gotErr == nil, "%s: %v, %v", what, wantErr, gotErr)
				require.Equal(t, want, got, what)
			}
		}
	})
}

// bulkNumbers makes a call and returns the inodes it is about.
func bulkNumbers(fs *ioctl.FS, what string, req *ioctl.BulkRequest) (numbers []ioctl.Ino, err error) {
	if what == "bulkstat" {
		buf := ioctl.NewBulkstatBuffer(50)
		_, err = fs.Bulkstat(req, buf)
		for _, r := range buf.Records() {
			numbers = append(numbers, r.Ino)
		}
		return numbers, err
	}
	buf := ioctl.NewInumbersBuffer(50)
	_, err = fs.Inumbers(req, buf)
	for i := range buf.Records() {
		r := &buf.Records()[i]
		numbers = append(numbers, r.StartIno)
		for ino := range r.AllocatedInodes {
			numbers = append(numbers, ino)
		}
	}
	return numbers, err
}
