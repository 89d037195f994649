package confirm

import (
	"context"
	"errors"
	"hash/maphash"
	"iter"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/scrubd/scrubd/ioctl"
	"github.com/scrubd/scrubd/scrub/live"
	"github.com/scrubd/scrubd/scrub/witness"
	"github.com/scrubd/scrubd/shadow"
)

// Window is blocks [Start, Start+Count) of one AG, or with Realtime of the
// realtime group of that number.
type Window struct {
	AGNo         ioctl.AGNumber
	Start, Count uint32
	Realtime     bool
}

// Group is the group that the window is of.
func (w Window) Group() live.Group { return live.Group{AGNo: w.AGNo, Realtime: w.Realtime} }

func (w Window) end() uint64 { return uint64(w.Start) + uint64(w.Count) }

// Status is how a candidate stands.
type Status int

// The states. A pending candidate has been seen and is still being looked at.
const (
	Pending Status = iota
	Dropped        // fork and rmapbt were seen to agree
	Confirmed
	Unsettled // it could not be settled in the time there is
)

// Candidate is a difference seen once, and what became of it.
type Candidate struct {
	Window
	// Owners are the inodes that the difference names on either side.
	Owners []uint64
	// Against is what the claims are held against, the rmapbt by default.
	Against Against
	Status  Status
	// Diffs is the difference of the latest vote that counted, within the
	// window; for a Confirmed candidate it is the one that all votes showed.
	Diffs []shadow.Difference
	// Exact: the difference was seen in a moment without transactions under way,
	// which proves it.
	Exact bool
	// Why says what kept an Unsettled candidate from being settled.
	Why string

	looks           int
	votes, barriers int
	since           time.Time // of the first of these votes
	guarded         bool      // none of them was without a ctime
}

// Options of a [Settler].
type Options struct {
	// Drain is the AG drain barrier; nil where the kernel has no scrub ioctl,
	// and then more votes are asked for.
	Drain func(ctx context.Context, agno ioctl.AGNumber) error
	// DrainRT is that barrier for a realtime group.
	DrainRT func(ctx context.Context, rgno ioctl.RGNumber) error
	// MultigrainCtime: two changes of an inode never carry the same ctime once
	// it was asked for (Linux 6.13).
	MultigrainCtime bool
	// Static returns the claims that no inode makes (AG headers, log); RTStatic
	// those of a realtime group (its superblock).
	Static   func(agno ioctl.AGNumber) []shadow.Rmap
	RTStatic func(rgno ioctl.RGNumber) []shadow.Rmap
	// Progress is called after each round with what is still pending.
	Progress func(round, pending, total int)
	// Sleep is time.Sleep under a context; tests replace it.
	Sleep func(ctx context.Context, d time.Duration) error
}

// How many looks it takes. Rounds are what candidates share: one barrier and
// one pause serve all that are pending.
const (
	votesWithBarrier    = 3
	votesWithoutBarrier = 12
	voteBarriers        = 2
	maxRounds           = 40
	// hotLooks is how often a candidate whose owner never holds still is
	// looked at in one go, in the last round, with a barrier after so many.
	hotLooks   = 400
	hotBarrier = 8
	// maxOpen bounds the descriptors that pending candidates keep open.
	maxOpen  = 128
	minPause = 10 * time.Millisecond
	maxPause = 250 * time.Millisecond
)

// Settler looks at candidates again. It is used by one goroutine.
type Settler struct {
	fs    *ioctl.FS
	geo   *ioctl.Geometry
	opts  Options
	bnobt *ioctl.BnobtView // nil where the view could not be had

	dropped    [DropLooks]uint64
	inodes     map[uint64]*Inode
	round      int // counts barriers and pauses
	open       int // descriptors among them
	seed       maphash.Seed
	sectorsLog uint

	bulk  *ioctl.BulkstatBuffer
	inums *ioctl.InumbersBuffer
	bmap  *ioctl.BmapBuffer
	fsmap *ioctl.FSMapBuffer
	recs  []witness.Record
}

