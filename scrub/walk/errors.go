package walk

import (
	"errors"
	"syscall"

	"github.com/scrubd/scrubd/ioctl"
)

// outcome says what a walk does about a call that failed.
type outcome uint8

const (
	// ends the walk: nothing more can be read, or the caller is at fault.
	ends outcome = iota
	// gone: the object is not there any more.
	gone
	// refused: somebody else does not let the walk at the object.
	refused
	// unreadable: the object is there and cannot be read; the next one may be.
	unreadable
)

// outcomeOf sorts the errors of calls about one inode, fork or stretch of the
// inobt.
func outcomeOf(err error) outcome {
	if errors.Is(err, ioctl.ErrMalformed) {
		return unreadable
	}
	var e *ioctl.Error
	if !errors.As(err, &e) || errors.Is(err, ioctl.ErrShutdown) {
		return ends
	}
	switch e.Errno {
	case syscall.ESTALE, syscall.ENOENT:
		return gone
	case syscall.EPERM, syscall.EACCES, syscall.EWOULDBLOCK, syscall.EBUSY, syscall.ETXTBSY:
		return refused
	case syscall.ENOTTY, syscall.EOPNOTSUPP, syscall.EINVAL, syscall.EBADF, syscall.ENOMEM,
		syscall.EMFILE, syscall.ENFILE, syscall.EINTR, syscall.ENOTRECOVERABLE:
		return ends
	}
	// EUCLEAN, EBADMSG, EIO, and whatever else the block layer comes up with.
	return unreadable
}

// bulkOutcome is outcomeOf for BULKSTAT and INUMBERS, which refuse only callers
// and never find that something is gone.
func bulkOutcome(err error) outcome {
	if o := outcomeOf(err); o != gone && o != refused {
		return o
	}
	return ends
}

func isMalformed(err error) bool { return errors.Is(err, ioctl.ErrMalformed) }

func isInvalid(err error) bool { return errors.Is(err, syscall.EINVAL) }
