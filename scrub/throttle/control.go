package throttle

import (
	"math"
	"time"
)

// sample is what the system did since the sample before it.
type sample struct {
	took time.Duration
	// Shares of the time, 0 to 1, in which some task that is not one of ours
	// waited for a CPU, for the disk, for memory.
	cpu, io, memory float64
	// latency is what a request took on the disks, 0 where too few were made to
	// tell. others says that not all of them were ours.
	latency time.Duration
	others  bool
	// blind says that nothing could be measured.
	blind bool
}

// limit is where pressure begins: above high the speed is halved, below low it
// grows.
type limit struct{ low, high float64 }

// The limits. A CPU is waited for whenever there are more tasks than CPUs, which
// is no misfortune, and a run at a low weight takes little of it; that tasks wait
// for the disk, or to get memory back, is.
var (
	cpuLimit    = limit{0.2, 0.4}
	ioLimit     = limit{0.05, 0.1}
	memoryLimit = limit{0.02, 0.05}
)

// latencyLimit is as a multiple of the latency of quiet times, which is less
// by latencyGrain than what it is compared with: disks have good and bad moments.
var latencyLimit = limit{1.5, 2}

const latencyGrain = 200 * time.Microsecond

// quietForgets is by how much a second the latency of quiet times grows, until
// the next sample that is lower: what was quiet an hour ago may be no measure.
const quietForgets = 1.005

// control sets the speed: additive increase, multiplicative decrease.
type control struct {
	workers float64
	speed   float64
	quiet   float64 // latency of quiet times in seconds, 0 until there is one
}

func newControl(workers int) control {
	return control{workers: float64(workers), speed: first}
}

// growth is by how much the speed grows in a second without pressure: from the
// floor to all workers in a quarter of a minute.
func (c *control) growth() float64 { return c.workers / 15 }

// step takes a sample into account and returns the speed until the next one.
func (c *control) step(s sample) float64 {
	if s.blind {
		return c.speed
	}
	worst := math.Max(math.Max(cpuLimit.of(s.cpu), ioLimit.of(s.io)), memoryLimit.of(s.memory))
	if s.latency > 0 {
		worst = math.Max(worst, c.latency(s))
	}
	switch {
	case worst >= 1:
		c.speed = max(c.speed/2, Slowest)
	case worst <= 0:
		// A sample that took long, for a long call say, is no more than two short ones.
		grown := c.growth() * min(s.took, 2*sampleEvery).Seconds()
		c.speed = min(c.speed+grown, c.workers)
	}
	if s.others {
		c.speed = min(c.speed, beside)
	}
	return c.speed
}

// of places a value: at most 0 below low, at least 1 above high.
func (l limit) of(v float64) float64 { return (v - l.low) / (l.high - l.low) }

// latency compares that of a sample with that of quiet times.
func (c *control) latency(s sample) float64 {
	now := s.latency.Seconds()
	c.quiet *= math.Pow(quietForgets, s.took.Seconds())
	if c.quiet == 0 || now < c.quiet {
		c.quiet = now
	}
	if !s.others {
		return 0 // whoever waits is this run
	}
	return latencyLimit.of(max(0, now-latencyGrain.Seconds()) / c.quiet)
}
