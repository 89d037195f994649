package kernel_test

import (
	"context"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/scrubd/scrubd/ioctl"
	"github.com/scrubd/scrubd/ioctl/ioctltest"
	"github.com/scrubd/scrubd/scrub/kernel"
)

func TestInodeTypesByKind(t *testing.T) {
	const (
		inode, bmbtd, bmbta, bmbtc = ioctl.ScrubTypeINODE, ioctl.ScrubTypeBMBTD, ioctl.ScrubTypeBMBTA, ioctl.ScrubTypeBMBTC
		dir, xattr, link, parent   = ioctl.ScrubTypeDIR, ioctl.ScrubTypeXATTR, ioctl.ScrubTypeSYMLINK, ioctl.ScrubTypePARENT
		dirtree                    = ioctl.ScrubTypeDIRTREE
	)
	plain := ioctl.GeometryFlags(0)
	full := ioctl.FlagReflink | ioctl.FlagParent
	for _, c := range []struct {
		name     string
		mode     uint16
		features ioctl.GeometryFlags
		want     []ioctl.ScrubType
	}{
		{"regular", unix.S_IFREG, plain, []ioctl.ScrubType{inode, bmbtd, bmbta, xattr}},
		{"regular with reflink and parents", unix.S_IFREG, full, []ioctl.ScrubType{inode, bmbtd, bmbta, bmbtc, xattr, parent}},
		{"directory", unix.S_IFDIR, plain, []ioctl.ScrubType{inode, bmbtd, bmbta, dir, xattr, parent}},
		{"directory with parents", unix.S_IFDIR, full, []ioctl.ScrubType{inode, bmbtd, bmbta, dir, xattr, parent, dirtree}},
		{"symlink", unix.S_IFLNK, plain, []ioctl.ScrubType{inode, bmbtd, bmbta, link, xattr}},
		{"symlink with parents", unix.S_IFLNK, full, []ioctl.ScrubType{inode, bmbtd, bmbta, link, xattr, parent}},
		{"fifo", unix.S_IFIFO, plain, []ioctl.ScrubType{inode, bmbtd, bmbta, xattr}},
		{"device with parents", unix.S_IFBLK, full, []ioctl.ScrubType{inode, bmbtd, bmbta, xattr, parent}},
	} {
		t.Run(c.name, func(t *testing.T) {
			m := ioctltest.NewModel()
			m.Geometry.Flags = m.Geometry.Flags&^full | c.features
			m.AddInode(&ioctltest.Inode{Ino: 140, Gen: 5, Mode: c.mode | 0o644})
			s, k, _ := newFakeWith(t, m)
			results, err := s.Inode(t.Context(), 140, 5, c.mode|0o644, nil)
			require.NoError(t, err)
			assert.Equal(t, c.want, types(results))
			assert.Equal(t, c.want, scrubbed(k))
			assert.Len(t, k.Calls(ioctltest.OpScrubVec), 1, "one call where all is well")
			for _, r := range results {
				assert.True(t, r.Clean(), "%s", r)
				assert.Equal(t, ioctl.Ino(140), r.Ino)
				assert.Equal(t, ioctl.Gen(5), r.Gen)
			}
		})
	}
}

func TestInodeReusesTheBuffer(t *testing.T) {
	s, _, _ := newFake(t)
	buf := make([]kernel.Result, 1, 32)
	buf[0].Attempts = 77
	out, err := s.Inode(t.Context(), 128, 1, unix.S_IFDIR, buf)
	require.NoError(t, err)
	assert.Equal(t, 77, out[0].Attempts, "results are appended")
	assert.Same(t, &buf[0], &out[0])
}

