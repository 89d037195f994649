package daemon

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/scrubd/scrubd/service/schedule"
	"github.com/scrubd/scrubd/systemd"
)

// lookAtRuns notes which runs there are and which have ended.
func (d *Daemon) lookAtRuns(running map[string]string, now time.Time) {
	for _, t := range d.targets {
		status, unit := running[t.Point]
		was, wasUnit := t.running, t.unit
		t.running, t.unit, t.status = unit || len(t.hands) > 0, unit, status
		if t.running && !unit {
			t.status = t.hands[0].String()
		}
		if t.running && !was {
			t.atStart = t.stamp
		}
		if t.running || !was {
			if d.store.Stamp(t.uuid) != t.stamp { // of a run that nobody told of
				d.readHistory(t)
			}
			continue
		}
		d.readHistory(t)
		switch {
		case t.stamp != t.atStart:
			t.fails = 0
		case wasUnit:
			// It ended without having checked anything: refused, or killed.
			t.failed = now
			t.fails++
		}
		t.asked, t.started, t.byHand = time.Time{}, time.Time{}, false
		close(d.ended)
		d.ended = make(chan struct{})
	}
}

// closeWindows stops runs that are not to go on at this time. Those that
// somebody asked for, and those of others, go on.
func (d *Daemon) closeWindows(ctx context.Context, now time.Time) {
	for _, t := range d.sorted() {
		if !t.running || t.started.IsZero() || t.byHand || t.cut {
			continue
		}
		if _, open := schedule.Open(d.effective(t).Policy.Windows, now); open {
			continue
		}
		d.log(t).WithField(systemd.FieldKind, systemd.KindPaused).
			Infof("%s: its window is over; it goes on in the next", t.Point)
		t.cut = d.stop(ctx, t, "its window is over") // it takes its time to end
	}
}

// stop has the run of a filesystem end, whoever started it, and tells whether it
// will.
func (d *Daemon) stop(ctx context.Context, t *target, why string) bool {
	for _, a := range t.hands {
		a.end(why)
	}
	if !t.unit {
		return true
	}
	err := d.o.Runner.Stop(ctx, t.Point)
	if err != nil {
		d.log(t).WithError(err).Errorf("%s: the run could not be stopped", t.Point)
	}
	return err == nil
}

// due returns when the next run of a filesystem is to start, and whether one is
// planned at all.
func (d *Daemon) due(t *target, now time.Time) (time.Time, bool) {
	if d.saved.Paused[t.uuid] || t.NoRecovery {
		return time.Time{}, false
	}
	if !t.asked.IsZero() {
		return t.asked, true
	}
	e := d.effective(t)
	if e.Skip {
		return time.Time{}, false
	}
	h := t.history
	if t.failed.After(h.Tried) && t.failed.After(h.Complete) {
		h.Tried, h.Failures, h.Stopped = t.failed, t.fails, false
	}
	if since, ok := d.saved.Suspect[t.uuid]; ok {
		return schedule.NextWanted(since, e.Policy, h, now), true
	}
	if wanted, ok := d.saved.Wanted[t.uuid]; ok && e.Policy.Period <= 0 {
		return schedule.NextWanted(wanted, e.Policy, h, now), true
	}
	return schedule.Next(t.uuid, e.Policy, h, now)
}

// startDue starts what is due and in nobody's way: first what somebody asked
// for, then what has not been checked for the longest time.
func (d *Daemon) startDue(ctx context.Context, now time.Time) {
	var due []*target
	var busy []*target
	for _, t := range d.sorted() {
		t.waits = ""
		if t.running {
			busy = append(busy, t)
			continue
		}
		if at, ok := d.due(t, now); ok && !at.After(now) && !d.forbids(t, now) {
			due = append(due, t)
		}
	}
	slices.SortStableFunc(due, func(a, b *target) int {
		if a.asked.IsZero() != b.asked.IsZero() {
			if a.asked.IsZero() {
				return 1
			}
			return -1
		}
		if c := a.asked.Compare(b.asked); c != 0 {
			return c
		}
		return a.history.Complete.Compare(b.history.Complete)
	})
	for _, t := range due {
		if t.waits = d.obstacle(ctx, t, busy); t.waits != "" {
			continue
		}
		if err := d.o.Runner.Start(ctx, t.Point); err != nil {
			d.log(t).WithError(err).Errorf("%s: no run could be started", t.Point)
			t.failed, t.asked = now, time.Time{}
			t.fails++
			continue
		}
		t.begin(now, !t.asked.IsZero())
		busy = append(busy, t)
	}
}

// obstacle says what a run has to wait for, "" for nothing.
func (d *Daemon) obstacle(ctx context.Context, t *target, busy []*target) string {
	for _, other := range busy {
		if t.disks == nil || other.disks == nil || shares(t.disks, other.disks) {
			return "the run of " + other.Point + " on the same disks"
		}
	}
	if len(busy) >= d.config.MaxRuns {
		return fmt.Sprintf("one of %d runs", len(busy))
	}
	peers, err := d.o.Peers(ctx, t.Point)
	d.complain(d.log(t), "peers "+t.Point, err, t.Point+": whether others are at work is not known")
	if len(peers) > 0 {
		return peers[0]
	}
	return ""
}

// tellOverdue says once a day what has not been checked for too long.
func (d *Daemon) tellOverdue(now time.Time) {
	for _, t := range d.sorted() {
		e := d.effective(t)
		if e.Skip || t.forbidden || !schedule.Overdue(e.Policy, t.history, now) || now.Sub(t.overdue) < 24*time.Hour && !t.overdue.After(now) {
			continue
		}
		t.overdue = now
		last := "never"
		if !t.history.Complete.IsZero() {
			last = t.history.Complete.Format(time.DateOnly)
		}
		d.log(t).WithField(systemd.FieldKind, systemd.KindOverdue).WithField("last_complete", last).
			Infof("%s: not checked for too long (last: %s)", t.Point, last)
	}
}
