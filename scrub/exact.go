package scrub

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/scrubd/scrubd/ioctl"
	"github.com/scrubd/scrubd/scrub/confirm"
	"github.com/scrubd/scrubd/scrub/kernel"
	"github.com/scrubd/scrubd/scrub/live"
)

// proveExact looks once more at what could not be settled, and at what nobody
// but scrubd sees and a repair would rest on, in a moment in which nothing is
// under way: one that the tracepoints tell of, or a freeze where that is allowed.
func (p *pass) proveExact(ctx context.Context, cands []*confirm.Candidate, space []*confirm.SpaceCandidate) error {
	var subjects []confirm.Subject
	for _, c := range cands {
		if c.Status == confirm.Unsettled || c.Status == confirm.Confirmed && !kernelSees(c) {
			subjects = append(subjects, c)
		}
	}
	for _, c := range space {
		if c.Status != confirm.Dropped {
			subjects = append(subjects, c)
		}
	}
	if len(subjects) == 0 {
		return nil
	}
	if err := p.proveQuiet(ctx, subjects); err != nil {
		if endsRun(ctx, err) {
			return err
		}
		p.r.log.WithError(err).Warn("look in a quiet moment")
	}
	if p.r.opts.Freeze == nil {
		return nil
	}
	err := p.settler.SettleFrozen(ctx, p.r.freeze, subjects)
	if err == nil || endsRun(ctx, err) {
		return err
	}
	// It was one more chance, and everything stands as it did without it.
	p.r.sum.Notes = append(p.r.sum.Notes, fmt.Sprintf("not all that was to be was looked at in a freeze: %v", err))
	return nil
}

// endsRun tells whether an error is more than a chance that was missed.
func endsRun(ctx context.Context, err error) bool {
	var fatal *kernel.FatalError
	return ctx.Err() != nil || errors.As(err, &fatal) || errors.Is(err, ioctl.ErrShutdown) || errors.Is(err, ioctl.ErrPrivilege)
}

// freeze is the caller's, while nothing of this run waits for the thaw.
func (r *run) freeze(ctx context.Context, look func(context.Context)) error {
	defer r.kern.HoldFreeze()()
	var began time.Time
	err := r.opts.Freeze(ctx, func(ctx context.Context) {
		began = time.Now()
		look(ctx)
	})
	if !began.IsZero() {
		r.sum.Freezes++
		r.sum.Frozen += time.Since(began)
	}
	return err
}

// noteFreezes says for how long nobody could write.
func (r *run) noteFreezes() {
	if n := r.sum.Freezes; n > 0 {
		r.sum.Notes = append(r.sum.Notes, fmt.Sprintf("writers had to wait in %s, for %s in all", plural(n, "freeze"), r.sum.Frozen.Round(time.Millisecond)))
	}
}

// kernelSees tells whether every difference of c is one that the kernel's own
// check of the fork has to find as well: a mapping that the rmapbt does not have.
// The other way round it does not look, nor whether an owner exists.
func kernelSees(c *confirm.Candidate) bool {
	for i := range c.Diffs {
		if !c.Diffs[i].HasClaim {
			return false
		}
	}
	return true
}

// proveQuiet uses the tracepoints, where there are any.
func (p *pass) proveQuiet(ctx context.Context, subjects []confirm.Subject) error {
	drain := p.r.drain()
	if drain == nil {
		return nil
	}
	stream, err := p.quietStream()
	if err != nil {
		p.r.log.WithError(err).Info("no tracepoints tell of a quiet moment")
		return nil
	}
	return p.settler.ProveQuiet(ctx, func(ctx context.Context, g live.Group, observe func() error) (bool, error) {
		if g.Realtime {
			return stream.Quiet(ctx, g, p.r.drainRT, observe)
		}
		return stream.Quiet(ctx, g, drain, observe)
	}, subjects)
}
