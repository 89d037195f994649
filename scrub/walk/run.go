package walk

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"

	"golang.org/x/sync/errgroup"

	"github.com/scrubd/scrubd/ioctl"
	"github.com/scrubd/scrubd/shadow"
	"github.com/scrubd/scrubd/xfile"
)

// Run walks all inodes of fs and returns what they claim. The caller closes the
// result; after an error there is none.
//
// It flushes inodegc first, so that files unlinked before the walk are in
// neither the inobt nor the rmapbt. Never call it while the filesystem is
// frozen.
//
// Memory: claims and chunks are pageable and count in the budget; the Go heap
// holds buffers of about 1 MiB a worker, whatever the size of the filesystem,
// and lists of [ListCap] entries at most.
// Errors: ctx's; [xfile.ErrBudget] and [xfile.SpaceError] when there is no room
// for the claims; [ioctl.ErrShutdown]; [ioctl.ErrPrivilege]; [ioctl.ErrNotSupported].
// What concerns single inodes is no error but in the result.
func Run(ctx context.Context, fs *ioctl.FS, o Options) (res *Result, err error) {
	s := &shared{fs: fs, options: &o, large: newLargeBuffers()}
	s.res = &Result{Geometry: fs.Geometry()}
	s.notes.res = s.res
	defer func() {
		if err != nil {
			err = errors.Join(err, s.res.Close())
			res = nil
		}
	}()
	if err := s.makeArrays(); err != nil {
		return nil, fmt.Errorf("walk %s: %w", fs.Path(), err)
	}
	if err := s.walk(ctx); err != nil {
		return nil, fmt.Errorf("walk %s after %d inodes: %w", fs.Path(), s.inodes.Load(), err)
	}
	if err := xfile.Guard(func() error { return errors.Join(s.reach(ctx), s.readAgain(ctx)) }); err != nil {
		return nil, fmt.Errorf("read inodes of %s again: %w", fs.Path(), err)
	}
	if err := s.sort(ctx); err != nil {
		return nil, fmt.Errorf("sort the claims of %s: %w", fs.Path(), err)
	}
	return s.res, nil
}

// shared is what the workers of one walk have in common.
type shared struct {
	fs        *ioctl.FS
	options   *Options
	res       *Result
	notes     notes
	feeders   feeders
	large     chan *ioctl.BmapBuffer
	statFlags ioctl.BulkFlags

	inodes, extents atomic.Uint64 // for Progress
}

func (s *shared) makeArrays() error {
	g := s.res.Geometry
	opts := func(name string) xfile.Options {
		return xfile.Options{Name: name, Budget: s.options.Budget, Dir: s.options.Dir, AvoidDevice: s.fs.Device()}
	}
	s.feeders.all = make([]feeder, g.AGCount)
	s.res.Claims = make([]*xfile.Array[shadow.Rmap], g.AGCount)
	s.res.Chunks = make([]*xfile.Array[Chunk], g.AGCount)
	var err error
	for agno := range g.AGCount {
		if s.res.Claims[agno], err = xfile.NewArray[shadow.Rmap](opts("claims")); err != nil {
			return err
		}
		if s.res.Chunks[agno], err = xfile.NewArray[Chunk](opts("chunks")); err != nil {
			return err
		}
	}
	if g.RTGrouped() {
		s.res.RTClaims = make([]*xfile.Array[shadow.Rmap], g.RTGroups())
		for rgno := range s.res.RTClaims {
			if s.res.RTClaims[rgno], err = xfile.NewArray[shadow.Rmap](opts("realtime claims")); err != nil {
				return err
			}
		}
	}
	if s.res.Opaque, err = xfile.NewArray[Opaque](opts("opaque inodes")); err != nil {
		return err
	}
	if s.res.Silent, err = xfile.NewArray[ioctl.Ino](opts("silent inodes")); err != nil {
		return err
	}
	if s.res.Shared, err = xfile.NewArray[Shared](opts("shared blocks")); err != nil {
		return err
	}
	s.res.RTShared, err = xfile.NewArray[Shared](opts("shared realtime blocks"))
	return err
}

// walk runs the workers.
func (s *shared) walk(ctx context.Context) error {
	if err := s.fs.FlushInodegc(); err != nil && !errors.Is(err, ioctl.ErrReadOnly) && !errors.Is(err, ioctl.ErrNotSupported) {
		return err
	}
	if err := s.probeBulkstat(); err != nil {
		return err
	}
	n := s.options.workers()
	group, ctx := errgroup.WithContext(ctx)
	for i := range n {
		group.Go(func() error {
			return xfile.Guard(func() error {
				w := s.newWorker(ctx, n)
				if i == 0 {
					if err := claimStatic(w.data.claims, s.res.Geometry); err != nil {
						return err
					}
					if err := claimRTStatic(w.rt.claims, s.res.Geometry); err != nil {
						return err
					}
				}
				return w.run(ctx)
			})
		})
	}
	return group.Wait()
}

// probeBulkstat finds out whether BULKSTAT knows 64-bit extent counts: since
// Linux 5.19.
func (s *shared) probeBulkstat() error {
	buf := ioctl.NewBulkstatBuffer(1)
	for _, s.statFlags = range []ioctl.BulkFlags{ioctl.BulkNrext64, 0} {
		_, err := s.fs.Bulkstat(&ioctl.BulkRequest{Ino: s.fs.RootIno(), Flags: s.statFlags}, buf)
		switch {
		case err == nil || bulkOutcome(err) == unreadable:
			return nil
		case !isInvalid(err) || s.statFlags == 0:
			return err
		}
	}
	return nil
}

// sort sorts everything that has an order. Sorting an array uses all cores by
// itself, so they take turns.
func (s *shared) sort(ctx context.Context) error {
	return xfile.Guard(func() error {
		for _, a := range slices.Concat(s.res.Claims, s.res.RTClaims) {
			if err := a.SortKeyed(ctx, startBlock, shadow.Compare); err != nil {
				return err
			}
		}
		place := func(m *Shared) uint64 { return uint64(m.AGNo)<<32 | uint64(m.Start) }
		for _, a := range []*xfile.Array[Shared]{s.res.Shared, s.res.RTShared} {
			if err := a.SortKeyed(ctx, place, func(_, _ *Shared) int { return 0 }); err != nil {
				return err
			}
		}
		key := func(o *Opaque) uint64 { return uint64(o.Ino) }
		if err := s.res.Opaque.SortKeyed(ctx, key, func(_, _ *Opaque) int { return 0 }); err != nil {
			return err
		}
		ino := func(i *ioctl.Ino) uint64 { return uint64(*i) }
		return s.res.Silent.SortKeyed(ctx, ino, func(_, _ *ioctl.Ino) int { return 0 })
	})
}

func startBlock(r *shadow.Rmap) uint64 { return uint64(r.StartBlock) }
