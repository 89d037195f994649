package confirm

import (
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/scrubd/scrubd/ioctl"
)

// quietTries is how often a moment without transactions under way is looked
// for. A busy AG has few of them that last for three calls.
const quietTries = 100

// QuietFunc makes one observation of an AG and tells whether no chain of
// transactions was under way there while it was made.
type QuietFunc func(ctx context.Context, agno ioctl.AGNumber, observe func() error) (bool, error)

// ProveQuiet looks at a confirmed candidate once more, in a moment in which
// nothing was under way in its AG, and sets Quiet: what is seen then is exact.
// A candidate that is not seen then is dropped. Where no such moment is to be
// had it stays as it is.
// Errors: quiet's, except those of a barrier that is not to be had; those that
// end a run.
func (s *Settler) ProveQuiet(ctx context.Context, c *SpaceCandidate, quiet QuietFunc) error {
	for range quietTries {
		var same, bad bool
		still, err := quiet(ctx, c.AGNo, func() error {
			parts, err := s.triple(c.Window, c.Conflict)
			if bad = unreadable(err); bad {
				return nil
			}
			same = slices.Equal(intersect(parts, c.Parts), c.Parts)
			return err
		})
		switch {
		case errors.Is(err, ioctl.ErrBusy), unreadable(err), errors.Is(err, ioctl.ErrNotSupported):
			return nil
		case err != nil:
			return err
		case bad:
			c.Status, c.Why = Unsettled, spaceUnreadable
			return nil
		case still:
			c.Quiet = same
			if !same {
				c.Status, c.Parts = Dropped, nil
			}
			return nil
		}
		if err := s.opts.Sleep(ctx, time.Duration(rand.Int64N(int64(20*time.Millisecond)))); err != nil {
			return err
		}
	}
	return nil
}
