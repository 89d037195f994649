package confirm

import (
	"context"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/scrubd/scrubd/scrub/live"
)

// sampling is how far the sampling of a candidate without a ctime has come.
type sampling struct {
	samples, barriers int
	since             time.Time // of the first of these samples
}

// standing is what the rounds of sampling read and change of a candidate.
type standing struct {
	group  live.Group
	status *Status
	why    *string
	*sampling
}

// sampled is a candidate that is settled by samples.
type sampled interface{ stand() standing }

// settleSampled samples every pending candidate, in rounds of a few samples with
// random naps between, and one barrier after each, until none is left.
// Errors: sample's, the barriers', ctx's.
func settleSampled[C sampled](ctx context.Context, s *Settler, cands []C, sample func(C) error) error {
	settled := func(c C) bool { return *c.stand().status != Pending }
	pending := slices.DeleteFunc(slices.Clone(cands), settled)
	total := len(pending)
	for round := 0; round < spaceRounds && len(pending) > 0; round++ {
		for range triplesPerRound {
			for _, c := range pending {
				if err := ctx.Err(); err != nil {
					return err
				}
				if err := sample(c); err != nil {
					return err
				}
			}
			if pending = slices.DeleteFunc(pending, settled); len(pending) == 0 {
				break
			}
			if err := s.opts.Sleep(ctx, time.Duration(rand.Int64N(int64(maxTripleNap)))); err != nil {
				return err
			}
		}
		if s.opts.Progress != nil {
			s.opts.Progress(round, len(pending), total)
		}
		if len(pending) == 0 {
			return nil
		}
		drained, err := s.pause(ctx, func(yield func(live.Group) bool) {
			for _, c := range pending {
				if !yield(c.stand().group) {
					return
				}
			}
		})
		if err != nil {
			return err
		}
		for _, c := range pending {
			if st := c.stand(); drained[st.group] {
				st.barriers++
			}
		}
	}
	for _, c := range pending {
		st := c.stand()
		*st.status, *st.why = Unsettled, "its blocks changed at every look"
		if st.samples >= samplesWithBarrier {
			*st.why = "its group was never seen without transactions under way"
		}
	}
	return nil
}

// sampledEnough tells whether the samples so far, all alike, confirm.
func (s *Settler) sampledEnough(st *sampling, realtime bool) bool {
	if !s.drains(realtime) {
		return st.samples >= samplesWithoutBarrier && time.Since(st.since) >= spaceSpan
	}
	return st.samples >= samplesWithBarrier && time.Since(st.since) >= spaceSpan && st.barriers >= spaceBarriers
}
