package ioctl

import (
	"math"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/scrubd/scrubd/ioctl/internal/abi"
)

// MediaDevice is one of the devices behind a filesystem (XFS_DEV_*).
type MediaDevice uint32

// The devices.
const (
	MediaData MediaDevice = 1
	MediaLog  MediaDevice = 2 // an external log only
	MediaRT   MediaDevice = 3
)

// String names the device.
func (d MediaDevice) String() string {
	return enumString(uint32(d), "device", []string{"device 0", "data", "log", "realtime"})
}

// MediaRequest is a part of a device to read.
type MediaRequest struct {
	Device MediaDevice
	// Start and End (exclusive) are in 512-byte sectors, both multiples of the device's logical
	// sector size. An End past the device is cut to its size.
	Start, End DAddr
	// Report makes media errors known to fsnotify and the health monitor.
	Report bool
	// MaxIO is the most bytes to read at once; 0 leaves that to the kernel.
	MaxIO uint32
	// Rest is how long to wait between two reads.
	Rest time.Duration
}

// MediaResult is how far it could be read.
type MediaResult struct {
	// Verified is the end of what was read without an error from MediaRequest.Start on.
	Verified DAddr
	// End is MediaRequest.End, cut to the device.
	End DAddr
	// IOError is what stopped it, 0 when Verified reaches End. The bad sectors lie somewhere behind Verified:
	// ask again in smaller pieces.
	IOError unix.Errno
}

// Complete reports whether the whole range could be read.
func (r MediaResult) Complete() bool {
	return r.IOError == 0 && r.Verified >= r.End
}

// VerifyMedia reads a part of a device and throws the data away.
//
// Errors: [ErrNotSupported] before Linux 7.0; ENODEV for a device that the filesystem does not have;
// EINVAL for a range that is not aligned; [ErrPrivilege]. A media error is none of them, but a result.
//
// Source: man 2 ioctl_xfs_verify_media; fs/xfs/xfs_verify_media.c.
func (fs *FS) VerifyMedia(req MediaRequest) (MediaResult, error) {
	if err := fs.enter(); err != nil {
		return MediaResult{}, err
	}
	defer fs.leave()
	rest := min(max(req.Rest, 0)/time.Microsecond, math.MaxUint32)
	raw := &abi.VerifyMedia{
		Dev:        uint32(req.Device),
		StartDAddr: uint64(req.Start),
		EndDAddr:   uint64(req.End),
		MaxIOSize:  req.MaxIO,
		RestUs:     uint32(rest),
	}
	if req.Report {
		raw.Flags = abi.VerifyMediaReport
	}
	if _, errno := fs.ioctl(fs.fd, abi.ReqVerifyMedia, unsafe.Pointer(raw)); errno != 0 {
		return MediaResult{}, fs.fail(opVerifyMedia, errno)
	}
	return MediaResult{
		Verified: DAddr(raw.StartDAddr),
		End:      DAddr(raw.EndDAddr),
		IOError:  unix.Errno(raw.IOError),
	}, nil
}
