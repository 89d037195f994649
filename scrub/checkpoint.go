package scrub

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/scrubd/scrubd/scrub/state"
)

// checkpointEvery is how often it is written down how far a run is: what is lost
// when it is killed.
const checkpointEvery = 10 * time.Second

// maxFoundBefore bounds the faults that a checkpoint names.
const maxFoundBefore = 64

// checkpoints is what a run writes down for the next one, should it be stopped.
type checkpoints struct {
	ledger *ledger // what this pass has checked; nil where nothing is written

	mu      sync.Mutex // over all below, and around writing
	found   []state.FoundBefore
	off     bool   // since there was a repair
	saved   uint64 // changes of the ledger that were written
	written int
	err     error // of the last one
	dir     *state.Dir
}

// checkpointed makes a run and keeps written down how far it is: now and then, and
// as soon as it is told to stop, since a call in flight may outlast it. One that
// got through leaves nothing to go on with.
func (r *run) checkpointed(ctx context.Context, do func(context.Context) error) error {
	if r.points.ledger == nil {
		return do(ctx)
	}
	quit, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		every := r.opts.CheckpointEvery
		if every <= 0 {
			every = checkpointEvery
		}
		tick := time.NewTicker(every)
		defer tick.Stop()
		for stopped := ctx.Done(); ; {
			select {
			case <-quit:
				return
			case <-stopped:
				stopped = nil
				r.saveCheckpoint()
			case <-tick.C:
				r.saveCheckpoint()
			}
		}
	}()
	err := do(ctx)
	close(quit)
	<-done
	if err != nil && ctx.Err() == nil {
		// It was not stopped, it failed: whoever comes next looks at everything.
		r.points.ledger.reset()
	}
	r.endCheckpoints(err != nil)
	return err
}

// saveCheckpoint writes down what has been checked and found, if that is more than
// the last time. That it cannot is no reason to stop.
func (r *run) saveCheckpoint() {
	p := &r.points
	p.mu.Lock()
	defer p.mu.Unlock()
	now := p.ledger.clone()
	if p.off || now.changes == p.saved {
		return
	}
	c := &state.Checkpoint{
		RunID: r.id, Release: r.fs.Release(), Written: time.Now(), Shape: state.ShapeOf(r.fs.Geometry()),
		Lacking: r.kern.Uncovered(), Found: slices.Clone(p.found),
	}
	now.checkpoint(c)
	err := r.writeCheckpoint(c)
	if err != nil && p.err == nil {
		r.log.WithError(err).Warn("how far this run is cannot be written down")
	}
	if p.err = err; err == nil {
		p.saved = now.changes
		p.written++
	}
}

// writeCheckpoint writes into the state directory, or the one in its stead where
// that lies on this very filesystem.
func (r *run) writeCheckpoint(c *state.Checkpoint) error {
	p := &r.points
	if p.dir == nil {
		dir, err := state.Open(r.opts.StateDir, r.fs)
		if err != nil {
			return err
		}
		p.dir = dir
	}
	return p.dir.WriteCheckpoint(c)
}

// noteFound keeps what is known of a fault for the checkpoint.
func (r *run) noteFound(f *Finding) {
	p := &r.points
	if p.ledger == nil {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.ledger.reset() // what disagrees with it may be anywhere: the next run looks at everything
	now := state.FoundBefore{ID: f.ID, Outcome: string(f.Outcome), Summary: f.Summary}
	at := slices.IndexFunc(p.found, func(old state.FoundBefore) bool { return old.ID == f.ID })
	switch {
	case at >= 0:
		p.found[at] = now
	case len(p.found) < maxFoundBefore:
		p.found = append(p.found, now)
	}
}

// foundAll is called when a pass came to its end: what it did not find is not
// there.
func (r *run) foundAll() {
	r.judgedAll = true
	r.points.mu.Lock()
	defer r.points.mu.Unlock()
	r.points.found = slices.DeleteFunc(r.points.found, func(f state.FoundBefore) bool { return r.known[f.ID] == nil })
}

// endCheckpoints is called at the end of a run: one that got through has nothing to
// go on with, one that stopped leaves how far it came.
func (r *run) endCheckpoints(stopped bool) {
	p := &r.points
	switch {
	case !stopped:
		if err := state.DropCheckpoint(r.opts.StateDir, r.fs); err != nil {
			r.log.WithError(err).Warn("the checkpoint is left")
			r.sum.Notes = append(r.sum.Notes, fmt.Sprintf("the next run may go on where an earlier one stopped: %v", err))
		}
	case p.off:
	default:
		r.saveCheckpoint()
		groups, _ := p.ledger.counts()
		r.sum.Checkpoint = p.err == nil && p.written > 0 && groups > 0
		if p.err != nil {
			r.sum.Notes = append(r.sum.Notes, fmt.Sprintf("the next run has to begin anew, because how far this one came could not be written down: %v", p.err))
		}
	}
	r.noteCarried()
	if p.dir != nil {
		if err := p.dir.Close(); err != nil {
			r.log.WithError(err).Warn("close the state directory")
		}
	}
}

// repairsBegin is called before a repair: from then on nothing that was checked
// before says anything, and no checkpoint is to outlive it.
//
// Errors: [*StateError], and then nothing may be repaired.
func (r *run) repairsBegin() error {
	if r.partial() {
		return &StateError{errAnew} // whoever comes here has forgotten to ask
	}
	p := &r.points
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.off {
		return nil
	}
	if err := state.DropCheckpoint(r.opts.StateDir, r.fs); err != nil {
		return &StateError{err}
	}
	p.off = true
	return nil
}
