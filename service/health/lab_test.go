package health_test

import (
	"context"
	"errors"
	"os"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/scrubd/scrubd/internal/lab"
	"github.com/scrubd/scrubd/ioctl"
	"github.com/scrubd/scrubd/service/health"
)

// heard are the reports of one watch.
type heard struct {
	mu      sync.Mutex
	source  string
	why     error
	reports []health.Report
}

func (h *heard) options() health.Options {
	return health.Options{
		Marks:  time.Hour,
		Report: func(r health.Report) { h.mu.Lock(); h.reports = append(h.reports, r); h.mu.Unlock() },
		Source: func(source string, why error) { h.mu.Lock(); h.source, h.why = source, why; h.mu.Unlock() },
	}
}

// has tells whether there is a report of a place with this cause.
func (h *heard) has(p health.Place, cause health.Cause) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.ContainsFunc(h.reports, func(r health.Report) bool { return r.Place == p && r.Cause == cause })
}

// Two watches of one filesystem: the first has its health monitor, the second is
// left with fanotify and marks. Both hear of an inode that a reader stumbles over,
// and of an AG that a scrub finds corrupt, and neither keeps anybody from
// unmounting.
func TestLabWatch(t *testing.T) {
	lab.InKernel(t, func(t *testing.T) {
		loop := lab.NewLoopFS(t, lab.MkfsOptions{})
		require.NoError(t, lab.Sample(loop.Dir(), lab.SampleSpec{Files: 30}))
		require.NoError(t, loop.Unmount())
		fork, err := lab.InjectImage(loop.Image(), lab.Fault{Class: lab.FaultBMBTPointer, Seed: 1})
		require.NoError(t, err)
		unreadable(t, loop.Image(), fork.AGNo, fork.AGBno) // a block of the fork's btree
		agno := ioctl.AGNumber(1)
		_, err = lab.InjectImage(loop.Image(), lab.Fault{Class: lab.FaultBnoShorter, AGNo: &agno})
		require.NoError(t, err)
		require.NoError(t, loop.Mount())

		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		var first, second heard
		firstEnded, secondEnded := make(chan error, 1), make(chan error, 1)
		source := func(h *heard) string { h.mu.Lock(); defer h.mu.Unlock(); return h.source }
		go func() { firstEnded <- health.Watch(ctx, loop.Dir(), first.options()) }()
		require.Eventually(t, func() bool { return source(&first) != "" }, time.Minute, 10*time.Millisecond)
		go func() { secondEnded <- health.Watch(ctx, loop.Dir(), second.options()) }()
		require.Eventually(t, func() bool { return source(&second) != "" }, time.Minute, 10*time.Millisecond)
		assert.Equal(t, health.SourceMonitor, first.source)
		require.NoError(t, first.why)
		assert.Equal(t, health.SourceFanotify, second.source)
		require.ErrorIs(t, second.why, ioctl.ErrMonitored)

		fs, err := ioctl.Open(loop.Dir())
		require.NoError(t, err)
		buf := ioctl.NewBulkstatBuffer(1)
		n, err := fs.Bulkstat(&ioctl.BulkRequest{Ino: fork.Ino, Flags: ioctl.BulkNrext64}, buf)
		require.NoError(t, err)
		require.Equal(t, 1, n)
		inode := health.Place{Kind: health.Inode, Ino: fork.Ino, Gen: buf.Records()[0].Gen}
		require.Error(t, readFork(fs, inode), "its fork cannot be read")
		flags, err := fs.Scrub(ioctl.ScrubRequest{Type: ioctl.ScrubTypeBNOBT, AGNo: agno})
		require.NoError(t, err)
		require.True(t, flags.Any(ioctl.ScrubCorrupt|ioctl.ScrubXCorrupt), flags)
		require.NoError(t, fs.Close())
		group := health.Place{Kind: health.Group, AGNo: agno}
		for began := time.Now(); ; time.Sleep(10 * time.Millisecond) {
			if first.has(inode, health.Met) && first.has(group, health.Scrubbed) &&
				second.has(inode, health.Met) && second.has(group, health.Marked) {
				break
			}
			select {
			case err := <-secondEnded:
				t.Fatalf("the second has ended: %v", err)
			default:
			}
			require.Less(t, time.Since(began), 2*time.Minute, "%+v\n%+v", &first, &second)
		}

		require.NoError(t, loop.Unmount(), "nobody keeps it")
		require.NoError(t, <-firstEnded)
		cancel()
		require.ErrorIs(t, <-secondEnded, context.Canceled)
	})
}

// readFork has the kernel read the extents of an inode.
func readFork(fs *ioctl.FS, p health.Place) error {
	f, err := fs.OpenByHandle(p.Ino, p.Gen)
	if err != nil {
		return err
	}
	return errors.Join(fs.Bmap(f.FD(), ioctl.DataFork, ioctl.NewBmapBuffer(16)), f.Close())
}

// unreadable writes over the header of a block of metadata.
func unreadable(t *testing.T, image string, agno ioctl.AGNumber, agbno ioctl.AGBlock) {
	t.Helper()
	img, err := lab.OpenImage(image)
	require.NoError(t, err)
	off := (int64(agno)*int64(img.SB.AGBlocks) + int64(agbno)) * int64(img.SB.BlockSize)
	require.NoError(t, img.Close())
	f, err := os.OpenFile(image, os.O_WRONLY, 0)
	require.NoError(t, err)
	_, err = f.WriteAt(make([]byte, 64), off)
	require.NoError(t, errors.Join(err, f.Close()))
}
