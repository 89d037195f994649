package xfile

import (
	"context"
	"sync"
	"sync/atomic"
)

// team is the workers of one sort.
type team struct {
	tuning
	ctx  context.Context
	size int
	read *reader
	stop atomic.Bool // ctx is done, or a worker failed
}

// tuning is the sizes from which on a sort goes about its work differently.
// Tests make them small.
type tuning struct {
	// minShare is how many records make a worker worth its start.
	minShare int
	// bigKeyed and bigCompared are from how many bytes on a range is divided
	// by the whole team. Below, it is sorted by one worker, and should fit its
	// core's share of the caches (radix), or of memory (comparing).
	bigKeyed, bigCompared int
}

var defaultTuning = tuning{minShare: 16 << 10, bigKeyed: 4 << 20, bigCompared: 8 << 20}

// newTeam returns a team of size workers; done must be called after the last
// use.
func newTeam(ctx context.Context, size int) (t *team, done func()) {
	t = &team{tuning: defaultTuning, ctx: ctx, size: max(1, size)}
	undo := context.AfterFunc(ctx, func() { t.stop.Store(true) })
	return t, func() { undo() }
}

// stopped says whether workers should give up. It is one load, made to be
// asked every few thousand steps.
func (t *team) stopped() bool { return t.stop.Load() }

// err is the reason for being stopped from outside, if that was it.
func (t *team) err() error { return t.ctx.Err() }

// run calls work for every number of the first n workers at once, each under a
// Guard, and returns the first error. A panic of a worker goes on in the caller.
func (t *team) run(n int, work func(worker int) error) error {
	if n <= 1 {
		return t.one(0, work)
	}
	var (
		wg     sync.WaitGroup
		once   sync.Once
		first  error
		raised any
	)
	for w := range n {
		wg.Go(func() {
			defer func() {
				if r := recover(); r != nil {
					once.Do(func() { raised = r })
					t.stop.Store(true)
				}
			}()
			if err := t.one(w, work); err != nil {
				once.Do(func() { first = err })
				t.stop.Store(true)
			}
		})
	}
	wg.Wait()
	if raised != nil {
		panic(raised)
	}
	return first
}

func (t *team) one(worker int, work func(int) error) error {
	return Guard(func() error { return work(worker) })
}

// each calls work for 0 to n-1, in that order as far as several workers can,
// so that neighbours are worked on at about the same time. start is called once
// by every worker and returns its work.
func (t *team) each(n int, start func() (work func(i int) error)) error {
	var next atomic.Int64
	return t.run(min(t.size, n), func(int) error {
		work := start()
		for {
			i := int(next.Add(1) - 1)
			if i >= n {
				return nil
			}
			if t.stopped() {
				return t.err()
			}
			if err := work(i); err != nil {
				return err
			}
		}
	})
}
