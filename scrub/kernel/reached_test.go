package kernel_test

import (
	"context"
	"maps"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/scrubd/scrubd/ioctl"
	"github.com/scrubd/scrubd/ioctl/ioctltest"
	"github.com/scrubd/scrubd/scrub/kernel"
)

// place is how far a scan has come in an AG.
type place struct {
	next   ioctl.Ino
	inodes uint64
	all    bool
}

// places keeps how far a scan has come, and lets another go on.
type places struct {
	mu sync.Mutex
	of map[ioctl.AGNumber]place
}

func (p *places) resume(m *ioctltest.Model) kernel.Resume {
	from := maps.Clone(p.of)
	return kernel.Resume{
		Earlier: func(rec *ioctl.BulkstatRecord) bool {
			agno, _, _ := m.Geometry.InoToAG(rec.Ino)
			return from[agno].all || rec.Ino < from[agno].next
		},
		Reached: func(agno ioctl.AGNumber, next ioctl.Ino, inodes uint64, all bool) {
			p.mu.Lock()
			defer p.mu.Unlock()
			if next > p.of[agno].next || all {
				p.of[agno] = place{next, inodes, all}
			}
		},
	}
}

// crowded is a model with so many files in each of its AGs.
func crowded(files int) *ioctltest.Model {
	m := ioctltest.NewModel()
	g := &m.Geometry
	for agno := range ioctl.AGNumber(g.AGCount) {
		for i := range files {
			m.AddInode(&ioctltest.Inode{Ino: g.AGToIno(agno, 64, 0) + ioctl.Ino(i), Gen: 3, Mode: unix.S_IFREG | 0o644})
		}
	}
	return m
}

// However often a scan is stopped, and wherever: in the end every inode has been
// checked, none is left out, and few were checked twice.
func TestScanGoesOn(t *testing.T) {
	const files, workers = 2000, 2
	m := crowded(files)
	s, k, _ := newFakeWith(t, m)
	var mu sync.Mutex
	checks := map[ioctl.Ino]int{}
	var ctx context.Context
	var cancel context.CancelFunc
	budget := 0
	k.OnScrub = func(req ioctl.ScrubRequest) (ioctl.ScrubFlags, unix.Errno) {
		if req.Type == ioctl.ScrubTypeINODE {
			mu.Lock()
			defer mu.Unlock()
			checks[req.Ino]++
			if budget--; budget == 0 {
				cancel()
			}
		}
		return k.DefaultScrub(req)
	}
	at := &places{of: map[ioctl.AGNumber]place{}}
	runs := 0
	for ; ; runs++ {
		require.Less(t, runs, 100, "it never comes to its end")
		ctx, cancel = context.WithCancel(t.Context())
		budget = 3500
		_, err := s.InodesLeft(ctx, workers, at.resume(m), func(kernel.Result) {}, nil)
		cancel()
		if err == nil {
			assert.Greater(t, runs, 1)
			break
		}
		require.ErrorIs(t, err, context.Canceled)
	}
	var told uint64
	for agno := range ioctl.AGNumber(m.Geometry.AGCount) {
		assert.True(t, at.of[agno].all, "AG %d", agno)
		told += at.of[agno].inodes
	}
	twice := 0
	for ino, inode := range m.Inodes {
		if inode.Mode&unix.S_IFMT != unix.S_IFREG {
			continue
		}
		require.Positive(t, checks[ino], "inode %d was never checked", ino)
		twice += checks[ino] - 1
	}
	// Of each that was stopped, the turns under way and those done ahead of them.
	assert.LessOrEqual(t, twice, runs*2*workers*8*ioctl.InodesPerChunk)
	assert.GreaterOrEqual(t, told, uint64(files)*uint64(m.Geometry.AGCount))
	assert.LessOrEqual(t, told, uint64(len(m.Inodes)))
	mu.Lock()
	clear(checks)
	mu.Unlock()
	done := uint64(0)
	tally, err := s.InodesLeft(t.Context(), workers, at.resume(m), func(kernel.Result) {}, func(n uint64) { done = n })
	require.NoError(t, err)
	assert.Empty(t, checks, "there is nothing left to do")
	assert.Zero(t, tally.Inodes)
	assert.GreaterOrEqual(t, tally.LeftOut, uint64(files)*uint64(m.Geometry.AGCount))
	assert.Equal(t, tally.LeftOut, done, "who looks on sees it go on")
}

// Where an inode could not be listed nobody goes on behind it.
func TestScanStopsAtWhatCannotBeListed(t *testing.T) {
	m := crowded(2000)
	s, k, _ := newFakeWith(t, m)
	k.OnInumbers = func(req ioctltest.BulkRequest) ([]ioctl.InumbersRecord, ioctl.Ino, unix.Errno) {
		if req.AGNo == 1 && req.Ino > m.Geometry.AGToIno(1, 64, 0)+600 {
			return nil, 0, unix.EIO
		}
		return k.DefaultInumbers(req)
	}
	at := &places{of: map[ioctl.AGNumber]place{}}
	tally, err := s.InodesLeft(t.Context(), 2, at.resume(m), func(kernel.Result) {}, nil)
	require.NoError(t, err)
	assert.Equal(t, uint64(1), tally.UnlistedTotal)
	assert.True(t, at.of[0].all)
	assert.False(t, at.of[1].all)
	assert.LessOrEqual(t, at.of[1].next, m.Geometry.AGToIno(1, 64, 0)+600+512)
}
