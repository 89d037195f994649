package schedule

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

func window(t require.TestingT, text string) Window {
	w, err := ParseWindow(text)
	require.NoError(t, err)
	return w
}

// at is a time in the week of Monday, 2 November 2026.
func at(day int, clock string) time.Time {
	t, err := time.Parse("2006-01-02 15:04", fmt.Sprintf("2026-11-%02d %s", 1+day, clock))
	if err != nil {
		panic(err)
	}
	return t
}

const mon, tue, fri, sat, sun = 1, 2, 5, 6, 7

func TestWindow(t *testing.T) {
	for _, c := range []struct {
		text string
		at   time.Time
		end  time.Time // zero: closed
	}{
		{"01:00-05:00", at(mon, "01:00"), at(mon, "05:00")},
		{"01:00-05:00", at(mon, "04:59"), at(mon, "05:00")},
		{"01:00-05:00", at(mon, "05:00"), time.Time{}},
		{"01:00-05:00", at(mon, "00:59"), time.Time{}},
		{"22:00-06:00", at(mon, "23:00"), at(tue, "06:00")},
		{"22:00-06:00", at(tue, "05:00"), at(tue, "06:00")},
		{"Fri 22:00-06:00", at(sat, "05:00"), at(sat, "06:00")},
		{"Fri 22:00-06:00", at(fri, "05:00"), time.Time{}},
		{"Sat,Sun 00:00-24:00", at(sat, "12:00"), at(sun, "00:00")},
		{"mon..fri 00:00-24:00", at(sun, "12:00"), time.Time{}},
		{"Fri..Mon 10:00-11:00", at(sun, "10:30"), at(sun, "11:00")},
		{"Fri..Mon 10:00-11:00", at(tue, "10:30"), time.Time{}},
	} {
		w := window(t, c.text)
		end, ok := w.open(c.at)
		assert.Equal(t, !c.end.IsZero(), ok, "%s at %s", c.text, c.at)
		assert.Equal(t, c.end, end, "%s at %s", c.text, c.at)
		assert.Equal(t, c.text, w.String())
	}
	for _, bad := range []string{"", "1:00-5:00", "01:00", "01:00-01:00", "24:00-05:00", "01:60-02:00", "25:00-26:00", "Foo 01:00-02:00", "Mon. 01:00-02:00", "Mon Tue 01:00-02:00", "Mon..  01:00-02:00", "01:00-05:00-06:00", "-1:00-02:00"} {
		_, err := ParseWindow(bad)
		require.ErrorIs(t, err, ErrWindow, bad)
	}
}

func TestOpenJoinsWindows(t *testing.T) {
	until, ok := Open(nil, at(mon, "12:00"))
	assert.True(t, ok)
	assert.Zero(t, until)
	pair := []Window{window(t, "Sun 00:00-24:00"), window(t, "Sat 00:00-24:00"), window(t, "Mon 00:00-02:00")}
	until, ok = Open(pair, at(sat, "12:00"))
	assert.True(t, ok)
	assert.Equal(t, at(sun+1, "02:00"), until)
	_, ok = Open(pair, at(tue, "12:00"))
	assert.False(t, ok)
	assert.Equal(t, at(sat, "00:00"), NextOpen(pair, at(tue, "12:00")))
	until, ok = Open([]Window{window(t, "00:00-24:00")}, at(tue, "12:00"))
	assert.True(t, ok)
	assert.Zero(t, until, "always")
}

var windowTexts = []string{"01:00-05:00", "22:00-06:00", "Sat,Sun 00:00-24:00", "Mon..Fri 12:00-13:30", "Wed 23:59-00:01"}

// Minute for minute, a dumb twin: what Open and NextOpen say is true.
func TestWindowsAgainstEveryMinute(t *testing.T) {
	zone, err := time.LoadLocation("Europe/Berlin")
	require.NoError(t, err)
	rapid.Check(t, func(t *rapid.T) {
		texts := rapid.SliceOfNDistinct(rapid.SampledFrom(windowTexts), 1, 3, rapid.ID[string]).Draw(t, "windows")
		windows := make([]Window, len(texts))
		for i, text := range texts {
			windows[i] = window(t, text)
		}
		// Over the end of summer time too.
		now := time.Date(2026, 10, 19, 0, rapid.IntRange(0, 14*dayMinutes).Draw(t, "minute"), 0, 0, zone)
		isOpen := func(at time.Time) bool {
			for i := range windows {
				if _, in := windows[i].open(at); in {
					return true
				}
			}
			return false
		}
		next := NextOpen(windows, now)
		require.False(t, next.Before(now))
		require.True(t, isOpen(next))
		for at := now; at.Before(next); at = at.Add(time.Minute) {
			require.False(t, isOpen(at), at)
		}
		until, ok := Open(windows, next)
		require.True(t, ok)
		if until.IsZero() {
			return
		}
		require.False(t, isOpen(until), until)
		for at := next; at.Before(until); at = at.Add(time.Minute) {
			require.True(t, isOpen(at), at)
		}
	})
}

