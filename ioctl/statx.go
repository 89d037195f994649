package ioctl

import (
	"runtime"
	"time"

	"golang.org/x/sys/unix"
)

// Timestamp is a point in time as the kernel gives it. Timestamps are comparable with ==.
type Timestamp struct {
	Sec  int64 // seconds since the epoch
	Nsec uint32
}

// Time returns the timestamp as a time.Time in UTC.
func (t Timestamp) Time() time.Time {
	return time.Unix(t.Sec, int64(t.Nsec)).UTC()
}

// Statx is what statx(2) knows about an open file.
type Statx struct {
	Ino   Ino
	Mode  uint16 // as in stat(2)
	Nlink uint32
	UID   uint32
	GID   uint32
	Size  uint64 // bytes
	// Blocks is in 512-byte units, delayed allocations and CoW reservations included. It is right
	// for inline forks too, unlike BulkstatRecord.Blocks.
	Blocks     uint64
	ATime      Timestamp
	MTime      Timestamp
	CTime      Timestamp
	BTime      Timestamp
	Attributes uint64 // STATX_ATTR_*
	DevMajor   uint32
	DevMinor   uint32
}

// Statx describes an open file, or one opened with [FS.OpenPathFD].
//
// Asking for the ctime marks it as seen (multigrain timestamps, Linux 6.13): the next change of the
// inode gets another ctime, however soon it comes. So two equal ctimes from Statx mean that nothing that sets a ctime
// happened in between. On older kernels two changes within one tick (up to 10 ms) look equal.
//
// Source: man 2 statx.
func (fs *FS) Statx(fd int) (Statx, error) {
	if err := fs.enter(); err != nil {
		return Statx{}, err
	}
	defer fs.leave()
	raw := fs.statxes.Get().(*unix.Statx_t)
	defer fs.statxes.Put(raw)
	errno := unix.EINTR
	for i := 0; errno == unix.EINTR && i < maxInterrupts; i++ {
		errno = fs.kernel.Statx(fd, unix.STATX_BASIC_STATS|unix.STATX_BTIME, raw)
	}
	runtime.KeepAlive(raw)
	if errno != 0 {
		return Statx{}, fs.failFile(opStatx, errno)
	}
	return Statx{
		Ino: Ino(raw.Ino), Mode: raw.Mode, Nlink: raw.Nlink, UID: raw.Uid, GID: raw.Gid,
		Size: raw.Size, Blocks: raw.Blocks,
		ATime: timestamp(&raw.Atime), MTime: timestamp(&raw.Mtime),
		CTime: timestamp(&raw.Ctime), BTime: timestamp(&raw.Btime),
		Attributes: raw.Attributes, DevMajor: raw.Dev_major, DevMinor: raw.Dev_minor,
	}, nil
}

func timestamp(ts *unix.StatxTimestamp) Timestamp {
	return Timestamp{Sec: ts.Sec, Nsec: ts.Nsec}
}
