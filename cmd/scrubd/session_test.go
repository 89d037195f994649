package main

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/scrubd/scrubd/ioctl"
	"github.com/scrubd/scrubd/scrub"
)

// newTestSession is a session with a text report in out and progress in log.
func newTestSession(t *testing.T) (ctx context.Context, s *session, out, log *bytes.Buffer) {
	t.Helper()
	ctx, cancel := context.WithCancelCause(t.Context())
	t.Cleanup(func() { cancel(nil) })
	out = &bytes.Buffer{}
	prog, log := newTestProgress(progressNone, 0)
	return ctx, &session{
		rep: newTextReporter(out, testTarget, true), prog: prog, cancel: cancel, grace: 20 * time.Millisecond,
	}, out, log
}

func TestSessionOfARunThatEnds(t *testing.T) {
	ctx, s, out, _ := newTestSession(t)
	status, err := s.run(ctx, nil, nil, scrub.Options{},
		func(_ context.Context, _ *ioctl.FS, o scrub.Options) (*scrub.Summary, error) {
			o.Events(testStart)
			o.Events(&scrub.FindingEvent{Finding: heldFinding()})
			return testSummary(heldFinding()), nil
		})
	require.NoError(t, err)
	assert.Equal(t, exitCorruption, status)
	assert.Equal(t, 1, strings.Count(out.String(), "HELD corruption"))
}

func TestSessionOfARunThatFails(t *testing.T) {
	ctx, s, out, _ := newTestSession(t)
	down := &ioctl.Error{Op: "fsmap", Path: "/data", Errno: syscall.EIO, Down: true}
	status, err := s.run(ctx, nil, nil, scrub.Options{},
		func(_ context.Context, _ *ioctl.FS, o scrub.Options) (*scrub.Summary, error) {
			o.Events(testStart)
			o.Events(&scrub.FindingEvent{Finding: heldFinding()})
			return nil, down
		})
	require.ErrorIs(t, err, ioctl.ErrShutdown)
	assert.Equal(t, exitCorruption|exitOperational, status)
	assert.Contains(t, out.String(), "HELD corruption", "what was found is not lost")
	assert.Contains(t, out.String(), "/data: not finished: fsmap of /data: filesystem is shut down; 1 finding: 1 held\n")
}

func TestSessionOfARunThatSaysNothing(t *testing.T) {
	ctx, s, _, _ := newTestSession(t)
	status, err := s.run(ctx, nil, nil, scrub.Options{},
		func(context.Context, *ioctl.FS, scrub.Options) (*scrub.Summary, error) { return nil, nil })
	require.Error(t, err)
	assert.Equal(t, exitOperational, status, "what was not checked is not well")
}

func TestSessionOfARunThatPanics(t *testing.T) {
	ctx, s, out, _ := newTestSession(t)
	status, err := s.run(ctx, nil, nil, scrub.Options{},
		func(_ context.Context, _ *ioctl.FS, o scrub.Options) (*scrub.Summary, error) {
			o.Events(testStart)
			o.Events(&scrub.FindingEvent{Finding: heldFinding()})
			panic("index out of range")
		})
	require.ErrorContains(t, err, "a bug in scrubd: index out of range")
	assert.Equal(t, exitCorruption|exitOperational, status)
	assert.Contains(t, out.String(), "HELD corruption", "what was found is not lost")
	var log bytes.Buffer
	complain(&log, err)
	assert.Contains(t, log.String(), "session_test.go")
}

func TestSessionOfARunThatNeverStarts(t *testing.T) {
	ctx, s, out, _ := newTestSession(t)
	status, err := s.run(ctx, nil, nil, scrub.Options{},
		func(context.Context, *ioctl.FS, scrub.Options) (*scrub.Summary, error) {
			return nil, errors.New("no memory")
		})
	require.ErrorContains(t, err, "no memory")
	assert.Equal(t, exitOperational, status)
	assert.Empty(t, out.String(), "the error says it, on standard error")
}

// stopBy returns an engine that reports its start and a call in flight, then
// has the context ended and returns what is given.
func stopBy(cancel func(), events func(func(scrub.Event)), end func(ctx context.Context) (*scrub.Summary, error)) engine {
	return func(ctx context.Context, _ *ioctl.FS, o scrub.Options) (*scrub.Summary, error) {
		o.Events(testStart)
		events(o.Events)
		cancel()
		<-ctx.Done()
		return end(ctx)
	}
}

func TestSessionStoppedInOrder(t *testing.T) {
	ctx, s, out, _ := newTestSession(t)
	status, err := s.run(ctx, nil, nil, scrub.Options{}, stopBy(
		func() { s.cancel(&stopError{Signal: syscall.SIGTERM}) },
		func(emit func(scrub.Event)) { emit(walkAt(1234, time.Minute)) },
		func(ctx context.Context) (*scrub.Summary, error) {
			sum := testSummary()
			sum.Complete, sum.Incomplete = false, "stopped in phase walk: context canceled"
			return sum, ctx.Err()
		}))
	require.NoError(t, err, "who stops it need not be told that it stopped")
	assert.Equal(t, exitOperational, status)
	assert.Contains(t, out.String(),
		"/data: not finished: stopped by a signal (terminated); it was in phase walk, 1,234 of 5,000 done, 1,234 inodes walked\n")
}

