package daemon

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/moby/sys/mountinfo"
	"github.com/sirupsen/logrus"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/scrubd/scrubd/service/config"
	"github.com/scrubd/scrubd/service/record"
	"github.com/scrubd/scrubd/service/schedule"
)

// world is a machine for the daemon: mounts, disks, units, a clock.
type world struct {
	t       require.TestingT
	d       *Daemon
	dir     string
	aside   string
	mounts  []Mount
	disks   map[string][]string // by device number
	running map[string]string
	peers   map[string][]string
	started []string // in order, ever
	stopped []string
	fail    error
	lingers bool // runs do not end when they are told to
	log     bytes.Buffer
	now     time.Time
	runs    int
	// check is called after every step.
	check func()
}

var start = time.Date(2026, 11, 3, 12, 0, 0, 0, time.UTC)

func newWorld(t require.TestingT, dir string, c *config.Config) *world {
	w := &world{t: t, dir: dir, running: map[string]string{}, peers: map[string][]string{}, disks: map[string][]string{}, now: start}
	w.boot(c)
	return w
}

// boot starts the daemon, anew or for the first time.
func (w *world) boot(c *config.Config) {
	log := logrus.New()
	log.SetOutput(&w.log)
	w.d = New(Options{
		Config: c, StateDir: w.dir, AsideDir: w.aside, Runner: w, Log: log, Now: func() time.Time { return w.now },
		Mounts:   func() ([]Mount, error) { return w.mounts, nil },
		Identify: func(point string) (string, error) { return uuidOf(point), nil },
		Disks: func(devices ...string) (all []string, err error) {
			for _, dev := range devices {
				all = append(all, w.disks[dev]...)
			}
			slices.Sort(all)
			return all, nil
		},
		Peers: func(_ context.Context, point string) ([]string, error) { return w.peers[point], nil },
	})
}

func uuidOf(point string) string { return "uuid" + strings.ReplaceAll(point, "/", "-") }

func (w *world) Start(_ context.Context, point string) error {
	if w.fail != nil {
		return w.fail
	}
	w.running[point] = "at work"
	w.started = append(w.started, point)
	return nil
}

func (w *world) Stop(_ context.Context, point string) error {
	w.stopped = append(w.stopped, point)
	if w.lingers {
		return nil
	}
	w.end(point, record.Run{Stopped: true, ExitStatus: 4})
	return nil
}

func (w *world) Running(context.Context) (map[string]string, error) {
	return maps.Clone(w.running), nil
}

// mount mounts filesystems, each on the disks named.
func (w *world) mount(point string, disks ...string) {
	number := fmt.Sprintf("7:%d", len(w.mounts))
	w.mounts = append(w.mounts, Mount{Point: point, Source: "/dev/x", Number: number})
	w.disks[number] = disks
}

// end ends a run with a record.
func (w *world) end(point string, r record.Run) {
	w.runs++
	r.RunID, r.UUID, r.Mount = fmt.Sprintf("r%d", w.runs), uuidOf(point), point
	r.Began, r.Ended = w.now, w.now
	require.NoError(w.t, record.New(w.dir).Add(r, nil))
	delete(w.running, point)
}

func (w *world) step(later time.Duration) {
	if later != 0 { // clients may be asking for the time
		w.now = w.now.Add(later)
	}
	w.d.Step(context.Background(), w.now)
	if w.check != nil {
		w.check()
	}
}

func (w *world) state(point string) Status {
	for _, s := range w.d.Status(w.now) {
		if s.Mount == point {
			return s
		}
	}
	return Status{}
}

const week = 7 * 24 * time.Hour

// Every filesystem is checked once a period, however often the daemon is
// started anew and whoever starts the run.
func TestOncePerPeriod(t *testing.T) {
	w := newWorld(t, t.TempDir(), config.Default())
	for i := range 5 {
		w.mount(fmt.Sprint("/m", i), fmt.Sprint("sd", i))
	}
	w.step(0)
	assert.Empty(t, w.started, "nobody expects a run before the first slot")
	count := map[string]int{}
	for n := range 4 * 7 * 24 {
		w.step(time.Hour)
		for _, point := range slices.Sorted(maps.Keys(w.running)) {
			count[point]++
			w.end(point, record.Run{Complete: true})
		}
		if n%100 == 50 {
			w.boot(config.Default())
			w.step(0)
		}
	}
	for i := range 5 {
		assert.InDelta(t, 4, count[fmt.Sprint("/m", i)], 0.1, i)
	}
}

