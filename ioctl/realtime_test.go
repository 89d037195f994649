package ioctl_test

import (
	"math"
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/scrubd/scrubd/ioctl"
)

// Realtime groups of a size that is no power of two, the last one short, and a
// device that does not end with a whole realtime extent.
func TestRealtimeGeometry(t *testing.T) {
	g := ioctl.Geometry{
		BlockSize: 4096, RTExtSize: 4, RTBlocks: 2*6144 + 403, RTExtents: 2*1536 + 100, RGExtents: 1536, RGCount: 3,
		Flags: ioctl.FlagMetadir | ioctl.FlagRmapbt,
	}
	assert.EqualValues(t, 3, g.RTGroups())
	assert.EqualValues(t, 6144, g.RGBlocks())
	assert.EqualValues(t, 6144, g.RGLength(1))
	assert.EqualValues(t, 400, g.RGLength(2))
	assert.Zero(t, g.RGLength(3))
	assert.True(t, g.RTGrouped())
	assert.True(t, g.HasRTSuperblock())
	assert.True(t, g.HasRTRmapbt())
	assert.False(t, g.HasRTReflink())
	rgno, rgbno := g.DAddrToRG(6144*8 - 1)
	assert.Zero(t, rgno)
	assert.EqualValues(t, 6143, rgbno)
	rgno, rgbno = g.DAddrToRG((2*6144 + 7) * 8)
	assert.EqualValues(t, 2, rgno)
	assert.EqualValues(t, 7, rgbno)
}

func TestRealtimeGeometryOfOthers(t *testing.T) {
	for name, c := range map[string]struct {
		g                             ioctl.Geometry
		groups                        uint32
		grouped, superblock, rtrmapbt bool
	}{
		"no realtime device": {g: ioctl.Geometry{BlockSize: 4096, RTExtSize: 1, Flags: ioctl.FlagRmapbt}},
		"no groups": {
			g:      ioctl.Geometry{BlockSize: 4096, RTExtSize: 4, RTBlocks: 4003, RTExtents: 1000, Flags: ioctl.FlagRmapbt},
			groups: 1, grouped: true,
		},
		"no groups and larger than one can be": {
			g: ioctl.Geometry{BlockSize: 4096, RTExtSize: 1, RTBlocks: math.MaxUint32, RTExtents: math.MaxUint32}, groups: 1,
		},
		"zoned, inside of the data device": {
			g: ioctl.Geometry{
				BlockSize: 4096, RTExtSize: 1, RTBlocks: 2000, RTExtents: 2000, RGExtents: 1000, RGCount: 2, RTStart: 500,
				Flags: ioctl.FlagZoned | ioctl.FlagRmapbt,
			},
			groups: 2, rtrmapbt: true,
		},
		"groups that contradict the size": {
			g:      ioctl.Geometry{BlockSize: 4096, RTExtSize: 1, RTBlocks: 500, RTExtents: 500, RGExtents: 1000, RGCount: 2},
			groups: 2, superblock: true,
		},
	} {
		t.Run(name, func(t *testing.T) {
			assert.Equal(t, c.groups, c.g.RTGroups())
			assert.Equal(t, c.grouped, c.g.RTGrouped())
			assert.Equal(t, c.superblock, c.g.HasRTSuperblock())
			assert.Equal(t, c.rtrmapbt, c.g.HasRTRmapbt())
			rgno, _ := c.g.DAddrToRG(math.MaxUint64)
			if !c.grouped {
				return
			}
			assert.GreaterOrEqual(t, uint32(rgno), c.groups)
		})
	}
}
