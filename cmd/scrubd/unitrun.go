package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/sirupsen/logrus"
	"golang.org/x/sys/unix"

	"github.com/scrubd/scrubd/scrub"
	"github.com/scrubd/scrubd/scrub/state"
	"github.com/scrubd/scrubd/systemd"
)

// unitRun is what a run in a systemd unit has beside: it tells the service
// manager how it is, reports to the journal, and keeps its report in the state
// directory.
type unitRun struct {
	notify *systemd.Notifier
	log    *logrus.Logger
	flush  func()
	dir    string // the state directory
	cpu    func() time.Duration

	mu        sync.Mutex
	last      *scrub.ProgressEvent
	work      uint64        // counts changes of last
	counted   time.Duration // CPU time at the last change
	skipped   bool          // a filesystem whose property forbids any check was met
	repairing string        // the repair in flight
	since     time.Time     // of repairing
	shown     time.Time     // of the last status
}

// The limits of a run in a unit.
const (
	// workLimit is how long nothing may be counted before the watchdog is left
	// to do its work: longer than a run waits for others (--wait). A kernel call in
	// flight has a limit of its own.
	workLimit = 20 * time.Minute
	// busyLimit is the CPU time that may be spent without anything being counted:
	// sorting the records of a large filesystem, say.
	busyLimit = time.Hour
	// repairLimit is how long the end of a repair is waited for when the unit is
	// to stop, and extendBy the time that is asked for each time.
	repairLimit = 10 * time.Minute
	extendBy    = 30 * time.Second
	statusEvery = 2 * time.Second
	reportMax   = 64 << 20
)

// newUnitRun reads the environment that systemd passes.
func newUnitRun(stateDir string, stderr io.Writer) *unitRun {
	u := &unitRun{notify: systemd.NewNotifier(), log: newLogger(stderr, true), dir: stateDir, cpu: cpuTime}
	flush, attached := systemd.Attach(u.log, 0)
	u.flush = flush
	if !attached {
		u.log.SetFormatter(systemd.PrefixFormatter{})
	}
	if err := u.notify.Warning(); err != nil {
		u.log.WithError(err).Warn("there will be no watchdog")
	}
	return u
}

// stateDirOf is the state directory: the flag's, the unit's, the usual one.
func stateDirOf(flag string) string {
	if flag != "" {
		return flag
	}
	// More than one StateDirectory= comes with colons between them.
	if dir, _, _ := strings.Cut(os.Getenv("STATE_DIRECTORY"), ":"); dir != "" {
		return dir
	}
	return state.DefaultDir
}

// begin is called before the first run. It returns what ends the reports to the
// service manager.
func (u *unitRun) begin(ctx context.Context) (end func()) {
	u.tell(u.notify.Ready("starting"))
	// Until the end, not until the signal: what is waited for then is watched too.
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	var wg sync.WaitGroup
	wg.Go(func() { u.notify.Watch(ctx, workLimit, u.pulse, u.stalled) })
	return func() {
		cancel()
		wg.Wait()
		u.flush()
	}
}

// tell logs that the service manager could not be told.
func (u *unitRun) tell(err error) {
	if err != nil {
		u.log.WithError(err).Warn("the service manager does not know how this run is")
	}
}

// event follows the run for the status line and the watchdog.
func (u *unitRun) event(path string, e scrub.Event) {
	u.mu.Lock()
	defer u.mu.Unlock()
	switch e := e.(type) {
	case *scrub.ProgressEvent:
		if l := u.last; l == nil || l.Phase != e.Phase || l.Done != e.Done || l.Inodes != e.Inodes || l.Extents != e.Extents {
			u.count()
		}
		u.last = e
		if time.Since(u.shown) >= statusEvery {
			u.shown = time.Now()
			_ = u.notify.Status(path + ": " + statusLine(e)) // a line that nobody may ever read
		}
	case *scrub.RepairEvent:
		u.count()
		u.repairing = ""
		if e.Began {
			u.repairing, u.since = e.What, time.Now()
		}
	default:
		u.count()
	}
}

func (u *unitRun) count() {
	u.work++
	u.counted = u.cpu()
}

// pulse is how far the run is, for the watchdog.
func (u *unitRun) pulse() systemd.Pulse {
	u.mu.Lock()
	defer u.mu.Unlock()
	p := systemd.Pulse{Work: u.work}
	// CPU time is work too, as long as it does not come to nothing.
	if spent := u.cpu() - u.counted; spent < busyLimit {
		p.Work += uint64(spent / time.Second)
	}
	if u.last != nil && u.last.Call != "" {
		p.Call, p.CallAge, p.CallLimit = u.last.Call, u.last.CallAge, callLimit(u.last.Call)
	}
	if u.repairing != "" && p.Call == "" {
		p.Call, p.CallAge, p.CallLimit = u.repairing, time.Since(u.since), repairCallLimit
	}
	return p
}

