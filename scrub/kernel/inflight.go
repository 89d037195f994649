package kernel

import (
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/scrubd/scrubd/ioctl"
	"github.com/scrubd/scrubd/scrub/throttle"
)

// Call is a kernel call that has not come back yet.
type Call struct {
	// Object is what it works on. For a vector, its type is the first one of
	// Types.
	Object
	// Types are those of the call; which of a vector's is running is not known.
	Types []ioctl.ScrubType
	// Repair and Forced say what was asked for.
	Repair, Forced bool
	Since          time.Time
	// Longest is what the slowest finished call of this kind took, 0 before
	// the first one.
	Longest time.Duration
}

// String names the call: "scrub of rmapbt of AG 3", "forced repair of rmapbt of
// AG 3", "scrub of core of inode 131 (inode, bmapbtd, parent)".
func (c Call) String() string {
	what := "scrub"
	switch {
	case c.Forced:
		what = "forced repair"
	case c.Repair:
		what = "repair"
	}
	s := fmt.Sprintf("%s of %s", what, c.Object)
	if len(c.Types) > 1 {
		names := make([]string, len(c.Types))
		for i, t := range c.Types {
			names[i] = t.String()
		}
		s += " (" + strings.Join(names, ", ") + ")"
	}
	return s
}

// worker is what one goroutine needs to make calls. Its slot shows the call
// that it is in.
type worker struct {
	vec []ioctl.ScrubVecEntry
	// at has, of each entry of vec, the result that it fills in; -1 for a
	// barrier. repeat are the results that the kernel could not give now.
	at, repeat []int
	done       []bool                // by step of the plan
	stat       *ioctl.BulkstatBuffer // one record; nil until needed
	// calls counts those made since the worker was acquired.
	calls uint64
	turn  *throttle.Turn // nil until needed, and in a run that is not paced

	mu    sync.Mutex // never held during a call
	busy  bool
	what  Object
	types typeSet
	flags ioctl.ScrubFlags
	since time.Time
}

// enter says that a call begins.
func (w *worker) enter(o Object, types typeSet, flags ioctl.ScrubFlags) time.Time {
	now := time.Now()
	w.calls++
	w.mu.Lock()
	w.busy, w.what, w.types, w.flags, w.since = true, o, types, flags, now
	w.mu.Unlock()
	return now
}

// leave says that it is over.
func (w *worker) leave() {
	w.mu.Lock()
	w.busy = false
	w.mu.Unlock()
}

// workers keeps all workers, idle or not, so that calls can be listed.
type workers struct {
	mu   sync.Mutex
	all  []*worker
	idle []*worker
}

func (ws *workers) acquire() *worker {
	ws.mu.Lock()
	defer ws.mu.Unlock()
	if n := len(ws.idle); n > 0 {
		w := ws.idle[n-1]
		ws.idle = ws.idle[:n-1]
		w.calls = 0
		return w
	}
	w := new(worker)
	ws.all = append(ws.all, w)
	return w
}

func (ws *workers) release(w *worker) {
	ws.mu.Lock()
	defer ws.mu.Unlock()
	ws.idle = append(ws.idle, w)
}

// InFlight lists the calls that are in the kernel now, the oldest first. A call
// that never returns stays in the list.
func (s *Scrubber) InFlight() []Call {
	s.workers.mu.Lock()
	all := s.workers.all[:len(s.workers.all):len(s.workers.all)]
	s.workers.mu.Unlock()
	var calls []Call
	for _, w := range all {
		w.mu.Lock()
		if w.busy {
			calls = append(calls, Call{
				Object: w.what, Types: w.types.list(), Since: w.since,
				Repair: w.flags.Has(ioctl.ScrubRepair), Forced: w.flags.Has(ioctl.ScrubForceRebuild),
			})
		}
		w.mu.Unlock()
	}
	sortCalls(calls)
	for i := range calls {
		c := &calls[i]
		c.Longest = s.times.of(c.Type, c.Repair).Longest
	}
	return calls
}
