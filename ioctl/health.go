package ioctl

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/scrubd/scrubd/ioctl/internal/abi"
)

// HealthDomain is what a health event is about (XFS_HEALTH_MONITOR_DOMAIN_*).
type HealthDomain uint32

// What events are about, and the fields of [HealthEvent] that count then.
const (
	HealthMount     HealthDomain = iota // the mount: Lost, Shutdown
	HealthFS                            // metadata of the filesystem: Mask is an FSHealth
	HealthAG                            // metadata of a group: Mask is an AGHealth, AGNo
	HealthInode                         // an inode: Mask is an InodeHealth, Ino, Gen
	HealthRTGroup                       // metadata of a realtime group: Mask is an RGHealth, RGNo
	HealthDataDev                       // data device: DAddr, Length
	HealthRTDev                         // realtime device: DAddr, Length
	HealthLogDev                        // log device: DAddr, Length
	HealthFileRange                     // part of a file: Ino, Gen, Pos, Len, Errno
)

// String names the domain.
func (d HealthDomain) String() string {
	return enumString(uint32(d), "domain", []string{
		"mount", "fs", "ag", "inode", "rtgroup", "datadev", "rtdev", "logdev", "filerange",
	})
}

// HealthType is what happened (XFS_HEALTH_MONITOR_TYPE_*).
type HealthType uint32

// What happens. The manual page of 7.2 describes HealthSick and HealthCorrupt the other way round; this is
// what the kernel does (fs/xfs/xfs_health.c).
const (
	HealthRunning    HealthType = iota // the monitor has begun
	HealthLost                         // Lost events did not fit in the kernel's queue of 32 KiB
	HealthUnmount                      // the end
	HealthSick                         // something other than scrub ran into corruption; told every time
	HealthCorrupt                      // a scrub found corruption that was not known
	HealthHealthy                      // a scrub found it good again, or a repair made it so
	HealthShutdown                     // the filesystem shut down
	HealthMediaError                   // a device could not read or write
	HealthBufRead                      // a buffered read of file data failed
	HealthBufWrite                     // a buffered write of file data failed
	HealthDIORead                      // a direct read of file data failed
	HealthDIOWrite                     // a direct write of file data failed
	HealthDataLost                     // the storage has lost file data
)

// String names the type.
func (t HealthType) String() string {
	return enumString(uint32(t), "type", []string{
		"running", "lost", "unmount", "sick", "corrupt", "healthy", "shutdown", "media error",
		"buffered read", "buffered write", "direct read", "direct write", "data lost",
	})
}

// ShutdownReasons are why a filesystem shut down (XFS_HEALTH_SHUTDOWN_*).
type ShutdownReasons uint32

// Why a filesystem shuts down.
const (
	ShutdownMetaIOError ShutdownReasons = 1 << iota
	ShutdownLogIOError
	ShutdownForceUmount
	ShutdownCorruptIncore
	ShutdownCorruptOndisk
	ShutdownDeviceRemoved
)

// Has reports whether all of the bits in want are set.
func (r ShutdownReasons) Has(want ShutdownReasons) bool { return r&want == want }

// String lists the reasons; unknown bits in hex.
func (r ShutdownReasons) String() string {
	return flagString(uint64(r), []string{
		"metadata i/o error", "log i/o error", "forced unmount", "corruption in memory", "corruption on disk", "device removed",
	})
}

// HealthEvent is one event. Which fields count depends on Domain and Type.
type HealthEvent struct {
	Domain HealthDomain
	Type   HealthType
	Time   time.Time // UTC

	Lost     uint64          // events lost
	Shutdown ShutdownReasons // of HealthShutdown
	Mask     uint32          // an FSHealth, AGHealth, RGHealth or InodeHealth
	AGNo     AGNumber
	RGNo     RGNumber
	Ino      Ino
	Gen      Gen
	DAddr    DAddr // on the device
	Length   DAddr
	Pos      uint64 // in the file, bytes
	Len      uint64 // bytes
	Errno    unix.Errno
}

// HealthMonitor is the stream of a filesystem's health events.
type HealthMonitor struct {
	fs   *FS
	file *os.File
	buf  []byte
	have int // bytes of an event that has not arrived in full, at the start of buf
}

// HealthMonitor begins to listen. There can be one monitor per filesystem. With verbose, what is
// healthy is told too, not only what changes.
//
// Errors: [ErrNotSupported] before Linux 7.0; [ErrMonitored]; [ErrPrivilege] without CAP_SYS_ADMIN, in a
// user namespace, or when [FS.AtRoot] is false.
//
// Source: man 2 ioctl_xfs_health_monitor; fs/xfs/xfs_healthmon.c.
func (fs *FS) HealthMonitor(verbose bool) (*HealthMonitor, error) {
	if err := fs.enter(); err != nil {
		return nil, err
	}
	defer fs.leave()
	raw := &abi.HealthMonitor{Format: abi.HealthMonitorFormat0}
	if verbose {
		raw.Flags = abi.HealthMonitorVerbose
	}
	fd, errno := fs.ioctl(fs.fd, abi.ReqHealthMonitor, unsafe.Pointer(raw))
	if errno != 0 {
		return nil, fs.fail(opHealthMonitor, errno)
	}
	// Non-blocking, so that the runtime polls it and a deadline or Close ends a read.
	if err := unix.SetNonblock(fd, true); err != nil {
		_ = unix.Close(fd)
		return nil, fs.fail(opHealthMonitor, asErrno(err))
	}
	return &HealthMonitor{
		fs:   fs,
		file: os.NewFile(uintptr(fd), "health monitor of "+fs.path),
		buf:  make([]byte, healthBufferEvents*healthEventSize),
	}, nil
}

