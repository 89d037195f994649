package witness

import (
	"errors"
	"fmt"

	"github.com/scrubd/scrubd/ioctl"
)

var (
	// ErrMalformed means a record that the kernel cannot have meant: outside of
	// its group, not made of whole blocks, out of order. It is
	// [ioctl.ErrMalformed].
	ErrMalformed = ioctl.ErrMalformed
	// ErrRange means a group or a window that does not lie in the filesystem.
	ErrRange = errors.New("outside of the filesystem")
	// ErrStuck means that more records overlap at one block than a call returns,
	// where sharing cannot be the reason: GETFSMAP cannot get past them.
	ErrStuck = errors.New("too many overlapping records to get past")
)

// CorruptError says that GETFSMAP refused to read a group's btree, because a
// block or record of it is bad. That is a finding and nothing to retry.
//
// errors.Is(err, ioctl.ErrCorrupt) holds.
type CorruptError struct {
	// AGNo is the number of the group, of a realtime group if Realtime is set.
	AGNo     ioctl.AGNumber
	Realtime bool
	// Reached is the block of the group from which the failing call was to read:
	// everything that sorts before it has been handed out.
	Reached ioctl.AGBlock
	Err     error
}

func (e *CorruptError) Error() string {
	return fmt.Sprintf("read space mappings of %s from block %d on: %v", groupName(e.Realtime, e.AGNo), e.Reached, e.Err)
}

func (e *CorruptError) Unwrap() error { return e.Err }
