// Package health hears what the kernel itself finds corrupt in a mounted XFS
// filesystem while others use it: from the filesystem's health monitor where
// nobody else has it, else from fanotify, which has any number of listeners and
// says less, and from the marks that the kernel keeps. A report is a reason to
// look at a place, and proves nothing.
package health

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/scrubd/scrubd/ioctl"
)

// Kind is what a place is.
type Kind int

// The kinds of places.
const (
	Whole   Kind = iota // the filesystem: what is wrong is in no group and no inode, or was not said
	Group               // an allocation group
	RTGroup             // a realtime group
	Inode               // an inode
)

// Place is what a report is about. Two reports of the same place are equal there.
type Place struct {
	Kind Kind
	AGNo ioctl.AGNumber // of a Group
	RGNo ioctl.RGNumber // of an RTGroup
	Ino  ioctl.Ino      // of an Inode, as Gen; 0 for whatever generation it has
	Gen  ioctl.Gen
}

// String is the place in words.
func (p Place) String() string {
	switch p.Kind {
	case Group:
		return fmt.Sprintf("AG %d", p.AGNo)
	case RTGroup:
		return fmt.Sprintf("realtime group %d", p.RGNo)
	case Inode:
		return fmt.Sprintf("inode %d", p.Ino)
	default:
		return "the filesystem"
	}
}

// Cause is what brought a report about.
type Cause int

// The causes.
const (
	Met      Cause = iota // somebody ran into corruption
	Scrubbed              // a scrub found it
	Marked                // a mark was there when it was looked for
	Shutdown              // the filesystem has shut down: nothing of it can be looked at
	Media                 // a device failed, or file data could not be read or written
)

// Report is one thing that the kernel has told.
type Report struct {
	Place Place
	Cause Cause
	Time  time.Time
	Text  string // what it said, in words
	// Lost: there were more reports, and nobody knows of what.
	Lost bool
}

// Options of a watch.
type Options struct {
	// Report takes reports, one at a time.
	Report func(Report)
	// Source is told once where reports come from, and of what is missing.
	Source func(source string, missing error)
	// Marks is how often the marks are read where there is no monitor.
	Marks time.Duration
}

// Sources, as they are called.
const (
	SourceMonitor  = "the health monitor"
	SourceFanotify = "fanotify and the kernel's marks"
	SourceMarks    = "the kernel's marks"
)

// Watch reports until ctx ends or the filesystem mounted at a path is unmounted,
// which it does not keep from happening.
//
// Errors: those of [ioctl.Open] and of reading reports; the context's.
func Watch(ctx context.Context, mountPoint string, o Options) error {
	fs, err := ioctl.Open(mountPoint)
	if err != nil {
		return err
	}
	monitor, err := fs.HealthMonitor(false)
	first := &marks{}
	if err == nil {
		// What is marked already is told by no event.
		err = first.read(fs, o.Report)
	}
	if cerr := fs.Close(); err == nil {
		err = cerr
	}
	switch {
	case monitor != nil && err != nil:
		return errors.Join(err, monitor.Close())
	case monitor != nil:
		o.Source(SourceMonitor, nil)
		err := listen(ctx, monitor, o.Report)
		return errors.Join(err, monitor.Close())
	case errors.Is(err, ioctl.ErrMonitored), errors.Is(err, ioctl.ErrNotSupported), errors.Is(err, ioctl.ErrPrivilege):
		return fallBack(ctx, mountPoint, o, err)
	default:
		return err
	}
}

// listen reports what a monitor tells.
func listen(ctx context.Context, monitor *ioctl.HealthMonitor, report func(Report)) error {
	for {
		events, err := monitor.Next(ctx)
		for i := range events {
			if r, ok := fromEvent(&events[i]); ok {
				report(r)
			}
		}
		switch {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return err
		}
	}
}

// fromEvent is the report that an event makes, if any.
func fromEvent(e *ioctl.HealthEvent) (Report, bool) {
	r := Report{Time: e.Time}
	switch e.Type {
	case ioctl.HealthSick:
		r.Cause = Met
	case ioctl.HealthCorrupt:
		r.Cause = Scrubbed
	case ioctl.HealthShutdown:
		r.Cause, r.Text = Shutdown, "it has shut down: "+e.Shutdown.String()
		return r, true
	case ioctl.HealthLost:
		r.Lost, r.Text = true, fmt.Sprintf("%d reports were lost", e.Lost)
		return r, true
	case ioctl.HealthMediaError:
		r.Cause = Media
		r.Text = fmt.Sprintf("%s: %s at sector %d, %d sectors", e.Domain, e.Type, e.DAddr, e.Length)
		return r, true
	case ioctl.HealthBufRead, ioctl.HealthBufWrite, ioctl.HealthDIORead, ioctl.HealthDIOWrite, ioctl.HealthDataLost:
		r.Cause, r.Place = Media, Place{Kind: Inode, Ino: e.Ino, Gen: e.Gen}
		r.Text = fmt.Sprintf("%s of inode %d failed at byte %d, %d bytes", e.Type, e.Ino, e.Pos, e.Len)
		return r, true
	default: // running, unmounted, healthy
		return r, false
	}
	switch e.Domain {
	case ioctl.HealthFS:
		r.Text = sick(ioctl.FSHealth(e.Mask))
	case ioctl.HealthAG:
		r.Place, r.Text = Place{Kind: Group, AGNo: e.AGNo}, sick(ioctl.AGHealth(e.Mask))
	case ioctl.HealthRTGroup:
		r.Place, r.Text = Place{Kind: RTGroup, RGNo: e.RGNo}, sick(ioctl.RGHealth(e.Mask))
	case ioctl.HealthInode:
		r.Place, r.Text = Place{Kind: Inode, Ino: e.Ino, Gen: e.Gen}, sick(ioctl.InodeHealth(e.Mask))
	default:
		return r, false
	}
	return r, true
}

func sick(mask fmt.Stringer) string { return "corruption of " + mask.String() }
