package daemon

import (
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/scrubd/scrubd/service/config"
	"github.com/scrubd/scrubd/service/record"
	"github.com/scrubd/scrubd/service/schedule"
)

// Timer and daemon together check a filesystem once a period, whatever the
// moment at which the timer fires.
func TestTimersAddNoRuns(t *testing.T) {
	for hour := range 7 * 24 / 17 {
		w := newWorld(t, t.TempDir(), config.Default())
		w.mount("/m", "sda")
		w.step(0)
		runs := 0
		for n := range 4 * 7 * 24 {
			if n%(7*24) == 17*hour {
				_, err := w.d.Due("", w.now)
				require.NoError(t, err)
			}
			w.step(time.Hour)
			if _, on := w.running["/m"]; on {
				runs++
				w.end("/m", record.Run{Complete: true})
			}
		}
		assert.Equal(t, 4, runs, "the timer fires at hour %d of the week", 17*hour)
	}
}

// Without a period, the timers are the schedule: one request, one run, in a
// window, over a restart of the daemon too.
func TestTimersWithoutAPeriod(t *testing.T) {
	c := config.Default()
	c.Policy.Period = 0
	c.Policy.Windows = []schedule.Window{mustWindow(t, "01:00-05:00")}
	w := newWorld(t, t.TempDir(), c)
	w.mount("/m", "sda")
	w.step(0)
	w.step(week)
	assert.Empty(t, w.started)
	answers, err := w.d.Due("/m", w.now)
	require.NoError(t, err)
	require.Len(t, answers, 1)
	assert.Equal(t, "01:00", answers[0].Next.Format("15:04"))
	w.boot(c)
	w.step(time.Hour)
	assert.Empty(t, w.started, "afternoon is outside the window")
	w.step(12 * time.Hour)
	assert.Equal(t, []string{"/m"}, w.started)
	w.step(4 * time.Hour)
	assert.Equal(t, []string{"/m"}, w.stopped, "cut by the window")
	w.step(20 * time.Hour)
	assert.Len(t, w.started, 2, "and goes on in the next")
	w.end("/m", record.Run{Complete: true})
	w.step(24 * time.Hour)
	w.step(week)
	assert.Len(t, w.started, 2, "one request, one run")
	assert.Empty(t, w.d.saved.Wanted)

	_, err = w.d.Due("/m", w.now)
	require.NoError(t, err)
	require.NoError(t, w.d.Cancel(t.Context(), "/m", w.now))
	w.step(13 * time.Hour)
	assert.Len(t, w.started, 2, "cancelled")
}

// A request says why nothing comes of it.
func TestAnswersToTimers(t *testing.T) {
	c := config.Default()
	skip := true
	c.Filesystems = []config.Filesystem{{Mount: "/skipped", Skip: &skip}}
	w := newWorld(t, t.TempDir(), c)
	for i, p := range []string{"/checked", "/fresh", "/forbidden", "/late", "/paused", "/running", "/skipped"} {
		w.mount(p, "sd"+string(rune('a'+i)))
	}
	w.d.o.Forbidden = func(p string) (bool, error) { return p == "/forbidden", nil }
	w.end("/checked", record.Run{Complete: true})
	w.step(0)
	require.NoError(t, w.d.Pause(t.Context(), "/paused"))
	require.NoError(t, w.d.Ask("/running", w.now))
	w.step(0)
	w.d.targets[uuidOf("/late")].history.Known = w.now.Add(-3 * week)
	answers, err := w.d.Due("", w.now)
	require.NoError(t, err)
	var got []string
	for _, a := range answers {
		got = append(got, a.Mount+" "+a.State+" "+strings.Split(a.Text, " 2026-")[0])
	}
	assert.Equal(t, []string{
		"/checked idle it was checked on", "/forbidden skipped its autofsck property forbids any check",
		"/fresh idle its check is planned for", "/late queued ", "/paused paused it is paused", "/running running ",
		"/skipped skipped the configuration says that it is not checked",
	}, got)
	_, err = w.d.Due("/nowhere", w.now)
	require.ErrorIs(t, err, ErrUnknown)
	w.d.targets[uuidOf("/fresh")].NoRecovery = true
	answers, err = w.d.Due("/fresh", w.now)
	require.NoError(t, err)
	assert.Equal(t, "it is mounted with norecovery", answers[0].Text)
}

