// Package schedule decides when a filesystem is due: pure functions of the
// policy, the clock and the history.
package schedule

import (
	"errors"
	"fmt"
	"strings"
	"time"
)

// Window is a time of day, on some days of the week, in which runs may be:
// "01:00-05:00", "Sat,Sun 22:00-06:00", "Mon..Fri 00:00-24:00". One that ends
// before it begins goes over midnight, and belongs to the day it begins on.
type Window struct {
	days       [7]bool // by time.Weekday
	begin, end int     // minutes of the day; end may be up to 48 hours
	text       string
}

// ErrWindow is a text that is no window.
var ErrWindow = errors.New("not a window like \"01:00-05:00\" or \"Sat,Sun 22:00-06:00\"")

const dayMinutes = 24 * 60

// ParseWindow reads a window.
//
// Errors: [ErrWindow].
func ParseWindow(text string) (Window, error) {
	w := Window{text: text}
	fields := strings.Fields(text)
	switch len(fields) {
	case 1:
		w.days = [7]bool{true, true, true, true, true, true, true}
	case 2:
		if !w.parseDays(fields[0]) {
			return Window{}, fmt.Errorf("%q: %w: the days are Mon, Tue, Wed, Thu, Fri, Sat, Sun", text, ErrWindow)
		}
	default:
		return Window{}, fmt.Errorf("%q: %w", text, ErrWindow)
	}
	from, to, ok := strings.Cut(fields[len(fields)-1], "-")
	var ok1, ok2 bool
	w.begin, ok1 = parseClock(from)
	w.end, ok2 = parseClock(to)
	if !ok || !ok1 || !ok2 || w.begin == dayMinutes || w.begin == w.end {
		return Window{}, fmt.Errorf("%q: %w", text, ErrWindow)
	}
	if w.end < w.begin {
		w.end += dayMinutes
	}
	return w, nil
}

// UnmarshalText is [ParseWindow], for decoders.
func (w *Window) UnmarshalText(text []byte) (err error) {
	*w, err = ParseWindow(string(text))
	return err
}

// String returns the window as it was written.
func (w *Window) String() string { return w.text }

var dayNames = map[string]time.Weekday{
	"sun": time.Sunday, "mon": time.Monday, "tue": time.Tuesday, "wed": time.Wednesday,
	"thu": time.Thursday, "fri": time.Friday, "sat": time.Saturday,
}

func (w *Window) parseDays(text string) bool {
	for part := range strings.SplitSeq(strings.ToLower(text), ",") {
		from, to, isRange := strings.Cut(part, "..")
		if !isRange {
			to = from
		}
		first, ok1 := dayNames[from]
		last, ok2 := dayNames[to]
		if !ok1 || !ok2 {
			return false
		}
		for d := first; ; d = (d + 1) % 7 {
			w.days[d] = true
			if d == last {
				break
			}
		}
	}
	return true
}

func parseClock(text string) (minutes int, ok bool) {
	if len(text) != 5 || text[2] != ':' {
		return 0, false
	}
	for _, i := range []int{0, 1, 3, 4} {
		if text[i] < '0' || text[i] > '9' {
			return 0, false
		}
	}
	h, m := int(text[0]-'0')*10+int(text[1]-'0'), int(text[3]-'0')*10+int(text[4]-'0')
	if m > 59 || h > 24 || h == 24 && m > 0 {
		return 0, false
	}
	return h*60 + m, true
}

// on returns the window that begins on the day of t. Times of day are wall
// clock times: on the day that the clock is put forward, 02:30 is 03:30.
func (w *Window) on(t time.Time) (begin, end time.Time) {
	y, m, d := t.Date()
	at := func(minutes int) time.Time { return time.Date(y, m, d, 0, minutes, 0, 0, t.Location()) }
	return at(w.begin), at(w.end)
}

// open returns the end of the window if t lies in it.
func (w *Window) open(t time.Time) (end time.Time, ok bool) {
	for _, back := range []int{0, -1} { // today's, and yesterday's over midnight
		day := t.AddDate(0, 0, back)
		if !w.days[day.Weekday()] {
			continue
		}
		if b, e := w.on(day); !t.Before(b) && t.Before(e) {
			return e, true
		}
	}
	return time.Time{}, false
}

// next returns when the window opens after t.
func (w *Window) next(t time.Time) time.Time {
	for ahead := range 8 {
		day := t.AddDate(0, 0, ahead)
		if !w.days[day.Weekday()] {
			continue
		}
		if b, _ := w.on(day); b.After(t) {
			return b
		}
	}
	return t.AddDate(0, 0, 7) // not reached: there is a day in every week
}

// Open tells whether runs may be at t, and until when. No windows at all mean
// always; until is zero then. Windows that follow each other are one.
func Open(windows []Window, t time.Time) (until time.Time, ok bool) {
	if len(windows) == 0 {
		return time.Time{}, true
	}
	for {
		moved := false
		for i := range windows {
			at := until
			if !ok {
				at = t
			}
			if e, in := windows[i].open(at); in && e.After(until) {
				until, ok, moved = e, true, true
			}
		}
		if !moved {
			return until, ok
		}
		if until.Sub(t) > 8*24*time.Hour {
			return time.Time{}, true // they leave no gap in a week
		}
	}
}

// NextOpen returns the first time from t on at which runs may be.
func NextOpen(windows []Window, t time.Time) time.Time {
	if _, ok := Open(windows, t); ok {
		return t
	}
	next := windows[0].next(t)
	for i := range windows[1:] {
		if n := windows[i+1].next(t); n.Before(next) {
			next = n
		}
	}
	return next
}
