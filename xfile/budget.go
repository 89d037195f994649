package xfile

import (
	"math"
	"slices"
	"strings"
	"sync"
	"time"
)

// Place is where the bytes of a file are.
type Place int

const (
	// Memory is memfd and tmpfs: RAM, then swap.
	Memory Place = iota
	// Disk is a file on a filesystem that writes back: its pages in RAM can be
	// taken away at any time and are not charged to the memory limit.
	Disk
)

func (p Place) String() string {
	if p == Disk {
		return "disk"
	}
	return "memory"
}

// Unlimited is a limit that nothing reaches.
const Unlimited = math.MaxInt64

// Budget bounds what all files of a run hold together, and says who holds it.
// It counts whole pages that the kernel has given, in memory and on disk apart.
// All methods may be called from several goroutines; a nil *Budget allows
// everything and counts nothing.
//
// Invariant: 0 <= pending <= used in each place, and used <= limit at the moment
// of every successful allocation.
type Budget struct {
	mu     sync.Mutex
	limit  [2]int64
	used   [2]int64
	peak   [2]int64
	uses   map[string]*Use
	source *source // of SystemBudget; nil for a fixed limit
	bound  string  // what the limit on memory comes from

	// pending is charged and not yet given by the kernel, so that a reading of
	// the system taken now does not show it.
	pending int64
}

// Use is what one purpose holds. All numbers are bytes.
type Use struct {
	Purpose      string
	Memory, Disk int64 // held now
	Peak         int64 // the most that Memory+Disk ever was
}

// source re-reads the system, at most every interval or step bytes.
type source struct {
	read  func() (left int64, bound string, err error) // bytes that may still be taken
	last  time.Time
	taken int64 // bytes taken since last
}

const (
	sourceInterval = time.Second
	sourceStep     = 32 << 20
)

// NewBudget returns a budget of limit bytes of memory and any amount of disk.
func NewBudget(limit int64) *Budget {
	return &Budget{limit: [2]int64{limit, Unlimited}, uses: map[string]*Use{}}
}

// SetLimit changes the limit of one place. What is already held stays held.
func (b *Budget) SetLimit(place Place, limit int64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.limit[place] = limit
	if place == Memory {
		b.source, b.bound = nil, ""
	}
}

// Limit returns the bytes that may be held in a place, [Unlimited] for a nil
// budget. For a budget of the system it is the latest reading.
func (b *Budget) Limit(place Place) int64 {
	if b == nil {
		return Unlimited
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.limit[place]
}

// Bound names what the limit on memory comes from, for messages: a cgroup file
// or /proc/meminfo; empty if the limit is a fixed number.
func (b *Budget) Bound() string {
	if b == nil {
		return ""
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.bound
}

// Used returns the bytes held now in a place, and the most that ever were.
func (b *Budget) Used(place Place) (now, peak int64) {
	if b == nil {
		return 0, 0
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.used[place], b.peak[place]
}

// Uses returns what each purpose holds, in the order of their names.
func (b *Budget) Uses() []Use {
	if b == nil {
		return nil
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	all := make([]Use, 0, len(b.uses))
	for _, u := range b.uses {
		all = append(all, *u)
	}
	slices.SortFunc(all, func(x, y Use) int { return strings.Compare(x.Purpose, y.Purpose) })
	return all
}

// Left returns the bytes that can still be taken in a place.
func (b *Budget) Left(place Place) int64 {
	if b == nil {
		return Unlimited
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if place == Memory {
		b.refresh(0, true)
	}
	return max(0, b.limit[place]-b.used[place])
}

// WouldFit says whether n more bytes of memory can be taken now.
func (b *Budget) WouldFit(n int64) bool { return n <= b.Left(Memory) }

// take charges n bytes that are about to be allocated; a success is followed by
// settle when the kernel has given them, or by settle and give when it has not.
func (b *Budget) take(purpose string, place Place, n int64) error {
	if b == nil {
		return nil
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if place == Memory {
		b.refresh(n, false)
		if b.used[place]+n > b.limit[place] {
			b.refresh(n, true)
		}
	}
	if n > b.limit[place]-b.used[place] {
		e := &BudgetError{Purpose: purpose, Want: n, Used: b.used[place], Limit: b.limit[place]}
		if place == Memory {
			e.Bound = b.bound
		}
		return e
	}
	b.used[place] += n
	b.peak[place] = max(b.peak[place], b.used[place])
	u := b.uses[purpose]
	if u == nil {
		u = &Use{Purpose: purpose}
		b.uses[purpose] = u
	}
	if place == Memory {
		b.pending += n
		u.Memory += n
	} else {
		u.Disk += n
	}
	u.Peak = max(u.Peak, u.Memory+u.Disk)
	return nil
}

// settle says that n bytes of take are no longer under way.
func (b *Budget) settle(place Place, n int64) {
	if b == nil || place != Memory {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.pending -= n
}

// give returns n bytes that the kernel has back.
func (b *Budget) give(purpose string, place Place, n int64) {
	if b == nil || n == 0 {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.used[place] -= n
	if u := b.uses[purpose]; place == Memory {
		u.Memory -= n
	} else {
		u.Disk -= n
	}
}

// refresh reads the system again when enough has changed since the last time,
// or when force is set. A reading that fails leaves the limit as it is: the
// last known number is better than none.
func (b *Budget) refresh(n int64, force bool) {
	s := b.source
	if s == nil {
		return
	}
	s.taken += n
	if !force && s.taken < sourceStep && time.Since(s.last) < sourceInterval {
		return
	}
	left, bound, err := s.read()
	if err != nil {
		return
	}
	s.last, s.taken = time.Now(), n
	b.bound = bound
	b.limit[Memory] = max(0, left) + b.used[Memory] - b.pending
}
