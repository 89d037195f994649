package confirm

import (
	"cmp"
	"context"
	"iter"
	"slices"
	"time"

	"github.com/scrubd/scrubd/scrub/verdict"
	"github.com/scrubd/scrubd/scrub/witness"
	"github.com/scrubd/scrubd/shadow"
)

// clockGrain is within what two changes may carry the same ctime, before
// multigrain stamps.
const clockGrain = 20 * time.Millisecond

// maxShared bounds the candidates that share one look: the longer the look
// takes, the less often nothing moves during it.
const maxShared = 32

// inTurn returns those that are pending, in an order in which those that can
// share a look follow each other.
func inTurn(cands []*Candidate) []*Candidate {
	pending := slices.DeleteFunc(slices.Clone(cands), func(c *Candidate) bool { return c.Status != Pending })
	slices.SortStableFunc(pending, func(a, b *Candidate) int {
		return cmp.Or(compareGroups(a.Group(), b.Group()), slices.Compare(a.Owners, b.Owners), cmp.Compare(a.Start, b.Start))
	})
	return pending
}

// voteAll looks once at every candidate. Those that follow each other, in one
// AG and with the same owners, share a look: the forks of a busy file are long, and
// it has many candidates.
func (s *Settler) voteAll(ctx context.Context, cands []*Candidate) error {
	for len(cands) > 0 {
		if err := ctx.Err(); err != nil {
			return err
		}
		n := 1
		for n < min(len(cands), maxShared) && cands[n].sharesLook(cands[0]) {
			n++
		}
		if err := s.vote(cands[:n], false); err != nil {
			return err
		}
		cands = cands[n:]
	}
	return nil
}

func (c *Candidate) sharesLook(o *Candidate) bool {
	return c.Group() == o.Group() && slices.Equal(c.Owners, o.Owners)
}

// vote looks once at candidates of one AG and the same owners.
func (s *Settler) vote(set []*Candidate, hot bool) error {
	looks, err := s.lookAt(set)
	if err != nil {
		return err
	}
	for i, c := range set {
		s.count(c, &looks[i], hot)
	}
	return nil
}

// count makes something of a look. One at which the sides agree drops the
// candidate; one that counts and shows the same difference as before adds a vote;
// one that counts and shows another starts over.
func (s *Settler) count(c *Candidate, look *look, hot bool) {
	c.looks++
	switch {
	case look.agrees:
		c.Status = Dropped
		s.noteDrop(c.looks)
		for _, ino := range c.Owners {
			s.forget(ino)
		}
		return
	case !look.counts:
		c.Why = look.why
		return
	case c.votes > 0 && slices.Equal(c.Diffs, look.diffs):
		c.votes++
		c.guarded = c.guarded && look.guarded
	default:
		c.Diffs, c.votes, c.barriers, c.since, c.guarded = look.diffs, 1, 0, time.Now(), look.guarded
	}
	if s.enough(c, hot) {
		c.Status = Confirmed
	}
}

type look struct {
	diffs  []shadow.Difference
	agrees bool // fork and rmapbt were seen to agree
	counts bool // nothing moved: the difference is one of a single moment
	// guarded: a ctime would have told of any change during the look.
	guarded bool
	why     string
}

// lookAt is one sandwich: forks, rmapbt windows, forks again.
func (s *Settler) lookAt(set []*Candidate) ([]look, error) {
	owners := set[0].Owners
	s.makeRoom(owners) // before any of them is looked up: all have to stay open
	inodes := make([]*Inode, len(owners))
	for i, ino := range owners {
		in, err := s.look(ino)
		if err != nil {
			return nil, err
		}
		inodes[i] = in
	}
	around := windowAround(set)
	before, err := s.readAll(inodes, around, true)
	if err != nil {
		return nil, err
	}
	looks := make([]look, len(set))
	kernel := make([][]shadow.Rmap, len(set))
	all, whole := s.picture(set, around)
	for i, c := range set {
		if !whole {
			all, err = s.window(c)
		}
		switch {
		case err == nil:
			kernel[i] = s.windowRecords(c, inodes, all)
		case unreadable(err):
			looks[i].why = "the rmapbt cannot be read there"
		default:
			return nil, err
		}
	}
	after, err := s.readAll(inodes, around, false)
	if err != nil {
		return nil, err
	}
	for i, c := range set {
		if looks[i].why != "" {
			continue
		}
		looks[i], err = s.judge(c, inodes, clipped(before, c.Window), clipped(after, c.Window), kernel[i])
		if unreadable(err) {
			looks[i] = look{why: "the bnobt cannot be read there"}
		} else if err != nil {
			return nil, err
		}
	}
	return looks, nil
}

// picture reads the records around several candidates in one call, if it holds
// them: a fork that cannot be read has a candidate for each of its extents.
func (s *Settler) picture(set []*Candidate, around Window) ([]witness.Record, bool) {
	if len(set) == 1 || slices.ContainsFunc(set, func(c *Candidate) bool { return c.Against != AgainstRmapbt }) {
		return nil, false
	}
	recs, whole, err := s.oneCall(around, s.recs[:0])
	s.recs = recs
	return recs, whole && err == nil
}

