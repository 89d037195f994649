package kernel

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"github.com/scrubd/scrubd/ioctl"
)

// FatalError ends a run: the filesystem is shut down or mounted without log
// recovery, a privilege was lost, the kernel has no online scrub, or the device
// gives nothing but I/O errors. errors.Is finds the sentinels of package ioctl.
type FatalError struct {
	// Object is what was being checked or repaired.
	Object Object
	Err    error
}

// Error is that of the call, which names the object.
func (e *FatalError) Error() string {
	return e.Err.Error()
}

// Unwrap returns the call's error.
func (e *FatalError) Unwrap() error {
	return e.Err
}

// ErrFreezeHeld is a call refused because this process keeps the filesystem
// frozen: it would wait for a thaw that does not come.
var ErrFreezeHeld = errors.New("not while the filesystem is kept frozen")

// effect is what an answer of the kernel means for the object that was asked
// about.
type effect uint8

const (
	settled effect = iota // there is an answer, if only an error
	again                 // the kernel could not do it now
	fatal                 // nothing more can be done here
)

// answer sorts what one call gave into a check's result.
//
// EUCLEAN and EBADMSG should not come out of a scrub, which has a flag for
// them; where they do, they mean the same.
func (s *Scrubber) answer(r *Result, flags ioctl.ScrubFlags, err error) effect {
	r.Attempts++
	r.Flags, r.Err, r.Ran = 0, nil, false
	if err == nil {
		s.ioErrors.Store(0)
		r.Flags, r.Ran = flags&ioctl.ScrubFlagsOut, true
		if r.Flags.Has(ioctl.ScrubIncomplete) {
			return again
		}
		return settled
	}
	switch {
	case endsRun(err):
		r.Err = err
		return fatal
	case errors.Is(err, ioctl.ErrCorrupt):
		s.log.WithError(err).Warn("the kernel gave up a check instead of flagging corruption")
		r.Flags, r.Ran = ioctl.ScrubCorrupt, true
	case errors.Is(err, ioctl.ErrNoEntry), errors.Is(err, ioctl.ErrStale):
		if s.lacks(r.Type) {
			r.Unknown = true
		} else {
			r.Absent = true
		}
	case errors.Is(err, unix.EINVAL) && s.lacks(r.Type), errors.Is(err, unix.EOPNOTSUPP):
		s.setLacks(r.Type)
		r.Unknown = true
	case transient(err):
		r.Err = err
		return again
	case errors.Is(err, unix.EIO):
		r.Err = err
		if s.ioErrors.Add(1) >= maxIOErrors {
			r.Err = fmt.Errorf("%d checks in a row ended in I/O errors, the last one: %w", maxIOErrors, err)
			return fatal
		}
	default:
		r.Err = err
	}
	return settled
}

// maxIOErrors is how many I/O errors in a row, with no check between them that
// came to its end, mean that the device is gone. A single one is a bad sector
// below some inode, and no reason to leave all others unchecked.
const maxIOErrors = 64

// endsRun tells the errors after which no other object can be checked either.
func endsRun(err error) bool {
	return errors.Is(err, ioctl.ErrShutdown) ||
		errors.Is(err, ioctl.ErrNoRecovery) ||
		errors.Is(err, ioctl.ErrPrivilege) ||
		errors.Is(err, ioctl.ErrClosed) ||
		errors.Is(err, unix.ENOTTY) ||
		errors.Is(err, unix.EBADF) ||
		errors.Is(err, unix.ENODEV)
}

// transient tells the errors that mean "not now". Beside those that the manual
// page names, ECANCELED, ECHRNG and ETIMEDOUT are the kernel's own ways to give
// up a scan or a lock, and can slip out.
func transient(err error) bool {
	return errors.Is(err, ioctl.ErrBusy) ||
		errors.Is(err, ioctl.ErrInterrupted) ||
		errors.Is(err, unix.ENOMEM) ||
		errors.Is(err, unix.ECANCELED) ||
		errors.Is(err, unix.ECHRNG) ||
		errors.Is(err, unix.ETIMEDOUT)
}
