// Package daemon decides which filesystem is checked when: it follows what is
// mounted, starts a run of each filesystem when it is due and nothing else
// needs the same disks, stops it where its window ends, and does what people
// ask for. The runs themselves are units of systemd, each in its own sandbox:
// the daemon opens a filesystem for a moment only, to learn its UUID.
package daemon

import (
	"context"
	"errors"
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

func (d *Daemon) effective(t *target) config.Effective { return d.config.For(t.uuid, t.Point) }

// begin notes that the daemon has started a run.
func (t *target) begin(now time.Time, byHand bool) {
	t.running, t.unit, t.started, t.byHand, t.cut, t.status = true, true, now, byHand, false, ""
	t.atStart = t.stamp
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
