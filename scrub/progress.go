package scrub

import (
	"sync"
	"time"

	"github.com/scrubd/scrubd/scrub/kernel"
)

// stuckAfter is the age from which on a kernel call is named in the progress.
const stuckAfter = 10 * time.Second

// progressEvery is how often progress is handed out at most.
const progressEvery = 250 * time.Millisecond

// weights are the shares of the phases in a pass that finds nothing, by time.
var weights = map[Phase]float64{
	PhaseMetadata: 0.05, PhaseWalk: 0.15, PhaseInodes: 0.5, PhaseCompare: 0.1,
	PhaseConfirm: 0.05, PhaseRepair: 0.05, PhaseProof: 0, PhaseSummary: 0.1,
}

// progress collects how far a run is and hands it out at its own pace.
type progress struct {
	r    *run
	quit chan struct{}
	done chan struct{}
	once sync.Once

	mu   sync.Mutex
	ev   ProgressEvent
	base float64 // fraction at the start of the phase
	fold float64 // of the rest, for passes after the first
}

func newProgress(r *run) *progress {
	p := &progress{r: r, quit: make(chan struct{}), done: make(chan struct{}), fold: 1}
	if !r.coverage.KernelScrub {
		// The phases that are left share the whole.
		p.fold = 1 / (1 - weights[PhaseMetadata] - weights[PhaseInodes] - weights[PhaseSummary])
	}
	go p.loop()
	return p
}

func (p *progress) loop() {
	defer close(p.done)
	tick := time.NewTicker(progressEvery)
	defer tick.Stop()
	for {
		select {
		case <-p.quit:
			return
		case <-tick.C:
			ev := p.now()
			p.r.emit(&ev)
		}
	}
}

func (p *progress) stop() {
	p.once.Do(func() { close(p.quit) })
	<-p.done
}

// now is the present state, with the oldest call that should be back by now.
func (p *progress) now() ProgressEvent {
	p.mu.Lock()
	ev := p.ev
	share := weights[ev.Phase] * p.fold
	ev.Fraction = p.base
	if ev.Total > 0 {
		ev.Fraction += share * min(1, float64(ev.Done)/float64(ev.Total))
	}
	p.mu.Unlock()
	ev.Elapsed = time.Since(p.r.sum.Began)
	if c, ok := oldest(p.r.kern.InFlight()); ok {
		ev.Call, ev.CallAge = c.String(), time.Since(c.Since)
	}
	return ev
}

func oldest(calls []kernel.Call) (kernel.Call, bool) {
	var found kernel.Call
	ok := false
	for _, c := range calls {
		if time.Since(c.Since) >= stuckAfter && (!ok || c.Since.Before(found.Since)) {
			found, ok = c, true
		}
	}
	return found, ok
}

// enter begins a phase. From the second pass on the rest of the bar is shared
// out again, so that it never goes back.
func (p *progress) enter(phase Phase, pass int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if phase == PhaseMetadata && pass > 1 {
		p.fold = (1 - p.base) / 2
	} else if p.ev.Phase != phase {
		p.base = min(1, p.base+weights[p.ev.Phase]*p.fold)
	}
	p.ev.Phase, p.ev.Done, p.ev.Total = phase, 0, 0
}

func (p *progress) phase() Phase {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.ev.Phase
}

// step sets how many items of total are done; scrubGroups counts up by ones.
func (p *progress) step(done, total uint64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.ev.Done, p.ev.Total = done, total
}

// one counts one more item of total.
func (p *progress) one(total uint64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.ev.Done++
	p.ev.Total = total
}

func (p *progress) walked(inodes, extents uint64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.ev.Inodes, p.ev.Extents, p.ev.Done = inodes, extents, inodes
}

func (p *progress) found(n int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.ev.Findings = n
}
