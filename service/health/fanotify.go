package health

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"github.com/scrubd/scrubd/ioctl"
)

// fallBack reports where there is no monitor to be had, because of why.
func fallBack(ctx context.Context, mountPoint string, o Options, why error) error {
	errs, err := openErrors(mountPoint)
	if err != nil {
		o.Source(SourceMarks, errors.Join(why, err))
	} else {
		o.Source(SourceFanotify, why)
	}
	m := &marks{}
	if err := m.readAt(mountPoint, o.Report); err != nil {
		return errors.Join(err, errs.close())
	}
	heard := make(chan Report)
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	listening := make(chan struct{})
	go func() {
		defer close(listening)
		if err := errs.listen(ctx, heard); err != nil {
			cancel(err)
		}
	}()
	defer func() { cancel(nil); _ = errs.close(); <-listening }()
	timer := time.NewTicker(o.Marks)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case r := <-heard:
			placed := r.Place.Kind == Inode || r.Cause == Shutdown
			if placed || r.Lost {
				o.Report(r)
			}
			if placed {
				continue
			}
			// Where it is, only the marks tell, if they are new.
		case <-timer.C:
		}
		if err := m.readAt(mountPoint, o.Report); err != nil {
			return err
		}
	}
}

// errorGroup is a fanotify group that hears of errors of one filesystem. nil
// hears nothing.
type errorGroup struct{ file *os.File }

// openErrors begins to listen. It keeps nobody from unmounting.
//
// Source: man 7 fanotify (FAN_FS_ERROR, FAN_REPORT_FID).
func openErrors(mountPoint string) (*errorGroup, error) {
	fd, err := unix.FanotifyInit(unix.FAN_CLASS_NOTIF|unix.FAN_REPORT_FID|unix.FAN_CLOEXEC|unix.FAN_NONBLOCK, unix.O_RDONLY)
	if err != nil {
		return nil, fmt.Errorf("make a fanotify group: %w", err)
	}
	if err := unix.FanotifyMark(fd, unix.FAN_MARK_ADD|unix.FAN_MARK_FILESYSTEM, unix.FAN_FS_ERROR, unix.AT_FDCWD, mountPoint); err != nil {
		_ = unix.Close(fd)
		return nil, fmt.Errorf("have fanotify watch %s: %w", mountPoint, err)
	}
	return &errorGroup{os.NewFile(uintptr(fd), "fanotify group of "+mountPoint)}, nil
}

func (g *errorGroup) close() error {
	if g == nil {
		return nil
	}
	return g.file.Close()
}

// listen passes on what it hears until ctx ends or the group is closed.
func (g *errorGroup) listen(ctx context.Context, heard chan<- Report) error {
	if g == nil {
		return nil
	}
	buf := make([]byte, 1<<13) // many events
	for {
		n, err := g.file.Read(buf)
		if errors.Is(err, os.ErrClosed) {
			return nil
		} else if err != nil {
			return fmt.Errorf("read what fanotify says: %w", err)
		}
		reports, err := fromFanotify(buf[:n], time.Now())
		for _, r := range reports {
			select {
			case heard <- r:
			case <-ctx.Done():
				return nil
			}
		}
		if err != nil {
			return err
		}
	}
}

// errMalformed is an event that is not what the manual says.
var errMalformed = errors.New("fanotify says what cannot be read")

// Sizes of struct fanotify_event_metadata, struct fanotify_event_info_header and
// the parts of the records behind them.
const (
	metadataSize   = 24
	infoHeaderSize = 4
	fsidSize       = 8
	handleHeader   = 8 // bytes and type of a struct file_handle
)

// Types of handles of XFS: numbers of 32 or 64 bits, with the parent's or without.
//
// Source: fs/xfs/xfs_export.h.
const (
	handle32, handle32Parent = 0x01, 0x02
	handle64, handle64Parent = 0x81, 0x82
)

