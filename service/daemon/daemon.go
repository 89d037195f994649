// Package daemon decides which filesystem is checked when: it follows what is
// mounted, starts a run of each filesystem when it is due and nothing else
// needs the same disks, stops it where its window ends, and does what people
// ask for. The runs themselves are units of systemd, each in its own sandbox:
// the daemon opens a filesystem for a moment only, to learn its UUID.
package daemon

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/sirupsen/logrus"

	"github.com/scrubd/scrubd/service/config"
	"github.com/scrubd/scrubd/service/record"
	"github.com/scrubd/scrubd/service/schedule"
	"github.com/scrubd/scrubd/systemd"
)

// Runner runs checks: [systemd.Templates] of scrubd@.service, or a test's.
type Runner interface {
	Start(ctx context.Context, mountPoint string) error
	Stop(ctx context.Context, mountPoint string) error
	// Running returns the mount points of the runs there are, whoever started
	// them, with a line on how far each is.
	Running(ctx context.Context) (map[string]string, error)
}

// Options are what the daemon works with.
type Options struct {
	Config *config.Config
	// StateDir has the history, and what the daemon remembers; AsideDir, unless it
	// is empty, what could not be written there.
	StateDir, AsideDir string
	Runner             Runner
	// Mounts reads the mount table, Identify the UUID of the filesystem at a
	// mount point, Disks the devices that it lies on.
	Mounts   func() ([]Mount, error)
	Identify func(mountPoint string) (uuid string, err error)
	Disks    func(devices ...string) ([]string, error)
	// Forbidden tells whether the filesystem's autofsck property allows no check
	// at all; nil where none has such a property.
	Forbidden func(mountPoint string) (bool, error)
	// Peers names units of others at work on a filesystem; a run waits for them.
	Peers func(ctx context.Context, mountPoint string) ([]string, error)
	// Version is the program's, for the metrics.
	Version string
	// Forgetful has nothing remembered over a restart: another daemon does that.
	Forgetful bool
	Health    HealthOptions
	Now       func() time.Time
	Log       logrus.FieldLogger
}

// target is one filesystem that is mounted.
type target struct {
	Mount
	uuid    string
	disks   []string
	history schedule.History
	stamp   string // of the records that history was read from
	// last is the newest run, complete the newest that got through, success the
	// newest of these that left no corruption.
	last, complete, success *record.Run
	// atStart is stamp as it was when the run that is there began.
	atStart string

	asked   time.Time // when somebody asked for a run, zero when nobody did
	started time.Time // when the daemon started the run that is there
	byHand  bool      // that run was asked for
	cut     bool      // that run was told to end with its window
	running bool
	unit    bool        // the run that is there is a unit
	hands   []*attendee // those that are none
	// forbidden says that its autofsck property allows no check, as of looked.
	forbidden bool
	looked    time.Time
	status    string
	waits     string    // what the run that is due waits for
	failed    time.Time // when a run could not be started, or left no record
	fails     int
	overdue   time.Time // when that was last logged
}

// Daemon is the service. Its methods may be called by several goroutines.
type Daemon struct {
	o     Options
	store *record.Store
	wake  chan struct{}

	mu      sync.Mutex
	config  *config.Config
	saved   *saved
	kept    bool               // saved is in the state directory as it is, or nowhere
	tried   time.Time          // when that was last tried
	before  carried            // of the daemon before, until the runs that are there are known
	carries carried            // as it was last written
	targets map[string]*target // by UUID
	copies  map[string]copied  // by number and mount point
	watches map[string]*watch  // by number and mount point
	steps   uint64
	said    map[string]string // what was last complained of, by what it is about
	ended   chan struct{}     // closed and made anew when a run ended
	tell    chan struct{}     // there is something new for the metrics
}

// Errors of what people ask for.
var (
	ErrUnknown = errors.New("no XFS filesystem is mounted there")
	ErrPaused  = errors.New("it is paused")
	ErrNoRun   = errors.New("no run of it is there or queued")
)

