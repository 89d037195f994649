package confirm

import (
	"context"
	"slices"
	"time"

	"github.com/scrubd/scrubd/scrub/verdict"
)

// Conflict is how rmapbt and bnobt disagree about blocks.
type Conflict int

// The two ways.
const (
	// OwnedFree blocks have an owner in the rmapbt and are free in the bnobt.
	OwnedFree Conflict = iota + 1
	// Neither blocks have no owner in the rmapbt and are not free either.
	Neither
)

// SpaceCandidate is a stretch of blocks about which rmapbt and bnobt were seen
// to disagree, and what became of it.
type SpaceCandidate struct {
	Window
	Conflict Conflict
	Status   Status
	// Parts are the blocks of the window that disagreed at every sample.
	Parts []verdict.Range
	// Quiet: seen in a moment without transactions under way, which proves it.
	Quiet bool
	Why   string

	looks int
	sampling
}

// How many samples it takes, and over how long. Fixed intervals run in step
// with a writer; random naps between triples, and barriers, do not.
const (
	samplesWithBarrier    = 32
	samplesWithoutBarrier = 96
	spaceSpan             = 3 * time.Second
	spaceBarriers         = 3
	triplesPerRound       = 4
	maxTripleNap          = 3 * time.Millisecond
	spaceRounds           = 120
)

const spaceUnreadable = "the records of its blocks or the free space cannot be read there"

// SettleSpace samples every pending candidate until none is left. A stretch
// that agrees at one sample is dropped; one that shrinks starts over.
// Errors: as for [Settler.Settle].
func (s *Settler) SettleSpace(ctx context.Context, cands []*SpaceCandidate) error {
	return settleSampled(ctx, s, cands, s.sampleSpace)
}

func (c *SpaceCandidate) stand() standing {
	return standing{group: c.Group(), status: &c.Status, why: &c.Why, sampling: &c.sampling}
}

// sampleSpace takes one triple. Only what disagrees in the same way before
// and after the bnobt was read counts.
func (s *Settler) sampleSpace(c *SpaceCandidate) error {
	c.looks++
	parts, err := s.triple(c.Window, c.Conflict)
	if unreadable(err) {
		c.Status, c.Why = Unsettled, spaceUnreadable
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
	case c.samples > 0 && slices.Equal(parts, c.Parts):
		c.samples++
	default:
		c.Parts, c.samples, c.barriers, c.since = parts, 1, 0, time.Now()
	}
	if s.sampledEnough(&c.sampling, c.Realtime) {
		c.Status = Confirmed
	}
	return nil
}

// triple reads rmapbt, bnobt, rmapbt and returns where they disagree in the
// given way both times.
func (s *Settler) triple(w Window, conflict Conflict) ([]verdict.Range, error) {
	first, err := s.owned(w)
	if err != nil {
		return nil, err
	}
	free, err := s.free(w)
	if err != nil {
		return nil, err
	}
	second, err := s.owned(w)
	if err != nil {
		return nil, err
	}
	if conflict == OwnedFree {
		return intersect(intersect(first, free), second), nil
	}
	whole := []verdict.Range{{Start: w.Start, Count: w.Count}}
	for _, taken := range [][]verdict.Range{first, free, second} {
		whole = Subtract(whole, taken)
	}
	return whole, nil
}

// owned returns what the rmapbt covers of w, sorted and disjoint.
func (s *Settler) owned(w Window) ([]verdict.Range, error) {
	var err error
	s.recs, err = s.records(w, s.recs[:0])
	if err != nil {
		return nil, err
	}
	var out []verdict.Range
	for i := range s.recs {
		out = appendClipped(out, w, uint64(s.recs[i].StartBlock), s.recs[i].End())
	}
	return out, nil
}

// free returns what the bnobt has free of w, sorted and disjoint.
func (s *Settler) free(w Window) ([]verdict.Range, error) {
	recs, err := s.freeRecords(w)
	if err != nil {
		return nil, err
	}
	var out []verdict.Range
	for _, f := range recs {
		out = appendClipped(out, w, uint64(f.Start), uint64(f.Start)+uint64(f.Count))
	}
	return out, nil
}

// appendClipped adds [lo, hi) within w to sorted ranges and joins it with the
// last one when they overlap or touch.
func appendClipped(out []verdict.Range, w Window, lo, hi uint64) []verdict.Range {
	lo, hi = max(lo, uint64(w.Start)), min(hi, w.end())
	if lo >= hi {
		return out
	}
	if n := len(out); n > 0 {
		last := &out[n-1]
		if end := uint64(last.Start) + uint64(last.Count); lo <= end {
			if hi > end {
				last.Count = uint32(hi - uint64(last.Start))
			}
			return out
		}
	}
	return append(out, verdict.Range{Start: uint32(lo), Count: uint32(hi - lo)})
}

// intersect returns the blocks that lie in both of two sorted, disjoint lists.
func intersect(a, b []verdict.Range) []verdict.Range {
	var out []verdict.Range
	for i, j := 0, 0; i < len(a) && j < len(b); {
		lo := max(uint64(a[i].Start), uint64(b[j].Start))
		ae, be := uint64(a[i].Start)+uint64(a[i].Count), uint64(b[j].Start)+uint64(b[j].Count)
		if hi := min(ae, be); lo < hi {
			out = append(out, verdict.Range{Start: uint32(lo), Count: uint32(hi - lo)})
		}
		if ae < be {
			i++
		} else {
			j++
		}
	}
	return out
}

// Subtract returns the blocks of a that do not lie in b; both are sorted, and a
// is disjoint.
func Subtract(a, b []verdict.Range) []verdict.Range {
	var out []verdict.Range
	j := 0
	for _, r := range a {
		at, end := uint64(r.Start), uint64(r.Start)+uint64(r.Count)
		for j < len(b) && uint64(b[j].Start)+uint64(b[j].Count) <= at {
			j++
		}
		for k := j; k < len(b) && uint64(b[k].Start) < end; k++ {
			if uint64(b[k].Start) > at {
				out = append(out, verdict.Range{Start: uint32(at), Count: b[k].Start - uint32(at)})
			}
			at = max(at, uint64(b[k].Start)+uint64(b[k].Count))
		}
		if at < end {
			out = append(out, verdict.Range{Start: uint32(at), Count: uint32(end - at)})
		}
	}
	return out
}
