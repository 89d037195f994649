package live

import (
	"slices"

	"github.com/scrubd/scrubd/ioctl"
)

// instant is what changed at one time, by which ties are found.
type instant struct {
	time uint64
	by   []changer
}

type changer struct {
	group  Group
	buffer *cpuBuffer
}

// round reads what is in the buffers and delivers what is older than the
// horizon that it returns; see the package comment.
//
// Errors: the Feed's, those of reading. They end the stream.
func (s *Stream) round() (horizon uint64, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err != nil {
		return 0, s.err
	}
	defer func() { s.err = err }()
	horizon = Now()
	for _, b := range s.buffers {
		b.read, b.drained = false, false
	}
	for {
		b, limit, err := s.oldest(horizon)
		if err != nil {
			return 0, err
		}
		if b == nil {
			break
		}
		// Mostly it is one CPU's turn for a while.
		for b.has && b.next.time <= limit {
			if err := s.deliver(b); err != nil {
				return 0, err
			}
			if err := s.fill(b); err != nil {
				return 0, err
			}
		}
	}
	if err := s.flush(); err != nil {
		return 0, err
	}
	return horizon, s.checkLoss()
}

// oldest returns the buffer with the oldest event before the horizon, nil
// without one, and until when it is its turn.
func (s *Stream) oldest(horizon uint64) (first *cpuBuffer, limit uint64, err error) {
	limit = horizon - 1
	for _, b := range s.buffers {
		if err := s.fill(b); err != nil {
			return nil, 0, err
		}
		if !b.has || b.next.time >= horizon {
			continue
		}
		switch {
		case first == nil:
			first = b
		case b.next.time < first.next.time:
			first, limit = b, min(limit, first.next.time)
		default:
			limit = min(limit, b.next.time)
		}
	}
	return first, limit, nil
}

func (s *Stream) fill(b *cpuBuffer) error {
	missed, err := b.fill(s.pages, s.dec)
	if missed {
		err = s.noteLoss(err)
	}
	return err
}

// checkLoss asks the buffers that had something whether it was too much. One
// that was empty has lost nothing.
func (s *Stream) checkLoss() error {
	var lost bool
	for _, b := range s.buffers {
		if !b.read {
			continue
		}
		more, err := b.newlyLost()
		if err != nil {
			return err
		}
		lost = lost || more
	}
	if lost {
		return s.noteLoss(nil)
	}
	return nil
}

// noteLoss tells everybody that events are missing.
func (s *Stream) noteLoss(err error) error {
	if err == nil {
		err = s.flush()
	}
	s.losses.Add(1)
	s.watchLoss++
	if s.opts.Feed != nil {
		s.opts.Feed.Lost()
	}
	return err
}

// deliver hands b's next event on.
func (s *Stream) deliver(b *cpuBuffer) error {
	e := &b.next
	b.has = false
	switch e.kind {
	case kindChange:
		if e.group || e.rt {
			return s.deliverChange(b, e)
		}
	case kindIntent:
		if e.group || e.rt {
			s.noteIntent(e)
		}
	case kindRepair:
		s.repairs.Add(1)
		s.noteForeign(e)
		return s.invalidate(e)
	case kindScrub:
		s.noteForeign(e)
	}
	return nil
}

func (s *Stream) deliverChange(b *cpuBuffer, e *event) error {
	if s.opts.Feed == nil {
		return nil
	}
	if s.isTie(b, e) {
		if err := s.flush(); err != nil {
			return err
		}
		s.opts.Feed.Invalidate(e.of())
	}
	s.batch = append(s.batch, Change{Time: e.time, Rmap: e.rmap, AGNo: ioctl.AGNumber(e.agno), Op: e.op, Realtime: e.rt})
	if len(s.batch) == batchLen {
		return s.flush()
	}
	return nil
}

// isTie tells whether another CPU has changed the same group at the same
// nanosecond: which was first cannot be told. A clock that coarse is not to be
// expected.
func (s *Stream) isTie(b *cpuBuffer, e *event) bool {
	t := &s.last
	if t.time != e.time {
		t.time, t.by = e.time, t.by[:0]
	}
	tie := slices.ContainsFunc(t.by, func(c changer) bool { return c.group == e.of() && c.buffer != b })
	t.by = append(t.by, changer{e.of(), b})
	return tie
}

// invalidate tells the Feed that a repair begins. One of an inode changes
// groups that the event does not name, and so does one of a realtime group, whose
// metadata lies in AGs.
func (s *Stream) invalidate(e *event) error {
	if s.opts.Feed == nil {
		return nil
	}
	if err := s.flush(); err != nil {
		return err
	}
	if e.group {
		s.opts.Feed.Invalidate(e.of())
		return nil
	}
	ags, rtgroups := s.groups()
	for agno := range ags {
		s.opts.Feed.Invalidate(Group{AGNo: ioctl.AGNumber(agno)})
	}
	for rgno := range rtgroups {
		if !e.rt || rgno == e.agno {
			s.opts.Feed.Invalidate(Group{AGNo: ioctl.AGNumber(rgno), Realtime: true})
		}
	}
	return nil
}

// flush hands the changes that wait to the Feed.
func (s *Stream) flush() error {
	if len(s.batch) == 0 {
		return nil
	}
	s.changes.Add(uint64(len(s.batch)))
	err := s.opts.Feed.Add(s.batch)
	s.batch = s.batch[:0]
	return err
}
