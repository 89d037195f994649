package confirm

import (
	"context"
	"slices"
	"time"

	"github.com/scrubd/scrubd/ioctl"
	"github.com/scrubd/scrubd/scrub/verdict"
	"github.com/scrubd/scrubd/scrub/witness"
	"github.com/scrubd/scrubd/shadow"
)

// SharedCandidate is a stretch of blocks that were seen to have several owners
// and no mark of the refcountbt, or a mark and at most one owner; and what became
// of it.
type SharedCandidate struct {
	Window
	// Unmarked: several owners, no mark. Otherwise: a mark, and no several owners.
	Unmarked bool
	Status   Status
	// Parts are the blocks that disagreed at every sample.
	Parts []verdict.Range
	// Coarse: known only by the mark of a whole record of the rmapbt. Somewhere in
	// the record there is a mark too many; or its blocks have several owners none
	// of whom has the reflink flag, so that nobody tells which blocks are marked.
	Coarse bool
	// Quiet: seen in a moment without transactions under way, which proves it.
	Quiet bool
	Why   string

	looks int
	sampling
}

// maxAsked bounds the owners whose forks are asked for marks in one sample. One
// that has the reflink flag is enough, and all that share blocks should.
const maxAsked = 8

// SettleShared samples every pending candidate until none is left, as
// [Settler.SettleSpace] does. A stretch that agrees at one sample is dropped.
// Errors: as for [Settler.Settle].
func (s *Settler) SettleShared(ctx context.Context, cands []*SharedCandidate) error {
	return settleSampled(ctx, s, cands, s.sampleShared)
}

func (c *SharedCandidate) stand() standing {
	return standing{group: c.Group(), status: &c.Status, why: &c.Why, sampling: &c.sampling}
}

// sampleShared takes one sample: rmapbt with marks, the marks that the owners'
// forks show, rmapbt with marks.
func (s *Settler) sampleShared(c *SharedCandidate) error {
	c.looks++
	parts, coarse, err := s.shared(c.Window, c.Unmarked)
	if unreadable(err) {
		c.Status, c.Why = Unsettled, "the rmapbt, or a fork, cannot be read there"
		return nil
	}
	if err != nil {
		return err
	}
	if len(c.Parts) > 0 {
		parts = intersect(parts, c.Parts)
	}
	switch {
	case len(parts) == 0:
		c.Status, c.Parts = Dropped, nil
		s.noteDrop(c.looks)
		return nil
	case c.samples > 0 && slices.Equal(parts, c.Parts) && coarse == c.Coarse:
		c.samples++
	default:
		c.Parts, c.Coarse, c.samples, c.barriers, c.since = parts, coarse, 1, 0, time.Now()
	}
	if s.sampledEnough(&c.sampling, c.Realtime) {
		c.Status = Confirmed
	}
	return nil
}

// shared makes one observation and returns the blocks of w that disagree in the
// given way, and whether that is known only record by record.
//
// The first and the last call each show rmapbt and refcountbt at one moment, as
// long as the window's records fit one call.
func (s *Settler) shared(w Window, unmarked bool) (parts []verdict.Range, coarse bool, err error) {
	read := func() ([]witness.Record, error) {
		return s.records(w, nil)
	}
	first, err := read()
	if err != nil {
		return nil, false, err
	}
	if agreeing(w, first, unmarked) {
		return nil, false, nil
	}
	marks, err := s.forkMarks(w, first)
	if err != nil {
		return nil, false, err
	}
	second, err := read()
	if err != nil {
		return nil, false, err
	}
	a, coarseA := disagreeing(w, first, &marks, unmarked)
	b, coarseB := disagreeing(w, second, &marks, unmarked)
	return intersect(a, b), coarseA || coarseB, nil
}

// agreeing tells whether the records alone leave nothing to disagree about,
// whatever the forks show: they have to be read as a whole, and on a busy filesystem
// nearly every candidate is gone at the first look.
func agreeing(w Window, recs []witness.Record, unmarked bool) bool {
	several := owned(w, recs, 2)
	if unmarked {
		return len(several) == 0
	}
	return len(Subtract([]verdict.Range{{Start: w.Start, Count: w.Count}}, several)) == 0
}

// forkMarks is what the forks of the owners of some blocks show of the
// refcountbt.
type forkMarks struct {
	marked []verdict.Range // sorted, disjoint
	// shown are the blocks, sorted and disjoint, about which an owner with the
	// reflink flag speaks: what is not marked there is not in the refcountbt.
	shown []verdict.Range
}

// forkMarks asks the forks of some of the owners of recs.
func (s *Settler) forkMarks(w Window, recs []witness.Record) (forkMarks, error) {
	var m forkMarks
	var owners []uint64
	for i := range recs {
		if recs[i].IsShareable() && !slices.Contains(owners, recs[i].Owner) && len(owners) < maxAsked {
			owners = append(owners, recs[i].Owner)
		}
	}
	s.makeRoom(owners)
	for _, ino := range owners {
		in, err := s.look(ino)
		if err != nil {
			return m, err
		}
		if in.file < 0 || in.realtime != w.Realtime {
			continue
		}
		if err := s.marksOf(in, w, &m); err != nil && !unreadable(err) {
			return m, err
		}
	}
	m.marked, m.shown = merged(m.marked), merged(m.shown)
	return m, nil
}

