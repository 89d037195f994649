package daemon

import (
	"context"
	"fmt"
	"time"

	"golang.org/x/sys/unix"

	"github.com/scrubd/scrubd/service/metrics"
)

// Metrics is what the metrics tell now. What cannot be read is left out, and
// said in the log once.
func (d *Daemon) Metrics(now time.Time) metrics.Snapshot {
	s := metrics.Snapshot{Now: now, Version: d.o.Version}
	d.mu.Lock()
	for _, t := range d.sorted() {
		st := d.statusOf(t, now)
		f := metrics.Filesystem{
			UUID: t.uuid, Mount: t.Point, Device: t.Source, State: st.State, Overdue: st.Overdue,
			Since: t.history.Known, Last: t.last, LastComplete: t.complete, LastSuccess: t.success,
		}
		if e := d.effective(t); !e.Skip && !t.forbidden {
			f.OverdueAfter = e.Policy.Overdue
		}
		if st.Next != nil {
			f.Next = *st.Next
		}
		if t.complete != nil {
			f.Since = t.complete.ProvenSince()
		}
		s.Filesystems = append(s.Filesystems, f)
	}
	d.mu.Unlock()
	// Files are read without the lock: they may lie on what does not answer.
	var err error
	for i := range s.Filesystems {
		err = s.Filesystems[i].FillTotals(d.store, err)
	}
	calls, e := metrics.KernelCalls(d.store)
	if e != nil {
		err = e
	}
	s.KernelCalls = calls
	d.mu.Lock()
	d.complain(d.o.Log, "metrics", err, "the metrics are not whole")
	d.mu.Unlock()
	return s
}

// news says that the metrics have changed in a way that should be seen soon.
func (d *Daemon) news() {
	select {
	case d.tell <- struct{}{}:
	default:
	}
}

// textfileEvery is how often the file is written when nothing happens: ages grow.
const textfileEvery = 5 * time.Minute

// writeTextfiles keeps the file for node_exporter up to date until ctx ends. It
// is a goroutine of its own, since writing may wait for the filesystem.
func (d *Daemon) writeTextfiles(ctx context.Context) {
	timer := time.NewTicker(textfileEvery)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-d.tell:
		case <-timer.C:
		}
		d.WriteTextfile()
	}
}

// WriteTextfile writes the file once, if there is to be one and no run is at work
// on the filesystem that it lies on.
func (d *Daemon) WriteTextfile() {
	d.mu.Lock()
	dir := d.config.TextfileDir
	d.mu.Unlock()
	if dir == "" {
		return
	}
	number, err := deviceOf(dir)
	if err == nil {
		if d.atWorkOn(number) {
			return // its end is news
		}
		s := d.Metrics(d.o.Now())
		err = metrics.WriteTextfile(dir, &s)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.complain(d.o.Log, "textfile", err, "the metrics file is not up to date")
}

// deviceOf is the number of the device that a path lies on.
func deviceOf(path string) (string, error) {
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil {
		return "", fmt.Errorf("look at %s: %w", path, err)
	}
	return fmt.Sprintf("%d:%d", unix.Major(uint64(st.Dev)), unix.Minor(uint64(st.Dev))), nil //nolint:unconvert // narrower on some architectures
}

func (d *Daemon) atWorkOn(number string) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, t := range d.targets {
		if t.running && t.Number == number {
			return true
		}
	}
	return false
}
