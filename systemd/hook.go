package systemd

import (
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"github.com/coreos/go-systemd/v22/journal"
	"github.com/sirupsen/logrus"
)

// EntriesPerRun bounds what one run writes: the full report is a file.
const EntriesPerRun = 500

const (
	// queued bounds the entries that wait for a journal that does not read.
	queued = 256
	// urgentWait is how long the one who logs something urgent waits until it
	// is written; for all else nobody waits.
	urgentWait = time.Second
	// runsKept bounds the runs whose entries are counted.
	runsKept = 64
)

// Hook sends what logrus logs to the journal by its native protocol. It never
// holds up the one who logs: the journal may be stored on the filesystem that
// is being repaired, and then waits for us. What cannot be sent goes to the
// fallback, with a prefix that journald and syslog understand.
type Hook struct {
	send     func(message string, priority journal.Priority, vars map[string]string) error
	fallback io.Writer
	perRun   int

	queue chan queuedEntry
	done  chan struct{}

	mu         sync.Mutex
	closed     bool
	runs       map[string]*runCount
	order      []string // of runs, oldest first
	lost       int      // entries that found the queue full
	suppressed int      // of all runs so far
}

type runCount struct{ written, suppressed int }

type queuedEntry struct {
	entry
	written chan struct{} // closed when it was handled, may be nil
}

// NewHook starts a hook. perRun bounds the entries of a run; 0 means
// [EntriesPerRun]. Close ends it.
func NewHook(fallback io.Writer, perRun int) *Hook {
	return newHook(journal.Send, fallback, perRun)
}

func newHook(send func(string, journal.Priority, map[string]string) error, fallback io.Writer, perRun int) *Hook {
	if perRun <= 0 {
		perRun = EntriesPerRun
	}
	h := &Hook{
		send: send, fallback: fallback, perRun: perRun,
		queue: make(chan queuedEntry, queued), done: make(chan struct{}), runs: make(map[string]*runCount),
	}
	go h.write()
	return h
}

// Levels is all of them: the logger's own level decides.
func (h *Hook) Levels() []logrus.Level { return logrus.AllLevels }

// Fire takes one entry. It returns no error: a lost entry is counted, and the
// number is part of the next one that gets through.
func (h *Hook) Fire(e *logrus.Entry) error {
	q := queuedEntry{entry: newEntry(e)}
	if q.priority <= journal.PriCrit {
		q.written = make(chan struct{})
	}
	h.mu.Lock()
	if h.closed || !h.admit(&q.entry) {
		h.mu.Unlock()
		return nil
	}
	if h.lost > 0 {
		q.vars[JournalField("lost_entries")] = fmt.Sprint(h.lost)
	}
	select {
	case h.queue <- q:
		h.lost = 0
	default:
		h.lost++
		q.written = nil
	}
	h.mu.Unlock()
	if q.written != nil {
		wait(q.written, urgentWait)
	}
	return nil
}

// admit counts an entry and tells whether it may be written.
func (h *Hook) admit(e *entry) bool {
	if e.run == "" {
		return true
	}
	n, ok := h.runs[e.run]
	if !ok {
		if len(h.order) == runsKept {
			delete(h.runs, h.order[0])
			h.order = h.order[1:]
		}
		n = &runCount{}
		h.runs[e.run] = n
		h.order = append(h.order, e.run)
	}
	always := e.kind != nil && e.kind.Always
	// What is always written has a bound too, above which it is no news.
	if n.written >= h.perRun && (!always || n.written >= 2*h.perRun) && e.kind != KindRunFinished && e.kind != KindIncomplete {
		n.suppressed++
		h.suppressed++
		return false
	}
	n.written++
	if n.suppressed > 0 && (e.kind == KindRunFinished || e.kind == KindIncomplete) {
		e.vars[JournalField("suppressed_entries")] = fmt.Sprint(n.suppressed)
	}
	return true
}

// Suppressed is the number of entries that were not written because their run
// had too many.
func (h *Hook) Suppressed() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.suppressed
}

func (h *Hook) write() {
	defer close(h.done)
	for q := range h.queue {
		if err := h.send(q.message, q.priority, q.vars); err != nil {
			// Nothing can be done about a standard error that takes no message.
			_, _ = fmt.Fprintf(h.fallback, "<%d>%s (journal: %s)\n", q.priority, q.message, printable(err.Error()))
		}
		if q.written != nil {
			close(q.written)
		}
	}
}

// Close stops taking entries and waits until those taken are written, at most
// that long. It returns whether they are.
func (h *Hook) Close(patience time.Duration) bool {
	h.mu.Lock()
	if !h.closed {
		h.closed = true
		close(h.queue)
	}
	h.mu.Unlock()
	return wait(h.done, patience)
}

func wait(done <-chan struct{}, patience time.Duration) bool {
	timer := time.NewTimer(patience)
	defer timer.Stop()
	select {
	case <-done:
		return true
	case <-timer.C:
		return false
	}
}

// Attach lets log write to the journal where standard error is connected to
// it, and reports whether it is; otherwise log stays as it is. The function
// returned writes out what is queued.
func Attach(log *logrus.Logger, perRun int) (flush func(), attached bool) {
	ours, err := journal.StderrIsJournalStream()
	if err != nil || !ours {
		return func() {}, false
	}
	if !journal.Enabled() {
		// In a chroot, say: the stream is there and the socket is not.
		log.SetFormatter(PrefixFormatter{})
		return func() {}, true
	}
	hook := NewHook(os.Stderr, perRun)
	log.AddHook(hook)
	log.SetOutput(io.Discard)
	log.SetFormatter(nothing{}) // logrus formats even for io.Discard
	return func() { hook.Close(2 * time.Second) }, true
}

// nothing is a formatter for entries that a hook has taken.
type nothing struct{}

func (nothing) Format(*logrus.Entry) ([]byte, error) { return nil, nil }

// PrefixFormatter writes entries as lines with a priority in front, for a
// standard error that is connected to the journal or to syslog.
//
// Source: sd-daemon(3).
type PrefixFormatter struct{}

// Format writes "<4>message name=value …" in one line.
func (PrefixFormatter) Format(e *logrus.Entry) ([]byte, error) {
	out := newEntry(e)
	delete(out.vars, "SYSLOG_IDENTIFIER") // a stream has one already
	line := fmt.Appendf(nil, "<%d>%s", out.priority, out.message)
	for _, name := range sortedNames(out.vars) {
		line = fmt.Appendf(line, " %s=%s", name, quoteIfNeeded(out.vars[name]))
	}
	return append(line, '\n'), nil
}
