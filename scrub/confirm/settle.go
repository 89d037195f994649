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
	"github.com/scrubd/scrubd/scrub/verdict"
	"github.com/scrubd/scrubd/scrub/witness"
	"github.com/scrubd/scrubd/shadow"
)

// Window is blocks [Start, Start+Count) of one AG.
type Window struct {
	AGNo         ioctl.AGNumber
	Start, Count uint32
}

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
	// Why says what kept an Unsettled candidate from being settled.
	Why string

	votes, looks int
}

// Options of a [Settler].
type Options struct {
	// Drain is the AG drain barrier; nil where the kernel has no scrub ioctl,
	// and then more votes are asked for.
	Drain func(ctx context.Context, agno ioctl.AGNumber) error
	// MultigrainCtime: two changes of an inode never carry the same ctime once
	// it was asked for (Linux 6.13).
	MultigrainCtime bool
	// Static returns the claims that no inode makes (AG headers, log).
	Static func(agno ioctl.AGNumber) []shadow.Rmap
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
	maxRounds           = 40
	// hotLooks is how often a candidate whose owner never holds still is
	// looked at in one go, in the last round.
	hotLooks = 400
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

	inodes     map[uint64]*Inode
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
	// On a read-only mount nothing is unlinked.
	if err := s.fs.FlushInodegc(); err != nil && !errors.Is(err, ioctl.ErrReadOnly) {
		return err
	}
	need := votesWithBarrier
	if s.opts.Drain == nil {
		need = votesWithoutBarrier
	}
	pending := slices.DeleteFunc(slices.Clone(cands), func(c *Candidate) bool { return c.Status != Pending })
	total := len(pending)
	for round := 0; round < maxRounds && len(pending) > 0; round++ {
		for _, c := range pending {
			if err := ctx.Err(); err != nil {
				return err
			}
			if err := s.vote(c, need); err != nil {
				return err
			}
		}
		pending = slices.DeleteFunc(pending, func(c *Candidate) bool { return c.Status != Pending })
		if s.opts.Progress != nil {
			s.opts.Progress(round, len(pending), total)
		}
		if len(pending) == 0 {
			return nil
		}
		if err := s.pause(ctx, pending); err != nil {
			return err
		}
	}
	for _, c := range pending {
		if err := s.settleHot(ctx, c); err != nil {
			return err
		}
	}
	return nil
}

// Glance looks once at every pending candidate, so that what has gone away in
// the meantime is dropped at little cost. It never confirms.
func (s *Settler) Glance(ctx context.Context, cands []*Candidate) error {
	for _, c := range cands {
		if err := ctx.Err(); err != nil {
			return err
		}
		if c.Status != Pending {
			continue
		}
		if err := s.vote(c, votesWithoutBarrier); err != nil {
			return err
		}
		c.votes = 0
	}
	return nil
}

// pause is one barrier on every AG that something is pending in, and a random
// nap: fixed intervals run in step with a writer's own rhythm.
func (s *Settler) pause(ctx context.Context, pending []*Candidate) error {
	if s.opts.Drain != nil {
		drained := make(map[ioctl.AGNumber]bool)
		for _, c := range pending {
			if drained[c.AGNo] {
				continue
			}
			drained[c.AGNo] = true
			if err := s.opts.Drain(ctx, c.AGNo); err != nil {
				return err
			}
		}
	}
	nap := minPause + time.Duration(rand.Int64N(int64(maxPause-minPause)))
	return s.opts.Sleep(ctx, nap)
}

// settleHot is the last resort for an inode that is written to all the time:
// many looks in a row, of which one at which fork and rmapbt agree suffices.
func (s *Settler) settleHot(ctx context.Context, c *Candidate) error {
	for range hotLooks {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := s.vote(c, votesWithoutBarrier); err != nil || c.Status != Pending {
			return err
		}
		if err := s.opts.Sleep(ctx, time.Duration(rand.Int64N(int64(5*time.Millisecond)))); err != nil {
			return err
		}
	}
	c.Status = Unsettled
	if c.Why == "" {
		c.Why = "its owner changed at every look"
	}
	return nil
}

// vote looks once. A look at which the sides agree drops the candidate; one
// that counts and shows the same difference as before adds a vote; one that
// counts and shows another starts over.
func (s *Settler) vote(c *Candidate, need int) error {
	look, err := s.lookAt(c)
	if err != nil {
		return err
	}
	c.looks++
	switch {
	case look.agrees:
		c.Status = Dropped
		for _, ino := range c.Owners {
			s.forget(ino)
		}
	case !look.counts:
		c.Why = look.why
	case c.votes > 0 && slices.Equal(c.Diffs, look.diffs):
		c.votes++
	default:
		c.Diffs, c.votes = look.diffs, 1
	}
	if c.votes >= need {
		c.Status = Confirmed
	}
	return nil
}

type look struct {
	diffs  []shadow.Difference
	agrees bool // fork and rmapbt were seen to agree
	counts bool // nothing moved: the difference is one of a single moment
	why    string
}

// lookAt is one sandwich: forks, rmapbt window, forks again.
func (s *Settler) lookAt(c *Candidate) (look, error) {
	owners := slices.Clone(c.Owners)
	inodes := make([]*Inode, len(owners))
	for i, ino := range owners {
		in, err := s.look(ino)
		if err != nil {
			return look{}, err
		}
		inodes[i] = in
	}
	before, err := s.readAll(inodes, c.Window, true)
	if err != nil {
		return look{}, err
	}
	kernel, err := s.windowRecords(c, inodes)
	if errors.Is(err, ioctl.ErrCorrupt) {
		return look{why: "the rmapbt cannot be read there"}, nil
	}
	if err != nil {
		return look{}, err
	}
	after, err := s.readAll(inodes, c.Window, false)
	if err != nil {
		return look{}, err
	}
	return s.judge(c, inodes, before, after, kernel)
}