const (
	healthEventSize    = int(unsafe.Sizeof(abi.HealthEvent{}))
	healthBufferEvents = 64
)

// Next waits for events and returns what has arrived, at least one. It ends with io.EOF after an
// unmount, with the context's error when ctx ends first, and with [ErrClosed] after Close. One call at a
// time.
func (m *HealthMonitor) Next(ctx context.Context) ([]HealthEvent, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	expired := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(expired)
		// A deadline in the past ends the read; an error means that Close has ended it.
		_ = m.file.SetReadDeadline(time.Unix(1, 0))
	})
	defer func() {
		if !stop() {
			<-expired
			_ = m.file.SetReadDeadline(time.Time{})
		}
	}()
	for {
		n, err := m.file.Read(m.buf[m.have:])
		m.have += n
		whole := m.have / healthEventSize * healthEventSize
		if whole > 0 {
			events, err := DecodeHealthEvents(m.buf[:whole])
			m.have = copy(m.buf, m.buf[whole:m.have])
			return events, err
		}
		switch {
		case err == nil:
		case ctx.Err() != nil:
			return nil, ctx.Err()
		case errors.Is(err, io.EOF):
			return nil, io.EOF
		case errors.Is(err, os.ErrClosed):
			return nil, fmt.Errorf("health monitor of %s: %w", m.fs.path, ErrClosed)
		default:
			return nil, fmt.Errorf("read health monitor of %s: %w", m.fs.path, err)
		}
	}
}

// Covers reports whether an open file lies on the filesystem that is monitored.
func (m *HealthMonitor) Covers(fd int) (bool, error) {
	raw := &abi.HealthFileOnFS{FD: int32(fd)}
	var errno unix.Errno
	conn, err := m.file.SyscallConn()
	if err != nil {
		return false, err
	}
	err = conn.Control(func(monitor uintptr) {
		_, errno = m.fs.ioctl(int(monitor), abi.ReqHealthFDOnFS, unsafe.Pointer(raw))
	})
	runtime.KeepAlive(raw)
	switch {
	case err != nil:
		return false, fmt.Errorf("health monitor of %s: %w", m.fs.path, ErrClosed)
	case errno == unix.ESTALE:
		return false, nil
	case errno != 0:
		return false, m.fs.fail(opHealthCovers, errno)
	}
	return true, nil
}

// Close ends the monitor, and a Next in flight. Closing twice is fine.
func (m *HealthMonitor) Close() error {
	if err := m.file.Close(); err != nil && !errors.Is(err, os.ErrClosed) {
		return err
	}
	return nil
}

// DecodeHealthEvents reads what a health monitor's descriptor returned. Part of an event at the end
// is an error; the events before it are returned too.
func DecodeHealthEvents(b []byte) ([]HealthEvent, error) {
	events := make([]HealthEvent, 0, len(b)/healthEventSize)
	for len(b) >= healthEventSize {
		events = append(events, decodeHealthEvent(b[:healthEventSize]))
		b = b[healthEventSize:]
	}
	if len(b) != 0 {
		return events, fmt.Errorf("%w: %d bytes of a health event", ErrMalformed, len(b))
	}
	return events, nil
}

func decodeHealthEvent(b []byte) HealthEvent {
	u32 := func(off int) uint32 { return binary.NativeEndian.Uint32(b[off:]) }
	u64 := func(off int) uint64 { return binary.NativeEndian.Uint64(b[off:]) }
	// The payload, a union of structs.
	const p = int(unsafe.Offsetof(abi.HealthEvent{}.Payload))

	ns := u64(int(unsafe.Offsetof(abi.HealthEvent{}.TimeNs)))
	e := HealthEvent{
		Domain: HealthDomain(u32(int(unsafe.Offsetof(abi.HealthEvent{}.Domain)))),
		Type:   HealthType(u32(int(unsafe.Offsetof(abi.HealthEvent{}.Type)))),
		Time:   time.Unix(int64(ns/1e9), int64(ns%1e9)).UTC(),
	}
	switch e.Domain {
	case HealthMount:
		switch e.Type {
		case HealthLost:
			e.Lost = u64(p)
		case HealthShutdown:
			e.Shutdown = ShutdownReasons(u32(p))
		}
	case HealthFS:
		e.Mask = u32(p)
	case HealthAG:
		e.Mask, e.AGNo = u32(p), AGNumber(u32(p+4))
	case HealthRTGroup:
		e.Mask, e.RGNo = u32(p), RGNumber(u32(p+4))
	case HealthInode:
		e.Mask, e.Gen, e.Ino = u32(p), Gen(u32(p+4)), Ino(u64(p+8))
	case HealthDataDev, HealthRTDev, HealthLogDev:
		e.DAddr, e.Length = DAddr(u64(p)), DAddr(u64(p+8))
	case HealthFileRange:
		e.Pos, e.Len, e.Ino = u64(p), u64(p+8), Ino(u64(p+16))
		e.Gen, e.Errno = Gen(u32(p+24)), unix.Errno(u32(p+28))
	}
	return e
}

// enumString names a value, or gives its number after kind.
func enumString(v uint32, kind string, names []string) string {
	if int64(v) < int64(len(names)) {
		return names[v]
	}
	return fmt.Sprintf("%s %d", kind, v)
}