// New makes a daemon.
func New(o Options) *Daemon {
	d := &Daemon{
		o: o, store: record.New(o.StateDir), config: o.Config, wake: make(chan struct{}, 1),
		targets: map[string]*target{}, watches: map[string]*watch{}, said: map[string]string{}, ended: make(chan struct{}), tell: make(chan struct{}, 1),
	}
	if o.AsideDir != "" {
		d.store.WithAside(o.AsideDir)
	}
	var err error
	if d.saved, err = loadSaved(o.placesOfSaved()...); err != nil {
		o.Log.WithError(err).Warn("what people have paused is forgotten")
	}
	_, err = os.Stat(filepath.Join(o.AsideDir, savedFile))
	d.kept = o.AsideDir == "" || err != nil
	d.loadCarried()
	return d
}

// tick is how often the daemon looks around without being woken: the clock may
// be set, and a window opens.
const tick = 15 * time.Second

// Run works until ctx ends. Runs that are there go on without the daemon.
func (d *Daemon) Run(ctx context.Context) {
	go watchMounts(ctx, d.Wake)
	go d.writeTextfiles(ctx)
	timer := time.NewTicker(tick)
	defer timer.Stop()
	for {
		d.Step(ctx, d.o.Now())
		select {
		case <-ctx.Done():
			return
		case <-d.wake:
		case <-timer.C:
		}
	}
}

// Wake has the daemon look around now.
func (d *Daemon) Wake() {
	select {
	case d.wake <- struct{}{}:
	default:
	}
}

// Pulse tells the watchdog that the daemon looks around.
func (d *Daemon) Pulse() systemd.Pulse {
	d.mu.Lock()
	defer d.mu.Unlock()
	return systemd.Pulse{Work: d.steps}
}

// Reload takes a new configuration.
func (d *Daemon) Reload(c *config.Config) {
	d.mu.Lock()
	d.config = c
	d.mu.Unlock()
	d.news()
	d.Wake()
}

// Step looks around once: what is mounted, what runs, what is due.
func (d *Daemon) Step(ctx context.Context, now time.Time) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.steps++
	err := d.lookAtMounts(now)
	if d.complain(d.o.Log, "mounts", err, "what is mounted is not known"); err != nil {
		return
	}
	running, err := d.o.Runner.Running(ctx)
	if d.complain(d.o.Log, "runs", err, "which checks run is not known"); err != nil {
		return
	}
	d.lookAtRuns(running, now)
	d.takeCarried()
	d.watchHealth(ctx, now)
	d.lookAtReports(ctx, now)
	d.closeWindows(ctx, now)
	d.startDue(ctx, now)
	d.tellOverdue(now)
	d.carry()
	d.keep(now)
}

// lookAtMounts brings the list of filesystems up to date.
func (d *Daemon) lookAtMounts(now time.Time) error {
	mounts, err := d.o.Mounts()
	if err != nil {
		return err
	}
	old := map[string]*target{} // by number and mount point
	for _, t := range d.targets {
		old[t.key()] = t
	}
	// Those that are known go first: a copy that is mounted later takes no name
	// away from them.
	slices.SortStableFunc(mounts, func(a, b Mount) int {
		switch knownA, knownB := old[a.key()] != nil, old[b.key()] != nil; {
		case knownA == knownB:
			return 0
		case knownA:
			return -1
		default:
			return 1
		}
	})
	next, copies := map[string]*target{}, map[string]copied{}
	for _, m := range mounts {
		t := old[m.key()]
		if t == nil {
			uuid, err := d.uuidOf(&m)
			log := d.o.Log.WithField(systemd.FieldMount, m.Point)
			if d.complain(log, "identify "+m.Point, err, m.Point+": cannot be looked at"); err != nil {
				continue
			}
			if t = d.targets[uuid]; t == nil {
				t = &target{uuid: uuid}
			}
		}
		if first, twice := next[t.uuid]; twice {
			copies[m.key()] = d.copyOf(first, m)
			continue
		}
		t.Mount = m
		t.disks, err = d.disksOf(&m)
		if d.complain(d.log(t), "disks "+m.Point, err, m.Point+": its disks are not known"); err != nil {
			t.disks = nil // not knowing what it shares, it is in everybody's way
		}
		next[t.uuid] = t
		if _, known := d.saved.Known[t.uuid]; !known {
			d.saved.Known[t.uuid] = now
			d.remember()
		}
		if t.history.Known.IsZero() {
			d.readHistory(t)
			d.lookAtProperty(t, now)
		}
	}
	d.targets, d.copies = next, copies
	return nil
}