// fromFanotify reads events.
//
// Errors: [errMalformed]; the reports of events before are returned too.
func fromFanotify(b []byte, now time.Time) ([]Report, error) {
	var out []Report
	for len(b) > 0 {
		if len(b) < metadataSize {
			return out, errMalformed
		}
		size := int64(binary.NativeEndian.Uint32(b))
		head := int64(binary.NativeEndian.Uint16(b[6:]))
		mask := binary.NativeEndian.Uint64(b[8:])
		if size < metadataSize || size > int64(len(b)) || head < metadataSize || head > size || b[4] != unix.FANOTIFY_METADATA_VERSION {
			return out, errMalformed
		}
		event := b[head:size]
		b = b[size:]
		switch {
		case mask&unix.FAN_Q_OVERFLOW != 0:
			out = append(out, Report{Time: now, Lost: true, Text: "reports were lost"})
		case mask&unix.FAN_FS_ERROR != 0:
			r, more, err := fromInfo(event, now)
			if err != nil {
				return out, err
			}
			out = append(out, r)
			if more > 0 && r.Cause == Met {
				out = append(out, Report{Time: now, Lost: true, Text: fmt.Sprintf("%d more errors, of what is not said", more)})
			}
		}
	}
	return out, nil
}

// fromInfo reads the records of one event, which is about the first error since the
// last was read; of those that came later only their number is told.
func fromInfo(b []byte, now time.Time) (r Report, more uint32, err error) {
	r.Time = now
	var errno unix.Errno
	for len(b) > 0 {
		if len(b) < infoHeaderSize {
			return r, 0, errMalformed
		}
		size := int(binary.NativeEndian.Uint16(b[2:]))
		if size < infoHeaderSize || size > len(b) {
			return r, 0, errMalformed
		}
		info := b[infoHeaderSize:size]
		switch b[0] {
		case unix.FAN_EVENT_INFO_TYPE_FID:
			if len(info) < fsidSize+handleHeader {
				return r, 0, errMalformed
			}
			if ino, gen, ok := inodeOf(info[fsidSize:]); ok {
				r.Place = Place{Kind: Inode, Ino: ino, Gen: gen}
			}
		case unix.FAN_EVENT_INFO_TYPE_ERROR:
			if len(info) < 8 {
				return r, 0, errMalformed
			}
			n := int32(binary.NativeEndian.Uint32(info)) // filesystems do not agree about the sign
			errno = unix.Errno(max(n, -n, 0))
			more = max(binary.NativeEndian.Uint32(info[4:]), 1) - 1
		}
		b = b[size:]
	}
	r.Text = "an error"
	if errno != 0 {
		r.Text = errno.Error()
	}
	switch {
	case errno == unix.ESHUTDOWN:
		r.Cause, r.Text = Shutdown, "it has shut down"
	case errno != unix.EUCLEAN && r.Place.Kind == Inode:
		r.Cause = Media // of file data, and not corruption of metadata
	}
	return r, more, nil
}

// inodeOf is the inode that a handle names. One of no bytes names none.
func inodeOf(handle []byte) (ioctl.Ino, ioctl.Gen, bool) {
	id := handle[handleHeader:]
	if n := binary.NativeEndian.Uint32(handle); int64(n) < int64(len(id)) {
		id = id[:n]
	}
	switch kind := int32(binary.NativeEndian.Uint32(handle[4:])); {
	case (kind == handle32 || kind == handle32Parent) && len(id) >= 8:
		return ioctl.Ino(binary.NativeEndian.Uint32(id)), ioctl.Gen(binary.NativeEndian.Uint32(id[4:])), true
	case (kind == handle64 || kind == handle64Parent) && len(id) >= 12:
		return ioctl.Ino(binary.NativeEndian.Uint64(id)), ioctl.Gen(binary.NativeEndian.Uint32(id[8:])), true
	default:
		return 0, 0, false
	}
}
