package ioctl

import (
	"errors"
	"fmt"
	"strings"

	"golang.org/x/sys/unix"
)

// Sentinels. An [*Error] is one or several of these by errors.Is; the comment names the errnos.
var (
	// ErrNotSupported is a missing ioctl, scrub type, repair or filesystem feature: ENOTTY, EOPNOTSUPP.
	// errors.As finds an [*UnsupportedFeatureError] that names it.
	ErrNotSupported = errors.New("not supported")
	// ErrPrivilege is a missing privilege, nearly always CAP_SYS_ADMIN: EPERM, EACCES.
	ErrPrivilege = errors.New("not permitted")
	// ErrShutdown is a filesystem that shut itself down: ESHUTDOWN, or EIO when it was found shut down.
	ErrShutdown = errors.New("filesystem is shut down")
	// ErrReadOnly is a read-only mount, or one frozen read-only: EROFS.
	ErrReadOnly = errors.New("filesystem is read-only")
	// ErrNoRecovery is a mount with norecovery, or a read-only one with a dirty log: ENOTRECOVERABLE.
	ErrNoRecovery = errors.New("filesystem is mounted without log recovery")
	// ErrNotXFS is a path on another filesystem.
	ErrNotXFS = errors.New("not an XFS filesystem")
	// ErrCorrupt is metadata that the kernel could not read as what it should be: EUCLEAN
	// (EFSCORRUPTED), EBADMSG (EFSBADCRC). It is a finding, not something to retry.
	ErrCorrupt = errors.New("metadata is corrupt")
	// ErrStale is a handle whose inode is free, has another generation or is private: ESTALE.
	ErrStale = errors.New("inode handle is stale")
	// ErrBusy is a call worth repeating, but not for ever: EBUSY, EDEADLK (EDEADLOCK), EAGAIN
	// (EWOULDBLOCK), EUSERS.
	ErrBusy = errors.New("busy")
	// ErrNoSpace is no room to stage a repair: ENOSPC.
	ErrNoSpace = errors.New("no space")
	// ErrNoEntry is an object that is not there: an inode that was freed, a btree that this filesystem
	// does not have: ENOENT. It is not a finding.
	ErrNoEntry = errors.New("no such object")
	// ErrInterrupted is a call cut short by a signal: EINTR.
	ErrInterrupted = errors.New("interrupted")
	// ErrAbortTarget is an error after which nothing more can be learnt from this filesystem: EIO,
	// ENOMEM, ESHUTDOWN, ENOTRECOVERABLE.
	ErrAbortTarget = errors.New("target must be given up")
	// ErrFrozen is a filesystem that was frozen already when it was to be frozen: EBUSY from FIFREEZE.
	ErrFrozen = errors.New("filesystem is already frozen")
	// ErrNotFrozen is a filesystem that was not frozen when it was to be thawed: EINVAL from FITHAW.
	ErrNotFrozen = errors.New("filesystem is not frozen")
	// ErrLocked is a filesystem that somebody else holds the lock of, see [FS.TryLock].
	ErrLocked = errors.New("locked already")
	// ErrMonitored is a filesystem that has a health monitor already: EEXIST.
	ErrMonitored = errors.New("filesystem is already monitored")
	// ErrGeometry is a geometry that contradicts itself, so that no address can be computed from it.
	ErrGeometry = errors.New("geometry makes no sense")
	// ErrMalformed is an answer of the kernel that does not have the shape it must have.
	ErrMalformed = errors.New("malformed answer from the kernel")
	// ErrClosed is a call on a closed [FS], [File], [BnobtView] or [HealthMonitor].
	ErrClosed = errors.New("already closed")
	// ErrStillPrivileged is a bnobt view whose thread still sees the reverse mappings.
	ErrStillPrivileged = errors.New("dropping CAP_SYS_ADMIN did not change what GETFSMAP shows")
)

// UnsupportedFeatureError says what is missing, since which kernel it exists, and why it is missing
// here when that is known. errors.Is(err, ErrNotSupported) is true for it.
type UnsupportedFeatureError struct {
	// Feature is what was wanted, in words: "vectored scrub".
	Feature string
	// MinimumVersion is the first Linux release that has it, such as "6.10"; empty when no kernel
	// version changes the answer (the filesystem was made without it).
	MinimumVersion string
	// Reason is why it is missing; empty when only the kernel's age or configuration can be.
	Reason string
}