// uuidOf learns the UUID of a filesystem, unless it is known.
func (d *Daemon) uuidOf(m *Mount) (string, error) {
	if c, known := d.copies[m.key()]; known {
		return c.uuid, nil
	}
	return d.o.Identify(m.Point)
}

func (d *Daemon) disksOf(m *Mount) ([]string, error) {
	numbers := []string{m.Number}
	for _, path := range m.Others {
		number, err := NumberOf(path)
		if err != nil {
			return nil, err
		}
		numbers = append(numbers, number)
	}
	return d.o.Disks(numbers...)
}

// readHistory reads what became of the runs of a filesystem.
func (d *Daemon) readHistory(t *target) {
	t.stamp = d.store.Stamp(t.uuid)
	runs, err := d.store.History(t.uuid)
	if err != nil {
		d.log(t).WithError(err).Warnf("%s: its history is not known", t.Point)
	}
	t.history = historyOf(runs)
	t.history.Known = d.saved.Known[t.uuid]
	t.history.Skipped = d.saved.Cancelled[t.uuid]
	t.last, t.complete, t.success = record.Last(runs), record.LastComplete(runs), record.LastSuccess(runs)
	for _, asked := range []map[string]time.Time{d.saved.Wanted, d.saved.Suspect} {
		if since, ok := asked[t.uuid]; ok && !t.history.Complete.Before(since) {
			delete(asked, t.uuid)
			d.remember()
		}
	}
	d.news()
}

// historyOf is what the schedule wants to know of runs.
func historyOf(runs []record.Run) schedule.History {
	var h schedule.History
	for i := range runs {
		switch r := &runs[i]; {
		case len(r.Only) > 0: // it says nothing of the rest
		case r.Complete:
			h = schedule.History{Complete: r.Began}
		case r.Stopped:
			h.Tried, h.Stopped = r.Ended, true
		default:
			h.Tried, h.Stopped = r.Ended, false
			h.Failures++
		}
	}
	return h
}

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

func (d *Daemon) effective(t *target) config.Effective { return d.config.For(t.uuid, t.Point) }

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

// begin notes that the daemon has started a run.
func (t *target) begin(now time.Time, byHand bool) {
	t.running, t.unit, t.started, t.byHand, t.cut, t.status = true, true, now, byHand, false, ""
	t.atStart = t.stamp
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

// complain logs an error, but not again as long as it is the same; nil ends it.
func (d *Daemon) complain(log logrus.FieldLogger, about string, err error, text string) {
	switch {
	case err == nil:
		delete(d.said, about)
	case d.said[about] != err.Error():
		d.said[about] = err.Error()
		log.WithError(err).Warnf("%s: %v", text, err)
	}
}

func (d *Daemon) log(t *target) *logrus.Entry {
	return d.o.Log.WithFields(logrus.Fields{
		systemd.FieldMount: t.Point, systemd.FieldDevice: t.Source, systemd.FieldUUID: t.uuid,
	})
}

// sorted are the filesystems by mount point.
func (d *Daemon) sorted() []*target {
	return slices.SortedFunc(maps.Values(d.targets), func(a, b *target) int {
		if a.Point < b.Point {
			return -1
		}
		return 1
	})
}
