package kernel

import (
	"context"
	"math/rand/v2"
	"time"
)

// patience bounds the attempts at one object and the naps between them.
type patience struct {
	attempts       int
	first, longest time.Duration
}

// The kernel itself has waited for half a minute before it says EBUSY, so that
// a few attempts are many. INCOMPLETE comes at once, for a lock that somebody
// holds, and most often is gone a few milliseconds later.
var (
	checkPatience  = patience{attempts: 8, first: 5 * time.Millisecond, longest: time.Second}
	repairPatience = patience{attempts: 6, first: 100 * time.Millisecond, longest: 5 * time.Second}
)

// nap is the pause after that many attempts: random, between half and the whole
// of a length that doubles. A fixed length could run in step with the writer
// that holds the lock.
func (p patience) nap(attempts int) time.Duration {
	length := p.longest
	if shift := attempts - 1; shift < 20 {
		length = min(p.first<<max(shift, 0), p.longest)
	}
	return length/2 + rand.N(length/2+1)
}

// sleep is time.Sleep under a context.
func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-t.C:
		return nil
	}
}

// settle repeats the check of an object that the kernel could not check now,
// until it can or patience is at its end; then the last answer stands.
func (s *Scrubber) settle(ctx context.Context, w *worker, r *Result) error {
	for r.Attempts < checkPatience.attempts {
		if err := s.opts.Sleep(ctx, checkPatience.nap(r.Attempts)); err != nil {
			return err
		}
		flags, err := s.call(w, r.Object, 0)
		switch s.answer(r, flags, err) {
		case settled:
			return nil
		case fatal:
			return &FatalError{Object: r.Object, Err: r.Err}
		case again:
		}
	}
	s.log.WithField("attempts", r.Attempts).Infof("gave up: %s", r)
	return nil
}