// callLimit is how long a kernel call may take before it counts as stuck: a
// rebuild, or a check that visits every inode, is as long as the filesystem is
// large; anything else visits one AG or one inode.
func callLimit(call string) time.Duration {
	for _, long := range []string{"repair", "nlinks", "quotacheck", "fscounters"} {
		if strings.Contains(call, long) {
			return repairCallLimit
		}
	}
	return time.Hour
}

const repairCallLimit = 6 * time.Hour

// cpuTime is what the process has spent so far, in the kernel too.
func cpuTime() time.Duration {
	var ru unix.Rusage
	if unix.Getrusage(unix.RUSAGE_SELF, &ru) != nil {
		return 0
	}
	return time.Duration(ru.Utime.Nano() + ru.Stime.Nano())
}

func (u *unitRun) stalled(call string) {
	entry := u.log.WithField(systemd.FieldKind, systemd.KindStuck)
	if call != "" {
		entry.WithField("call", call).Errorf("%s takes longer than it may: the watchdog will end this run", call)
		return
	}
	entry.Error("nothing has been done for too long: the watchdog will end this run")
}

// late returns a channel that is closed once the run has had the time that it
// gets to end: grace, and while a repair is in flight up to ten minutes, for
// which the service manager is asked.
func (u *unitRun) late(grace time.Duration) (late <-chan struct{}, stop func()) {
	u.tell(u.notify.Stopping("stopping after the kernel calls in flight"))
	done, quit := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		began := time.Now()
		tick := time.NewTicker(min(grace, time.Second))
		defer tick.Stop()
		asked := time.Duration(math.MinInt64 / 2)
		for {
			waited := time.Since(began)
			repairing := u.inRepair()
			if waited >= grace && repairing == "" || waited >= repairLimit {
				return
			}
			if repairing != "" && waited-asked >= extendBy/3 {
				asked = waited
				u.tell(u.notify.Extend(extendBy))
				u.tell(u.notify.Status("waiting for the kernel: " + repairing))
			}
			select {
			case <-quit:
				return
			case <-tick.C:
			}
		}
	}()
	return done, sync.OnceFunc(func() { close(quit) })
}

// inRepair names the repair in flight, "" when there is none.
func (u *unitRun) inRepair() string {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.repairing
}

// reporter reports one run of the unit.
func (u *unitRun) reporter(t *target) *unitReporter {
	r := &unitReporter{journal: newJournalReporter(u.log, t), u: u, record: newRecorder(u.dir, t, triggerUnit)}
	r.record.say = func(err error, text string) {
		log := r.journal.log
		if err != nil {
			log = log.WithError(err)
		}
		log.Warn(text)
	}
	return r
}

// unitReporter reports one run to the journal, and keeps its record.
type unitReporter struct {
	journal *journalReporter
	record  *recorder
	u       *unitRun
}

func (r *unitReporter) failed() error { return nil }

func (r *unitReporter) event(e scrub.Event) {
	r.journal.event(e)
	r.record.event(e)
	r.u.event(r.journal.path, e)
}

func (r *unitReporter) end(s *scrub.Summary, status int, err error) {
	r.journal.end(s, status, err)
	if errors.Is(err, scrub.ErrForbidden) {
		r.u.mu.Lock()
		r.u.skipped = true
		r.u.mu.Unlock()
	}
	r.record.end(s, status, err)
}

// unitStatus is the exit status of a unit for the sum of its runs. That it was
// told to stop, or that a filesystem's property forbids any check, is no
// failure of the unit, and no success either: the unit file knows both.
func unitStatus(ctx context.Context, status int, skipped bool) int {
	switch {
	case isA[*stopError](context.Cause(ctx)):
		return exitStopped
	case skipped && status == exitOperational:
		return exitSkipped
	default:
		return status
	}
}

// cappedBuffer is a report in memory: where it will be written to may be what
// is being repaired. Above its bound whole writes, and so whole lines, are left
// out.
type cappedBuffer struct{ bytes.Buffer }

func (b *cappedBuffer) Write(p []byte) (int, error) {
	if b.Len()+len(p) > reportMax {
		return len(p), nil
	}
	n, err := b.Buffer.Write(p)
	if err != nil {
		return n, fmt.Errorf("keep the report in memory: %w", err)
	}
	return n, nil
}