// marksOf adds what the data fork of one inode shows of w. An inode shows marks
// only if it has the reflink flag, which is known when it shows any.
func (s *Settler) marksOf(in *Inode, w Window, m *forkMarks) error {
	if err := s.fs.Bmap(in.file, ioctl.DataFork, s.bmap); err != nil {
		return err
	}
	flagged := false
	var written []verdict.Range
	for calls := 0; ; calls++ {
		recs := s.bmap.Records()
		for i := range recs {
			r := &recs[i]
			if !r.HasBlocks() || r.Flags.Has(ioctl.BmapPrealloc) {
				continue
			}
			shared := r.Flags.Has(ioctl.BmapShared)
			flagged = flagged || shared
			start, count, _ := s.inGroup(r, w)
			lo, hi := start, start+count
			written = appendRange(written, w, lo, hi)
			if shared {
				m.marked = appendRange(m.marked, w, lo, hi)
			}
		}
		if s.bmap.Complete() || len(recs) == 0 || calls == maxForkCalls {
			break
		}
		next := s.bmap.Next()
		if err := s.fs.BmapRange(in.file, ioctl.DataFork, next, forkEnd-next, s.bmap); err != nil {
			return err
		}
	}
	if flagged {
		m.shown = append(m.shown, written...)
	}
	return nil
}

// appendRange adds [lo, hi) within w, in no order.
func appendRange(out []verdict.Range, w Window, lo, hi uint64) []verdict.Range {
	lo, hi = max(lo, uint64(w.Start)), min(hi, w.end())
	if lo >= hi {
		return out
	}
	return append(out, verdict.Range{Start: uint32(lo), Count: uint32(hi - lo)})
}

// merged sorts ranges and joins those that overlap or touch.
func merged(in []verdict.Range) []verdict.Range {
	slices.SortFunc(in, func(a, b verdict.Range) int { return int(int64(a.Start) - int64(b.Start)) })
	out := in[:0]
	for _, r := range in {
		if n := len(out); n > 0 {
			last := &out[n-1]
			if end := uint64(last.Start) + uint64(last.Count); uint64(r.Start) <= end {
				last.Count = uint32(max(end, uint64(r.Start)+uint64(r.Count)) - uint64(last.Start))
				continue
			}
		}
		out = append(out, r)
	}
	return out
}

// disagreeing compares the owners that records of the rmapbt add up to with the
// marks on the records and those in forks, within w.
//
// Where a fork shows a mark, or an owner with the reflink flag shows none, that
// is exact. Elsewhere there is only the mark of whole records: a record without
// it has no marked block; of one with it nobody knows which.
func disagreeing(w Window, recs []witness.Record, m *forkMarks, unmarked bool) (parts []verdict.Range, coarse bool) {
	several := owned(w, recs, 2)
	if unmarked {
		left := Subtract(several, m.marked)
		sure := intersect(left, merged(append(slices.Clone(m.shown), recordBlocks(w, recs, false)...)))
		if len(sure) > 0 {
			return sure, false
		}
		return left, len(left) > 0 // all records marked, and no owner with the flag
	}
	if extra := Subtract(m.marked, several); len(extra) > 0 {
		return extra, false
	}
	for i := range recs {
		r := &recs[i]
		inside := r.StartBlock >= w.Start && r.End() <= w.end()
		if !inside || !r.Shared {
			continue
		}
		whole := []verdict.Range{{Start: r.StartBlock, Count: r.BlockCount}}
		if len(intersect(whole, several)) == 0 && len(Subtract(whole, m.shown)) > 0 {
			parts = append(parts, whole...)
		}
	}
	return merged(parts), len(parts) > 0
}

// recordBlocks are the blocks of records that may be shared and have, or lack,
// the mark.
func recordBlocks(w Window, recs []witness.Record, marked bool) []verdict.Range {
	var out []verdict.Range
	for i := range recs {
		if recs[i].IsShareable() && recs[i].Shared == marked {
			out = appendRange(out, w, uint64(recs[i].StartBlock), recs[i].End())
		}
	}
	return merged(out)
}

// owned returns the blocks of w that at least n records which may be shared
// have, sorted and disjoint.
func owned(w Window, recs []witness.Record, n int) []verdict.Range {
	type edge struct {
		at   uint64
		step int
	}
	var edges []edge
	for i := range recs {
		r := shadow.Rmap(recs[i].Rmap)
		lo, hi := max(uint64(r.StartBlock), uint64(w.Start)), min(r.End(), w.end())
		if r.IsShareable() && lo < hi {
			edges = append(edges, edge{lo, 1}, edge{hi, -1})
		}
	}
	slices.SortFunc(edges, func(a, b edge) int { return int(int64(a.at) - int64(b.at)) })
	var out []verdict.Range
	height := 0
	for i := range edges {
		if i > 0 && height >= n {
			out = appendClipped(out, w, edges[i-1].at, edges[i].at)
		}
		height += edges[i].step
	}
	return out
}
