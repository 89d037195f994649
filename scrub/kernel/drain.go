package kernel

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/scrubd/scrubd/ioctl"
)

// drainSince is the first Linux release whose scrub waits for the intents of an
// AG before it looks, drainRTSince that which does so for a realtime group.
var (
	drainSince   = [2]int{6, 4}
	drainRTSince = [2]int{6, 14}
)

// How long a barrier is waited for. Where one was not to be had in that time the
// next one gets less, down to the least, so that an AG that is never quiet holds
// up nobody for long.
const (
	drainPatience      = 5 * time.Second
	leastDrainPatience = 100 * time.Millisecond
)

// drains are the barriers of a scrubber's groups: one at a time for each, because
// one that nobody waits for any more stays in the kernel.
type drains struct {
	mu     sync.Mutex
	groups map[drained]*groupDrain
}

// drained is a group that a barrier is for.
type drained struct {
	realtime bool
	number   ioctl.AGNumber
}

func (g drained) String() string {
	if g.realtime {
		return fmt.Sprintf("rtgroup %d", g.number)
	}
	return fmt.Sprintf("AG %d", g.number)
}

type groupDrain struct {
	busy     chan struct{} // full while one is in the kernel
	patience time.Duration
}

func (d *drains) of(of drained) *groupDrain {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.groups == nil {
		d.groups = make(map[drained]*groupDrain)
	}
	g := d.groups[of]
	if g == nil {
		g = &groupDrain{busy: make(chan struct{}, 1), patience: drainPatience}
		d.groups[of] = g
	}
	return g
}

// Drain is the AG drain barrier: when it returns nil, there was an instant
// during the call at which no chain of deferred updates was pending in the AG,
// so that every chain seen in part before the call is finished. On an AG that
// is written to all the time there may be none for long; then it gives up, and
// the kernel's call is left to itself.
//
// The carrier is the scrub of the AGFL, the cheapest that locks the AG. What it
// finds does not matter, except that after CORRUPT it is not known whether it
// came as far as the lock; then the AGF's and the AGI's are asked too.
//
// Errors: [ioctl.ErrNotSupported] where the kernel has no scrub or one that
// does not wait; [ioctl.ErrCorrupt] where the headers cannot be read; the
// object's own, such as [ioctl.ErrBusy], which it also is when there was no such
// instant in time; ctx's; a [*FatalError].
//
// Source: fs/xfs/scrub/common.c (xchk_perag_drain_and_lock).
func (s *Scrubber) Drain(ctx context.Context, agno ioctl.AGNumber) error {
	return s.barrier(ctx, drained{number: agno}, drainSince, ioctl.ScrubTypeAGFL, ioctl.ScrubTypeAGF, ioctl.ScrubTypeAGI)
}

// DrainRT is that barrier for a realtime group. The scrub of the realtime
// superblock is the cheapest that waits for the group's intents, and only group 0
// has one; those of the summary and of the bitmap read the bitmap to its end.
//
// Errors: as for Drain.
//
// Source: fs/xfs/scrub/common.c (xchk_rtgroup_lock).
func (s *Scrubber) DrainRT(ctx context.Context, rgno ioctl.RGNumber) error {
	types := []ioctl.ScrubType{ioctl.ScrubTypeRTSUM, ioctl.ScrubTypeRTBITMAP}
	if rgno == 0 && s.geo.HasRTRmapbt() { // without the rtrmapbt it waits for nothing
		types = append([]ioctl.ScrubType{ioctl.ScrubTypeRGSUPER}, types...)
	}
	return s.barrier(ctx, drained{realtime: true, number: ioctl.AGNumber(rgno)}, drainRTSince, types...)
}

// barrier waits for a moment without intents in a group, by scrubs of one of the
// given types.
func (s *Scrubber) barrier(ctx context.Context, of drained, since [2]int, types ...ioctl.ScrubType) error {
	if !releaseAtLeast(s.fs.Release(), since) {
		return fmt.Errorf("drain %s of %s: %w", of, s.fs.Path(), &ioctl.UnsupportedFeatureError{
			Feature: "waiting for the intents of a group", MinimumVersion: fmt.Sprintf("%d.%d", since[0], since[1]),
		})
	}
	g := s.drains.of(of)
	s.drains.mu.Lock()
	late := time.NewTimer(g.patience)
	s.drains.mu.Unlock()
	defer late.Stop()
	done := make(chan error, 1)
	select {
	case g.busy <- struct{}{}:
	case <-late.C:
		return s.neverQuiet(g, of)
	case <-ctx.Done():
		return ctx.Err()
	}
	go func() {
		err := s.drain(ctx, of, types)
		<-g.busy
		done <- err
	}()
	select {
	case err := <-done:
		if err == nil {
			s.drains.mu.Lock()
			g.patience = drainPatience
			s.drains.mu.Unlock()
		}
		return err
	case <-late.C:
		return s.neverQuiet(g, of)
	case <-ctx.Done():
		return ctx.Err()
	}
}

// neverQuiet is the error of a barrier that was given up.
func (s *Scrubber) neverQuiet(g *groupDrain, of drained) error {
	s.drains.mu.Lock()
	defer s.drains.mu.Unlock()
	waited := g.patience
	g.patience = max(g.patience/2, leastDrainPatience)
	return fmt.Errorf("drain %s of %s: no moment without transactions under way within %s: %w",
		of, s.fs.Path(), waited, ioctl.ErrBusy)
}

// drain makes the calls of one barrier.
func (s *Scrubber) drain(ctx context.Context, of drained, types []ioctl.ScrubType) error {
	for _, t := range types {
		r, err := s.One(ctx, Object{Type: t, AGNo: of.number})
		switch {
		case err != nil:
			return err
		case r.Err != nil:
			return fmt.Errorf("drain %s: %w", of, r.Err)
		case !r.Ran:
			return fmt.Errorf("drain %s of %s: %w", of, s.fs.Path(), ioctl.ErrNoEntry)
		case !r.Flags.Has(ioctl.ScrubCorrupt):
			return nil
		}
	}
	return fmt.Errorf("drain %s of %s: it cannot be locked: %w", of, s.fs.Path(), ioctl.ErrCorrupt)
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
