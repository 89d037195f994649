package live

import (
	"golang.org/x/sys/unix"

	"github.com/scrubd/scrubd/ioctl"
	"github.com/scrubd/scrubd/shadow"
)

// Op is what a [Change] did.
type Op uint32

// The operations of the rmapbt.
const (
	OpMap Op = iota + 1
	OpUnmap
	OpConvert // unwritten to written, or back
)

// String names the operation.
func (o Op) String() string {
	switch o {
	case OpMap:
		return "map"
	case OpUnmap:
		return "unmap"
	case OpConvert:
		return "convert"
	}
	return "unknown"
}

// Change is one change of the rmapbt of an allocation group or of a realtime
// group, made and not undone: the kernel tells of it before it lets go of the
// AGF, or of the lock of the rtrmapbt.
//
// Source: fs/xfs/libxfs/xfs_rmap.c (xfs_rmap_map, xfs_rmap_unmap,
// xfs_rmap_convert and their shared variants).
type Change struct {
	Time uint64      // of the clock of [Now]
	Rmap shadow.Rmap // of OpConvert: as it was before
	AGNo ioctl.AGNumber
	Op   Op
	// Realtime: AGNo is the number of a realtime group.
	Realtime bool
}

// Feed takes what a [Stream] delivers, from one goroutine, in an order that is
// the kernel's within each group.
type Feed interface {
	// Add hands over changes, of any groups, with any owner. The slice is the
	// stream's and is used again. An error ends the delivery; Sync returns it.
	Add(changes []Change) error
	// Lost says that events were lost, of whatever group, since the last Add.
	Lost()
	// Invalidate says that a kernel repair begins in a group. What comes of that
	// group from then on may tell of the repair's own scratch trees.
	Invalidate(g Group)
}

// Group is an allocation group, or with Realtime a realtime group of that number.
type Group struct {
	AGNo     ioctl.AGNumber
	Realtime bool
}

// Now reads the clock of [Change].Time, in nanoseconds: CLOCK_MONOTONIC_RAW,
// the one clock whose speed is never corrected, so that it cannot be seen to
// go back on another CPU.
func Now() uint64 {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC_RAW, &ts); err != nil {
		return 0 // every Linux has it
	}
	return uint64(ts.Nano())
}

// traceClock is the name of that clock in tracefs.
const traceClock = "mono_raw"