func TestMissedSlotIsCaughtUpInTheWindow(t *testing.T) {
	c := config.Default()
	c.Policy.Windows = []schedule.Window{mustWindow(t, "01:00-05:00")}
	w := newWorld(t, t.TempDir(), c)
	w.mount("/m", "sda")
	w.step(0)
	w.now = w.now.Add(3 * week) // the machine was off
	w.boot(c)
	w.step(0)
	assert.Empty(t, w.started, "noon is outside the window")
	assert.Equal(t, "01:00", w.state("/m").Next.Format("15:04"))
	w.step(13 * time.Hour)
	assert.Equal(t, []string{"/m"}, w.started)
	assert.Equal(t, StateRunning, w.state("/m").State)
	w.step(3 * time.Hour)
	assert.Empty(t, w.stopped)
	w.step(time.Hour)
	assert.Equal(t, []string{"/m"}, w.stopped, "its window is over")
	w.step(time.Minute)
	assert.Len(t, w.started, 1)
	w.step(20 * time.Hour)
	assert.Len(t, w.started, 2, "goes on in the next")
	w.end("/m", record.Run{Complete: true})
	w.step(time.Hour)
	assert.Equal(t, StateIdle, w.state("/m").State)
	assert.NotNil(t, w.state("/m").LastComplete)
	assert.Len(t, w.started, 2)
}

func mustWindow(t *testing.T, s string) schedule.Window {
	t.Helper()
	w, err := schedule.ParseWindow(s)
	require.NoError(t, err)
	return w
}

func TestSharedDisksNeverAtOnce(t *testing.T) {
	c := config.Default()
	c.MaxRuns = 9
	w := newWorld(t, t.TempDir(), c)
	w.mount("/a", "sda", "sdb")
	w.mount("/b", "sdb")
	w.mount("/c", "sdc")
	w.mount("/d") // nothing is known of it: in everybody's way
	w.step(0)
	for _, p := range []string{"/b", "/a", "/c", "/d"} {
		require.NoError(t, w.d.Ask(p, w.now))
		w.now = w.now.Add(time.Second)
	}
	w.d.targets[uuidOf("/d")].disks = nil
	w.step(0)
	assert.Equal(t, []string{"/b", "/c"}, w.started)
	assert.Equal(t, "the run of /b on the same disks", w.state("/a").Waits)
	assert.Equal(t, StateQueued, w.state("/a").State)
	w.end("/b", record.Run{Complete: true})
	w.step(time.Second)
	assert.Equal(t, []string{"/b", "/c", "/a"}, w.started)
}

// Whatever happens in whatever order: runs never share a disk, there are never
// more than allowed, none of a paused filesystem is started, and in the end
// each that was asked for has run.
func TestRunsNeverCollide(t *testing.T) {
	dir := t.TempDir()
	n := 0
	rapid.Check(t, func(t *rapid.T) {
		n++
		c := config.Default()
		c.MaxRuns = rapid.IntRange(1, 3).Draw(t, "max")
		w := newWorld(t, filepath.Join(dir, fmt.Sprint(n)), c)
		points := []string{"/a", "/b", "/c", "/d"}
		for _, p := range points {
			w.mount(p, rapid.SliceOfNDistinct(rapid.SampledFrom([]string{"sda", "sdb", "sdc"}), 1, 2, rapid.ID[string]).Draw(t, "disks")...)
		}
		w.check = func() {
			require.LessOrEqual(t, len(w.running), c.MaxRuns)
			used := map[string]string{}
			for i, m := range w.mounts {
				if _, on := w.running[m.Point]; !on {
					continue
				}
				for _, disk := range w.disks[w.mounts[i].Number] {
					require.Empty(t, used[disk], "%s and %s on %s", used[disk], m.Point, disk)
					used[disk] = m.Point
				}
			}
		}
		w.step(0)
		ctx := context.Background()
		for range rapid.IntRange(1, 40).Draw(t, "events") {
			p := rapid.SampledFrom(points).Draw(t, "point")
			switch rapid.IntRange(0, 5).Draw(t, "event") {
			case 0:
				if err := w.d.Ask(p, w.now); err != nil {
					require.ErrorIs(t, err, ErrPaused)
				}
			case 1:
				require.NoError(t, w.d.Pause(ctx, p))
				require.NotContains(t, w.running, p)
			case 2:
				require.NoError(t, w.d.Resume(p))
			case 3:
				if err := w.d.Cancel(ctx, p, w.now); err != nil {
					require.ErrorIs(t, err, ErrNoRun)
				}
			case 4:
				if _, on := w.running[p]; on {
					w.end(p, record.Run{Complete: rapid.Bool().Draw(t, "complete")})
				}
			case 5:
				w.boot(c) // the daemon is started anew; the runs go on
			}
			before := len(w.started)
			w.step(time.Minute)
			for _, s := range w.started[before:] {
				require.NotEqual(t, StatePaused, w.state(s).State)
			}
		}
		for _, p := range points {
			require.NoError(t, w.d.Resume(p))
			require.NoError(t, w.d.Ask(p, w.now))
		}
		w.started = append([]string{}, slices.Sorted(maps.Keys(w.running))...)
		for range 10 {
			w.step(time.Minute)
			for _, p := range slices.Sorted(maps.Keys(w.running)) {
				w.end(p, record.Run{Complete: true})
			}
		}
		for _, p := range points {
			require.Contains(t, w.started, p)
		}
	})
}

