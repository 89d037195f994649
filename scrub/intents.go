package scrub

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/scrubd/scrubd/scrub/kernel"
	"github.com/scrubd/scrubd/scrub/state"
)

// StateError is a state directory in which the evidence or the intent of a
// repair could not be written down. No repair is run without both.
type StateError struct{ Err error }

// Error says what could not be written.
func (e *StateError) Error() string {
	return fmt.Sprintf("the state directory cannot be used: %v", e.Err)
}

// Unwrap returns the reason.
func (e *StateError) Unwrap() error { return e.Err }

// Interruption is a repair that an earlier run began and did not prove: it was
// killed, or the machine went down. Its fault is judged anew.
type Interruption struct {
	RunID, FindingID string
	// What is the repair in words, empty when its record was cut off while it was
	// written: a repair was about to begin, or had just ended. Summary is what it
	// was for.
	What, Summary string
	Began         time.Time
	// Rebooted tells that the machine has been started since; InCall that the
	// kernel's call had not come back. Error is how the call failed if it had.
	Rebooted, InCall bool
	Error            string
	EvidencePath     string
	// Now is how the fault stands at the end of this run; empty when it is not
	// there any more, or the run did not get that far.
	Now Outcome
}

// readInterrupted looks for what earlier runs left behind.
func (r *run) readInterrupted() {
	left, err := state.ReadInterrupted(r.opts.StateDir, r.fs)
	if err != nil {
		r.log.WithError(err).Warn("look for interrupted repairs")
		r.sum.Notes = append(r.sum.Notes, fmt.Sprintf("whether an earlier run was interrupted is not known: %v", err))
		return
	}
	for i := range left.Intents {
		in := &left.Intents[i]
		r.sum.Interrupted = append(r.sum.Interrupted, Interruption{
			RunID: in.RunID, FindingID: in.FindingID, What: in.What, Summary: in.Summary, Began: in.Began,
			Rebooted: in.Boot != "" && in.Boot != left.Boot, InCall: in.Ended.IsZero(), Error: in.Error,
			EvidencePath: in.EvidencePath,
		})
	}
	for range left.Torn {
		r.sum.Interrupted = append(r.sum.Interrupted, Interruption{})
	}
}

// explainInterrupted says how the faults of interrupted repairs stand now, and
// closes their intents: what is left of them is in the findings.
func (r *run) explainInterrupted() {
	if len(r.sum.Interrupted) == 0 {
		return
	}
	for i := range r.sum.Interrupted {
		in := &r.sum.Interrupted[i]
		if f := r.known[in.FindingID]; f != nil {
			in.Now = f.Outcome
		}
	}
	if r.mode == ModeCheck || r.mayChangeNothing() {
		return // it changes nothing; the next run that may repair closes them
	}
	if _, err := r.intentLog(); err != nil {
		r.log.WithError(err).Warn("close the intents of interrupted repairs")
		return
	}
	r.closeIntents()
}

// intentLog opens the log of intents and the directory for evidence, once.
//
// Errors: [*StateError].
func (r *run) intentLog() (*state.IntentLog, error) {
	if r.intents != nil {
		return r.intents, nil
	}
	dir, err := state.Open(r.opts.StateDir, r.fs)
	if err != nil {
		return nil, &StateError{err}
	}
	log, err := dir.Intents(r.ownLog)
	if err != nil {
		return nil, &StateError{errors.Join(err, dir.Close())}
	}
	if !log.Durable() {
		r.noteNotDurable(dir)
	}
	r.stateDir, r.intents = dir, log
	return log, nil
}

func (r *run) noteNotDurable(dir *state.Dir) {
	why := "was not prepared while it was well"
	if r.logDoubt != "" {
		why = "has a log of intents that is itself in question (" + r.logDoubt + ")"
	}
	r.sum.Notes = append(r.sum.Notes, fmt.Sprintf("%s lies on this filesystem and %s: after a power loss nobody will know what was being repaired", dir.Moved(), why))
}

// closeIntents writes down that a pass has proven all repairs so far.
func (r *run) closeIntents() {
	if r.intents == nil {
		return
	}
	if err := r.intents.CloseAll(); err != nil {
		// The next run finds them open and looks once more: no harm in that.
		r.log.WithError(err).Warn("close intents")
	}
}

func (r *run) closeState() {
	if r.intents != nil {
		if err := errors.Join(r.intents.Close(), r.stateDir.Close()); err != nil {
			r.log.WithError(err).Warn("close the state directory")
		}
	}
}

// callRepair has the kernel make one repair, with its intent on disk before.
// f is what it is for, nil for mere tidying up.
//
// Errors: [*StateError], and then no call was made; else as [kernel.Scrubber.Repair].
func (r *run) callRepair(ctx context.Context, id string, s step, f *Finding) (kernel.Result, error) {
	if why, denied := r.denies(s); denied {
		err := &kernel.RepairError{Object: s.obj, Forced: s.forced, Outcome: kernel.Unsupported, Err: errors.New(why)}
		return kernel.Result{Object: s.obj, Outcome: kernel.Unsupported, Err: err}, err
	}
	log, err := r.intentLog()
	if err == nil {
		err = r.repairsBegin()
	}
	if err != nil {
		return kernel.Result{Object: s.obj}, err
	}
	in := &state.Intent{
		RunID: r.id, FindingID: id, What: s.String(), ScrubType: s.obj.Type.String(),
		AGNo: uint32(s.obj.AGNo), Ino: uint64(s.obj.Ino), Gen: uint32(s.obj.Gen), Forced: s.forced,
	}
	if f != nil {
		in.Summary, in.EvidencePath = f.Summary, f.EvidencePath
	}
	intent, err := log.Begin(in)
	if err != nil {
		return kernel.Result{Object: s.obj}, &StateError{err}
	}
	res, err := r.kern.Repair(ctx, s.obj, s.forced)
	failed := err
	if failed == nil {
		failed = res.Err
	}
	if err := intent.Ended(failed); err != nil {
		// It stays open as begun; the next intent will not be written either, and
		// so end the repairs.
		r.log.WithError(err).Warn("write down the end of a repair")
	}
	return res, err
}

// prepareState makes room for intents on the filesystem itself, where the state
// directory lies there, while it is known to be well.
func (r *run) prepareState() {
	if r.mode != ModeRepair || !r.coverage.Repair || len(r.known) > 0 || r.sum.Unchecked > 0 || r.partial() {
		return
	}
	if err := state.PrepareOwn(r.opts.StateDir, r.fs); err != nil {
		r.log.WithError(err).Info("prepare the state directory")
	}
}