// New returns a settler on fs. bnobt may be nil.
func New(fs *ioctl.FS, bnobt *ioctl.BnobtView, o Options) *Settler {
	s := &Settler{
		fs: fs, geo: fs.Geometry(), bnobt: bnobt, opts: o,
		inodes: make(map[uint64]*Inode), seed: maphash.MakeSeed(),
		bulk: ioctl.NewBulkstatBuffer(1), inums: ioctl.NewInumbersBuffer(2),
		bmap: ioctl.NewBmapBuffer(256), fsmap: ioctl.NewFSMapBuffer(2048),
	}
	for 512<<s.sectorsLog < s.geo.BlockSize {
		s.sectorsLog++
	}
	if s.opts.Sleep == nil {
		s.opts.Sleep = sleep
	}
	return s
}

func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-t.C:
		return nil
	}
}

// Close closes every inode that is still open.
func (s *Settler) Close() { s.closeAll() }

// Settle looks at every pending candidate until none is left or the rounds are
// used up. Errors: those that end a run (shutdown, lost privilege), and ctx's.
func (s *Settler) Settle(ctx context.Context, cands []*Candidate) error {
	pending := inTurn(cands)
	if len(pending) == 0 {
		return nil
	}
	// Where nothing can be written there is nothing to inactivate either.
	if err := s.fs.FlushInodegc(); err != nil && !errors.Is(err, ioctl.ErrReadOnly) {
		return err
	}
	total := len(pending)
	for round := range maxRounds {
		if err := s.voteAll(ctx, pending); err != nil {
			return err
		}
		pending = slices.DeleteFunc(pending, func(c *Candidate) bool { return c.Status != Pending })
		if s.opts.Progress != nil {
			s.opts.Progress(round, len(pending), total)
		}
		if len(pending) == 0 {
			return nil
		}
		drained, err := s.pause(ctx, func(yield func(live.Group) bool) {
			for _, c := range pending {
				if !yield(c.Group()) {
					return
				}
			}
		})
		if err != nil {
			return err
		}
		for _, c := range pending {
			c.passed(drained[c.Group()])
		}
	}
	return s.settleHot(ctx, pending)
}

// Glance looks once at every pending candidate, so that what has gone away in
// the meantime is dropped at little cost. It never confirms.
func (s *Settler) Glance(ctx context.Context, cands []*Candidate) error {
	pending := inTurn(cands)
	for _, c := range pending {
		c.votes = 0
	}
	err := s.voteAll(ctx, pending)
	for _, c := range pending {
		c.votes = 0
	}
	return err
}

// pause is one barrier on every group that something is pending in, and a random
// nap: fixed intervals run in step with a writer's own rhythm. It returns the
// groups that the barrier was had for.
func (s *Settler) pause(ctx context.Context, groups iter.Seq[live.Group]) (map[live.Group]bool, error) {
	s.round++
	drained := make(map[live.Group]bool)
	for g := range groups {
		if _, ok := drained[g]; ok {
			continue
		}
		ok, err := s.drain(ctx, g)
		if err != nil {
			return nil, err
		}
		drained[g] = ok
	}
	nap := minPause + time.Duration(rand.Int64N(int64(maxPause-minPause)))
	return drained, s.opts.Sleep(ctx, nap)
}

// Barrier is one drain barrier on one AG, and tells whether it was had.
// Errors: those that end a run; ctx's.
func (s *Settler) Barrier(ctx context.Context, agno ioctl.AGNumber) (bool, error) {
	return s.drain(ctx, live.Group{AGNo: agno})
}

// BarrierRT is Barrier on a realtime group.
func (s *Settler) BarrierRT(ctx context.Context, rgno ioctl.RGNumber) (bool, error) {
	return s.drain(ctx, live.Group{AGNo: ioctl.AGNumber(rgno), Realtime: true})
}

