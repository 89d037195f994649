package daemon

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/scrubd/scrubd/service/config"
	"github.com/scrubd/scrubd/service/health"
	"github.com/scrubd/scrubd/service/record"
	"github.com/scrubd/scrubd/service/schedule"
	"github.com/scrubd/scrubd/systemd"
)

// kernelOf is a kernel that reports, and is asked to check.
type kernelOf struct {
	mu      sync.Mutex
	heard   map[string]health.Options // by mount point, of the watches there are
	broken  error                     // a watch ends with it
	looked  [][]health.Place
	corrupt bool
	err     error
}

func (k *kernelOf) watch(ctx context.Context, point string, o health.Options) error {
	k.mu.Lock()
	if k.broken != nil {
		k.mu.Unlock()
		return k.broken
	}
	k.heard[point] = o
	k.mu.Unlock()
	o.Source(health.SourceMonitor, nil)
	<-ctx.Done()
	k.mu.Lock()
	defer k.mu.Unlock()
	delete(k.heard, point)
	return ctx.Err()
}

func (k *kernelOf) look(_ context.Context, _ string, places []health.Place) (bool, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.looked = append(k.looked, places)
	return k.corrupt, k.err
}

func (k *kernelOf) looks() [][]health.Place {
	k.mu.Lock()
	defer k.mu.Unlock()
	return slices.Clone(k.looked)
}

func (k *kernelOf) watches(point string) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	_, ok := k.heard[point]
	return ok
}

func (k *kernelOf) report(point string, r health.Report) {
	k.mu.Lock()
	o := k.heard[point]
	k.mu.Unlock()
	o.Report(r)
}

// hearing is a world whose kernel reports.
func hearing(t *testing.T, c *config.Config) (*world, *kernelOf) {
	t.Helper()
	k := &kernelOf{heard: map[string]health.Options{}}
	w := newWorld(t, t.TempDir(), c)
	w.d.o.Health = HealthOptions{Watch: k.watch, Look: k.look}
	w.mount("/a", "sda")
	return w, k
}

// stepped has the daemon look around, a moment later, until cond holds.
func (w *world) stepped(t *testing.T, cond func() bool) {
	t.Helper()
	require.Eventually(t, func() bool {
		w.later(gather)
		w.d.Step(t.Context(), w.now)
		return cond()
	}, 10*time.Second, 5*time.Millisecond)
}

// later sets the clock, which what is at work beside the test reads.
func (w *world) later(by time.Duration) {
	w.d.mu.Lock()
	defer w.d.mu.Unlock()
	w.now = w.now.Add(by)
}

var (
	ag2    = health.Report{Place: health.Place{Kind: health.Group, AGNo: 2}, Text: "corruption of bnobt"}
	inode7 = health.Report{Place: health.Place{Kind: health.Inode, Ino: 7, Gen: 1}, Text: "corruption of bmapbtd"}
)

func TestReportsAreLookedAt(t *testing.T) {
	w, k := hearing(t, config.Default())
	w.stepped(t, func() bool { return k.watches("/a") })
	k.report("/a", inode7)
	k.report("/a", ag2)
	k.report("/a", ag2)
	w.stepped(t, func() bool { return len(k.looks()) == 1 })
	assert.Equal(t, []health.Place{ag2.Place, inode7.Place}, k.looks()[0], "together, each once")
	w.stepped(t, func() bool { w.d.mu.Lock(); defer w.d.mu.Unlock(); return !w.d.watches[w.d.byPointKey("/a")].looking })
	assert.Empty(t, w.started, "all is well there")

	k.report("/a", ag2)
	for range 3 {
		w.stepped(t, func() bool { return true })
	}
	assert.Len(t, k.looks(), 1, "not again within an hour")
	w.later(time.Hour)
	k.corrupt = true
	k.report("/a", ag2)
	w.stepped(t, func() bool { return len(w.started) > 0 })
	assert.Equal(t, []string{"/a"}, w.started, "what is corrupt brings a run")
	w.end("/a", record.Run{Complete: true})
	for range 5 {
		w.stepped(t, func() bool { return true })
	}
	assert.Len(t, w.started, 1, "one")
	assert.Contains(t, w.log.String(), "the kernel reports of AG 2: corruption of bnobt")
	assert.Contains(t, w.log.String(), systemd.KindReported.Name)
}

// What stays corrupt, because a run holds it, brings one run a day, however often
// somebody reads it; another place brings its own.
func TestHeldCorruptionBringsARunADay(t *testing.T) {
	w, k := hearing(t, config.Default())
	k.corrupt = true
	w.stepped(t, func() bool { return k.watches("/a") })
	read := func(r health.Report) {
		looks := len(k.looks())
		w.later(time.Hour)
		k.report("/a", r)
		w.stepped(t, func() bool { return len(k.looks()) > looks })
		w.stepped(t, func() bool { w.d.mu.Lock(); defer w.d.mu.Unlock(); return !w.d.watches[w.d.byPointKey("/a")].looking })
		w.stepped(t, func() bool { return true })
		if _, runs := w.running["/a"]; runs {
			w.end("/a", record.Run{Complete: true, ExitStatus: 1, Findings: map[string]int{"held": 1}})
			w.stepped(t, func() bool { return true })
		}
	}
	for range 5 {
		read(inode7)
	}
	assert.Len(t, w.started, 1)
	read(ag2)
	assert.Len(t, w.started, 2)
	w.later(wantAgain)
	read(inode7)
	assert.Len(t, w.started, 3)
}