// Error names the feature and what would bring it.
func (e *UnsupportedFeatureError) Error() string {
	var b strings.Builder
	b.WriteString(e.Feature)
	b.WriteString(" is not supported")
	switch {
	case e.Reason != "" && e.MinimumVersion != "":
		fmt.Fprintf(&b, ": %s (needs Linux %s)", e.Reason, e.MinimumVersion)
	case e.Reason != "":
		fmt.Fprintf(&b, ": %s", e.Reason)
	case e.MinimumVersion != "":
		fmt.Fprintf(&b, " by this kernel (needs Linux %s)", e.MinimumVersion)
	}
	return b.String()
}

// Is reports whether target is [ErrNotSupported].
func (e *UnsupportedFeatureError) Is(target error) bool {
	return target == ErrNotSupported
}

// Scope says which fields of an [Error] name its object.
type Scope uint8

const (
	// ScopeFS is the whole filesystem: no field.
	ScopeFS Scope = iota
	// ScopeAG is an allocation group: AGNo.
	ScopeAG
	// ScopeRTGroup is a realtime group: AGNo holds its number.
	ScopeRTGroup
	// ScopeInode is an inode: Ino, and Gen when it is not 0.
	ScopeInode
	// ScopeFile is an open file whose inode number is not known here: no field.
	ScopeFile
)

// Error is a kernel call that failed: what was tried, on what, and why.
//
// errors.Is works against the sentinels of this package and against a unix.Errno; comparing with ==
// against an errno never does. errors.As finds the unix.Errno, and the [*UnsupportedFeatureError] when
// the errno says that something is missing.
type Error struct {
	// Op is what was tried: "scrub", "repair", "fsmap", "open by handle", ...
	Op string
	// Path is the filesystem, as it was given to [Open].
	Path string
	// Type is the metadata type; it counts only when Op is "scrub" or "repair".
	Type ScrubType
	// Scope says which of AGNo, Ino and Gen count.
	Scope Scope
	// AGNo is the allocation group, or the realtime group for ScopeRTGroup.
	AGNo AGNumber
	// Ino and Gen are the inode.
	Ino Ino
	Gen Gen
	// Errno is what the kernel returned.
	Errno unix.Errno
	// Down says that the filesystem was found shut down after the call failed with EIO, which is
	// what most XFS ioctls return then.
	Down bool
	// Unsupported is what is missing when Errno is ENOTTY or EOPNOTSUPP.
	Unsupported *UnsupportedFeatureError
}

// Error reads like "scrub rmapbt AG 3 of /srv: filesystem is shut down".
func (e *Error) Error() string {
	var b strings.Builder
	b.WriteString(e.Op)
	if e.isScrub() {
		b.WriteByte(' ')
		b.WriteString(e.Type.String())
	}
	switch e.Scope {
	case ScopeAG:
		fmt.Fprintf(&b, " AG %d", e.AGNo)
	case ScopeRTGroup:
		fmt.Fprintf(&b, " rtgroup %d", e.AGNo)
	case ScopeInode:
		fmt.Fprintf(&b, " inode %d", e.Ino)
		if e.Gen != 0 {
			fmt.Fprintf(&b, " gen %d", e.Gen)
		}
	case ScopeFile:
		b.WriteString(" an open file")
	case ScopeFS:
	}
	b.WriteString(" of ")
	b.WriteString(e.Path)
	b.WriteString(": ")
	b.WriteString(e.reason())
	return b.String()
}

func (e *Error) isScrub() bool {
	return e.Op == opScrub.name || e.Op == opRepair.name
}

// reason says what the errno means for this call.
func (e *Error) reason() string {
	if e.Unsupported != nil {
		return e.Unsupported.Error()
	}
	switch {
	case e.Is(ErrShutdown):
		return ErrShutdown.Error()
	case e.Is(ErrFrozen):
		return ErrFrozen.Error()
	case e.Is(ErrNotFrozen):
		return ErrNotFrozen.Error()
	case e.Is(ErrMonitored):
		return ErrMonitored.Error()
	}
	switch e.Errno {
	case unix.EPERM, unix.EACCES:
		if e.Op == opOpenByHandle.name {
			return "not permitted (CAP_SYS_ADMIN is needed, and a regular file or directory)"
		}
		return "not permitted (CAP_SYS_ADMIN is needed)"
	case unix.EROFS:
		return ErrReadOnly.Error()
	case unix.ENOTRECOVERABLE:
		return ErrNoRecovery.Error()
	case unix.EUCLEAN:
		return "metadata is corrupt (EFSCORRUPTED)"
	case unix.EBADMSG:
		return "metadata is corrupt: bad checksum (EFSBADCRC)"
	case unix.ESTALE:
		return ErrStale.Error()
	case unix.ENOSPC:
		return "no space for a repair to work in"
	case unix.ENOENT:
		return ErrNoEntry.Error()
	case unix.ECANCELED:
		return "not run: a check before it failed"
	}
	return e.Errno.Error()
}

