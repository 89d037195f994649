package main

import (
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/scrubd/scrubd/scrub"
)

// progressMode says how progress is shown without being asked for.
type progressMode int

const (
	progressNone  progressMode = iota // only what a person has to know
	progressLines                     // a line now and then, for a log
	progressBar                       // a line that is drawn anew
)

// lineInterval is the time between two progress lines of a log.
const lineInterval = 30 * time.Second

// progress follows the events of a run and shows on standard error how far it
// is. A kernel call that does not come back is named in every mode.
type progress struct {
	term *terminal
	path string
	mode progressMode
	held func() *hold

	mu       sync.Mutex
	last     *scrub.ProgressEvent
	lined    time.Duration // Elapsed of the last line
	phase    scrub.Phase   // of the last line
	slow     string        // the call that was last complained of
	slowAge  time.Duration // its age then
	moved    time.Duration // Elapsed when something had changed last
	alerting map[string]bool
}

func newProgress(term *terminal, path string, mode progressMode) *progress {
	return &progress{
		term: term, path: path, mode: mode, held: heldBy, alerting: map[string]bool{},
	}
}

// event takes an event of the run.
func (p *progress) event(e scrub.Event) {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch e := e.(type) {
	case *scrub.ProgressEvent:
		p.advance(e)
	case *scrub.FindingEvent:
		p.alert(e.Finding)
	case *scrub.RepairEvent:
		if e.Began && p.mode != progressNone {
			p.say("%s: repair: %s", p.path, e.What)
		}
	}
}

func (p *progress) advance(e *scrub.ProgressEvent) {
	if l := p.last; l == nil || l.Phase != e.Phase || l.Done != e.Done || l.Inodes != e.Inodes {
		p.moved = e.Elapsed
	}
	p.last = e
	switch p.mode {
	case progressBar:
		p.term.setStatus(bar(e) + " " + statusLine(e))
	case progressLines:
		if e.Phase != p.phase || e.Elapsed-p.lined >= lineInterval {
			p.phase, p.lined = e.Phase, e.Elapsed
			p.say("%s: %s", p.path, statusLine(e))
		}
	case progressNone:
	}
	p.watchCall(e)
}

// watchCall names a call that takes longer than its kind should: when it is
// first seen, and each time that its age has doubled since.
func (p *progress) watchCall(e *scrub.ProgressEvent) {
	call, age := e.Call, e.CallAge
	if call == "" && e.Elapsed-p.moved >= stillAfter {
		// Calls that only read have no name here. They are short, unless
		// something holds them.
		call, age = "a call", e.Elapsed-p.moved
	}
	if call == "" {
		p.slow, p.slowAge = "", 0
		return
	}
	if call == p.slow && age < 2*p.slowAge {
		return
	}
	h := p.held()
	if h == nil && e.Call == "" {
		return // at work, with nothing to show for it yet
	}
	p.slow, p.slowAge = call, age
	p.say("%s: %s", p.path, slowCall(call, age, p.path, h))
}

// stillAfter is how long a run stands still before it is asked why.
const stillAfter = 10 * time.Second

// slowCall says what it means that a kernel call does not come back.
func slowCall(call string, age time.Duration, path string, h *hold) string {
	s := fmt.Sprintf("%s has been in the kernel for %s; ", call, roundDuration(age))
	if h != nil {
		return s + h.why + ": " + h.todo(path)
	}
	return s + "it cannot be interrupted, only waited for; " +
		"ending scrubd (Ctrl-C twice) makes the kernel give it up where it looks for a fatal signal"
}

// alert tells at once of damage that grows: used blocks that the kernel
// believes to be free are being overwritten now.
func (p *progress) alert(f *scrub.Finding) {
	if f.Severity != scrub.Critical || f.Outcome == scrub.Repaired || p.alerting[f.ID] {
		return
	}
	p.alerting[f.ID] = true
	p.say("%s: CRITICAL: %s; %s", p.path, f.Summary, where(f))
}

// print shows one line now: SIGUSR1 asks for it.
func (p *progress) print() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.last == nil {
		p.say("%s: starting", p.path)
		return
	}
	p.say("%s: %s", p.path, statusLine(p.last))
}

// inFlight names the kernel call that is overdue, "" when there is none.
func (p *progress) inFlight() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.last == nil {
		return ""
	}
	return p.last.Call
}

// stuck is the error of a run that does not end because a call does not.
func (p *progress) stuck() error {
	return &callStuckError{Call: p.inFlight(), Path: p.path, Hold: p.held()}
}

// reached says how far the run got, for a sentence about its end.
func (p *progress) reached() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.last == nil {
		return ""
	}
	s := fmt.Sprintf("; it was in phase %s", p.last.Phase)
	if p.last.Total > 0 {
		s += fmt.Sprintf(", %s of %s done", comma(p.last.Done), comma(p.last.Total))
	}
	if p.last.Inodes > 0 {
		s += fmt.Sprintf(", %s walked", plural(p.last.Inodes, "inode"))
	}
	return s
}

// close takes the status line away.
func (p *progress) close() { p.term.setStatus("") }

func (p *progress) say(format string, args ...any) {
	// Nothing can be done about a standard error that takes no message.
	_, _ = fmt.Fprintf(p.term, "scrubd: %s\n", oneLine(fmt.Sprintf(format, args...)))
}

// barWidth is the length of the bar in characters.
const barWidth = 20

func bar(e *scrub.ProgressEvent) string {
	full := int(min(max(e.Fraction, 0), 1) * barWidth)
	return "[" + strings.Repeat("#", full) + strings.Repeat("-", barWidth-full) + "]"
}

// statusLine says how far a run is: "42% walk 1,234 of 5,000, 3m10s left, 2 findings".
func statusLine(e *scrub.ProgressEvent) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%.0f%% %s", 100*min(max(e.Fraction, 0), 1), e.Phase)
	if e.Total > 0 {
		fmt.Fprintf(&b, " %s of %s", comma(e.Done), comma(e.Total))
	} else if e.Done > 0 {
		fmt.Fprintf(&b, " %s", comma(e.Done))
	}
	if left, ok := eta(e); ok {
		fmt.Fprintf(&b, ", %s left", left)
	}
	if e.Inodes > 0 {
		fmt.Fprintf(&b, ", %s", plural(e.Inodes, "inode"))
	}
	if e.Findings > 0 {
		fmt.Fprintf(&b, ", %s", plural(uint64(e.Findings), "finding"))
	}
	if e.Call != "" {
		fmt.Fprintf(&b, ", in the kernel for %s: %s", roundDuration(e.CallAge), e.Call)
	}
	return b.String()
}

// eta estimates the time that is left. Early numbers would be guesses, so
// there are none.
func eta(e *scrub.ProgressEvent) (time.Duration, bool) {
	if e.Fraction < 0.01 || e.Fraction >= 1 || e.Elapsed < 2*time.Second {
		return 0, false
	}
	left := time.Duration(float64(e.Elapsed) * (1 - e.Fraction) / e.Fraction)
	return max(left.Round(time.Second), time.Second), true
}