func TestCorruptCoreOfAnInode(t *testing.T) {
	core := kernel.Object{Type: ioctl.ScrubTypeINODE, Ino: 140, Gen: 5}
	for _, loadable := range []bool{true, false} {
		m := ioctltest.NewModel()
		m.AddInode(&ioctltest.Inode{Ino: 140, Gen: 5})
		s, k, _ := newFakeWith(t, m)
		find(k, core, ioctl.ScrubCorrupt)
		find(k, kernel.Object{Type: ioctl.ScrubTypeBMBTD, Ino: 140, Gen: 5}, ioctl.ScrubXCorrupt)
		if !loadable {
			k.OnBulkstat = func(ioctltest.BulkRequest) ([]ioctl.BulkstatRecord, ioctl.Ino, unix.Errno) {
				return nil, 0, unix.EUCLEAN
			}
		}
		results, err := s.Inode(t.Context(), 140, 5, unix.S_IFREG, nil)
		require.NoError(t, err)
		assert.True(t, results[0].Bad())
		for _, r := range results[1:] {
			if loadable {
				assert.True(t, r.Ran, "%s", r)
			} else {
				assert.False(t, r.Ran, "%s", r)
				assert.NotZero(t, r.Because, "%s", r)
			}
		}
		assert.Equal(t, loadable, byType(t, results, ioctl.ScrubTypeBMBTD).Bad())
	}
}

func TestCorruptForkHoldsBackItsContentsOnly(t *testing.T) {
	m := ioctltest.NewModel()
	m.AddInode(&ioctltest.Inode{Ino: 140, Gen: 5, Mode: unix.S_IFDIR | 0o755, HasAttrFork: true})
	s, k, _ := newFakeWith(t, m)
	find(k, kernel.Object{Type: ioctl.ScrubTypeBMBTA, Ino: 140, Gen: 5}, ioctl.ScrubCorrupt)
	results, err := s.Inode(t.Context(), 140, 5, unix.S_IFDIR, nil)
	require.NoError(t, err)
	assert.True(t, byType(t, results, ioctl.ScrubTypeDIR).Clean())
	assert.Equal(t, ioctl.ScrubTypeBMBTA, byType(t, results, ioctl.ScrubTypeXATTR).Because)
	assert.Equal(t, ioctl.ScrubTypeBMBTA, byType(t, results, ioctl.ScrubTypePARENT).Because)
	assert.NotZero(t, byType(t, results, ioctl.ScrubTypeDIRTREE).Because)
}

func TestDirectoryTreeWaitsForParentPointers(t *testing.T) {
	s, k, _ := newFake(t)
	find(k, kernel.Object{Type: ioctl.ScrubTypePARENT, Ino: 128, Gen: 1}, ioctl.ScrubXCorrupt)
	results, err := s.Inode(t.Context(), 128, 1, unix.S_IFDIR, nil)
	require.NoError(t, err)
	assert.Equal(t, ioctl.ScrubTypePARENT, byType(t, results, ioctl.ScrubTypeDIRTREE).Because)
	assert.NotContains(t, scrubbed(k), ioctl.ScrubTypeDIRTREE)
}

func TestBusyEntryOfAVectorIsRepeatedAlone(t *testing.T) {
	s, k, n := newFake(t)
	answerWith(k, ioctl.ScrubTypeBMBTD, unix.EBUSY, unix.EBUSY)
	results, err := s.Inode(t.Context(), 128, 1, unix.S_IFDIR, nil)
	require.NoError(t, err)
	r := byType(t, results, ioctl.ScrubTypeBMBTD)
	assert.True(t, r.Clean(), "%s", r)
	assert.Equal(t, 3, r.Attempts)
	assert.Len(t, n.all(), 2)
	assert.Len(t, k.Calls(ioctltest.OpScrubVec), 1)
}

func TestDeadlockEntryCutsTheVectorAndTheRestStillRuns(t *testing.T) {
	s, k, _ := newFake(t)
	answerWith(k, ioctl.ScrubTypeBMBTA, unix.EDEADLK)
	results, err := s.Inode(t.Context(), 128, 1, unix.S_IFDIR, nil)
	require.NoError(t, err)
	for _, r := range results {
		assert.True(t, r.Clean(), "%s", r)
	}
	assert.Greater(t, len(k.Calls(ioctltest.OpScrubVec)), 1)
}

