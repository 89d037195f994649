package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"sync"
	"syscall"
	"time"
)

// grace is how long a run may take to end once it was told to. A context acts
// between kernel calls only; a call in flight ends sooner only when the
// process does, because the kernel's scrub looks for fatal signals and for
// nothing else. The mount is to be free 5 s after the signal.
const grace = 3 * time.Second

// stopError is the cause of a context that a signal ended, or the daemon, which
// says why.
type stopError struct {
	Signal os.Signal
	Why    string
}

func (e *stopError) Error() string {
	if e.Signal == nil {
		return "stopped through the daemon: " + e.Why
	}
	return fmt.Sprintf("stopped by a signal (%v)", e.Signal)
}

// interrupts turns signals into the end of a run.
type interrupts struct {
	signals chan os.Signal
	cancel  context.CancelCauseFunc
	hurry   chan struct{} // closed by the second signal
	done    chan struct{}

	mu   sync.Mutex
	show func()       // one line of progress
	say  func(string) // tells the person at the terminal
}

// watchInterrupts starts to listen. The context ends with the first SIGINT,
// SIGTERM or SIGHUP; close stops listening.
func watchInterrupts(parent context.Context, say func(string)) (context.Context, *interrupts) {
	ctx, cancel := context.WithCancelCause(parent)
	w := &interrupts{
		signals: make(chan os.Signal, 8),
		cancel:  cancel,
		hurry:   make(chan struct{}),
		done:    make(chan struct{}),
		say:     say,
	}
	// With SIGPIPE among them a reader of the report that goes away is an error
	// of the write, which ends the run in order; without it the process would die
	// wherever it happened to be, between a repair and its proof for instance.
	wanted := []os.Signal{os.Interrupt, syscall.SIGTERM, syscall.SIGUSR1, syscall.SIGPIPE}
	if !signal.Ignored(syscall.SIGHUP) { // nohup
		wanted = append(wanted, syscall.SIGHUP)
	}
	signal.Notify(w.signals, wanted...)
	go w.listen()
	return ctx, w
}

func (w *interrupts) listen() {
	stopping := false
	for {
		select {
		case <-w.done:
			return
		case s := <-w.signals:
			switch {
			case s == syscall.SIGPIPE:
			case s == syscall.SIGUSR1:
				w.mu.Lock()
				if w.show != nil {
					w.show()
				}
				w.mu.Unlock()
			case !stopping:
				stopping = true
				w.tell(fmt.Sprintf("%v: stopping after the kernel calls in flight; once more, and scrubd ends at once", s))
				w.cancel(&stopError{Signal: s})
			default:
				close(w.hurry)
				// Should even the end of the report block, a third one kills.
				signal.Reset(os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
				return
			}
		}
	}
}

func (w *interrupts) tell(s string) {
	if w.say != nil {
		w.say(s)
	}
}

// onUSR1 sets what SIGUSR1 does.
func (w *interrupts) onUSR1(show func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.show = show
}

func (w *interrupts) close() {
	signal.Stop(w.signals)
	close(w.done)
	w.cancel(nil)
}