// drain is one barrier on one group. A group whose headers cannot be read, or that
// is too busy, has none for now; what is pending there gets no further. A
// kernel whose scrub does not wait has none at all.
func (s *Settler) drain(ctx context.Context, g live.Group) (bool, error) {
	if !s.drains(g.Realtime) {
		return false, nil
	}
	var err error
	if g.Realtime {
		err = s.opts.DrainRT(ctx, ioctl.RGNumber(g.AGNo))
	} else {
		err = s.opts.Drain(ctx, g.AGNo)
	}
	switch {
	case err == nil:
		return true, nil
	case ctx.Err() != nil:
		return false, err
	case errors.Is(err, ioctl.ErrNotSupported):
		s.noBarrier(g.Realtime)
		return false, nil
	case unreadable(err), errors.Is(err, ioctl.ErrBusy), errors.Is(err, ioctl.ErrInterrupted), errors.Is(err, ioctl.ErrNoEntry):
		return false, nil
	}
	return false, err
}

// drains tells whether there is a barrier for groups of that kind.
func (s *Settler) drains(realtime bool) bool {
	if realtime {
		return s.opts.DrainRT != nil
	}
	return s.opts.Drain != nil
}

func (s *Settler) noBarrier(realtime bool) {
	if realtime {
		s.opts.DrainRT = nil
		return
	}
	s.opts.Drain = nil
}

// passed notes that a barrier, if it was had, lies between the votes of c so
// far and those to come.
func (c *Candidate) passed(barrier bool) {
	if barrier && c.votes > 0 {
		c.barriers++
	}
}

// settleHot is the last resort for inodes that are written to all the time:
// many looks in a row, of which one at which fork and rmapbt agree suffices.
// They take turns, so that naps and barriers serve all of them.
func (s *Settler) settleHot(ctx context.Context, pending []*Candidate) error {
	for i := range hotLooks {
		for _, c := range pending {
			if err := ctx.Err(); err != nil {
				return err
			}
			if err := s.vote([]*Candidate{c}, true); err != nil {
				return err
			}
		}
		pending = slices.DeleteFunc(pending, func(c *Candidate) bool { return c.Status != Pending })
		if len(pending) == 0 {
			return nil
		}
		if i%hotBarrier == hotBarrier-1 {
			s.round++
			drained := make(map[live.Group]bool)
			for _, c := range pending {
				g := c.Group()
				if _, asked := drained[g]; !asked {
					ok, err := s.drain(ctx, g)
					if err != nil {
						return err
					}
					drained[g] = ok
				}
				c.passed(drained[g])
			}
		}
		if err := s.opts.Sleep(ctx, time.Duration(rand.Int64N(int64(5*time.Millisecond)))); err != nil {
			return err
		}
	}
	for _, c := range pending {
		c.Status = Unsettled
		if c.Why == "" {
			c.Why = "its owner changed at every look"
			if c.votes > 0 && s.drains(c.Realtime) && c.barriers == 0 {
				c.Why = "its group was never seen without transactions under way"
			}
		}
	}
	return nil
}

// DropLooks is how many looks [Settler.DroppedAtLook] tells apart.
const DropLooks = 8

// DroppedAtLook is how many candidates, of inodes' blocks and of space, were
// dropped at the first look, at the second, and so on; the last element is of
// all later looks too.
func (s *Settler) DroppedAtLook() [DropLooks]uint64 { return s.dropped }

// noteDrop counts a candidate that was dropped at that look.
func (s *Settler) noteDrop(look int) { s.dropped[min(max(look, 1), DropLooks)-1]++ }

// enough tells whether the votes of c so far confirm it. Votes that no ctime
// guards (of an inode that is not there, or whose forks cannot be read) take as
// many looks as space without an owner does.
func (s *Settler) enough(c *Candidate, hot bool) bool {
	need, barriers, span := votesWithBarrier, voteBarriers, time.Duration(0)
	switch {
	case !c.guarded:
		need, barriers, span = samplesWithBarrier, spaceBarriers, spaceSpan
	case hot:
		need = votesWithoutBarrier
	}
	if !s.drains(c.Realtime) {
		barriers = 0
		if need = votesWithoutBarrier; !c.guarded {
			need = samplesWithoutBarrier
		}
	}
	return c.votes >= need && c.barriers >= barriers && time.Since(c.since) >= span
}

// InodeOf returns what the settler last found out about an owner, nil if it
// never looked.
func (s *Settler) InodeOf(ino uint64) *Inode { return s.inodes[ino] }