func TestFreedInodeIsAbsent(t *testing.T) {
	s, _, _ := newFake(t)
	results, err := s.Inode(t.Context(), 999, 1, unix.S_IFREG, nil)
	require.NoError(t, err)
	for _, r := range results {
		assert.True(t, r.Absent, "%s", r)
		assert.False(t, r.Noteworthy())
	}
}

// manyInodes is a model with inodes in every AG.
func manyInodes(perAG int) (*ioctltest.Model, []ioctl.Ino) {
	m := ioctltest.NewModel()
	inos := []ioctl.Ino{m.RootIno}
	for agno := range ioctl.AGNumber(m.Geometry.AGCount) {
		first := m.Geometry.AGToIno(agno, 40, 0)
		for i := range ioctl.Ino(perAG) {
			ino := first + i*3
			m.AddInode(&ioctltest.Inode{Ino: ino, Gen: ioctl.Gen(ino) + 1})
			inos = append(inos, ino)
		}
	}
	return m, inos
}

func TestInodesChecksEachOnce(t *testing.T) {
	for _, workers := range []int{0, 1, 3, 16} {
		m, inos := manyInodes(700)
		s, k, _ := newFakeWith(t, m)
		var mu sync.Mutex
		checked := make(map[ioctl.Ino]int)
		k.OnScrub = func(req ioctl.ScrubRequest) (ioctl.ScrubFlags, unix.Errno) {
			if req.Type == ioctl.ScrubTypeINODE {
				mu.Lock()
				checked[req.Ino]++
				mu.Unlock()
			}
			return k.DefaultScrub(req)
		}
		var last uint64
		tally, err := s.Inodes(t.Context(), workers, func(r kernel.Result) { t.Errorf("clean, and yet: %s", r) }, func(n uint64) {
			assert.Greater(t, n, last)
			last = n
		})
		require.NoError(t, err)
		assert.Equal(t, uint64(len(inos)), tally.Inodes)
		assert.Equal(t, tally.Inodes, tally.Calls, "one vector an inode")
		assert.Equal(t, tally.Inodes, last)
		assert.Zero(t, tally.Vanished+tally.Silent+tally.Errors+tally.UnlistedTotal)
		assert.Len(t, checked, len(inos))
		for ino, n := range checked {
			require.Equal(t, 1, n, "inode %d", ino)
		}
	}
}

func TestInodesHandsOnWhatIsNotClean(t *testing.T) {
	m, inos := manyInodes(200)
	s, k, _ := newFakeWith(t, m)
	want := make(map[kernel.Object]ioctl.ScrubFlags)
	for i, ino := range inos[1:] {
		if i%50 == 0 {
			o := kernel.Object{Type: ioctl.ScrubTypeBMBTD, Ino: ino, Gen: ioctl.Gen(ino) + 1}
			want[o] = ioctl.ScrubXCorrupt
			find(k, o, ioctl.ScrubXCorrupt)
		}
		if i%70 == 0 {
			o := kernel.Object{Type: ioctl.ScrubTypeINODE, Ino: ino, Gen: ioctl.Gen(ino) + 1}
			want[o] = ioctl.ScrubPreen
			find(k, o, ioctl.ScrubPreen)
		}
	}
	got := make(map[kernel.Object]ioctl.ScrubFlags)
	_, err := s.Inodes(t.Context(), 4, func(r kernel.Result) { got[r.Object] = r.Flags }, nil)
	require.NoError(t, err)
	assert.Equal(t, want, got)
}

