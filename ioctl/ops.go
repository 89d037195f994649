package ioctl

import (
	"strconv"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"
)

// operation describes one kind of kernel call for error messages.
type operation struct {
	name    string // what an error says was tried
	feature string // what is missing when the kernel does not know the call
	since   string // the first Linux release that has it
	option  string // the build option it depends on besides CONFIG_XFS_FS
}

var (
	opOpen          = &operation{name: "open"}
	opGeometry      = &operation{"geometry", "XFS_IOC_FSGEOMETRY version 5", "5.2", ""}
	opCounts        = &operation{"counts", "XFS_IOC_FSCOUNTS", "2.6", ""}
	opAGGeometry    = &operation{"geometry", "XFS_IOC_AG_GEOMETRY", "5.2", ""}
	opRTGeometry    = &operation{"geometry", "XFS_IOC_RTGROUP_GEOMETRY", "6.13", ""}
	opScrub         = &operation{"scrub", "online scrub", "4.15", "CONFIG_XFS_ONLINE_SCRUB"}
	opRepair        = &operation{"repair", "online repair", "6.10", "CONFIG_XFS_ONLINE_REPAIR"}
	opScrubVec      = &operation{"scrub vector", "vectored scrub", "6.10", "CONFIG_XFS_ONLINE_SCRUB"}
	opFSMap         = &operation{"fsmap", "FS_IOC_GETFSMAP", "4.12", ""}
	opBulkstat      = &operation{"bulkstat", "XFS_IOC_BULKSTAT version 5", "5.3", ""}
	opInumbers      = &operation{"inumbers", "XFS_IOC_INUMBERS version 5", "5.3", ""}
	opBmap          = &operation{"bmap", "XFS_IOC_GETBMAPX", "2.6", ""}
	opOpenByHandle  = &operation{"open by handle", "XFS_IOC_OPEN_BY_HANDLE", "2.6", ""}
	opPathByHandle  = &operation{"open path by handle", "open_by_handle_at(2)", "2.6.39", "CONFIG_FHANDLE"}
	opHandle        = &operation{"get handle", "XFS_IOC_FD_TO_HANDLE", "2.6", ""}
	opStatx         = &operation{"statx", "statx(2)", "4.11", ""}
	opInodegc       = &operation{"flush inodegc", "XFS_IOC_FREE_EOFBLOCKS", "3.8", ""}
	opFreeze        = &operation{"freeze", "FIFREEZE", "2.6.29", ""}
	opThaw          = &operation{"thaw", "FITHAW", "2.6.29", ""}
	opParents       = &operation{"parents", "GETPARENTS", "6.10", ""}
	opHealthMonitor = &operation{"health monitor", "XFS_IOC_HEALTH_MONITOR", "7.0", ""}
	opHealthCovers  = &operation{"compare with health monitor", "XFS_IOC_HEALTH_FD_ON_MONITORED_FS", "7.0", ""}
	opVerifyMedia   = &operation{"verify media", "XFS_IOC_VERIFY_MEDIA", "7.0", ""}
	opAutofsck      = &operation{"read autofsck property", "extended attributes", "", ""}
	opLock          = &operation{name: "lock"}
	opBnobtView     = &operation{name: "drop CAP_SYS_ADMIN to see the bnobt"}
)

// maxInterrupts bounds the repetitions of a call that returns EINTR. One is normal (the Go runtime
// preempts threads by signals); a kernel that never returns anything else must not become a loop here.
const maxInterrupts = 100

// ioctl makes a call, again when a signal interrupted it. The caller holds fs (see enter).
//
// XFS itself returns EINTR only for fatal signals, after which no repetition happens because the
// process is gone; what remains are interruptible waits in common code.
func (fs *FS) ioctl(fd int, req uintptr, arg unsafe.Pointer) (int, unix.Errno) {
	return repeat(fs.kernel, fd, req, arg)
}

func repeat(kernel Kernel, fd int, req uintptr, arg unsafe.Pointer) (int, unix.Errno) {
	for range maxInterrupts {
		ret, errno := kernel.Ioctl(fd, req, arg)
		if errno != unix.EINTR {
			return ret, errno
		}
	}
	return -1, unix.EINTR
}

// fail builds the error of a failed call on the whole filesystem.
func (fs *FS) fail(op *operation, errno unix.Errno) *Error {
	e := &Error{Op: op.name, Path: fs.path, Errno: errno}
	switch errno {
	case unix.ENOTTY, unix.EOPNOTSUPP:
		e.Unsupported = op.unsupported(fs.kernel.Release())
	case unix.EIO:
		e.Down = fs.isShutdown()
	}
	return e
}

func (fs *FS) failAG(op *operation, agno AGNumber, errno unix.Errno) *Error {
	e := fs.fail(op, errno)
	e.Scope, e.AGNo = ScopeAG, agno
	return e
}

func (fs *FS) failIno(op *operation, ino Ino, gen Gen, errno unix.Errno) *Error {
	e := fs.fail(op, errno)
	e.Scope, e.Ino, e.Gen = ScopeInode, ino, gen
	return e
}

func (fs *FS) failFile(op *operation, errno unix.Errno) *Error {
	e := fs.fail(op, errno)
	e.Scope = ScopeFile
	return e
}

// unsupported says why a kernel of this release does not know the call.
func (op *operation) unsupported(release string) *UnsupportedFeatureError {
	u := &UnsupportedFeatureError{Feature: op.feature, MinimumVersion: op.since}
	if op.option != "" && kernelAtLeast(release, op.since) {
		u.Reason = "the kernel is built without " + op.option
	}
	return u
}

// kernelAtLeast compares a release such as "6.1.0-37-amd64" with a version such as "6.10". A release
// that is not understood is older than everything.
func kernelAtLeast(release, version string) bool {
	have, ok := parseRelease(release)
	if !ok {
		return false
	}
	want, ok := parseRelease(version)
	if !ok {
		return false
	}
	for i := range have {
		if have[i] != want[i] {
			return have[i] > want[i]
		}
	}
	return true
}

// parseRelease reads the leading numbers of a release: "6.18.44-rc1" gives 6, 18, 44.
func parseRelease(release string) (v [3]int, ok bool) {
	for i, field := range strings.SplitN(release, ".", len(v)) {
		end := 0
		for end < len(field) && field[end] >= '0' && field[end] <= '9' {
			end++
		}
		n, err := strconv.Atoi(field[:end])
		if err != nil {
			break
		}
		v[i] = n
		ok = i > 0 || ok
		if end < len(field) {
			break
		}
	}
	return v, ok
}
