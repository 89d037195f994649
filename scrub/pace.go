package scrub

import (
	"context"
	"iter"
	"slices"

	"github.com/scrubd/scrubd/scrub/confirm"
	"github.com/scrubd/scrubd/scrub/kernel"
	"github.com/scrubd/scrubd/scrub/throttle"
)

// paced rests between the batches of a view, each of which is a kernel call
// under the lock of an AG.
func paced[T any](ctx context.Context, turn *throttle.Turn, in iter.Seq2[[]T, error]) iter.Seq2[[]T, error] {
	return func(yield func([]T, error) bool) {
		if err := turn.Begin(ctx); err != nil {
			yield(nil, err)
			return
		}
		defer turn.Leave()
		for batch, err := range in {
			if !yield(batch, err) || err != nil {
				return
			}
			if err := turn.Rest(ctx); err != nil {
				yield(nil, err)
				return
			}
		}
	}
}

// hurry ends all rests once something is known to be wrong: what is damaged can
// get worse with time, and evidence is not to wait for a rest.
func (p *pass) hurry() {
	if p.damaged() {
		p.r.opts.Throttle.Hurry()
	}
}

// damaged tells whether anything has been found so far that does not go away.
func (p *pass) damaged() bool {
	bad := func(list []kernel.Result) bool { return slices.ContainsFunc(list, kernel.Result.Bad) }
	if bad(p.fsBad) {
		return true
	}
	for _, list := range p.inodeBad {
		if bad(list) {
			return true
		}
	}
	for i := range p.groups {
		g := &p.groups[i]
		if g.rmapErr != nil || len(badTypes(g, headerTypes...)) > 0 ||
			slices.ContainsFunc(g.candidates, func(c *confirm.Candidate) bool { return c.Status == confirm.Confirmed }) ||
			slices.ContainsFunc(g.space, func(c *confirm.SpaceCandidate) bool { return c.Status == confirm.Confirmed }) ||
			slices.ContainsFunc(g.shared, func(c *confirm.SharedCandidate) bool { return c.Status == confirm.Confirmed }) {
			return true
		}
	}
	return false
}
