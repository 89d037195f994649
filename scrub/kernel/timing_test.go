package kernel

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"

	"github.com/scrubd/scrubd/ioctl"
)

// A call that took exactly a bound belongs below it, as a histogram's "le" has it.
func TestTimingBuckets(t *testing.T) {
	last := len(TimingBounds)
	for _, c := range []struct {
		took time.Duration
		want int
	}{
		{0, 0},
		{TimingBounds[0], 0},
		{TimingBounds[0] + 1, 1},
		{TimingBounds[3], 3},
		{TimingBounds[last-1], last - 1},
		{TimingBounds[last-1] + 1, last},
	} {
		var all times
		all.add(ioctl.ScrubTypeRMAPBT, true, c.took)
		got := all.of(ioctl.ScrubTypeRMAPBT, true)
		var want [len(TimingBounds) + 1]uint64
		want[c.want] = 1
		assert.Equal(t, want, got.Buckets, "%s", c.took)
		assert.Equal(t, c.took, got.Total)
		assert.Zero(t, all.of(ioctl.ScrubTypeRMAPBT, false).Calls)
	}
}
