package confirm

import (
	"cmp"
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/scrubd/scrubd/ioctl"
	"github.com/scrubd/scrubd/scrub/live"
)

// How long a moment without transactions under way is looked for. A busy AG has
// few of them, and the fewer the more is looked at in one.
const (
	quietTries = 100
	quietBatch = 32
	// quietShrink is after how many tries in vain less is looked at in one go.
	quietShrink = 4
)

// QuietFunc makes one observation of a group and tells whether no chain of
// transactions was under way there while it was made.
type QuietFunc func(ctx context.Context, g live.Group, observe func() error) (bool, error)

// ProveQuiet looks at each subject once more, in a moment in which nothing was
// under way in its AG, and settles it: what is seen then is exact. Where no such
// moment is to be had a subject stays as it is.
// Errors: quiet's, except those of a barrier that is not to be had; those that
// end a run.
func (s *Settler) ProveQuiet(ctx context.Context, quiet QuietFunc, subjects []Subject) error {
	todo := slices.DeleteFunc(slices.Clone(subjects), Subject.settled)
	slices.SortStableFunc(todo, func(a, b Subject) int { return compareGroups(a.group(), b.group()) })
	for len(todo) > 0 {
		g := todo[0].group()
		n := slices.IndexFunc(todo, func(t Subject) bool { return t.group() != g })
		if n < 0 {
			n = len(todo)
		}
		if err := s.proveGroup(ctx, quiet, g, todo[:n]); err != nil {
			return err
		}
		todo = todo[n:]
	}
	return nil
}

// compareGroups orders AGs by number, and realtime groups behind them.
func compareGroups(a, b live.Group) int {
	switch {
	case a.Realtime == b.Realtime:
		return cmp.Compare(a.AGNo, b.AGNo)
	case b.Realtime:
		return -1
	default:
		return 1
	}
}

// proveGroup settles what it can of one group.
func (s *Settler) proveGroup(ctx context.Context, quiet QuietFunc, g live.Group, todo []Subject) error {
	size := min(quietBatch, len(todo))
	for tries := 0; len(todo) > 0 && tries < quietTries; {
		batch := todo[:min(size, len(todo))]
		ready, err := s.prepareAll(batch)
		if err != nil {
			return err
		}
		if len(ready) == 0 {
			todo = todo[len(batch):]
			continue
		}
		for vain := 0; ; {
			still, err := s.proveBatch(ctx, quiet, g, ready)
			switch {
			case ctx.Err() != nil:
				return ctx.Err()
			case errors.Is(err, ioctl.ErrBusy), unreadable(err), errors.Is(err, ioctl.ErrNotSupported), errors.Is(err, ioctl.ErrNoEntry):
				return nil
			case err != nil:
				return err
			}
			if still {
				todo, tries = todo[len(batch):], 0
				break
			}
			if err := s.opts.Sleep(ctx, time.Duration(rand.Int64N(int64(20*time.Millisecond)))); err != nil {
				return err
			}
			tries++
			if vain++; vain == quietShrink && size > 1 {
				size /= 2
				break
			}
			if tries == quietTries {
				return nil
			}
		}
	}
	return nil
}

// proveBatch makes one observation of each, and settles them if it was quiet.
func (s *Settler) proveBatch(ctx context.Context, quiet QuietFunc, g live.Group, ready []Subject) (bool, error) {
	settle := make([]func(), len(ready))
	s.round++ // what could not be read before is tried in this moment
	still, err := quiet(ctx, g, func() error {
		for i, t := range ready {
			var err error
			if settle[i], err = t.observe(s); err != nil && !unreadable(err) {
				return err
			}
		}
		return nil
	})
	if err != nil || !still {
		return false, err
	}
	for _, f := range settle {
		if f != nil {
			f()
		}
	}
	return true, nil
}

// prepareAll gets subjects ready and returns those that an observation tells
// something about.
func (s *Settler) prepareAll(batch []Subject) (ready []Subject, err error) {
	var owners []uint64
	for _, t := range batch {
		owners = append(owners, t.owners()...)
	}
	slices.Sort(owners)
	s.makeRoom(slices.Compact(owners))
	for _, t := range batch {
		ok, err := t.prepare(s)
		if err != nil {
			return nil, err
		}
		if ok {
			ready = append(ready, t)
		}
	}
	return ready, nil
}
