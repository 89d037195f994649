package schedule

import (
	"hash/fnv"
	"time"
)

// Policy is how often and when a filesystem is to be checked.
type Policy struct {
	// Period is the time between two runs; 0 means never by itself.
	Period time.Duration
	// Overdue is the age of the last complete run from which on somebody is to
	// know; 0 means never.
	Overdue time.Duration
	// Windows are when runs may be; none means always.
	Windows []Window
}

// History is what became of a filesystem's runs so far.
type History struct {
	// Complete is when the last run that got through began, zero for none.
	Complete time.Time
	// Tried is when the last run ended that did not get through, if it was after
	// that, and Failures how many of them there were in a row. Stopped says that
	// somebody stopped the last one, or that its window closed.
	Tried    time.Time
	Failures int
	Stopped  bool
	// Known is since when the filesystem has been known: until its first slot
	// after that, nobody expects a run.
	Known time.Time
	// Skipped is when somebody cancelled a run: no slot up to then is made up for.
	Skipped time.Time
}

// slotBefore returns the last slot at or before t. Every filesystem has one
// slot a period, at a moment that its UUID decides: machines and filesystems do
// not all start at once, and a filesystem keeps its slot over a reboot.
func slotBefore(uuid string, period time.Duration, t time.Time) time.Time {
	offset := time.Duration(spread(uuid) % uint64(period))
	since := t.Sub(epoch.Add(offset))
	n := since / period
	if since < 0 && since%period != 0 {
		n--
	}
	return epoch.Add(offset + n*period)
}

// epoch is a Monday, 00:00 UTC: no slot depends on when a machine was installed.
var epoch = time.Date(2024, 1, 1, 0, 0, 0, 0, time.UTC)

func spread(uuid string) uint64 {
	h := fnv.New64a()
	_, _ = h.Write([]byte(uuid)) // a hash takes everything
	// The low bits of FNV of like strings are alike: mix them.
	x := h.Sum64()
	x ^= x >> 33
	x *= 0xff51afd7ed558ccd
	x ^= x >> 33
	return x
}

// retryAfter is the wait after runs that did not get through.
func retryAfter(failures int) time.Duration {
	const first, most = time.Hour, 24 * time.Hour
	return min(first<<min(max(failures-1, 0), 10), most)
}

// Next returns when the next run of a filesystem is due, at the earliest now.
// A slot that was missed is caught up once, however many were. ok is false when
// none is planned.
func Next(uuid string, p Policy, h History, now time.Time) (at time.Time, ok bool) {
	if p.Period <= 0 {
		return time.Time{}, false
	}
	done := h.Complete
	// A clock that was put back must not put off all runs until then.
	if done.After(now.Add(p.Period)) {
		done = time.Time{}
	}
	if done.IsZero() {
		done = h.Known
	}
	if h.Skipped.After(done) && !h.Skipped.After(now) {
		done = h.Skipped
	}
	slot := slotBefore(uuid, p.Period, now)
	if !slot.After(done) { // this period's run is done
		slot = slotBefore(uuid, p.Period, done).Add(p.Period)
	}
	return earliest(slot, p, h, now), true
}

// NextWanted returns when a run is due that somebody has wanted since then, and
// that may wait for a window.
func NextWanted(since time.Time, p Policy, h History, now time.Time) time.Time {
	return earliest(since, p, h, now)
}

// earliest is the first time from a moment, and from now, at which a run may be:
// not at once after one that failed, and in a window.
func earliest(at time.Time, p Policy, h History, now time.Time) time.Time {
	if at.Before(now) {
		at = now
	}
	if h.Tried.After(h.Complete) && !h.Stopped && !h.Tried.After(now) {
		if wait := h.Tried.Add(retryAfter(h.Failures)); wait.After(at) {
			at = wait
		}
	}
	return NextOpen(p.Windows, at)
}

// Recent tells whether the last complete run was so short a time ago that one
// more would be one too many in the period: for those that keep to no slots.
func Recent(p Policy, h History, now time.Time) bool {
	age := now.Sub(h.Complete)
	return p.Period > 0 && !h.Complete.IsZero() && age >= 0 && age < p.Period/2
}

// Overdue tells whether the last complete run is too long ago.
func Overdue(p Policy, h History, now time.Time) bool {
	since := h.Complete
	if since.IsZero() {
		since = h.Known
	}
	return p.Overdue > 0 && !since.IsZero() && now.Sub(since) > p.Overdue
}