func (s *Settler) readAll(inodes []*Inode, w Window, first bool) ([]view, error) {
	views := make([]view, len(inodes))
	for i, in := range inodes {
		v, err := s.read(in, w, first)
		if err != nil {
			return nil, err
		}
		views[i] = v
	}
	return views, nil
}

// windowRecords reads the rmapbt's records of the window, clipped to it, of
// those owners that are in question. Owners whose forks nobody can read (links,
// special and private files, inodes on their way out) have no claims to hold
// against their records.
func (s *Settler) windowRecords(c *Candidate, inodes []*Inode) ([]shadow.Rmap, error) {
	if c.Against != AgainstRmapbt {
		return nil, nil
	}
	var err error
	s.recs, err = witness.RmapWindow(s.fs, c.AGNo, ioctl.AGBlock(c.Start), ioctl.AGBlock(c.Count), s.fsmap, s.recs[:0])
	if err != nil {
		return nil, err
	}
	var out []shadow.Rmap
	for i := range s.recs {
		r := s.recs[i].Rmap
		lo, hi := max(uint64(r.StartBlock), uint64(c.Start)), min(r.End(), c.end())
		if lo >= hi {
			continue
		}
		if !s.concerns(c, &r) || silent(inodes, r.Owner) {
			continue
		}
		out = append(out, cut(r, lo, hi))
	}
	slices.SortFunc(out, func(a, b shadow.Rmap) int { return shadow.Compare(&a, &b) })
	return out, nil
}

func (s *Settler) concerns(c *Candidate, r *shadow.Rmap) bool {
	if !r.IsInode() {
		return r.Owner == shadow.OwnerFS || r.Owner == shadow.OwnerLog
	}
	return r.Offset&shadow.OffsetBmbtBlock == 0 && slices.Contains(c.Owners, r.Owner)
}

func silent(inodes []*Inode, owner uint64) bool {
	return slices.ContainsFunc(inodes, func(in *Inode) bool {
		return uint64(in.Ino) == owner && in.State == verdict.OwnerSilent
	})
}

// judge compares both readings of the forks with the rmapbt window.
func (s *Settler) judge(c *Candidate, inodes []*Inode, before, after []view, kernel []shadow.Rmap) (look, error) {
	first, err := s.diff(c, before, kernel)
	if err != nil {
		return look{}, err
	}
	second, err := s.diff(c, after, kernel)
	if err != nil {
		return look{}, err
	}
	l := look{diffs: second}
	if len(first) == 0 || len(second) == 0 {
		l.agrees = true
		return l, nil
	}
	for i, in := range inodes {
		if why := s.moved(in, &before[i], &after[i]); why != "" {
			l.why = why
			return l, nil
		}
	}
	if !slices.Equal(first, second) {
		l.why = "a fork changed during the look"
		return l, nil
	}
	l.counts = true
	return l, nil
}

// moved says why a look at in does not count, if it does not.
func (s *Settler) moved(in *Inode, before, after *view) string {
	switch in.State {
	case verdict.OwnerLive:
		if before.ctime != after.ctime || before.nlink != after.nlink || before.sum != after.sum {
			return "its owner changed during the look"
		}
		if !s.opts.MultigrainCtime && time.Since(after.ctime.Time()) < 20*time.Millisecond {
			return "its owner changed within the clock's grain"
		}
		return ""
	case verdict.OwnerDead:
		// The inobt bit has to be clear after the look as well.
		if validIno(s.geo, in.Ino) {
			alive, err := s.allocated(in.Ino)
			if err != nil || alive {
				s.forget(uint64(in.Ino))
				return "the inode was allocated during the look"
			}
		}
		return ""
	case verdict.OwnerUnknown:
		s.forget(uint64(in.Ino))
		return "its owner could not be looked up"
	case verdict.OwnerSilent:
		s.forget(uint64(in.Ino)) // it may speak next time (inodegc)
		return ""
	default:
		return ""
	}
}

func (s *Settler) diff(c *Candidate, views []view, kernel []shadow.Rmap) ([]shadow.Difference, error) {
	if c.Against != AgainstRmapbt {
		return s.conflicts(c, views)
	}
	var claims []shadow.Rmap
	if s.opts.Static != nil {
		for _, r := range s.opts.Static(c.AGNo) {
			lo, hi := max(uint64(r.StartBlock), uint64(c.Start)), min(r.End(), c.end())
			if lo < hi {
				claims = append(claims, cut(r, lo, hi))
			}
		}
	}
	for i := range views {
		claims = append(claims, views[i].claims...)
	}
	slices.SortFunc(claims, func(a, b shadow.Rmap) int { return shadow.Compare(&a, &b) })
	var out []shadow.Difference
	for d, err := range shadow.Diff(one(claims), one(kernel)) {
		if err != nil {
			return nil, err
		}
		out = append(out, d)
	}
	return out, nil
}

func one(recs []shadow.Rmap) iter.Seq2[[]shadow.Rmap, error] {
	return func(yield func([]shadow.Rmap, error) bool) {
		if len(recs) > 0 {
			yield(recs, nil)
		}
	}
}

// InodeOf returns what the settler last found out about an owner, nil if it
// never looked.
func (s *Settler) InodeOf(ino uint64) *Inode { return s.inodes[ino] }
