package daemon

import (
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/scrubd/scrubd/service/record"
	"github.com/scrubd/scrubd/service/schedule"
	"github.com/scrubd/scrubd/systemd"
)

// States of a filesystem.
const (
	StateIdle    = "idle"
	StateQueued  = "queued"
	StateRunning = "running"
	StatePaused  = "paused"
	StateSkipped = "skipped" // the configuration says so
)

// Status is how one filesystem is.
type Status struct {
	UUID   string `json:"uuid"`
	Mount  string `json:"mount"`
	Device string `json:"device"`
	State  string `json:"state"`
	// Progress is a line on how far the run is, Waits what a queued one waits for.
	Progress string `json:"progress,omitempty"`
	Waits    string `json:"waits,omitempty"`
	// Next is when the next run is planned.
	Next         *time.Time `json:"next,omitempty"`
	LastComplete *time.Time `json:"last_complete,omitempty"`
	Overdue      bool       `json:"overdue"`
	// Last is the last run that left a record.
	Last *record.Run `json:"last,omitempty"`
	// Disks are the devices at the bottom.
	Disks []string `json:"disks,omitempty"`
}

// Status returns how all filesystems are, by mount point.
func (d *Daemon) Status(now time.Time) []Status {
	d.mu.Lock()
	defer d.mu.Unlock()
	list := make([]Status, 0, len(d.targets)+len(d.copies))
	for _, t := range d.sorted() {
		list = append(list, d.statusOf(t, now))
	}
	for _, c := range d.copies {
		list = append(list, c.status())
	}
	slices.SortFunc(list, func(a, b Status) int { return strings.Compare(a.Mount, b.Mount) })
	return list
}

func (d *Daemon) statusOf(t *target, now time.Time) Status {
	e := d.effective(t)
	s := Status{
		UUID: t.uuid, Mount: t.Point, Device: t.Source, State: StateIdle, Waits: t.waits,
		Overdue: !e.Skip && !t.forbidden && schedule.Overdue(e.Policy, t.history, now), Last: t.last, Disks: t.disks,
	}
	at, planned := d.due(t, now)
	switch {
	case t.running:
		s.State, s.Progress = StateRunning, t.status
	case d.saved.Paused[t.uuid]:
		s.State = StatePaused
	case t.forbidden:
		s.State, s.Waits, planned = StateSkipped, ErrForbids.Error(), false
	case planned && !at.After(now):
		s.State = StateQueued
	case e.Skip:
		s.State = StateSkipped
	}
	if planned && !t.running {
		s.Next = &at
	}
	if c := t.history.Complete; !c.IsZero() {
		s.LastComplete = &c
	}
	return s
}

// find returns the filesystem mounted at a path.
func (d *Daemon) find(path string) (*target, error) {
	path = filepath.Clean(path)
	for _, t := range d.targets {
		if t.Point == path {
			return t, nil
		}
	}
	for _, c := range d.copies {
		if c.Point == path {
			return nil, &CopyError{path, c.first}
		}
	}
	return nil, fmt.Errorf("%s: %w", path, ErrUnknown)
}

// Ask queues a run of the filesystem mounted at a path. It begins as soon as
// nothing is in its way, in a window or not. That one is there or queued
// already is fine.
//
// Errors: [ErrUnknown], [ErrPaused], [ErrForbids], [*CopyError].
func (d *Daemon) Ask(path string, now time.Time) error {
	return d.with(path, func(t *target) error {
		if d.saved.Paused[t.uuid] {
			return fmt.Errorf("%s: %w", t.Point, ErrPaused)
		}
		if d.lookAtProperty(t, now); t.forbidden {
			return fmt.Errorf("%s: %w", t.Point, ErrForbids)
		}
		if !t.running && t.asked.IsZero() {
			t.asked = now
		}
		return nil
	})
}

// Pause stops the run of a filesystem and begins no other until Resume, over a
// restart too.
//
// Errors: [ErrUnknown].
func (d *Daemon) Pause(ctx context.Context, path string) error {
	return d.with(path, func(t *target) error {
		if !d.saved.Paused[t.uuid] {
			d.saved.Paused[t.uuid] = true
			d.remember()
			d.log(t).WithField(systemd.FieldKind, systemd.KindPaused).Infof("%s: paused", t.Point)
		}
		if t.running {
			d.stop(ctx, t, "it was paused")
		}
		return nil
	})
}

// Resume takes back Pause. A run that was stopped by it is due again.
//
// Errors: [ErrUnknown].
func (d *Daemon) Resume(path string) error {
	return d.with(path, func(t *target) error {
		if d.saved.Paused[t.uuid] {
			delete(d.saved.Paused, t.uuid)
			d.remember()
			d.log(t).WithField(systemd.FieldKind, systemd.KindResumed).Infof("%s: resumed", t.Point)
		}
		return nil
	})
}

// Cancel ends the run of a filesystem, or takes it out of the queue. It is not
// made up for: the next one is that of the next period.
//
// Errors: [ErrUnknown], [ErrNoRun].
func (d *Daemon) Cancel(ctx context.Context, path string, now time.Time) error {
	return d.with(path, func(t *target) error {
		at, planned := d.due(t, now)
		_, wanted := d.saved.Wanted[t.uuid] // and waits for a window
		if queued := planned && !at.After(now); !t.running && !queued && !wanted {
			return fmt.Errorf("%s: %w", t.Point, ErrNoRun)
		}
		t.asked = time.Time{}
		d.saved.Cancelled[t.uuid] = now
		delete(d.saved.Wanted, t.uuid)
		d.remember()
		t.history.Skipped = now
		if t.running {
			d.stop(ctx, t, "it was cancelled")
		}
		return nil
	})
}

// History returns the runs of the filesystem mounted at a path, oldest first.
//
// Errors: [ErrUnknown], and those of reading it.
func (d *Daemon) History(path string) ([]record.Run, error) {
	d.mu.Lock()
	t, err := d.find(path)
	d.mu.Unlock()
	if err != nil {
		return nil, err
	}
	return d.store.History(t.uuid)
}

// Wait waits until no run of the filesystem mounted at a path is there or
// queued, and returns how it is then.
//
// Errors: [ErrUnknown], ctx's.
func (d *Daemon) Wait(ctx context.Context, path string) (Status, error) {
	for {
		d.mu.Lock()
		ended := d.ended
		t, err := d.find(path)
		var s Status
		if err == nil {
			s = d.statusOf(t, d.o.Now())
		}
		d.mu.Unlock()
		if err != nil || s.State != StateRunning && s.State != StateQueued {
			return s, err
		}
		select {
		case <-ctx.Done():
			return s, fmt.Errorf("wait for %s: %w", path, context.Cause(ctx))
		case <-ended:
		case <-time.After(time.Second): // a queued one may be cancelled
		}
	}
}

// with does something to a filesystem and has the daemon look around then.
func (d *Daemon) with(path string, do func(*target) error) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	t, err := d.find(path)
	if err != nil {
		return err
	}
	if err := do(t); err != nil {
		return err
	}
	d.Wake()
	return nil
}
