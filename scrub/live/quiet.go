package live

import (
	"context"
	"errors"

	"github.com/scrubd/scrubd/ioctl"
)

// watch collects the intents of one group for as long as a [Stream.Quiet]
// lasts.
type watch struct {
	group  Group
	events []intent
	losses uint64 // of the stream, at its begin
	full   bool
}

// intent is one that was announced (+1) or given back (-1). The kernel tells of
// both just before it counts them.
type intent struct {
	time  uint64
	delta int8
}

// span is a time of the clock of [Now], both ends included.
type span struct{ from, to uint64 }

// maxIntents bounds the events of one watch. A group with more of them in that
// time is not quiet.
const maxIntents = 1 << 16

// noteIntent keeps an intent for those who watch its group.
func (s *Stream) noteIntent(e *event) {
	for w := range s.watches {
		switch {
		case w.group != e.of():
		case len(w.events) == maxIntents:
			w.full = true
		default:
			w.events = append(w.events, intent{e.time, e.delta})
		}
	}
}

// Quiet makes one observation of a group and tells whether no chain of
// transactions was under way there while it was made; what was seen then is
// exact. drain has to wait for a moment without pending intents in the group
// ([kernel.Scrubber.Drain], [kernel.Scrubber.DrainRT]); it is called before and
// after the observation.
//
// How it is known: at some moment of a drain no intent was pending, so the
// lowest count during the drain was zero, and from there on the events tell
// the count. The second drain has to give the same count: an intent that the
// first one missed, because its thread stood between telling and counting,
// would show there as given back without having been announced.
//
// Errors: drain's and observe's; those of the stream; [ErrNoTracing] where the
// kernel does not count intents.
func (s *Stream) Quiet(ctx context.Context, g Group, drain func(context.Context, ioctl.AGNumber) error, observe func() error) (bool, error) {
	w, err := s.watch(g)
	if err != nil {
		return false, err
	}
	defer s.unwatch(w)
	var drains [2]span
	var seen span
	timed := func(at *span, do func() error) {
		if err == nil {
			at.from = Now()
			err = do()
			at.to = Now()
		}
	}
	timed(&drains[0], func() error { return drain(ctx, g.AGNo) })
	timed(&seen, observe)
	timed(&drains[1], func() error { return drain(ctx, g.AGNo) })
	if err != nil {
		return false, err
	}
	if err := s.Sync(ctx); err != nil {
		return false, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if w.full || w.losses != s.watchLoss {
		return false, nil
	}
	return quiet(w.events, drains, seen), nil
}

// quiet tells whether the count of pending intents was zero all through seen.
func quiet(events []intent, drains [2]span, seen span) bool {
	first, ok := lowest(events, drains[0])
	second, same := lowest(events, drains[1])
	if !ok || !same || first != second {
		return false
	}
	pending, then := -first, -first // before the first event; when the observation began
	for _, e := range events {
		if e.time >= seen.from && e.time <= seen.to {
			return false
		}
		pending += int64(e.delta)
		if e.time < seen.from {
			then = pending
		}
		if e.time >= drains[0].from && pending < 0 {
			return false // given back and never announced: the first drain missed it
		}
	}
	return then == 0
}

// lowest returns the lowest sum of the deltas at any moment of a span.
func lowest(events []intent, at span) (low int64, ok bool) {
	if at.to < at.from {
		return 0, false
	}
	var sum int64
	began := false
	for _, e := range events {
		if e.time > at.to {
			break
		}
		if e.time >= at.from && !began {
			low, began = sum, true
		}
		sum += int64(e.delta)
		if began {
			low = min(low, sum)
		}
	}
	if !began {
		low = sum
	}
	return low, true
}

// watch begins to collect the intents of a group.
func (s *Stream) watch(g Group) (*watch, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err != nil {
		return nil, s.err
	}
	if !s.intents {
		var errs []error
		for i := range intentSources {
			errs = append(errs, s.inst.filter(&intentSources[i], s.dev), s.inst.enable(&intentSources[i], true))
		}
		if err := errors.Join(errs...); err != nil {
			return nil, err
		}
		s.intents = true
	}
	w := &watch{group: g, losses: s.watchLoss}
	s.watches[w] = true
	return w, nil
}

func (s *Stream) unwatch(w *watch) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.watches, w)
}
