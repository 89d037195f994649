package throttle

import (
	"math"
	"sync"
	"time"
)

// Options of a [Throttle].
type Options struct {
	// Workers is how many workers the run has: the speed is never higher.
	Workers int
	// Disks are the devices that the filesystem lies on, as "MAJOR:MINOR".
	Disks []string
	// Root is where /proc and /sys are found; "" is /. Tests have their own.
	Root string
}

// Throttle paces one run. Its methods may be called by several goroutines at
// once; a nil *Throttle paces nothing.
type Throttle struct {
	workers int

	sampling sync.Mutex // by who takes a sample
	sensors  sensors
	control  control

	mu      sync.Mutex
	speed   float64
	hurry   bool
	taken   int             // places that turns have
	resting int             // of these, those whose turn rests
	waiting []chan struct{} // turns that wait for a place, in their order
	counted time.Time       // up to when held is
	held    time.Duration
	next    time.Time // of the next sample
	looks   int
	quit    chan struct{} // closed by Hurry
}

// The bounds of the speed, in workers.
const (
	// Slowest is the floor: a twentieth of the time of one worker.
	Slowest = 0.05
	// beside is the most while others use the disks. What a call of theirs waits for
	// is mostly the lock of an AG, or a CPU that a check is on, for a moment each
	// time, and nothing counts that: all that helps is to be there seldom.
	beside = 0.1
	// first is the speed at the beginning, and for good where nothing can be
	// measured.
	first = 0.25
)

// sampleEvery is how often the system is looked at.
const sampleEvery = time.Second

// firstSample is how long the first sample takes: until then it is not known
// whether others are there.
const firstSample = sampleEvery / 4

// maxRest bounds a rest, so that a run that is to end, or hurry, is never far
// from its next step; what it cuts off is not made up for.
const maxRest = 2 * time.Second

// leastRest is the shortest rest: what is owed adds up to it. A timer that is
// shorter says little about how long it takes.
const leastRest = 2 * time.Millisecond

// New returns a throttle for a background run, at a low speed.
func New(o Options) *Throttle {
	root := o.Root
	if root == "" {
		root = "/"
	}
	workers := max(o.Workers, 1)
	return &Throttle{
		workers: workers, sensors: newSensors(root, o.Disks), control: newControl(workers),
		speed: first, quit: make(chan struct{}),
	}
}

// Hurry ends all rests, for the rest of the run.
func (t *Throttle) Hurry() {
	if t == nil {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.hurry {
		return
	}
	t.hurry = true
	close(t.quit)
	t.admit()
}

// Throttled returns by how much the run took longer so far because workers
// rested: time in which half of those with something to do rested counts half.
func (t *Throttle) Throttled() time.Duration {
	if t == nil {
		return 0
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.count()
	return t.held
}

// Speed returns how many workers are at work at once, on average.
func (t *Throttle) Speed() float64 {
	if t == nil {
		return math.Inf(1)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.pace()
}

// pace is the speed that counts now.
func (t *Throttle) pace() float64 {
	if t.hurry {
		return float64(t.workers)
	}
	return t.speed
}

// places is how many turns may be at work or rest at once. A turn keeps its
// place while it rests, so that no other works in that time.
func (t *Throttle) places() int {
	if t.hurry {
		return math.MaxInt
	}
	return max(1, int(math.Ceil(t.speed)))
}

// owed is the rest for some work.
func (t *Throttle) owed(worked time.Duration) time.Duration {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.hurry {
		return 0
	}
	return time.Duration((float64(t.places())/t.speed - 1) * float64(worked))
}

// count brings the throttled time up to date. It is called before taken,
// resting or waiting change.
func (t *Throttle) count() {
	now := time.Now()
	if idle := t.resting + len(t.waiting); idle > 0 && now.After(t.counted) {
		share := float64(idle) / float64(t.taken+len(t.waiting))
		t.held += time.Duration(share * float64(now.Sub(t.counted)))
	}
	t.counted = now
}

// countInside adds a rest that one turn took within its work.
func (t *Throttle) countInside(rest time.Duration) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.held += rest / time.Duration(max(1, t.taken+len(t.waiting)))
}

// admit gives free places to those that wait.
func (t *Throttle) admit() {
	t.count()
	for len(t.waiting) > 0 && t.taken < t.places() {
		close(t.waiting[0])
		t.waiting = t.waiting[1:]
		t.taken++
	}
}

// look takes a sample of the system if one is due, and sets the speed. Whoever
// comes by does it; the others do not wait.
func (t *Throttle) look() {
	if !t.sampling.TryLock() {
		return
	}
	defer t.sampling.Unlock()
	now := time.Now()
	t.mu.Lock()
	due := !t.hurry && !now.Before(t.next)
	t.mu.Unlock()
	if !due {
		return
	}
	speed := t.control.step(t.sensors.read(now))
	t.mu.Lock()
	defer t.mu.Unlock()
	t.next = now.Add(sampleEvery)
	if t.looks++; t.looks == 1 {
		t.next = now.Add(firstSample)
	}
	t.speed = speed
	t.admit()
}