func TestPauseSurvivesARestart(t *testing.T) {
	w := newWorld(t, t.TempDir(), config.Default())
	w.mount("/m", "sda")
	w.step(0)
	require.NoError(t, w.d.Ask("/m/", w.now))
	w.step(0)
	require.NoError(t, w.d.Pause(t.Context(), "/m"))
	assert.Equal(t, []string{"/m"}, w.stopped)
	w.boot(config.Default())
	w.step(3 * week)
	assert.Equal(t, StatePaused, w.state("/m").State)
	require.ErrorIs(t, w.d.Ask("/m", w.now), ErrPaused)
	assert.Len(t, w.started, 1)
	require.NoError(t, w.d.Resume("/m"))
	w.step(time.Second)
	assert.Len(t, w.started, 2, "due again")
}

// A run that leaves no record (refused, killed) is tried again, but not at once.
func TestFailedRunsAreNotTriedForEver(t *testing.T) {
	w := newWorld(t, t.TempDir(), config.Default())
	w.mount("/m", "sda")
	w.step(0)
	w.now = w.now.Add(week)
	for range 24 * 60 {
		w.step(time.Minute)
		delete(w.running, "/m")
	}
	assert.GreaterOrEqual(t, len(w.started), 4)
	assert.LessOrEqual(t, len(w.started), 6, "after 1, 2, 4, 8, … hours")

	w.fail = errors.New("no such unit")
	w.step(48 * time.Hour)
	w.step(time.Minute)
	assert.Equal(t, 1, strings.Count(w.log.String(), "no such unit"))
}

func TestPeersAreWaitedFor(t *testing.T) {
	w := newWorld(t, t.TempDir(), config.Default())
	w.mount("/m", "sda")
	w.step(0)
	w.peers["/m"] = []string{"xfs_scrub@m.service"}
	require.NoError(t, w.d.Ask("/m", w.now))
	w.step(time.Minute)
	assert.Empty(t, w.started)
	assert.Equal(t, "xfs_scrub@m.service", w.state("/m").Waits)
	w.peers = nil
	w.step(time.Minute)
	assert.Equal(t, []string{"/m"}, w.started)
}

func TestMountsAreFollowed(t *testing.T) {
	w := newWorld(t, t.TempDir(), config.Default())
	w.step(0)
	require.ErrorIs(t, w.d.Ask("/m", w.now), ErrUnknown)
	w.mount("/m", "sda")
	w.step(time.Second)
	require.NoError(t, w.d.Ask("/m", w.now))
	w.mounts = nil
	w.step(time.Second)
	assert.Empty(t, w.started)
	assert.Empty(t, w.d.Status(w.now))
	w.mount("/m", "sda")
	w.mounts[0].NoRecovery = true
	w.step(3 * week)
	assert.Empty(t, w.started)
}

// What stays wrong is said once, and again when it is something else.
func TestComplaintsAreNotRepeated(t *testing.T) {
	w := newWorld(t, t.TempDir(), config.Default())
	w.mount("/m", "sda")
	cause := errors.New("permission denied")
	w.d.o.Identify = func(string) (string, error) { return "u", cause }
	for range 5 {
		w.step(tick)
	}
	assert.Equal(t, 1, strings.Count(w.log.String(), "/m: cannot be looked at: permission denied"))
	cause = nil
	w.step(tick)
	cause = errors.New("permission denied")
	w.mounts[0].Number = "7:9" // another filesystem there
	w.step(tick)
	assert.Equal(t, 2, strings.Count(w.log.String(), "/m: cannot be looked at: permission denied"))
}