// Without a daemon, one is there for the request alone: it starts what was asked
// for and nothing else, one after the other on one disk, and is done then.
func TestDueAlone(t *testing.T) {
	dir := t.TempDir()
	policy := func(string, string) schedule.Policy { return schedule.Policy{Period: week} }
	alone := config.Default()
	alone.Policy.Period = 0
	w := newWorld(t, dir, alone)
	for _, p := range []string{"/a", "/b", "/c"} {
		w.mount(p, "sda")
	}
	w.end("/a", record.Run{Complete: true})
	w.now = w.now.Add(2 * 24 * time.Hour)
	w.d.o.Forgetful = true
	w.step(0)
	answers, err := w.d.DueAlone("", policy, w.now)
	require.NoError(t, err)
	require.Len(t, answers, 3)
	assert.Contains(t, answers[0].Text, "it was checked on 2026-11-03")
	for i := 0; w.d.Busy(); i++ {
		require.Less(t, i, 10)
		w.step(time.Minute)
		require.LessOrEqual(t, len(w.running), 1)
		for p := range w.running {
			w.end(p, record.Run{Complete: true})
		}
	}
	assert.Equal(t, []string{"/b", "/c"}, w.started)
	assert.NoFileExists(t, dir+"/"+savedFile, "the daemon's own")

	// A timer that fires once a week, give or take an hour, is always heard.
	for i := range 8 {
		w.step(week + time.Duration(i%3-1)*time.Hour)
		answers, err = w.d.DueAlone("/b", policy, w.now)
		require.NoError(t, err)
		require.Equal(t, StateQueued, answers[0].State, answers[0].Text)
		w.step(0)
		w.end("/b", record.Run{Complete: true})
		w.step(time.Hour)
	}
	_, err = w.d.DueAlone("/nowhere", policy, w.now)
	require.ErrorIs(t, err, ErrUnknown)
}

func TestDueOverTheSocket(t *testing.T) {
	w := newWorld(t, t.TempDir(), config.Default())
	w.mount("/m", "sda")
	w.step(0)
	c := serve(t, w.d)
	answers, err := c.Due(t.Context(), "")
	if os.Geteuid() != 0 {
		require.ErrorIs(t, err, ErrForbidden)
		return
	}
	require.NoError(t, err)
	require.Len(t, answers, 1)
	assert.Contains(t, answers[0].Text, "its check is planned for")
	_, err = c.Due(t.Context(), "/nowhere")
	require.ErrorContains(t, err, "no XFS filesystem is mounted there")
}

// The property is a ceiling for the daemon too: it starts no run that would only
// be refused, and sees when the property changes.
func TestForbiddenByTheProperty(t *testing.T) {
	w := newWorld(t, t.TempDir(), config.Default())
	forbidden, asked := true, 0
	w.d.o.Forbidden = func(string) (bool, error) { asked++; return forbidden, nil }
	w.mount("/m", "sda")
	w.step(0)
	w.now = w.now.Add(4 * week)
	for range 60 {
		w.step(15 * time.Second)
	}
	assert.Empty(t, w.started)
	assert.LessOrEqual(t, asked, 3, "the filesystem is not opened all the time")
	s := w.state("/m")
	assert.Equal(t, StateSkipped, s.State)
	assert.Equal(t, "its autofsck property forbids any check", s.Waits)
	assert.False(t, s.Overdue)
	assert.NotContains(t, w.log.String(), "not checked for too long")
	require.ErrorIs(t, w.d.Ask("/m", w.now), ErrForbids)
	forbidden = false
	w.step(propertyAge)
	assert.Equal(t, []string{"/m"}, w.started)
}

// Copies with one UUID: one is looked after, the same one as long as it is there,
// and the others are named.
func TestCopies(t *testing.T) {
	w := newWorld(t, t.TempDir(), config.Default())
	identified := 0
	w.d.o.Identify = func(string) (string, error) { identified++; return "u", nil }
	w.mount("/orig", "sda")
	w.step(0)
	require.NoError(t, w.d.Ask("/orig", w.now))
	w.step(0)
	w.mount("/copy", "sdb") // by its name it would come first
	slices.SortFunc(w.mounts, func(a, b Mount) int { return strings.Compare(a.Point, b.Point) })
	for range 5 {
		w.step(tick)
	}
	assert.Equal(t, 2, identified, "each once")
	assert.Equal(t, StateRunning, w.state("/orig").State)
	s := w.state("/copy")
	assert.Equal(t, StateSkipped, s.State)
	assert.Equal(t, "it has the same UUID as /orig", s.Waits)
	assert.Equal(t, 1, strings.Count(w.log.String(), "/copy: only /orig is checked, not /copy"))
	err := w.d.Ask("/copy", w.now)
	var twin *CopyError
	require.ErrorAs(t, err, &twin)
	require.EqualError(t, err, "/copy: it has the same UUID as /orig, which alone is looked after")

	w.mounts = slices.DeleteFunc(w.mounts, func(m Mount) bool { return m.Point == "/orig" })
	delete(w.running, "/orig")
	w.step(tick)
	assert.NotEqual(t, StateSkipped, w.state("/copy").State, "the copy is what is left")
}
