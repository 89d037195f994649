package main

import (
	"errors"
	"fmt"

	"github.com/scrubd/scrubd/ioctl"
)

// The reasons for which a path cannot be scrubbed. Each is a type of its own
// so that its advice can name the command to type.

// notXFSError is a path on another kind of filesystem.
type notXFSError struct{ Path, FSType, MountPoint string }

func (e *notXFSError) Error() string {
	return fmt.Sprintf("%s: %v (%s is mounted at %s)",
		printable(e.Path), ioctl.ErrNotXFS, e.FSType, printable(e.MountPoint))
}

// notMountPointError is a file or directory within an XFS filesystem.
type notMountPointError struct{ Path, MountPoint string }

func (e *notMountPointError) Error() string {
	return fmt.Sprintf("%s: not a mount point (it lies on the XFS filesystem at %s)",
		printable(e.Path), printable(e.MountPoint))
}

// partialMountError is a mount that shows a directory of a filesystem only, as
// a bind mount or a container's volume does. MountPoint is where the root of
// the same filesystem can be reached, "" when nowhere.
type partialMountError struct{ Path, Root, MountPoint string }

func (e *partialMountError) Error() string {
	return fmt.Sprintf("%s: shows only a part of its filesystem (the directory %s)",
		printable(e.Path), printable(e.Root))
}

// deviceError is a block device where a mount point is wanted. MountPoint is
// where it is mounted, "" when it is not.
type deviceError struct{ Path, MountPoint string }

func (e *deviceError) Error() string {
	return printable(e.Path) + ": a block device, not a mount point"
}

// unmountedError is a path in a tree that left the mount table: a lazy
// unmount, or another mount namespace.
type unmountedError struct{ Path string }

func (e *unmountedError) Error() string {
	return printable(e.Path) + ": no longer mounted"
}

// noProcError is a mount namespace or a chroot without /proc.
type noProcError struct{ Err error }

func (*noProcError) Error() string { return "/proc is not mounted" }

func (e *noProcError) Unwrap() error { return e.Err }

// noRecoveryError is a mount that did not replay its log.
type noRecoveryError struct{ Path string }

func (e *noRecoveryError) Error() string {
	return fmt.Sprintf("%s: %v", printable(e.Path), ioctl.ErrNoRecovery)
}

// noDaemonError is a run without --now while no daemon is there to queue it.
type noDaemonError struct {
	Paths []string
	Err   error
}

func (e *noDaemonError) Error() string {
	return fmt.Sprintf("a run without --now is for a daemon to queue: %v", e.Err)
}

func (e *noDaemonError) Unwrap() error { return e.Err }

// vetoError is a --before-repair command that said no.
type vetoError struct {
	Command string
	Err     error
}

func (e *vetoError) Error() string {
	return fmt.Sprintf("the --before-repair command refused the repairs (%s: %v)", printable(e.Command), e.Err)
}

func (e *vetoError) Unwrap() error { return e.Err }

// callStuckError is a run that was given up while the kernel was inside a call.
// Hold is what keeps the call there, nil when that is not known.
type callStuckError struct {
	Call, Path string
	Hold       *hold
	Stopped    bool // somebody wanted it to end
}

func (e *callStuckError) Error() string {
	s := "stopped while a kernel call had not come back"
	if e.Call != "" {
		s += fmt.Sprintf(" (%s)", e.Call)
	}
	if e.Hold != nil {
		s += ": " + e.Hold.why
	}
	return s
}

// wasStopped tells whether a run ended because somebody wanted it to, in order or
// not.
func wasStopped(err error) bool {
	var stuck *callStuckError
	return isA[*stopError](err) || errors.As(err, &stuck) && stuck.Stopped
}

// outputError is a report that could not be written.
type outputError struct{ Err error }

func (e *outputError) Error() string { return fmt.Sprintf("write the report: %v", e.Err) }

func (e *outputError) Unwrap() error { return e.Err }

// bugError is a panic of the run.
type bugError struct {
	Panic any
	Stack []byte
}

func (e *bugError) Error() string { return fmt.Sprintf("a bug in scrubd: %v", e.Panic) }
