package kernel

import (
	"context"
	"errors"
	"fmt"
	"time"

	"golang.org/x/sys/unix"

	"github.com/scrubd/scrubd/ioctl"
)

// Outcome is how a repair ended.
type Outcome uint8

// The outcomes.
const (
	// NoRepair is the outcome of a check.
	NoRepair Outcome = iota
	// Repaired: rebuilt or optimized, and the check that followed found nothing
	// but, at most, PREEN or WARNING.
	Repaired
	// NotNeeded: the check found no reason for a repair.
	NotNeeded
	// Unproven: no corruption is left to see, but the check could not
	// cross-reference everything.
	Unproven
	// StillBad: corrupt afterwards. The kernel says no more: it may have found
	// its sources corrupt, not have got its locks, or have rebuilt in vain.
	StillBad
	// Unsupported: this kernel or this filesystem has no such repair.
	Unsupported
	// NoSpace: not enough free blocks to stage the new structure.
	NoSpace
	// Busy: the kernel could not do it now, nor in the attempts that followed.
	Busy
	// Gone: there is no such object (any more).
	Gone
	// ReadOnly: the mount is read-only.
	ReadOnly
	// Failed: another error.
	Failed
	outcomeCount
)

var outcomeNames = [outcomeCount]string{
	"no repair", "repaired", "not needed", "unproven", "still bad", "unsupported", "no space", "busy", "gone", "read-only", "failed",
}

// String returns the outcome in words.
func (o Outcome) String() string {
	if o < outcomeCount {
		return outcomeNames[o]
	}
	return fmt.Sprintf("Outcome(%d)", uint8(o))
}

// Good says that nothing is left to repair: Repaired or NotNeeded.
func (o Outcome) Good() bool { return o == Repaired || o == NotNeeded }

// Sentinels for the outcomes that are no error of a call.
var (
	// ErrStillBad is the outcome StillBad.
	ErrStillBad = errors.New("still corrupt after the repair")
	// ErrUnproven is the outcome Unproven.
	ErrUnproven = errors.New("repaired, but the check that followed could not cross-reference everything")
	// ErrIncomplete is a check before or after the repair that did not come to its end.
	ErrIncomplete = errors.New("the check could not be finished")
)

// RepairError is a repair that is not known to have succeeded. errors.Is finds
// [ErrStillBad], [ErrUnproven] and [ErrIncomplete], and in the error of a call
// the sentinels of package ioctl: [ioctl.ErrNotSupported], [ioctl.ErrNoSpace],
// [ioctl.ErrBusy], [ioctl.ErrNoEntry], [ioctl.ErrReadOnly].
type RepairError struct {
	Object  Object
	Forced  bool
	Outcome Outcome
	// Flags are those of the check that followed, when there was one.
	Flags ioctl.ScrubFlags
	Err   error
}

// Error names what was to be repaired and why it was not.
func (e *RepairError) Error() string {
	verb := "repair"
	if e.Forced {
		verb = "rebuild"
	}
	if e.Flags != 0 {
		return fmt.Sprintf("%s %s: %v (%s)", verb, e.Object, e.Err, e.Flags)
	}
	return fmt.Sprintf("%s %s: %v", verb, e.Object, e.Err)
}

// Unwrap returns the reason.
func (e *RepairError) Unwrap() error { return e.Err }

// Repair has the kernel repair one object; with force, rebuild it whatever the
// check says. It waits for the repair that runs, if any: there is one at a time.
// What the repair reads, and whether it may cost anything, is not asked here.
//
// The error is nil only for the outcomes Repaired and NotNeeded. A
// [*RepairError] is about this object alone; a [*FatalError] or the context's
// error ends the run. A context that is done stops the waiting and the
// repetitions, and not a call that has begun.
//
// A forced rebuild that the kernel could not get the locks for comes back like
// one that succeeded (xrep_attempt drops EDEADLOCK), so that the state of the
// structure has to be looked at afterwards in any case.
func (s *Scrubber) Repair(ctx context.Context, o Object, force bool) (Result, error) {
	r := Result{Object: o}
	if err := s.beginRepair(ctx); err != nil {
		return r, fmt.Errorf("repair %s: %w", o, err)
	}
	defer func() { <-s.repairing }()
	if err := s.freezeHeld(o); err != nil {
		r.Outcome, r.Err = Failed, err
		return r, &RepairError{Object: o, Forced: force, Outcome: Failed, Err: err}
	}
	flags := ioctl.ScrubRepair
	if force {
		flags |= ioctl.ScrubForceRebuild
	}
	w := s.workers.acquire()
	defer s.workers.release(w)
	s.log.WithFields(map[string]any{"type": o.Type.String(), "forced": force}).Infof("repairing %s", o)
	began := time.Now()
	err := s.repair(ctx, w, &r, flags)
	s.log.WithField("took", time.Since(began)).Infof("repair of %s: %s", o, r.Outcome)
	return r, err
}

