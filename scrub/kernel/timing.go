package kernel

import (
	"slices"
	"sync"
	"time"

	"github.com/scrubd/scrubd/ioctl"
)

// Timing says how long the calls of one type took. A vector counts for its
// first type: the headers of an AG for SB, those of an inode for INODE.
type Timing struct {
	Calls          uint64
	Total, Longest time.Duration
}

// times has the timing of checks and of repairs, by type.
type times struct {
	mu      sync.Mutex
	checks  [ioctl.ScrubTypeCount]Timing
	repairs [ioctl.ScrubTypeCount]Timing
}

// add is called once per call.
func (t *times) add(typ ioctl.ScrubType, repair bool, took time.Duration) {
	if typ >= ioctl.ScrubTypeCount {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	e := &t.checks[typ]
	if repair {
		e = &t.repairs[typ]
	}
	e.Calls++
	e.Total += took
	e.Longest = max(e.Longest, took)
}

func (t *times) of(typ ioctl.ScrubType, repair bool) Timing {
	if typ >= ioctl.ScrubTypeCount {
		return Timing{}
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if repair {
		return t.repairs[typ]
	}
	return t.checks[typ]
}

// Timing returns how long the finished calls of a type took so far, those of
// repairs apart from those of checks.
func (s *Scrubber) Timing(t ioctl.ScrubType, repair bool) Timing {
	return s.times.of(t, repair)
}

// Calls returns the number of finished scrub calls, vectors and repairs among
// them.
func (s *Scrubber) Calls() uint64 {
	s.times.mu.Lock()
	defer s.times.mu.Unlock()
	var n uint64
	for t := range s.times.checks {
		n += s.times.checks[t].Calls + s.times.repairs[t].Calls
	}
	return n
}

func sortCalls(calls []Call) {
	slices.SortFunc(calls, func(a, b Call) int { return a.Since.Compare(b.Since) })
}