func TestReportsThatBringARun(t *testing.T) {
	night, err := schedule.ParseWindow("22:00-23:00")
	require.NoError(t, err)
	for _, c := range []struct {
		name    string
		config  func(*config.Config)
		reports []health.Report
		err     error
		looked  int
		from    time.Duration // when the run is, after the start at noon; 0: never
	}{
		{name: "of no place", reports: []health.Report{{Text: "corruption of summary"}}, from: time.Second},
		{name: "lost ones", reports: []health.Report{ag2, {Lost: true, Text: "reports were lost"}}, from: time.Second},
		{name: "that cannot be looked at", reports: []health.Report{ag2}, err: errors.New("an error"), looked: 1, from: time.Second},
		{
			name: "outside the windows", config: func(c *config.Config) { c.Policy.Windows = []schedule.Window{night} },
			reports: []health.Report{{Text: "corruption of summary"}}, from: 10 * time.Hour,
		},
		{
			name: "though the daemon plans none", config: func(c *config.Config) { c.Policy.Period = 0 },
			reports: []health.Report{{Text: "corruption of summary"}}, from: time.Second,
		},
		{name: "of devices", reports: []health.Report{{Cause: health.Media, Text: "a read failed"}}},
		{name: "of a shutdown", reports: []health.Report{{Cause: health.Shutdown, Text: "it has shut down"}}},
	} {
		t.Run(c.name, func(t *testing.T) {
			conf := config.Default()
			conf.Policy.Period = 300 * 24 * time.Hour // no slot comes in between
			if c.config != nil {
				c.config(conf)
			}
			w, k := hearing(t, conf)
			k.err = c.err
			w.stepped(t, func() bool { return k.watches("/a") })
			for _, r := range c.reports {
				k.report("/a", r)
			}
			assert.Contains(t, w.log.String(), c.reports[0].Text)
			for range 20 {
				w.stepped(t, func() bool { return c.looked == 0 || len(k.looks()) >= c.looked })
			}
			if c.from > time.Hour {
				assert.Empty(t, w.started)
				w.later(start.Add(c.from).Sub(w.now))
			}
			if c.from == 0 {
				assert.Empty(t, w.started)
			} else {
				w.stepped(t, func() bool { return len(w.started) == 1 })
			}
			assert.Len(t, k.looks(), c.looked)
		})
	}
}

// What a scrub finds is reported too: the run that scrubs says so itself.
func TestReportsOfScrubsAtWork(t *testing.T) {
	w, k := hearing(t, config.Default())
	w.stepped(t, func() bool { return k.watches("/a") })
	scrubbed := ag2
	scrubbed.Cause = health.Scrubbed
	w.running["/a"] = "at work"
	w.stepped(t, func() bool { return true })
	k.report("/a", scrubbed)
	k.report("/a", inode7)
	w.stepped(t, func() bool { return true })
	assert.Empty(t, k.looks(), "not beside a run")
	w.end("/a", record.Run{Complete: true})
	w.stepped(t, func() bool { return len(k.looks()) == 1 })
	assert.Equal(t, []health.Place{inode7.Place}, k.looks()[0])
	w.peers["/a"] = []string{"xfs_scrub@a.service"}
	k.report("/a", scrubbed)
	for range 3 {
		w.stepped(t, func() bool { return true })
	}
	assert.Len(t, k.looks(), 1, "nor beside others at work")
}

func TestWatchesComeAndGo(t *testing.T) {
	conf := config.Default()
	w, k := hearing(t, conf)
	k.broken = errors.New("no monitor today")
	w.stepped(t, func() bool {
		w.d.mu.Lock()
		defer w.d.mu.Unlock()
		return !w.d.watches[w.d.byPointKey("/a")].ended.IsZero()
	})
	assert.Contains(t, w.log.String(), "no monitor today")
	k.mu.Lock()
	k.broken = nil
	k.mu.Unlock()
	w.later(watchAgain)
	w.stepped(t, func() bool { return k.watches("/a") })
	off := *conf
	off.Health.Listen = false
	w.d.Reload(&off)
	w.stepped(t, func() bool { return !k.watches("/a") })
	w.d.Reload(conf)
	w.stepped(t, func() bool { return k.watches("/a") })
	w.mounts = nil
	w.stepped(t, func() bool { return !k.watches("/a") })
	assert.Empty(t, w.d.watches)
}

// byPointKey is the key of what is mounted at a path.
func (d *Daemon) byPointKey(point string) string {
	for _, t := range d.targets {
		if t.Point == point {
			return t.key()
		}
	}
	return ""
}
