package confirm

import (
	"slices"

	"github.com/scrubd/scrubd/scrub/live"
	"github.com/scrubd/scrubd/scrub/verdict"
)

// Subject is what one observation settles if nothing was under way while it was
// made: a [Candidate], or a [SpaceCandidate].
type Subject interface {
	group() live.Group
	// owners are the inodes that have to be open for an observation.
	owners() []uint64
	// prepare opens and reads what an observation needs, so that it neither opens
	// anything nor waits for a disk. False: it would tell nothing.
	prepare(s *Settler) (bool, error)
	// observe makes one. It returns what settles the subject if the observation
	// was exact, nil if it tells nothing.
	observe(s *Settler) (settle func(), err error)
	// settled: an exact observation was made.
	settled() bool
}

func (c *Candidate) group() live.Group { return c.Group() }
func (c *Candidate) owners() []uint64  { return c.Owners }
func (c *Candidate) settled() bool     { return c.Exact || c.Status == Dropped }

// prepare looks the owners up and reads all that an observation will read once:
// what is in memory by then is read in microseconds.
func (c *Candidate) prepare(s *Settler) (bool, error) {
	for _, ino := range c.Owners {
		if _, err := s.look(ino); err != nil {
			return false, err
		}
	}
	settle, err := c.observe(s)
	if unreadable(err) {
		return false, nil
	}
	return settle != nil, err
}

// observe compares forks and the other side once. Nothing is opened, no ctime is
// asked for: nothing moves.
func (c *Candidate) observe(s *Settler) (func(), error) {
	inodes := make([]*Inode, len(c.Owners))
	views := make([]view, len(c.Owners))
	for i, ino := range c.Owners {
		in := s.inodes[ino]
		if in == nil {
			return nil, nil
		}
		v, err := s.readForks(in, c.Window)
		if err != nil {
			return nil, err
		}
		inodes[i], views[i] = in, v
	}
	all, err := s.window(c)
	if err != nil {
		return nil, err
	}
	diffs, err := s.diff(c, views, s.windowRecords(c, inodes, all))
	if err != nil {
		return nil, err
	}
	for i, in := range inodes {
		told, err := s.tells(in, &views[i], len(diffs) == 0)
		if err != nil || !told {
			return nil, err
		}
	}
	return func() {
		c.Diffs, c.Why = diffs, ""
		if len(diffs) == 0 {
			c.Status = Dropped
			return
		}
		c.Status, c.Exact = Confirmed, true
	}, nil
}

// tells whether what in says, or that it says nothing, means something.
func (s *Settler) tells(in *Inode, v *view, agrees bool) (bool, error) {
	switch v.state {
	case verdict.OwnerUnknown:
		return false, nil
	case verdict.OwnerUnreadable, verdict.OwnerUnloadable:
		return !agrees, nil
	case verdict.OwnerSilent:
		return !in.refused, nil
	case verdict.OwnerDead:
		if !validIno(s.geo, in.Ino) {
			return true, nil
		}
		// Within the observation: numbers are given out again all the time. It is
		// read under the lock of the AG's inode btrees, in a frozen filesystem too.
		alive, err := s.allocated(in.Ino)
		return err == nil && !alive, err
	}
	return true, nil
}

func (c *SpaceCandidate) group() live.Group { return c.Group() }
func (c *SpaceCandidate) owners() []uint64  { return nil }
func (c *SpaceCandidate) settled() bool     { return c.Quiet || c.Status == Dropped }

func (c *SpaceCandidate) prepare(s *Settler) (bool, error) {
	_, err := c.observe(s)
	if unreadable(err) {
		c.Status, c.Why = Unsettled, spaceUnreadable
		return false, nil
	}
	return true, err
}

// observe reads the bnobt between two readings of the rmapbt, as every sample.
func (c *SpaceCandidate) observe(s *Settler) (func(), error) {
	parts, err := s.triple(c.Window, c.Conflict)
	if err != nil {
		return nil, err
	}
	if len(c.Parts) > 0 { // what agreed at another sample is not in conflict
		parts = intersect(parts, c.Parts)
	}
	return func() {
		c.Parts, c.Why = slices.Clip(parts), ""
		if len(parts) == 0 {
			c.Status, c.Parts = Dropped, nil
			return
		}
		c.Status, c.Quiet = Confirmed, true
	}, nil
}
