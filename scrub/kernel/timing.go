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
	// Buckets counts the calls by how long they took: bucket i has those of at
	// most TimingBounds[i] that were longer than the bound before it, the last
	// one all that were longer still.
	Buckets [len(TimingBounds) + 1]uint64
}

// TimingBounds are the upper bounds of [Timing].Buckets but for the last. A call
// on one inode takes microseconds, one that visits every inode hours.
var TimingBounds = [...]time.Duration{
	100 * time.Microsecond, time.Millisecond, 10 * time.Millisecond, 100 * time.Millisecond,
	time.Second, 10 * time.Second, time.Minute, 10 * time.Minute, time.Hour,
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
	i := 0
	for i < len(TimingBounds) && took > TimingBounds[i] {
		i++
	}
	e.Buckets[i]++
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

// Timings returns how long all finished calls took so far, by type; types without
// any are left out.
func (s *Scrubber) Timings() []TypeTiming {
	var list []TypeTiming
	for t := range ioctl.ScrubTypeCount {
		for _, repair := range []bool{false, true} {
			if timing := s.times.of(t, repair); timing.Calls > 0 {
				list = append(list, TypeTiming{t, repair, timing})
			}
		}
	}
	return list
}

// TypeTiming is the timing of one type's checks, or of its repairs.
type TypeTiming struct {
	Type   ioctl.ScrubType
	Repair bool
	Timing
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
