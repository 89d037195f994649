package throttle

import (
	"context"
	"slices"
	"time"
)

// Turn is one worker's leave to work. It belongs to one goroutine. The zero
// value and a nil *Turn are for workers that are not paced.
//
// Between Begin and End there is to be one piece of work without any lock of
// the run's own held at its ends: both may wait.
type Turn struct {
	t     *Throttle
	at    bool // has a place
	began time.Time
	debt  time.Duration // rest that is owed; negative when it was too long
}

// Turn returns the leave of a new worker, nil for a nil Throttle.
func (t *Throttle) Turn() *Turn {
	if t == nil {
		return nil
	}
	return &Turn{t: t}
}

// Begin waits for a place among those that are at work.
//
// Errors: ctx's.
func (n *Turn) Begin(ctx context.Context) error {
	if n == nil || n.t == nil || n.at {
		return ctx.Err()
	}
	if err := n.t.enter(ctx); err != nil {
		return err
	}
	n.at, n.began = true, time.Now()
	return nil
}

// End rests for what was done since Begin, and gives the place back. inside is
// how much of that time was itself a rest (in a vector of checks).
//
// Errors: ctx's.
func (n *Turn) End(ctx context.Context, inside time.Duration) error {
	if n == nil || !n.at {
		return ctx.Err()
	}
	defer n.Leave()
	t := n.t
	worked := max(0, time.Since(n.began)-inside)
	if inside > 0 {
		t.countInside(inside)
	}
	t.look()
	n.debt += t.owed(worked) - inside
	if n.debt < leastRest {
		return ctx.Err()
	}
	rest := min(n.debt, maxRest)
	took, err := t.rest(ctx, rest)
	n.debt -= took
	if rest == maxRest || took < rest {
		n.debt = 0 // what was cut off is not made up for
	}
	return err
}

// Rest is End and Begin: the pause between two pieces of work.
//
// Errors: ctx's.
func (n *Turn) Rest(ctx context.Context) error {
	if err := n.End(ctx, 0); err != nil {
		return err
	}
	return n.Begin(ctx)
}

// Leave gives the place back without a rest, at the end of all work or before
// something that is not to be paced. A turn that has none stays as it is.
func (n *Turn) Leave() {
	if n == nil || !n.at {
		return
	}
	n.at = false
	n.t.leave()
}

// Batch returns how many items of at most most are to be done at once: fewer
// when the speed is low, so that nobody waits for long behind one batch.
func (n *Turn) Batch(most int) int {
	if n == nil || n.t == nil {
		return most
	}
	n.t.mu.Lock()
	speed := n.t.pace()
	n.t.mu.Unlock()
	return max(1, most/8, int(float64(most)*min(1, speed)))
}

// Inside returns the rest between the checks of one vector, each of which takes
// about each; 0 where it is not worth while. It is short in any case: inside of
// the kernel nobody can be told to stop.
func (n *Turn) Inside(each time.Duration) time.Duration {
	if n == nil || n.t == nil {
		return 0
	}
	const least, most = 500 * time.Microsecond, 5 * time.Millisecond
	if rest := min(n.t.owed(each), most); rest >= least {
		return rest
	}
	return 0
}

// enter waits for a place.
func (t *Throttle) enter(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	t.look()
	t.mu.Lock()
	if len(t.waiting) == 0 && t.taken < t.places() {
		t.count()
		t.taken++
		t.mu.Unlock()
		return nil
	}
	t.count()
	place := make(chan struct{})
	t.waiting = append(t.waiting, place)
	t.mu.Unlock()
	again := time.NewTicker(sampleEvery)
	defer again.Stop()
	for {
		select {
		case <-place:
			if err := ctx.Err(); err != nil { // both at once
				t.leave()
				return err
			}
			return nil
		case <-again.C:
			t.look() // those at work may be in a long call
		case <-ctx.Done():
			if t.giveUp(place) {
				t.leave()
			}
			return ctx.Err()
		}
	}
}

// giveUp stops waiting for a place. It tells whether there is one by now.
func (t *Throttle) giveUp(place chan struct{}) (given bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	i := slices.Index(t.waiting, place)
	if i < 0 {
		return true
	}
	t.count()
	t.waiting = slices.Delete(t.waiting, i, i+1)
	return false
}

// leave gives a place back.
func (t *Throttle) leave() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.count()
	t.taken--
	t.admit()
}

// rest sleeps, and tells how long that took.
func (t *Throttle) rest(ctx context.Context, d time.Duration) (time.Duration, error) {
	t.mu.Lock()
	t.count()
	t.resting++
	t.mu.Unlock()
	defer func() {
		t.mu.Lock()
		defer t.mu.Unlock()
		t.count()
		t.resting--
	}()
	began := time.Now()
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-t.quit:
	case <-ctx.Done():
		return time.Since(began), ctx.Err()
	}
	return time.Since(began), nil
}