// A run that was through when the signal came is a run that is through.
func TestSessionStoppedTooLate(t *testing.T) {
	ctx, s, out, _ := newTestSession(t)
	status, err := s.run(ctx, nil, nil, scrub.Options{}, stopBy(
		func() { s.cancel(&stopError{Signal: syscall.SIGTERM}) },
		func(func(scrub.Event)) {},
		func(context.Context) (*scrub.Summary, error) { return testSummary(), nil }))
	require.NoError(t, err)
	assert.Zero(t, status)
	assert.Contains(t, out.String(), "/data: clean")
}

func TestSessionEndsWithTheMount(t *testing.T) {
	ctx, s, out, _ := newTestSession(t)
	status, err := s.run(ctx, nil, nil, scrub.Options{}, stopBy(
		func() { s.cancel(&unmountedError{Path: "data"}) },
		func(func(scrub.Event)) {},
		func(ctx context.Context) (*scrub.Summary, error) { return nil, ctx.Err() }))
	require.ErrorContains(t, err, "data: no longer mounted")
	assert.Equal(t, exitOperational, status)
	assert.Contains(t, out.String(), "/data: not finished: data: no longer mounted\n")
}

// stuckEngine reports a finding and a call in flight, and then does not come
// back whatever the context says.
func stuckEngine(t *testing.T, cancel func()) engine {
	t.Helper()
	released := make(chan struct{})
	t.Cleanup(func() { close(released) })
	return func(_ context.Context, _ *ioctl.FS, o scrub.Options) (*scrub.Summary, error) {
		o.Events(testStart)
		o.Events(&scrub.FindingEvent{Finding: heldFinding()})
		e := walkAt(5, time.Minute)
		e.Call, e.CallAge = "scrub rmapbt AG 3", 50*time.Second
		o.Events(e)
		cancel()
		<-released
		o.Events(&scrub.FindingEvent{Finding: offsetFinding()}) // into a report that is closed
		return testSummary(), nil
	}
}

func TestSessionGivesUpAKernelCall(t *testing.T) {
	for name, hurry := range map[string]chan struct{}{"after the grace": nil, "at the second signal": make(chan struct{})} {
		t.Run(name, func(t *testing.T) {
			ctx, s, out, _ := newTestSession(t)
			if hurry != nil {
				s.grace = time.Hour
			}
			status, err := s.run(ctx, hurry, nil, scrub.Options{}, stuckEngine(t, func() {
				s.cancel(&stopError{Signal: syscall.SIGTERM})
				if hurry != nil {
					close(hurry)
				}
			}))
			var stuck *callStuckError
			require.ErrorAs(t, err, &stuck)
			assert.True(t, wasStopped(err), "not of itself: it counts as stopped")
			assert.Equal(t, "scrub rmapbt AG 3", stuck.Call)
			assert.Equal(t, exitCorruption|exitOperational, status)
			assert.Contains(t, out.String(), "HELD corruption")
			assert.Contains(t, out.String(), "not finished: stopped while a kernel call had not come back (scrub rmapbt AG 3); it was in phase walk, 5 of 5,000 done, 5 inodes walked")
		})
	}
}

func TestSessionStopsWhenNobodyReads(t *testing.T) {
	ctx, s, _, _ := newTestSession(t)
	s.rep = newTextReporter(&fullWriter{room: 10}, testTarget, true)
	status, err := s.run(ctx, nil, nil, scrub.Options{},
		func(ctx context.Context, _ *ioctl.FS, o scrub.Options) (*scrub.Summary, error) {
			o.Events(testStart)
			<-ctx.Done()
			return nil, ctx.Err()
		})
	var output *outputError
	require.ErrorAs(t, err, &output)
	assert.Equal(t, exitOperational, status)
}

func TestInterrupts(t *testing.T) {
	said := make(chan string, 8)
	ctx, w := watchInterrupts(t.Context(), func(s string) { said <- s })
	defer w.close()
	shown := make(chan struct{}, 8)
	w.onUSR1(func() { shown <- struct{}{} })

	self, err := os.FindProcess(os.Getpid())
	require.NoError(t, err)
	require.NoError(t, self.Signal(syscall.SIGUSR1))
	<-shown
	require.NoError(t, ctx.Err(), "asking is not stopping")

	require.NoError(t, self.Signal(syscall.SIGTERM))
	<-ctx.Done()
	var stop *stopError
	require.ErrorAs(t, context.Cause(ctx), &stop)
	assert.Equal(t, syscall.SIGTERM, stop.Signal)
	assert.Contains(t, <-said, "terminated: stopping after the kernel calls in flight")
	select {
	case <-w.hurry:
		t.Fatal("in a hurry after one signal")
	default:
	}
	require.NoError(t, self.Signal(syscall.SIGINT))
	<-w.hurry
}

func TestWatchEndsWithItsContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		systemMounts().watch(ctx, -1, func() {}) // nothing has this id, but nothing changes either
		close(done)
	}()
	cancel()
	select {
	case <-done:
	case <-time.After(10 * mountPoll):
		t.Fatal("the watch goes on")
	}
}

func TestLoggerSpeaksWhenAsked(t *testing.T) {
	var quiet, verbose strings.Builder
	newLogger(&quiet, false).Info("hello")
	newLogger(&verbose, true).Info("hello")
	assert.Empty(t, quiet.String())
	assert.Contains(t, verbose.String(), "hello")
	newLogger(io.Discard, false).Warn("nobody")
}