const week = 7 * 24 * time.Hour

func TestNext(t *testing.T) {
	uuid := "0d0a5f11-5d5c-4a7e-9d0b-f0ddc0ffee00"
	p := Policy{Period: week}
	now := at(fri, "12:00")
	slot := slotBefore(uuid, week, now)
	require.True(t, slot.Before(now) && slot.After(now.Add(-week)))

	next := func(h History, now time.Time) time.Time {
		t.Helper()
		got, ok := Next(uuid, p, h, now)
		require.True(t, ok)
		return got
	}
	assert.Equal(t, slot.Add(week), next(History{Complete: slot}, now), "done in its slot: a period later")
	assert.Equal(t, slot.Add(week), next(History{Complete: now.Add(-time.Second)}, now), "done late: the slot stays")
	assert.Equal(t, now, next(History{Complete: slot.Add(-time.Second)}, now), "missed: caught up")
	assert.Equal(t, now, next(History{Complete: slot.Add(-10 * week)}, now), "many missed: caught up once")
	assert.Equal(t, slot.Add(week), next(History{Known: now}, now), "new: its first slot")
	assert.Equal(t, now, next(History{}, now))

	assert.Equal(t, slot.Add(week), next(History{Complete: slot.Add(-9 * week), Skipped: now}, now), "cancelled: not made up for")
	assert.Equal(t, now, next(History{Complete: slot.Add(-9 * week), Skipped: slot.Add(-week)}, now), "but only that one")

	failed := History{Complete: slot.Add(-week), Tried: now.Add(-time.Minute), Failures: 1}
	assert.Equal(t, now.Add(59*time.Minute), next(failed, now))
	failed.Failures = 3
	assert.Equal(t, now.Add(4*time.Hour-time.Minute), next(failed, now))
	failed.Failures = 99
	assert.Equal(t, now.Add(24*time.Hour-time.Minute), next(failed, now))
	failed.Stopped = true
	assert.Equal(t, now, next(failed, now), "stopped: as soon as it may")
	failed.Stopped, failed.Tried = false, now.Add(100*week)
	assert.Equal(t, now, next(failed, now), "tried in the future: the clock was put back")
	assert.Equal(t, now, next(History{Complete: now.Add(100 * week)}, now), "done in the future")

	p.Windows = []Window{window(t, "Sat 01:00-05:00")}
	assert.Equal(t, at(sat, "01:00"), next(History{Complete: slot.Add(-week)}, now), "not outside the window")
	_, ok := Next(uuid, Policy{}, History{}, now)
	assert.False(t, ok)
}

// One run in every period, wherever the clock starts and however the slots lie.
func TestOneRunInEveryPeriod(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		uuid := rapid.StringN(0, 36, -1).Draw(t, "uuid")
		p := Policy{Period: time.Duration(rapid.IntRange(1, 400).Draw(t, "hours")) * time.Hour}
		now := epoch.Add(time.Duration(rapid.Int64Range(-1000, 100000).Draw(t, "start")) * time.Minute)
		h := History{Known: now}
		for range 5 {
			next, ok := Next(uuid, p, h, now)
			require.True(t, ok)
			require.False(t, next.Before(now))
			require.LessOrEqual(t, next.Sub(now), 2*p.Period)
			if !h.Complete.IsZero() {
				require.Equal(t, slotBefore(uuid, p.Period, next), next)
				require.LessOrEqual(t, next.Sub(h.Complete), p.Period)
			}
			h.Complete, now = next, next
		}
	})
}

// A thousand filesystems share the week out.
func TestSlotsAreSpread(t *testing.T) {
	var days [7]int
	for i := range 1000 {
		slot := slotBefore(fmt.Sprintf("0d0a5f11-5d5c-4a7e-9d0b-f0ddc0ff%04x", i), week, at(sun, "23:59"))
		days[slot.Weekday()]++
	}
	for d, n := range days {
		assert.InDelta(t, 143, n, 45, time.Weekday(d))
	}
}

func TestOverdue(t *testing.T) {
	now := at(fri, "12:00")
	p := Policy{Period: week, Overdue: 3 * week}
	assert.False(t, Overdue(p, History{}, now))
	assert.False(t, Overdue(p, History{Complete: now.Add(-2 * week), Known: now.Add(-9 * week)}, now))
	assert.True(t, Overdue(p, History{Complete: now.Add(-4 * week)}, now))
	assert.True(t, Overdue(p, History{Known: now.Add(-4 * week)}, now))
	assert.False(t, Overdue(Policy{Period: week}, History{Complete: now.Add(-4 * week)}, now))
}

func FuzzParseWindow(f *testing.F) {
	for _, s := range windowTexts {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		w, err := ParseWindow(text)
		if err != nil {
			return
		}
		next := NextOpen([]Window{w}, epoch)
		if _, ok := w.open(next); !ok || next.Sub(epoch) > 8*24*time.Hour {
			t.Fatalf("%q does not open (%s)", text, next)
		}
	})
}