// windowAround spans the windows of candidates of one AG.
func windowAround(set []*Candidate) Window {
	w, end := set[0].Window, set[0].end()
	for _, c := range set[1:] {
		w.Start, end = min(w.Start, c.Start), max(end, c.end())
	}
	w.Count = uint32(end - uint64(w.Start))
	return w
}

// clipped returns the views with the claims on the blocks of w alone.
func clipped(views []view, w Window) []view {
	out := slices.Clone(views)
	for i := range out {
		var claims []shadow.Rmap
		for _, r := range out[i].claims {
			if lo, hi := max(uint64(r.StartBlock), uint64(w.Start)), min(r.End(), w.end()); lo < hi {
				claims = append(claims, cut(r, lo, hi))
			}
		}
		out[i].claims = claims
	}
	return out
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

// window reads the records of one candidate's window.
func (s *Settler) window(c *Candidate) ([]witness.Record, error) {
	if c.Against != AgainstRmapbt {
		return nil, nil
	}
	var err error
	s.recs, err = s.records(c.Window, s.recs[:0])
	return s.recs, err
}

// windowRecords takes out of all records those of the window, clipped to it, of
// those owners that are in question. Owners whose forks nobody can read (links,
// special and private files, inodes on their way out) have no claims to hold
// against their records.
func (s *Settler) windowRecords(c *Candidate, inodes []*Inode, all []witness.Record) []shadow.Rmap {
	if c.Against != AgainstRmapbt {
		return nil
	}
	var out []shadow.Rmap
	for i := range all {
		r := all[i].Rmap
		lo, hi := max(uint64(r.StartBlock), uint64(c.Start)), min(r.End(), c.end())
		if lo >= hi {
			continue
		}
		if !s.concerns(c, &r) || silent(inodes, r.Owner, c.Realtime) {
			continue
		}
		out = append(out, cut(r, lo, hi))
	}
	slices.SortFunc(out, func(a, b shadow.Rmap) int { return shadow.Compare(&a, &b) })
	return out
}

func (s *Settler) concerns(c *Candidate, r *shadow.Rmap) bool {
	if !r.IsInode() {
		return r.Owner == shadow.OwnerFS || r.Owner == shadow.OwnerLog
	}
	return r.Offset&shadow.OffsetBmbtBlock == 0 && slices.Contains(c.Owners, r.Owner)
}

// silent tells whether owner is one of whom no claims are to be had by design.
// One that would speak if it were not for a lease is none. On the realtime device
// only files have blocks, so that there it takes an inode of which BULKSTAT does
// not tell.
func silent(inodes []*Inode, owner uint64, realtime bool) bool {
	return slices.ContainsFunc(inodes, func(in *Inode) bool {
		return uint64(in.Ino) == owner && in.State == verdict.OwnerSilent && !in.refused && (!realtime || in.Mode == 0)
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
	l := look{diffs: second, guarded: len(inodes) > 0}
	agrees := len(first) == 0 || len(second) == 0
	for i, in := range inodes {
		l.guarded = l.guarded && before[i].state == verdict.OwnerLive && after[i].state == verdict.OwnerLive
		if agrees {
			l.why = s.unheard(in, &before[i], &after[i])
		} else {
			l.why = s.moved(in, &before[i], &after[i])
		}
		if l.why != "" {
			return l, nil
		}
	}
	switch {
	case agrees:
		l.agrees = true
	case !slices.Equal(first, second):
		l.why = "a fork changed during the look"
	default:
		l.counts = true
	}
	return l, nil
}

// unheard says why the lack of a difference means nothing, if it does not: the
// claims of an owner that could not be asked are missing on one side.
func (s *Settler) unheard(in *Inode, before, after *view) string {
	for _, v := range [2]*view{before, after} {
		switch {
		case v.state == verdict.OwnerUnreadable, v.state == verdict.OwnerUnloadable:
			return "its owner cannot be read"
		case v.state == verdict.OwnerUnknown, v.state == verdict.OwnerSilent && in.refused:
			return s.moved(in, before, after)
		}
	}
	return ""
}

// moved says why a look at in does not count, if it does not.
func (s *Settler) moved(in *Inode, before, after *view) string {
	if before.state != after.state {
		return "its owner changed during the look"
	}
	switch after.state {
	case verdict.OwnerLive, verdict.OwnerUnreadable:
		if before.ctime != after.ctime || before.nlink != after.nlink || before.sum != after.sum || before.attr != after.attr {
			return "its owner changed during the look"
		}
		// A change after the first statx has another ctime only if that was no
		// longer the clock's present one then.
		if !s.opts.MultigrainCtime && before.at.Sub(before.ctime.Time()).Abs() < clockGrain {
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
		if in.refused {
			return "its owner could not be opened because of a lease or an access scanner"
		}
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
	for _, r := range s.static(c.Group()) {
		lo, hi := max(uint64(r.StartBlock), uint64(c.Start)), min(r.End(), c.end())
		if lo < hi {
			claims = append(claims, cut(r, lo, hi))
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
