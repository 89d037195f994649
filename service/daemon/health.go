package daemon

import (
	"context"
	"errors"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/scrubd/scrubd/service/health"
	"github.com/scrubd/scrubd/systemd"
)

// HealthOptions are how the daemon hears of what the kernel finds corrupt by
// itself. Without Watch it hears nothing.
type HealthOptions struct {
	// Watch is [health.Watch], or a test's.
	Watch func(ctx context.Context, mountPoint string, o health.Options) error
	// Look has the kernel check places of a filesystem, and tells whether any of
	// them is corrupt. It logs what it finds.
	Look func(ctx context.Context, mountPoint string, places []health.Place) (corrupt bool, err error)
}

const (
	// gather is for how long the first report of several waits for the others.
	gather = 3 * time.Second
	// maxPlaces are looked at one by one; where there are more, all is checked.
	maxPlaces = 64
	// marksEvery is how often marks are read where there is no monitor.
	marksEvery = 10 * time.Minute
	// wantAgain is how often one place that stays corrupt brings a run.
	wantAgain = 24 * time.Hour
	// watchAgain is when a watch that has failed is begun anew.
	watchAgain = 5 * time.Minute
)

// watch is what the daemon hears of one filesystem.
type watch struct {
	cancel context.CancelFunc
	// ended is when it failed, zero while it works.
	ended time.Time
	// told are the places that were reported, each with the time of the last entry
	// in the log about it; pending those that nobody has looked at since.
	told    map[health.Place]time.Time
	pending map[health.Place]time.Time
	// wanted is when a run over the whole filesystem was wanted because of a place.
	wanted  map[health.Place]time.Time
	looking bool
}

// watchHealth begins and ends watches as filesystems come and go.
func (d *Daemon) watchHealth(ctx context.Context, now time.Time) {
	if d.o.Health.Watch == nil {
		return
	}
	for key, w := range d.watches {
		if t := d.byKey(key); t == nil || !d.listens(t) {
			w.cancel()
			delete(d.watches, key)
		}
	}
	for _, t := range d.targets {
		if w := d.watches[t.key()]; !d.listens(t) || w != nil && (w.ended.IsZero() || now.Sub(w.ended) < watchAgain && !w.ended.After(now)) {
			continue
		}
		d.beginWatch(ctx, t)
	}
}

// listens tells whether reports of a filesystem are of use.
func (d *Daemon) listens(t *target) bool {
	return d.config.Health.Listen && !d.effective(t).Skip && !t.forbidden && !t.NoRecovery
}

func (d *Daemon) byKey(key string) *target {
	for _, t := range d.targets {
		if t.key() == key {
			return t
		}
	}
	return nil
}

// beginWatch starts to listen; what was heard before stays known.
func (d *Daemon) beginWatch(ctx context.Context, t *target) {
	ctx, cancel := context.WithCancel(ctx)
	w := &watch{
		cancel: cancel, told: map[health.Place]time.Time{}, pending: map[health.Place]time.Time{},
		wanted: map[health.Place]time.Time{},
	}
	if old := d.watches[t.key()]; old != nil {
		old.cancel()
		w.told, w.pending, w.wanted = old.told, old.pending, old.wanted
	}
	key, point, log := t.key(), t.Point, d.log(t)
	d.watches[key] = w
	o := health.Options{
		Marks:  marksEvery,
		Report: func(r health.Report) { d.hear(key, w, r) },
		Source: func(source string, missing error) {
			entry := log.WithField("source", source)
			if missing != nil {
				entry = entry.WithField(systemd.FieldReason, missing.Error())
			}
			entry.Debugf("%s: what the kernel finds is heard from %s", point, source)
		},
	}
	go func() {
		defer cancel()
		err := d.o.Health.Watch(ctx, point, o)
		d.mu.Lock()
		defer d.mu.Unlock()
		w.ended = d.o.Now()
		if ctx.Err() == nil {
			d.complain(log, "health "+key, err, point+": what the kernel finds is not heard of")
		}
	}()
}

