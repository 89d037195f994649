package walk

import (
	"context"
	"fmt"
	"slices"

	"github.com/scrubd/scrubd/ioctl"
	"github.com/scrubd/scrubd/shadow"
)

// Read says when inodes were read: every inode in [First, End) that there was, at
// some moment between Began and Done, in the unit of the [Watcher]'s clock.
type Read struct {
	First, End  ioctl.Ino // of one group
	Began, Done uint64
}

// Watcher holds the walk against what the kernel changes meanwhile. Its methods
// are called by several goroutines, except Again.
type Watcher interface {
	// Now is the clock.
	Now() uint64
	// Read is told of every stretch of inodes. Stretches do not overlap, except
	// that single inodes are read again.
	Read(r Read) error
	// Again is asked when all inodes have been read, until it returns none, for
	// those that have to be read once more: something happened to them just while
	// they were read.
	Again(ctx context.Context) ([]ioctl.Ino, error)
}

// now is the watcher's clock, if there is one.
func (s *shared) now() uint64 {
	if s.options.Watcher == nil {
		return 0
	}
	return s.options.Watcher.Now()
}

// wasRead tells the watcher that inodes [first, end) were read since began.
func (s *shared) wasRead(first, end ioctl.Ino, began uint64) error {
	return s.wasReadBy(first, end, began, s.now())
}

func (s *shared) wasReadBy(first, end ioctl.Ino, began, done uint64) error {
	if s.options.Watcher == nil || first >= end {
		return nil
	}
	return s.options.Watcher.Read(Read{First: first, End: end, Began: began, Done: done})
}

// readAgain reads inodes anew that something happened to while they were read.
// What they claimed then is taken out of the claims.
func (s *shared) readAgain(ctx context.Context) error {
	for s.options.Watcher != nil {
		inos, err := s.options.Watcher.Again(ctx)
		if err != nil || len(inos) == 0 {
			return err
		}
		if err := s.forget(ctx, inos); err != nil {
			return err
		}
		w := s.newWorker(ctx, 1)
		for _, ino := range inos {
			if err := w.readOne(ctx, ino); err != nil {
				return err
			}
		}
		// Its counters would count inodes twice.
		if err := w.flush(); err != nil {
			return err
		}
		s.res.Reread += uint64(len(inos))
	}
	return nil
}

// forget takes the claims of inodes out of all groups.
func (s *shared) forget(ctx context.Context, inos []ioctl.Ino) error {
	set := make(map[uint64]struct{}, len(inos))
	for _, ino := range inos {
		set[uint64(ino)] = struct{}{}
	}
	for i, a := range slices.Concat(s.res.Claims, s.res.RTClaims) {
		some := false
		for recs, err := range a.Chunks(ctx) {
			if err != nil {
				return fmt.Errorf("forget claims on group %d: %w", i, err)
			}
			for j := range recs {
				if _, ok := set[recs[j].Owner]; ok {
					recs[j] = shadow.Rmap{}
					some = true
				}
			}
		}
		if !some {
			continue
		}
		// Storing an unset record is what tells the array that there are any.
		if err := a.Set(a.Len(), shadow.Rmap{}); err != nil {
			return fmt.Errorf("forget claims on group %d: %w", i, err)
		}
	}
	return nil
}

// readOne reads one inode, if it is there.
func (w *worker) readOne(ctx context.Context, ino ioctl.Ino) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	began := w.now()
	agno, _ := w.res.Geometry.InoToAGIno(ino)
	req := ioctl.BulkRequest{Ino: ino, Flags: w.statFlags | ioctl.BulkAGNo, AGNo: agno}
	n, err := w.fs.Bulkstat(&req, w.oneStat)
	switch {
	case err != nil && bulkOutcome(err) != unreadable:
		return err
	case err != nil:
		w.notes.unreadable(Unreadable{Ino: ino, LastIno: ino, Stage: StageBulkstat, Err: err})
	case n > 0 && w.oneStat.Records()[0].Ino == ino:
		if err := w.readInode(&w.oneStat.Records()[0]); err != nil {
			return err
		}
	}
	return w.wasRead(ino, ino+1, began)
}