// beginRepair waits for its turn. A context that is done never gets one.
func (s *Scrubber) beginRepair(ctx context.Context) error {
	select {
	case s.repairing <- struct{}{}:
	case <-ctx.Done():
		return ctx.Err()
	}
	if err := ctx.Err(); err != nil {
		<-s.repairing
		return err
	}
	return nil
}

// repair makes the call, again while the kernel says that it could not now.
func (s *Scrubber) repair(ctx context.Context, w *worker, r *Result, flags ioctl.ScrubFlags) error {
	for {
		out, err := s.call(w, r.Object, flags)
		r.Attempts++
		if err != nil && endsRun(err) {
			r.Outcome, r.Err = Failed, err
			return &FatalError{Object: r.Object, Err: err}
		}
		repaired(r, flags, out, err)
		if r.Outcome.Good() {
			return nil
		}
		failed := &RepairError{
			Object: r.Object, Forced: flags.Has(ioctl.ScrubForceRebuild), Outcome: r.Outcome, Flags: r.Flags, Err: r.Err,
		}
		if r.Attempts >= attemptsAt(r) {
			return failed
		}
		if err := s.opts.Sleep(ctx, repairPatience.nap(r.Attempts)); err != nil {
			return fmt.Errorf("%w, then: %w", failed, err)
		}
	}
}

// attemptsAt bounds the calls of a repair that has come out as r says. A repair
// of the free space btrees that meets extents whose log item is not on disk yet
// leaves them corrupt without a word; a moment later it can work. It is built
// anew from the same source each time.
func attemptsAt(r *Result) int {
	switch {
	case r.Outcome == Busy:
		return repairPatience.attempts
	case r.Outcome == StillBad && (r.Type == ioctl.ScrubTypeBNOBT || r.Type == ioctl.ScrubTypeCNTBT):
		return repairPatience.attempts / 2
	}
	return 1
}

// repaired sorts the answer to a repair. The flags are those of the check that
// followed it, or of the one before where nothing was done.
func repaired(r *Result, asked, out ioctl.ScrubFlags, err error) {
	r.Flags, r.Err, r.Ran, r.Absent = 0, nil, false, false
	if err != nil {
		r.Outcome, r.Err = outcomeOf(err, asked), err
		r.Absent = r.Outcome == Gone
		if r.Outcome == Unsupported && !errors.Is(err, ioctl.ErrNotSupported) {
			r.Err = fmt.Errorf("%w: %w", &ioctl.UnsupportedFeatureError{Feature: "forced rebuild", MinimumVersion: "6.6"}, err)
		}
		return
	}
	r.Ran, r.Flags = true, out&ioctl.ScrubFlagsOut
	switch {
	case r.Flags.Has(ioctl.ScrubIncomplete):
		r.Outcome, r.Err = Busy, ErrIncomplete
	case r.Flags.Any(flagsBad):
		r.Outcome, r.Err = StillBad, ErrStillBad
	case r.Flags.Has(ioctl.ScrubXFail):
		r.Outcome, r.Err = Unproven, ErrUnproven
	case r.Flags.Has(ioctl.ScrubNoRepairNeeded):
		r.Outcome = NotNeeded
	default:
		r.Outcome = Repaired
	}
}

// outcomeOf sorts the error of a repair call.
func outcomeOf(err error, asked ioctl.ScrubFlags) Outcome {
	switch {
	case errors.Is(err, ioctl.ErrNotSupported):
		return Unsupported
	case errors.Is(err, unix.EINVAL) && asked.Has(ioctl.ScrubForceRebuild):
		return Unsupported // the flag is not known before Linux 6.6
	case errors.Is(err, ioctl.ErrNoSpace):
		return NoSpace
	case errors.Is(err, ioctl.ErrCorrupt):
		return StillBad
	case transient(err):
		return Busy
	case errors.Is(err, ioctl.ErrNoEntry), errors.Is(err, ioctl.ErrStale):
		return Gone
	case errors.Is(err, ioctl.ErrReadOnly):
		return ReadOnly
	}
	return Failed
}