func TestInodesThatBulkstatDoesNotGive(t *testing.T) {
	m, _ := manyInodes(10)
	first := m.Geometry.AGToIno(1, 60, 0)
	quota := m.AddInode(&ioctltest.Inode{Ino: first, Gen: 4, Private: true})
	gone := m.AddInode(&ioctltest.Inode{Ino: first + 1, Gen: 4, Inactive: true})
	broken := m.AddInode(&ioctltest.Inode{Ino: first + 2, Gen: 4})
	skipped := m.AddInode(&ioctltest.Inode{Ino: first + 3, Gen: 4})
	s, k, _ := newFakeWith(t, m)
	// The first one makes BULKSTAT fail, the other one it leaves out.
	k.OnBulkstat = func(req ioctltest.BulkRequest) ([]ioctl.BulkstatRecord, ioctl.Ino, unix.Errno) {
		records, next, errno := k.DefaultBulkstat(req)
		if errno != 0 {
			return records, next, errno
		}
		for i, r := range records {
			if r.Ino != broken.Ino {
				continue
			}
			if i == 0 {
				return nil, 0, unix.EUCLEAN
			}
			return records[:i], broken.Ino, 0
		}
		kept := records[:0]
		for _, r := range records {
			if r.Ino != skipped.Ino {
				kept = append(kept, r)
			}
		}
		return kept, next, 0
	}
	k.OnScrub = func(req ioctl.ScrubRequest) (ioctl.ScrubFlags, unix.Errno) {
		switch req.Ino {
		case broken.Ino, skipped.Ino:
			return ioctl.ScrubCorrupt, 0
		case quota.Ino, gone.Ino:
			return 0, unix.ENOENT
		}
		return k.DefaultScrub(req)
	}
	var found []kernel.Result
	tally, err := s.Inodes(t.Context(), 2, func(r kernel.Result) { found = append(found, r) }, nil)
	require.NoError(t, err)
	assert.Equal(t, uint64(2), tally.Silent)
	assert.Equal(t, uint64(1+40+2), tally.Inodes)
	require.Equal(t, uint64(1), tally.UnlistedTotal)
	assert.Equal(t, broken.Ino, tally.Unlisted[0].First)
	assert.Equal(t, broken.Ino, tally.Unlisted[0].Last)
	require.ErrorIs(t, tally.Unlisted[0].Err, ioctl.ErrCorrupt)
	require.Len(t, found, 2)
	for _, r := range found {
		assert.Equal(t, ioctl.ScrubTypeINODE, r.Type)
		assert.True(t, r.Bad())
	}
}

func TestInodesWhereTheInobtCannotBeRead(t *testing.T) {
	m, _ := manyInodes(100)
	s, k, _ := newFakeWith(t, m)
	k.OnInumbers = func(req ioctltest.BulkRequest) ([]ioctl.InumbersRecord, ioctl.Ino, unix.Errno) {
		if req.AGNo == 2 {
			return nil, 0, unix.EUCLEAN
		}
		return k.DefaultInumbers(req)
	}
	tally, err := s.Inodes(t.Context(), 3, func(kernel.Result) {}, nil)
	require.NoError(t, err)
	assert.Equal(t, uint64(1+300), tally.Inodes)
	require.Len(t, tally.Unlisted, 1)
	u := tally.Unlisted[0]
	assert.Equal(t, m.Geometry.AGToIno(2, 0, 0), u.First)
	agno, _ := m.Geometry.InoToAGIno(u.Last)
	assert.Equal(t, ioctl.AGNumber(2), agno)
	assert.Equal(t, ioctl.AGBlock(999), lastBlock(&m.Geometry, u.Last))
}

func lastBlock(g *ioctl.Geometry, ino ioctl.Ino) ioctl.AGBlock {
	_, agbno, _ := g.InoToAG(ino)
	return agbno
}

func TestInodesThatVanish(t *testing.T) {
	m, inos := manyInodes(50)
	s, k, _ := newFakeWith(t, m)
	victim := inos[7]
	k.OnScrub = func(req ioctl.ScrubRequest) (ioctl.ScrubFlags, unix.Errno) {
		if req.Ino == victim {
			return 0, unix.ENOENT
		}
		return k.DefaultScrub(req)
	}
	tally, err := s.Inodes(t.Context(), 2, func(r kernel.Result) { t.Errorf("%s", r) }, nil)
	require.NoError(t, err)
	assert.Equal(t, uint64(1), tally.Vanished)
	assert.Equal(t, uint64(len(inos)-1), tally.Inodes)
}

