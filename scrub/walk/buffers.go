package walk

import (
	"math/bits"

	"github.com/scrubd/scrubd/ioctl"
)

// The kernel allocates and clears as many records as a GETBMAPX buffer has
// before it looks at the fork, so a buffer has to fit: a large one for every
// small file would cost more than the extents.
const (
	smallFork  = 64   // records: 3 KiB
	mediumFork = 1024 // records: 48 KiB
	// maxForkRecords is where a fork is read in ranges: 3 MiB.
	maxForkRecords = ioctl.MaxBmapRecords
	// largeBuffers is how many larger ones there are for all workers together.
	largeBuffers = 4
)

// forkBuffers gives a worker buffers for GETBMAPX.
type forkBuffers struct {
	small, medium *ioctl.BmapBuffer
	large         chan *ioctl.BmapBuffer // nil ones are made when they are wanted
}

func newLargeBuffers() chan *ioctl.BmapBuffer {
	c := make(chan *ioctl.BmapBuffer, largeBuffers)
	for range largeBuffers {
		c <- nil
	}
	return c
}

// get returns a buffer for a fork of that many extents, to be put back. There is
// room for some delayed allocations, and for splits at the edges of shared blocks;
// Bmap itself makes room for more. It waits while all large buffers are in use.
func (b *forkBuffers) get(extents uint64) *ioctl.BmapBuffer {
	want := min(extents, maxForkRecords)
	want += want/8 + 8
	switch {
	case want <= smallFork:
		return ready(&b.small, smallFork)
	case want <= mediumFork:
		return ready(&b.medium, mediumFork)
	}
	size := min(1<<bits.Len64(want-1), maxForkRecords)
	buf := <-b.large
	if buf == nil || buf.Cap() < size || buf.Cap() > 4*size {
		buf = ioctl.NewBmapBuffer(size)
	}
	return buf
}

func ready(buf **ioctl.BmapBuffer, size int) *ioctl.BmapBuffer {
	if *buf == nil {
		*buf = ioctl.NewBmapBuffer(size)
	}
	return *buf
}

// put takes a buffer back. One that has grown out of its class is dropped.
func (b *forkBuffers) put(buf *ioctl.BmapBuffer) {
	switch buf {
	case b.small:
		if buf.Cap() > smallFork {
			b.small = nil
		}
	case b.medium:
		if buf.Cap() > mediumFork {
			b.medium = nil
		}
	default:
		b.large <- buf
	}
}