func TestOverdueIsSaidOnceADay(t *testing.T) {
	c := config.Default()
	c.Policy.Period, c.Policy.Overdue = 0, week // never by itself
	w := newWorld(t, t.TempDir(), c)
	w.mount("/m", "sda")
	w.step(0)
	w.step(week + time.Hour)
	for range 47 {
		w.step(time.Hour)
	}
	assert.Equal(t, 2, strings.Count(w.log.String(), "not checked for too long (last: never)"))
	assert.True(t, w.state("/m").Overdue)
	assert.Empty(t, w.started)
}

// What cannot be remembered or read is said, and nothing stops.
func TestStateThatCannotBeWritten(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "state")
	require.NoError(t, os.WriteFile(dir, nil, 0o600))
	w := newWorld(t, dir, config.Default())
	w.mount("/m", "sda")
	w.step(0)
	require.NoError(t, w.d.Ask("/m", w.now))
	w.step(0)
	assert.Equal(t, []string{"/m"}, w.started)
	assert.Contains(t, w.log.String(), "a restart of the daemon forgets")

	dir = t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(dir, savedFile), []byte("{"), 0o600))
	w = newWorld(t, dir, config.Default())
	assert.Contains(t, w.log.String(), "what people have paused is forgotten")
	w.step(0)
}

// serve lets a client talk to the daemon.
func serve(t *testing.T, d *Daemon) *Client {
	t.Helper()
	socket := filepath.Join(t.TempDir(), "s")
	l, err := net.Listen("unix", socket)
	require.NoError(t, err)
	server := &http.Server{Handler: d.Handler(), ConnContext: ConnContext, ReadHeaderTimeout: time.Minute}
	go func() { _ = server.Serve(l) }()
	t.Cleanup(func() { _ = server.Close() })
	return NewClient(socket)
}

func TestControl(t *testing.T) {
	w := newWorld(t, t.TempDir(), config.Default())
	w.mount("/m", "sda")
	w.step(0)
	c := serve(t, w.d)
	ctx := t.Context()
	if os.Geteuid() != 0 { // the daemon answers root
		_, err := c.Status(ctx)
		require.ErrorIs(t, err, ErrForbidden)
		return
	}
	require.NoError(t, c.Ask(ctx, "/m"))
	list, err := c.Status(ctx)
	require.NoError(t, err)
	require.Len(t, list, 1)
	assert.Equal(t, uuidOf("/m"), list[0].UUID)
	waited := make(chan Status)
	go func() {
		s, err := c.Wait(ctx, "/m")
		assert.NoError(t, err)
		waited <- s
	}()
	w.step(0)
	w.end("/m", record.Run{Complete: true, ExitStatus: 1})
	w.step(0)
	s := <-waited
	assert.Equal(t, 1, s.Last.ExitStatus)
	runs, err := c.History(ctx, "/m")
	require.NoError(t, err)
	assert.Len(t, runs, 1)
	require.NoError(t, c.Pause(ctx, "/m"))
	require.EqualError(t, c.Ask(ctx, "/m"), "/m: it is paused")
	require.NoError(t, c.Resume(ctx, "/m"))
	require.EqualError(t, c.Cancel(ctx, "/m"), "/m: no run of it is there or queued")
	require.EqualError(t, c.Ask(ctx, "/nowhere"), "/nowhere: no XFS filesystem is mounted there")
	_, err = NewClient("/nonexistent").Status(ctx)
	require.ErrorIs(t, err, ErrNoDaemon)
}

// Root may, a group may ask, nobody else may anything.
func TestAllowed(t *testing.T) {
	w := newWorld(t, t.TempDir(), config.Default())
	as := func(uid, gid uint32) *http.Request {
		p := peer{uid: uid, gid: gid}
		r, err := http.NewRequestWithContext(context.WithValue(t.Context(), peerKey{}, p), http.MethodGet, "/", http.NoBody)
		require.NoError(t, err)
		return r
	}
	require.NoError(t, w.d.allowed(as(0, 5), true))
	require.ErrorContains(t, w.d.allowed(as(1, 0), true), "user 1 may not change anything")
	require.ErrorContains(t, w.d.allowed(as(1, 0), false), "control.status_group is not set")
	w.d.config.StatusGroup = "daemon" // group 1, the one of user 1, on every Linux
	require.NoError(t, w.d.allowed(as(1, 5), false), "its user is a member")
	require.NoError(t, w.d.allowed(as(4000000000, 1), false), "whoever it is")
	require.Error(t, w.d.allowed(as(4000000000, 1), true))
	require.ErrorContains(t, w.d.allowed(as(2, 2), false), "only root and the group daemon may")
	require.ErrorContains(t, w.d.allowed(as(4000000000, 5), false), "is not known")
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "/", http.NoBody)
	require.NoError(t, err)
	require.Error(t, w.d.allowed(r, false))
}

