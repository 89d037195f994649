package scrub

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/scrubd/scrubd/ioctl"
	"github.com/scrubd/scrubd/ioctl/ioctltest"
)

// The same fault in two realtime groups is two findings.
func TestPlacesOfRealtimeGroups(t *testing.T) {
	m := ioctltest.NewModel()
	g := &m.Geometry
	g.RTBlocks, g.RTExtents, g.RGExtents, g.RGCount = 2000, 2000, 1000, 2
	for rgno := range ioctl.AGNumber(2) {
		m.Verdicts[ioctl.ScrubRequest{Type: ioctl.ScrubTypeRTBITMAP, AGNo: rgno}] = ioctl.ScrubCorrupt
	}
	sum, _ := fakeRun(t, m, Options{Only: &Places{RTGroups: []ioctl.RGNumber{0, 1}}})
	require.Len(t, sum.Findings, 2)
	for rgno, f := range sum.Findings {
		assert.Equal(t, Held, f.Outcome)
		assert.True(t, f.Realtime)
		assert.EqualValues(t, rgno, f.AGNo)
	}
	assert.NotEqual(t, sum.Findings[0].ID, sum.Findings[1].ID)
}
