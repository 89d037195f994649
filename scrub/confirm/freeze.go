package confirm

import (
	"context"
	"slices"
	"time"
)

// FreezeFunc calls look while every writer of the filesystem is stopped. look has
// to return soon after its context ends. The error is nil only if it was frozen
// from before look began until it was over.
type FreezeFunc func(ctx context.Context, look func(ctx context.Context)) error

const (
	// maxFreezes is how often the writers are stopped at most.
	maxFreezes = 4
	// freezePause lets them go on in between.
	freezePause = 3 * time.Second
	// frozenSubjects is how many are looked at in one freeze: each takes some
	// calls of a fraction of a millisecond.
	frozenSubjects = 64
)

// SettleFrozen looks once at each subject while the filesystem is frozen, when no
// transaction is under way: what is seen then is exact. Everything is opened and
// read once before. In the frozen time there are only GETFSMAP, GETBMAPX of open
// files, and INUMBERS for owners that do not exist.
//
// Subjects that are settled already are left out; those that the time there was
// did not suffice for stay as they are.
// Errors: freeze's, with which it ends; those that end a run.
func (s *Settler) SettleFrozen(ctx context.Context, freeze FreezeFunc, subjects []Subject) error {
	todo := slices.DeleteFunc(slices.Clone(subjects), Subject.settled)
	for n := 0; n < maxFreezes && len(todo) > 0; n++ {
		if n > 0 {
			if err := s.opts.Sleep(ctx, freezePause); err != nil {
				return err
			}
		}
		batch, rest, err := s.frozenBatch(todo)
		if err != nil {
			return err
		}
		if len(batch) == 0 {
			todo = rest
			n-- // nobody was stopped for these
			continue
		}
		seen, err := s.lookFrozen(ctx, freeze, batch)
		if err != nil {
			return err
		}
		if seen == 0 {
			return nil
		}
		todo = slices.Concat(batch[seen:], rest)
	}
	return nil
}

// frozenBatch takes from todo what one freeze is for, and gets it ready. What an
// observation would tell nothing about is left out for good.
func (s *Settler) frozenBatch(todo []Subject) (batch, rest []Subject, err error) {
	var owners []uint64
	taken := 0
	for _, t := range todo {
		more := owners
		for _, ino := range t.owners() {
			if !slices.Contains(more, ino) {
				more = append(more, ino)
			}
		}
		if taken == frozenSubjects || taken > 0 && len(more) > maxOpen {
			break
		}
		owners = more
		taken++
	}
	s.makeRoom(owners)
	for _, t := range todo[:taken] {
		ok, err := t.prepare(s)
		if err != nil {
			return nil, nil, err
		}
		if ok {
			batch = append(batch, t)
		}
	}
	return batch, todo[taken:], nil
}

// lookFrozen makes one freeze and settles what could be seen in it, the first
// seen subjects of the batch.
func (s *Settler) lookFrozen(ctx context.Context, freeze FreezeFunc, batch []Subject) (seen int, err error) {
	settle := make([]func(), len(batch))
	s.round++ // what could not be read before is tried in the freeze
	var failed error
	err = freeze(ctx, func(ctx context.Context) {
		for i := range batch {
			if ctx.Err() != nil {
				return
			}
			var err error
			if settle[i], err = batch[i].observe(s); err != nil && !unreadable(err) {
				failed = err
				return
			}
			seen++
		}
	})
	if failed != nil {
		return 0, failed
	}
	if err != nil {
		return 0, err
	}
	for _, f := range settle[:seen] {
		if f != nil {
			f()
		}
	}
	return seen, nil
}