// Is reports whether the error is the sentinel target; see the sentinels for the errnos.
func (e *Error) Is(target error) bool {
	switch target {
	case ErrNotSupported:
		return e.Errno == unix.ENOTTY || e.Errno == unix.EOPNOTSUPP || e.Unsupported != nil
	case ErrPrivilege:
		return e.Errno == unix.EPERM || e.Errno == unix.EACCES
	case ErrShutdown:
		return e.Errno == unix.ESHUTDOWN || e.Down
	case ErrReadOnly:
		return e.Errno == unix.EROFS
	case ErrNoRecovery:
		return e.Errno == unix.ENOTRECOVERABLE
	case ErrCorrupt:
		return e.Errno == unix.EUCLEAN || e.Errno == unix.EBADMSG
	case ErrStale:
		return e.Errno == unix.ESTALE
	case ErrBusy:
		switch e.Errno {
		case unix.EBUSY, unix.EDEADLK, unix.EAGAIN, unix.EUSERS:
			return e.Op != opFreeze.name
		}
	case ErrNoSpace:
		return e.Errno == unix.ENOSPC
	case ErrNoEntry:
		return e.Errno == unix.ENOENT
	case ErrInterrupted:
		return e.Errno == unix.EINTR
	case ErrAbortTarget:
		switch e.Errno {
		case unix.EIO, unix.ENOMEM, unix.ESHUTDOWN, unix.ENOTRECOVERABLE:
			return true
		}
	case ErrFrozen:
		return e.Op == opFreeze.name && e.Errno == unix.EBUSY
	case ErrNotFrozen:
		return e.Op == opThaw.name && e.Errno == unix.EINVAL
	case ErrMonitored:
		return e.Op == opHealthMonitor.name && e.Errno == unix.EEXIST
	}
	return false
}

// Unwrap gives errors.Is and errors.As the errno and what is missing.
func (e *Error) Unwrap() []error {
	if e.Unsupported != nil {
		return []error{e.Errno, e.Unsupported}
	}
	return []error{e.Errno}
}

// Class says what a caller does about an error of this package.
type Class uint8

const (
	// ClassNone is no error.
	ClassNone Class = iota
	// ClassUnsupportedTarget is ENOTTY: the kernel was built without this for any filesystem.
	ClassUnsupportedTarget
	// ClassUnsupportedItem is EOPNOTSUPP or a missing scrub type: this item cannot be done here.
	ClassUnsupportedItem
	// ClassSkip is ENOENT or ESTALE: the object is not there; count it, it is not an error.
	ClassSkip
	// ClassRetry is EBUSY, EDEADLK, EAGAIN: repeat a few times; should it stay, suspect the kernel.
	ClassRetry
	// ClassCorrupt is EUCLEAN or EBADMSG: the metadata is corrupt. A scrub reports that in its
	// flags, so that as an errno from a scrub it is a suspected kernel bug as well.
	ClassCorrupt
	// ClassAbortTarget is EIO, ENOMEM, a shutdown or norecovery: give this filesystem up.
	ClassAbortTarget
	// ClassCheckOnly is EROFS: repairs are out of the question, checks are not.
	ClassCheckOnly
	// ClassNoSpace is ENOSPC: the item stays unrepaired.
	ClassNoSpace
	// ClassPrivilege is EPERM.
	ClassPrivilege
	// ClassInterrupted is EINTR: treat it as a cancelled context.
	ClassInterrupted
	// ClassOther is anything else: a mistake of the caller (EINVAL, EBADF), or a kernel bug.
	ClassOther
)

// Classify sorts an error by what is to be done about it.
func Classify(err error) Class {
	var e *Error
	switch {
	case err == nil:
		return ClassNone
	case errors.As(err, &e) && e.Errno == unix.ENOTTY:
		return ClassUnsupportedTarget
	case errors.Is(err, ErrNotSupported):
		return ClassUnsupportedItem
	case errors.Is(err, ErrShutdown), errors.Is(err, ErrAbortTarget):
		return ClassAbortTarget
	case errors.Is(err, ErrNoEntry), errors.Is(err, ErrStale):
		return ClassSkip
	case errors.Is(err, ErrBusy), errors.Is(err, ErrFrozen):
		return ClassRetry
	case errors.Is(err, ErrCorrupt):
		return ClassCorrupt
	case errors.Is(err, ErrReadOnly):
		return ClassCheckOnly
	case errors.Is(err, ErrNoSpace):
		return ClassNoSpace
	case errors.Is(err, ErrPrivilege):
		return ClassPrivilege
	case errors.Is(err, ErrInterrupted):
		return ClassInterrupted
	}
	return ClassOther
}
