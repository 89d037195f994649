package throttle

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
)

func TestControl(t *testing.T) {
	second := func(s sample) sample { s.took = time.Second; return s }
	for name, c := range map[string]struct {
		from float64
		sample
		want float64
	}{
		"calm":                  {from: 1, want: 1.2},
		"at the top":            {from: 3, want: 3},
		"blind":                 {from: 1, sample: sample{blind: true}, want: 1},
		"disk":                  {from: 2, sample: sample{io: 0.1}, want: 1},
		"some for the disk":     {from: 2, sample: sample{io: 0.07}, want: 2},
		"little for the disk":   {from: 2, sample: sample{io: 0.05}, want: 2.2},
		"cpu":                   {from: 2, sample: sample{cpu: 0.4}, want: 1},
		"memory":                {from: 2, sample: sample{memory: 0.06}, want: 1},
		"down to the floor":     {from: 0.08, sample: sample{io: 1}, want: Slowest},
		"at the floor":          {from: Slowest, sample: sample{io: 1}, want: Slowest},
		"others are there":      {from: 2, sample: sample{others: true}, want: beside},
		"slow for others":       {from: 0.16, sample: sample{others: true, latency: 21 * time.Millisecond}, want: 0.08},
		"slow for nobody else":  {from: 2, sample: sample{latency: 21 * time.Millisecond}, want: 2.2},
		"slower, within bounds": {from: Slowest, sample: sample{others: true, latency: 14 * time.Millisecond}, want: beside},
	} {
		t.Run(name, func(t *testing.T) {
			ctl := newControl(3)
			ctl.step(second(sample{latency: 10 * time.Millisecond})) // quiet times
			ctl.speed = c.from
			assert.InDelta(t, c.want, ctl.step(second(c.sample)), 1e-6)
		})
	}
}

// What was quiet is forgotten: a disk that has become slow for good is no
// reason to go at the floor for ever.
func TestQuietTimesAreForgotten(t *testing.T) {
	ctl := newControl(1)
	ctl.step(sample{took: time.Second, latency: time.Millisecond})
	slow := sample{took: time.Second, others: true, latency: 10 * time.Millisecond}
	ctl.step(slow)
	ctl.step(slow)
	ctl.step(slow)
	assert.InDelta(t, Slowest, ctl.speed, 1e-9)
	for range 600 {
		ctl.step(slow)
	}
	assert.InDelta(t, beside, ctl.speed, 1e-9)
}

// A long time between two samples says no more than a short one.
func TestLongSample(t *testing.T) {
	ctl := newControl(15)
	assert.InDelta(t, first+2, ctl.step(sample{took: time.Hour}), 1e-9)
}