// hear takes a report.
func (d *Daemon) hear(key string, w *watch, r health.Report) {
	d.mu.Lock()
	defer d.mu.Unlock()
	t := d.byKey(key)
	if t == nil || d.watches[key] != w {
		return
	}
	now := d.o.Now()
	if r.Cause == health.Scrubbed && (t.running || w.looking) {
		return // that run will say so itself
	}
	last, known := w.told[r.Place]
	quiet := known && now.Sub(last) < d.config.Health.Quiet && !last.After(now)
	if !quiet {
		w.told[r.Place] = now
		d.tellReport(t, r)
	}
	if r.Cause == health.Shutdown || r.Cause == health.Media || quiet {
		return // there is nothing that a check could add
	}
	w.pending[r.Place] = now
	d.Wake()
}

// tellReport logs a report.
func (d *Daemon) tellReport(t *target, r health.Report) {
	log := d.log(t).WithField(systemd.FieldKind, systemd.KindReported)
	switch r.Place.Kind {
	case health.Group:
		log = log.WithField(systemd.FieldAGNo, r.Place.AGNo)
	case health.RTGroup:
		log = log.WithField(systemd.FieldRGNo, r.Place.RGNo)
	case health.Inode:
		log = log.WithField(systemd.FieldIno, r.Place.Ino).WithField(systemd.FieldGen, r.Place.Gen)
	}
	if r.Cause == health.Shutdown || r.Cause == health.Media {
		log.Errorf("%s: the kernel reports: %s", t.Point, r.Text)
		return
	}
	log.Infof("%s: the kernel reports of %s: %s; it will be checked", t.Point, r.Place, r.Text)
}

// lookAtReports has the places checked that were reported, once nobody is at work
// on the filesystem.
func (d *Daemon) lookAtReports(ctx context.Context, now time.Time) {
	for _, t := range d.sorted() {
		w := d.watches[t.key()]
		if w == nil || w.looking || len(w.pending) == 0 || t.running || d.saved.Paused[t.uuid] {
			continue
		}
		if oldest := slices.MinFunc(slices.Collect(maps.Values(w.pending)), time.Time.Compare); now.Sub(oldest) < gather && !oldest.After(now) {
			time.AfterFunc(gather, d.Wake)
			continue
		}
		if peers, err := d.o.Peers(ctx, t.Point); err == nil && len(peers) > 0 {
			continue
		}
		places := slices.SortedFunc(maps.Keys(w.pending), func(a, b health.Place) int { return strings.Compare(a.String(), b.String()) })
		clear(w.pending)
		_, whole := slices.BinarySearchFunc(places, health.Place{}, func(a, b health.Place) int { return strings.Compare(a.String(), b.String()) })
		if whole || len(places) > maxPlaces {
			d.want(t, now)
			continue
		}
		w.looking = true
		go d.look(ctx, t.key(), w, t.Point, places)
	}
}

// look has places checked, and everything where one of them is corrupt: only a
// run over all of it can tell what is at fault, and repair it.
func (d *Daemon) look(ctx context.Context, key string, w *watch, point string, places []health.Place) {
	corrupt, err := d.o.Health.Look(ctx, point, places)
	d.mu.Lock()
	defer d.mu.Unlock()
	defer d.Wake()
	w.looking = false
	t := d.byKey(key)
	if t == nil || errors.Is(err, context.Canceled) {
		return
	}
	d.complain(d.log(t), "look "+key, err, point+": what the kernel reported could not be looked at")
	if now := d.o.Now(); err != nil || corrupt && w.isNews(places, now) {
		d.want(t, now)
	}
}

// isNews tells whether no run was wanted lately because of one of these places, and
// notes that one is. What a run has held stays corrupt, and who reads it makes the
// kernel report it over and over: the next run would hold it too.
func (w *watch) isNews(places []health.Place, now time.Time) bool {
	news := false
	for _, p := range places {
		if age := now.Sub(w.wanted[p]); age < 0 || age >= wantAgain {
			w.wanted[p], news = now, true
		}
	}
	return news
}

// want has the next run of a filesystem come as soon as a window is open.
func (d *Daemon) want(t *target, now time.Time) {
	d.saved.Suspect[t.uuid] = now
	d.remember()
	d.Wake()
}
