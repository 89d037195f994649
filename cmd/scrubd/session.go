package main

import (
	"context"
	"errors"
	"runtime/debug"
	"strings"
	"sync"
	"time"

	"github.com/scrubd/scrubd/ioctl"
	"github.com/scrubd/scrubd/scrub"
)

// engine is scrub.Run, or a test's.
type engine func(ctx context.Context, fs *ioctl.FS, o scrub.Options) (*scrub.Summary, error)

// session is one run over one filesystem as the command sees it: it hands the
// events on, remembers enough of them to close the report even when the run
// does not come back, and gives the run up when it does not end in time.
type session struct {
	rep    reporter
	prog   *progress
	cancel context.CancelCauseFunc
	grace  time.Duration
	// late, when set, decides how long the run may take to end instead of grace.
	late    func(grace time.Duration) (late <-chan struct{}, stop func())
	onStart func(*scrub.StartEvent)

	mu       sync.Mutex
	closed   bool
	start    *scrub.StartEvent
	findings []*scrub.Finding
}

// event takes one event of the run.
func (s *session) event(e scrub.Event) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return
	}
	switch e := e.(type) {
	case *scrub.StartEvent:
		s.start = e
	case *scrub.FindingEvent:
		s.keep(e.Finding)
	case *scrub.WaitEvent:
		s.prog.say("%s: waiting for %s, %s at most", s.prog.path, strings.Join(e.Who, ", "), e.Patience)
	}
	s.rep.event(e)
	s.prog.event(e)
	if start, ok := e.(*scrub.StartEvent); ok && s.onStart != nil {
		s.onStart(start)
	}
	if err := s.rep.failed(); err != nil {
		s.cancel(&outputError{Err: err})
	}
}

// keep replaces an earlier report of the same finding.
func (s *session) keep(f *scrub.Finding) {
	for i := range s.findings {
		if s.findings[i].ID == f.ID {
			s.findings[i] = f
			return
		}
	}
	s.findings = append(s.findings, f)
}

// run runs the engine and closes the report. It returns the exit status and
// the error that is to be complained of.
func (s *session) run(ctx context.Context, hurry <-chan struct{}, f *ioctl.FS, o scrub.Options, run engine) (int, error) {
	type result struct {
		summary *scrub.Summary
		err     error
	}
	o.Events = s.event
	done := make(chan result, 1)
	go func() {
		var r result
		// A bug must not end the process with a status that means something else
		// (Go's is 2), nor take along what was found.
		defer func() {
			if p := recover(); p != nil {
				r.err = &bugError{Panic: p, Stack: debug.Stack()}
			}
			done <- r
		}()
		r.summary, r.err = run(ctx, f, o)
	}()

	var r result
	select {
	case r = <-done:
	case <-ctx.Done():
		if s.late == nil {
			s.late = afterGrace
		}
		late, stop := s.late(s.grace)
		defer stop()
		select {
		case r = <-done:
		case <-hurry:
			r.err = s.prog.stuck()
		case <-late:
			r.err = s.prog.stuck()
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	s.prog.close()
	return s.end(ctx, r.summary, r.err)
}

// afterGrace gives a run its grace and no more.
func afterGrace(grace time.Duration) (late <-chan struct{}, stop func()) {
	done := make(chan struct{})
	timer := time.AfterFunc(grace, func() { close(done) })
	return done, func() { timer.Stop() }
}

// end decides how the run ended and closes the report.
func (s *session) end(ctx context.Context, summary *scrub.Summary, err error) (int, error) {
	// Once the context ended, its cause says more than what the run made of it.
	cause := context.Cause(ctx)
	var stuck *callStuckError
	if errors.As(err, &stuck) {
		stuck.Stopped = isA[*stopError](cause)
	}
	switch {
	case cause == nil:
	case err == nil && summary != nil && summary.Complete: // it was through already
	case err == nil, errors.Is(err, context.Canceled), errors.Is(err, ioctl.ErrInterrupted):
		err = cause
	}
	if err == nil && summary == nil {
		err = errors.New("the run ended without a result")
	}
	if summary == nil && s.start != nil {
		summary = &scrub.Summary{
			RunID: s.start.RunID, Mode: s.start.Mode, Coverage: s.start.Coverage, Began: s.start.Time,
			Findings: s.findings,
		}
	}
	if summary != nil && !summary.Complete && err != nil {
		summary.Incomplete = err.Error() + s.prog.reached()
	}
	status := 0
	if summary != nil {
		status = summary.ExitStatus()
	}
	if err != nil {
		status |= exitOperational
	}
	s.rep.end(summary, status, err)
	if werr := s.rep.failed(); werr != nil {
		return status | exitOperational, &outputError{Err: werr}
	}
	if isA[*stopError](err) {
		return status, nil // the person knows, and the report says how far it got
	}
	return status, err
}