func TestMountsOf(t *testing.T) {
	got := mountsOf([]*mountinfo.Info{
		{FSType: "ext4", Root: "/", Mountpoint: "/", Major: 8, Minor: 1},
		{FSType: "xfs", Root: "/", Mountpoint: "/srv/data", Major: 8, Minor: 2, Source: "/dev/sda2", VFSOptions: "rw,logdev=/dev/sdb1,rtdev=/dev/sdc1"},
		{FSType: "xfs", Root: "/sub", Mountpoint: "/bind", Major: 8, Minor: 2},
		{FSType: "xfs", Root: "/", Mountpoint: "/d", Major: 8, Minor: 2},
		{FSType: "xfs", Root: "/", Mountpoint: "/b", Major: 8, Minor: 3, VFSOptions: "ro,norecovery"},
	})
	assert.Equal(t, []Mount{
		{Point: "/b", Number: "8:3", ReadOnly: true, NoRecovery: true},
		{Point: "/d", Source: "/dev/sda2", Number: "8:2", Others: []string{"/dev/sdb1", "/dev/sdc1"}},
	}, got)
}

func TestDisks(t *testing.T) {
	sys := t.TempDir()
	device := func(dir, number string, slaves ...string) {
		full := filepath.Join(sys, "devices", dir)
		require.NoError(t, os.MkdirAll(filepath.Join(full, "slaves"), 0o755))
		require.NoError(t, os.WriteFile(filepath.Join(full, "dev"), []byte(number+"\n"), 0o600))
		require.NoError(t, os.MkdirAll(filepath.Join(sys, "dev", "block"), 0o755))
		require.NoError(t, os.Symlink(full, filepath.Join(sys, "dev", "block", number)))
		for _, s := range slaves {
			require.NoError(t, os.Symlink(filepath.Join(sys, "devices", s), filepath.Join(full, "slaves", filepath.Base(s))))
		}
	}
	partition := func(dir, number string) {
		device(dir, number)
		require.NoError(t, os.WriteFile(filepath.Join(sys, "devices", dir, "partition"), []byte("1\n"), 0o600))
	}
	device("sda", "8:0")
	partition("sda/sda1", "8:1")
	partition("sda/sda2", "8:2")
	device("sdb", "8:16")
	device("md0", "9:0", "sda/sda2", "sdb")
	device("dm-0", "252:0", "md0")
	device("dm-1", "252:1", "sda/sda1")
	for _, c := range []struct {
		devices, want []string
	}{
		{[]string{"8:1"}, []string{"8:0"}},
		{[]string{"252:0"}, []string{"8:0", "8:16"}},
		{[]string{"252:1", "8:16"}, []string{"8:0", "8:16"}},
		{[]string{"252:1"}, []string{"8:0"}},
		{[]string{"99:1"}, []string{"99:1"}},
	} {
		got, err := Disks(sys, c.devices...)
		require.NoError(t, err)
		assert.Equal(t, c.want, got, c.devices)
	}
	assert.True(t, shares([]string{"8:0"}, []string{"8:0", "8:16"}))
	assert.False(t, shares([]string{"8:0"}, []string{"8:16"}))
	assert.False(t, shares(nil, []string{"8:16"}))
}

// A run over a few places is no check of the filesystem, and no failed one.
func TestHistoryOfPlaces(t *testing.T) {
	began := time.Date(2026, 11, 1, 3, 0, 0, 0, time.UTC)
	whole := record.Run{Began: began, Ended: began.Add(time.Hour), Complete: true}
	place := record.Run{Began: began.Add(24 * time.Hour), Ended: began.Add(25 * time.Hour), Only: []string{"AG 0"}, ExitStatus: 1}
	assert.Equal(t, historyOf([]record.Run{whole}), historyOf([]record.Run{whole, place, place}))
}

