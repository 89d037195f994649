package walk

import (
	"context"
	"runtime"

	"github.com/scrubd/scrubd/ioctl"
	"github.com/scrubd/scrubd/scrub/throttle"
	"github.com/scrubd/scrubd/xfile"
)

// Options say how a walk is run. The zero value works.
type Options struct {
	// Workers is the number of goroutines; 0 means one for each CPU.
	Workers int
	// Budget bounds the pageable memory; its refusal ends the walk with
	// [xfile.ErrBudget].
	Budget *xfile.Budget
	// Dir is where the arrays live, empty for memory. AvoidDevice is checked
	// against the filesystem's own device.
	Dir string
	// Throttle paces the workers between batches, and makes these smaller; nil does
	// not.
	Throttle *throttle.Throttle
	// Progress is told how many inodes and extents have been read so far, once
	// per batch, by several workers at once: numbers may arrive out of order.
	Progress func(inodes, extents uint64)
	// Reach, if set, is given the directories that could not be opened by handle
	// and opens by their paths those that it can, which makes the kernel know the way
	// to them; they are read once more then.
	Reach func(context.Context, map[ioctl.Ino]ioctl.Gen) error
	// Watcher, if set, is told when which inodes were read, and what to read again.
	Watcher Watcher
}

// maxWorkers is the most that Workers is by default: each holds buffers.
const maxWorkers = 32

func (o *Options) workers() int {
	if o.Workers > 0 {
		return o.Workers
	}
	return min(runtime.GOMAXPROCS(0), maxWorkers)
}
