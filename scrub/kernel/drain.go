package kernel

import (
	"context"
	"fmt"

	"github.com/scrubd/scrubd/ioctl"
)

// drainSince is the first Linux release whose scrub waits for the intents of an
// AG before it looks.
var drainSince = [2]int{6, 4}

// Drain is the AG drain barrier: when it returns nil, there was an instant
// during the call at which no chain of deferred updates was pending in the AG,
// so that every chain seen in part before the call is finished. On an AG that
// is written to all the time it may take long.
//
// The carrier is the scrub of the AGFL, the cheapest that locks the AG. What it
// finds does not matter, except that after CORRUPT it is not known whether it
// came as far as the lock; then the AGF's and the AGI's are asked too.
//
// Errors: [ioctl.ErrNotSupported] where the kernel has no scrub or one that
// does not wait; [ioctl.ErrCorrupt] where the headers cannot be read; the
// object's own, such as [ioctl.ErrBusy]; a [*FatalError].
//
// Source: fs/xfs/scrub/common.c (xchk_perag_drain_and_lock).
func (s *Scrubber) Drain(ctx context.Context, agno ioctl.AGNumber) error {
	if !releaseAtLeast(s.fs.Release(), drainSince) {
		return fmt.Errorf("drain AG %d of %s: %w", agno, s.fs.Path(), &ioctl.UnsupportedFeatureError{
			Feature: "waiting for the intents of an AG", MinimumVersion: fmt.Sprintf("%d.%d", drainSince[0], drainSince[1]),
		})
	}
	for _, t := range []ioctl.ScrubType{ioctl.ScrubTypeAGFL, ioctl.ScrubTypeAGF, ioctl.ScrubTypeAGI} {
		r, err := s.One(ctx, Object{Type: t, AGNo: agno})
		switch {
		case err != nil:
			return err
		case r.Err != nil:
			return fmt.Errorf("drain AG %d: %w", agno, r.Err)
		case !r.Ran:
			return fmt.Errorf("drain AG %d of %s: %w", agno, s.fs.Path(), ioctl.ErrNoEntry)
		case !r.Flags.Has(ioctl.ScrubCorrupt):
			return nil
		}
	}
	return fmt.Errorf("drain AG %d of %s: its headers cannot be locked: %w", agno, s.fs.Path(), ioctl.ErrCorrupt)
}

// releaseAtLeast compares a kernel release such as "6.12.9-amd64". One that is
// not understood is older than everything.
func releaseAtLeast(release string, want [2]int) bool {
	var have [2]int
	if _, err := fmt.Sscanf(release, "%d.%d", &have[0], &have[1]); err != nil {
		return false
	}
	if have[0] != want[0] {
		return have[0] > want[0]
	}
	return have[1] >= want[1]
}