// What a daemon has queued and started, the next one knows: a run that it has
// started is ended with its window, one that somebody asked for is not, and what
// waits begins. After a boot nothing of that is there.
func TestRestart(t *testing.T) {
	c := config.Default()
	c.Policy.Windows = []schedule.Window{mustWindow(t, "01:00-02:00")}
	for _, booted := range []bool{false, true} {
		t.Run(fmt.Sprint("booted ", booted), func(t *testing.T) {
			dir, aside := t.TempDir(), t.TempDir()
			w := newWorld(t, dir, c)
			w.aside = aside
			w.boot(c)
			for i, point := range []string{"/planned", "/asked", "/waits"} {
				w.mount(point, fmt.Sprint("sd", min(i, 1))) // the last two share a disk
			}
			w.step(0)
			w.now = time.Date(2026, 11, 20, 1, 30, 0, 0, time.Local)
			w.d.config.MaxRuns = 3
			require.NoError(t, w.d.Ask("/asked", w.now))
			w.step(0)
			require.NoError(t, w.d.Ask("/waits", w.now))
			w.step(0)
			require.Contains(t, w.running, "/planned")
			require.Contains(t, w.running, "/asked")
			require.NotContains(t, w.running, "/waits")
			if booted {
				require.NoError(t, os.RemoveAll(aside))
				clear(w.running)
			}
			w.boot(c)
			w.step(time.Hour)
			if booted {
				assert.Empty(t, w.running)
				return
			}
			assert.Equal(t, []string{"/planned"}, w.stopped)
			w.end("/asked", record.Run{Complete: true})
			w.step(time.Minute)
			assert.Contains(t, w.running, "/waits")
		})
	}
}

// What is to be remembered goes aside as long as the state directory takes nothing,
// and comes home as soon as it does.
func TestPauseWithoutRoom(t *testing.T) {
	dir, aside := t.TempDir(), t.TempDir()
	w := newWorld(t, dir, config.Default())
	w.aside = aside
	w.boot(config.Default())
	w.mount("/m", "sda")
	w.step(0)
	full := filepath.Join(dir, savedFile+".new") // nothing can be written under this name
	require.NoError(t, os.Mkdir(full, 0o700))
	require.NoError(t, w.d.Pause(t.Context(), "/m"))
	assert.Contains(t, w.log.String(), "a reboot forgets what people have paused")
	w.boot(config.Default())
	w.step(0)
	assert.Equal(t, StatePaused, w.state("/m").State)
	require.NoError(t, os.Remove(full))
	w.step(keepAgain)
	assert.NoFileExists(t, filepath.Join(aside, savedFile))
	require.NoError(t, os.RemoveAll(aside))
	w.boot(config.Default())
	w.step(0)
	assert.Equal(t, StatePaused, w.state("/m").State)
}

// A run whose record is there before its unit has ended is none that failed.
func TestRecordBeforeTheEnd(t *testing.T) {
	w := newWorld(t, t.TempDir(), config.Default())
	w.mount("/m", "sda")
	w.step(0)
	for range 2 { // the daemon's own, and one of somebody else
		require.NoError(t, w.d.Ask("/m", w.now))
		w.step(time.Minute)
		require.Contains(t, w.running, "/m")
		status := w.running["/m"]
		w.end("/m", record.Run{Complete: true})
		w.running["/m"] = status // it has still to write the metrics
		w.step(time.Second)
		delete(w.running, "/m")
		w.step(time.Second)
		assert.Zero(t, w.d.targets["uuid-m"].fails)
		assert.True(t, w.d.targets["uuid-m"].failed.IsZero())
		w.running["/m"] = "started by somebody else"
		w.step(time.Minute)
		w.end("/m", record.Run{Complete: true})
		w.running["/m"] = status
		w.step(time.Second)
		delete(w.running, "/m")
		w.step(time.Second)
		assert.Zero(t, w.d.targets["uuid-m"].fails)
	}
}

// A run that takes its time to end with its window is told once, and the next one
// anew.
func TestWindowEndsARunOnce(t *testing.T) {
	c := config.Default()
	c.Policy.Windows = []schedule.Window{mustWindow(t, "01:00-05:00")}
	w := newWorld(t, t.TempDir(), c)
	w.mount("/m", "sda")
	w.step(0)
	for n := 1; n <= 2; n++ {
		w.now, w.lingers = time.Date(2026, 11, 20+n, 1, 30, 0, 0, time.Local), true
		w.step(0)
		require.Contains(t, w.running, "/m")
		for range 3 {
			w.step(2 * time.Hour)
		}
		assert.Len(t, w.stopped, n)
		assert.Equal(t, n, strings.Count(w.log.String(), "its window is over"))
		w.end("/m", record.Run{Stopped: true, ExitStatus: 4})
		w.step(time.Minute)
		assert.Equal(t, StateIdle, w.state("/m").State)
	}
}
