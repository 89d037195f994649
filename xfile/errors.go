package xfile

import (
	"errors"
	"fmt"
)

var (
	// ErrClosed is returned by every operation on a closed file, array or blob,
	// except Close.
	ErrClosed = errors.New("xfile is closed")
	// ErrBudget is what errors.Is finds in every [*BudgetError].
	ErrBudget = errors.New("over the memory budget")
	// ErrRange means an offset, index or length outside of the file or array.
	ErrRange = errors.New("out of range")
	// ErrBusy means that an iteration over the array is still open, so that its
	// records cannot be moved or given back.
	ErrBusy = errors.New("an iteration is still open")
	// ErrRecordType means that a record type cannot live outside of the heap.
	ErrRecordType = errors.New("record type not usable in an xfile")
	// ErrSameDevice means that the directory for unnamed files lies on the very
	// device that [Options.AvoidDevice] excludes.
	ErrSameDevice = errors.New("directory lies on the device to be avoided")
)

// BudgetError says that an allocation would have gone over the budget. Nothing
// was allocated. All numbers are bytes.
type BudgetError struct {
	Purpose string // the [Options.Name] of the file that asked
	Want    int64  // bytes asked for on top of Used
	Used    int64  // bytes held by all files of the budget in the same place
	Limit   int64  // what Used may reach
	Bound   string // what the limit comes from, if it is the system's
}

func (e *BudgetError) Error() string {
	from := ""
	if e.Bound != "" {
		from = ", bounded by " + e.Bound
	}
	return fmt.Sprintf("allocate %d bytes for %s: %v: %d of %d bytes used%s", e.Want, e.Purpose, ErrBudget, e.Used, e.Limit, from)
}

// Is makes errors.Is(err, ErrBudget) hold.
func (e *BudgetError) Is(target error) bool { return target == ErrBudget }

// SpaceError says that the kernel had no room: the tmpfs or filesystem is full,
// a quota or file size limit is reached, or there is no memory.
type SpaceError struct {
	Purpose string // the [Options.Name] of the file that asked
	Dir     string // where the file lives; empty for a memfd
	Want    int64  // bytes asked for
	Held    int64  // bytes the file held when it asked
	Free    int64  // bytes free in Dir's filesystem as statfs says, -1 if unknown
	Err     error  // the errno
}

func (e *SpaceError) Error() string {
	where := "memory"
	if e.Dir != "" {
		where = e.Dir
	}
	free := ""
	if e.Free >= 0 {
		free = fmt.Sprintf(", %d bytes free", e.Free)
	}
	return fmt.Sprintf("allocate %d bytes for %s in %s (%d bytes held%s): %v", e.Want, e.Purpose, where, e.Held, free, e.Err)
}

func (e *SpaceError) Unwrap() error { return e.Err }