func TestInodesCountsWhatCouldNotBeChecked(t *testing.T) {
	m, _ := manyInodes(5)
	s, k, _ := newFakeWith(t, m)
	answerWith(k, ioctl.ScrubTypeBMBTD, unix.EIO, unix.EIO)
	var errs []error
	tally, err := s.Inodes(t.Context(), 1, func(r kernel.Result) { errs = append(errs, r.Err) }, nil)
	require.NoError(t, err)
	assert.Equal(t, uint64(2), tally.Errors)
	require.Len(t, errs, 2)
	assert.ErrorIs(t, errs[0], unix.EIO)
}

func TestInodesStopsOnShutdown(t *testing.T) {
	m, inos := manyInodes(300)
	s, k, _ := newFakeWith(t, m)
	k.OnScrub = func(req ioctl.ScrubRequest) (ioctl.ScrubFlags, unix.Errno) {
		if req.Ino == inos[len(inos)/2] {
			return 0, unix.ESHUTDOWN
		}
		return k.DefaultScrub(req)
	}
	_, err := s.Inodes(t.Context(), 4, func(r kernel.Result) { t.Errorf("%s", r) }, nil)
	var dead *kernel.FatalError
	require.ErrorAs(t, err, &dead)
	assert.ErrorIs(t, err, ioctl.ErrShutdown)
}

func TestInodesStopsWithTheContext(t *testing.T) {
	m, _ := manyInodes(300)
	s, k, _ := newFakeWith(t, m)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var mu sync.Mutex
	n := 0
	k.OnScrub = func(req ioctl.ScrubRequest) (ioctl.ScrubFlags, unix.Errno) {
		mu.Lock()
		defer mu.Unlock()
		if n++; n == 500 {
			cancel()
		}
		return k.DefaultScrub(req)
	}
	_, err := s.Inodes(ctx, 4, func(kernel.Result) {}, nil)
	require.ErrorIs(t, err, context.Canceled)
	var dead *kernel.FatalError
	require.NotErrorAs(t, err, &dead)
	assert.Less(t, n, 600)
}

func TestInodesOfTheMetadataDirectory(t *testing.T) {
	m := ioctltest.NewModel()
	m.Geometry.Flags |= ioctl.FlagMetadir
	m.AddInode(&ioctltest.Inode{Ino: 130, Gen: 3, Mode: unix.S_IFDIR, Metadir: true, Inline: true})
	s, k, _ := newFakeWith(t, m)
	tally, err := s.Inodes(t.Context(), 1, func(r kernel.Result) { t.Errorf("%s", r) }, nil)
	require.NoError(t, err)
	assert.Equal(t, uint64(2), tally.Inodes)
	var of130 []ioctl.ScrubType
	for _, c := range k.Calls(ioctltest.OpScrub) {
		if c.Ino == 130 {
			of130 = append(of130, c.Scrub.Type)
		}
	}
	assert.Contains(t, of130, ioctl.ScrubTypePARENT)
	assert.Contains(t, of130, ioctl.ScrubTypeXATTR)
}

func BenchmarkInode(b *testing.B) {
	m := ioctltest.NewModel()
	m.AddInode(&ioctltest.Inode{Ino: 140, Gen: 5})
	s, k, _ := newFakeWith(b, m)
	k.LogCalls(false)
	buf := make([]kernel.Result, 0, 16)
	b.ReportAllocs()
	for b.Loop() {
		out, err := s.Inode(b.Context(), 140, 5, unix.S_IFREG, buf)
		if err != nil || len(out) == 0 {
			b.Fatal(err)
		}
	}
}
