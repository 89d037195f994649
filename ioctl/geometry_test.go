package ioctl_test

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
	"pgregory.net/rapid"

	"github.com/scrubd/scrubd/ioctl"
	"github.com/scrubd/scrubd/ioctl/ioctltest"
)

// A group size that is no power of two, with a short last group.
func TestGeometryOddGroups(t *testing.T) {
	g := ioctl.Geometry{BlockSize: 4096, InodeSize: 512, AGBlocks: 34133, AGCount: 3, DataBlocks: 2*34133 + 100}
	assert.Equal(t, 12, g.BlockLog())
	assert.Equal(t, 16, g.AGBlockLog())
	assert.Equal(t, uint32(8), g.InodesPerBlock())
	assert.Equal(t, 19, g.AGInoLog())
	assert.Equal(t, ioctl.AGBlock(34133), g.AGLength(0))
	assert.Equal(t, ioctl.AGBlock(34133), g.AGLength(1))
	assert.Equal(t, ioctl.AGBlock(100), g.AGLength(2))
	assert.Zero(t, g.AGLength(3))
	assert.Zero(t, g.AGLength(ioctl.NullAGNumber))

	// Blocks are linear on the device, but not as fsbno.
	assert.Equal(t, ioctl.ByteOff(34133*4096+5*4096), g.AGByte(1, 5))
	assert.Equal(t, ioctl.FSBlock(1<<16|5), g.AGToFSB(1, 5))
	assert.Equal(t, g.AGByte(1, 5), g.FSBToByte(1<<16|5))
	assert.Equal(t, ioctl.FSBlock(1<<16|5), g.ByteToFSB(g.AGByte(1, 5)+4095))
	agno, agbno := g.BytesToAG(34133*4096 - 1)
	assert.Equal(t, ioctl.AGNumber(0), agno)
	assert.Equal(t, ioctl.AGBlock(34132), agbno)
	agno, agbno = g.DAddrToAG(34133 * 8)
	assert.Equal(t, ioctl.AGNumber(1), agno)
	assert.Zero(t, agbno)
	first, last := g.AGRange(2)
	assert.Equal(t, ioctl.ByteOff(2*34133*4096), first)
	assert.Equal(t, ioctl.ByteOff((2*34133+100)*4096-1), last)
	first, last = g.AGRange(3)
	assert.Greater(t, first, last)

	// Inode 131 of group 2: block 16, the fourth of its eight inodes.
	ino := g.AGToIno(2, 16, 3)
	assert.Equal(t, ioctl.Ino(2<<19|131), ino)
	agno, agbno, offset := g.InoToAG(ino)
	assert.Equal(t, ioctl.AGNumber(2), agno)
	assert.Equal(t, ioctl.AGBlock(16), agbno)
	assert.Equal(t, uint32(3), offset)
	agno, agino := g.InoToAGIno(ino)
	assert.Equal(t, ioctl.AGNumber(2), agno)
	assert.Equal(t, ioctl.AGIno(131), agino)
}

// Known values from mkfs.xfs on Linux: -b size=1k and size=64k.
func TestGeometryBlockSizes(t *testing.T) {
	g := ioctl.Geometry{BlockSize: 1024, InodeSize: 512, AGBlocks: 81920, AGCount: 4, DataBlocks: 4 * 81920}
	assert.Equal(t, 10, g.BlockLog())
	assert.Equal(t, 17, g.AGBlockLog())
	assert.Equal(t, 1, g.InodesPerBlockLog())
	agno, agbno := g.DAddrToAG(81920*2 + 3)
	assert.Equal(t, ioctl.AGNumber(1), agno)
	assert.Equal(t, ioctl.AGBlock(1), agbno)
	assert.Equal(t, ioctl.DAddr(81920*2+2), g.AGToDAddr(1, 1))

	g = ioctl.Geometry{BlockSize: 65536, InodeSize: 2048, AGBlocks: 1280, AGCount: 4, DataBlocks: 4*1280 - 7}
	assert.Equal(t, 11, g.AGBlockLog())
	assert.Equal(t, uint32(32), g.InodesPerBlock())
	assert.Equal(t, uint64(3), g.BytesToBlocks(4*65536-1))
	assert.Equal(t, uint64(3), g.DAddrToBlocks(4*128-1))
	assert.Equal(t, ioctl.ByteOff(3*65536), g.BlocksToBytes(3))

	// A power of two needs no bit more, a group of one block none at all.
	assert.Equal(t, 16, (&ioctl.Geometry{AGBlocks: 1 << 16}).AGBlockLog())
	assert.Equal(t, 17, (&ioctl.Geometry{AGBlocks: 1<<16 + 1}).AGBlockLog())
	assert.Equal(t, 0, (&ioctl.Geometry{AGBlocks: 1}).AGBlockLog())
}

// Every address of every filesystem comes back from every form, and addresses from nowhere do not panic.
func TestGeometryRoundTrips(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		blockLog := rapid.IntRange(9, 16).Draw(t, "block log")
		inodeLog := rapid.IntRange(8, min(blockLog, 11)).Draw(t, "inode log")
		agBlocks := rapid.Uint64Range(1, 1<<min(31, 32-(blockLog-inodeLog))).Draw(t, "agblocks")
		agCount := rapid.Uint64Range(1, 1<<16).Draw(t, "agcount")
		g := &ioctl.Geometry{
			BlockSize: 1 << blockLog, InodeSize: 1 << inodeLog, AGBlocks: ioctl.AGBlock(agBlocks), AGCount: uint32(agCount),
			DataBlocks: agBlocks*agCount - rapid.Uint64Range(0, agBlocks-1).Draw(t, "short by"),
		}
		agno := ioctl.AGNumber(rapid.Uint64Range(0, agCount-1).Draw(t, "agno"))
		length := g.AGLength(agno)
		require.Positive(t, length)
		agbno := ioctl.AGBlock(rapid.Uint64Range(0, uint64(length)-1).Draw(t, "agbno"))

		same := func(gotAG ioctl.AGNumber, gotBlock ioctl.AGBlock) {
			require.Equal(t, agno, gotAG)
			require.Equal(t, agbno, gotBlock)
		}
		off := g.AGByte(agno, agbno)
		same(g.BytesToAG(off))
		same(g.BytesToAG(off + ioctl.ByteOff(g.BlockSize) - 1))
		same(g.DAddrToAG(g.AGToDAddr(agno, agbno)))
		same(g.FSBToAG(g.AGToFSB(agno, agbno)))
		same(g.FSBToAG(g.ByteToFSB(off)))
		require.Equal(t, off, g.FSBToByte(g.AGToFSB(agno, agbno)))
		place := rapid.Uint32Range(0, g.InodesPerBlock()-1).Draw(t, "place")
		ino := g.AGToIno(agno, agbno, place)
		gotAG, gotBlock, gotPlace := g.InoToAG(ino)
		same(gotAG, gotBlock)
		require.Equal(t, place, gotPlace)
		inAG, agino := g.InoToAGIno(ino)
		require.Equal(t, agno, inAG)
		require.Equal(t, uint64(agbno)*uint64(g.InodesPerBlock())+uint64(place), uint64(agino))

		wild := rapid.Uint64().Draw(t, "wild")
		g.BytesToAG(ioctl.ByteOff(wild))
		g.DAddrToAG(ioctl.DAddr(wild))
		g.FSBToAG(ioctl.FSBlock(wild))
		g.FSBToByte(ioctl.FSBlock(wild))
		g.InoToAG(ioctl.Ino(wild))
		g.InoToAGIno(ioctl.Ino(wild))
		g.AGRange(ioctl.AGNumber(wild))
	})
}

func TestGeometryInternalLog(t *testing.T) {
	g := ioctltest.NewModel().Geometry
	agno, agbno, ok := g.InternalLog()
	assert.True(t, ok)
	assert.Equal(t, ioctl.AGNumber(2), agno)
	assert.Equal(t, ioctl.AGBlock(500), agbno)
	g.LogStart = 0
	_, _, ok = g.InternalLog()
	assert.False(t, ok)
}

func TestRefreshGeometry(t *testing.T) {
	fs, k := ioctltest.New(t)
	before := fs.Geometry()
	k.Update(func(m *ioctltest.Model) {
		m.Geometry.AGCount, m.Geometry.DataBlocks = 5, 4500
		m.Geometry.Sick = ioctl.FSHealthCounters
	})
	assert.Same(t, before, fs.Geometry())
	g, err := fs.RefreshGeometry(t.Context())
	require.NoError(t, err)
	assert.Same(t, g, fs.Geometry())
	assert.Equal(t, uint32(5), g.AGCount)
	assert.Equal(t, ioctl.AGBlock(500), g.AGLength(4))
	assert.True(t, g.Sick.Has(ioctl.FSHealthCounters))
	assert.Equal(t, uint32(4), before.AGCount, "who holds the old one keeps it")
	k.View(func(m *ioctltest.Model) { assert.Equal(t, m.Geometry, *g) })
}

// A geometry that makes no sense is refused, and the good one stays.
func TestGeometryIsChecked(t *testing.T) {
	for name, change := range map[string]func(*ioctl.Geometry){
		"block size 0":     func(g *ioctl.Geometry) { g.BlockSize = 0 },
		"block size 4097":  func(g *ioctl.Geometry) { g.BlockSize = 4097 },
		"block size 256":   func(g *ioctl.Geometry) { g.BlockSize = 256 },
		"block size 1 MiB": func(g *ioctl.Geometry) { g.BlockSize = 1 << 20 },
		"inode size 0":     func(g *ioctl.Geometry) { g.InodeSize = 0 },
		"inode size 8192":  func(g *ioctl.Geometry) { g.InodeSize = 8192 },
		"no group":         func(g *ioctl.Geometry) { g.AGCount = 0 },
		"empty groups":     func(g *ioctl.Geometry) { g.AGBlocks = 0 },
		"too many blocks":  func(g *ioctl.Geometry) { g.DataBlocks = 4001 },
		"too few blocks":   func(g *ioctl.Geometry) { g.DataBlocks = 3000 },
		"agino > 32 bits":  func(g *ioctl.Geometry) { g.AGBlocks, g.DataBlocks = 1<<30, 4<<30 },
		"more than 2^64": func(g *ioctl.Geometry) {
			g.InodeSize, g.AGBlocks, g.AGCount, g.DataBlocks = 4096, 1<<31, 1<<31, 1<<62
		},
	} {
		t.Run(name, func(t *testing.T) {
			fs, k := ioctltest.New(t)
			before := fs.Geometry()
			k.Update(func(m *ioctltest.Model) { change(&m.Geometry) })
			_, err := fs.RefreshGeometry(t.Context())
			require.ErrorIs(t, err, ioctl.ErrGeometry)
			require.ErrorContains(t, err, "geometry of /srv: geometry makes no sense: ")
			assert.Same(t, before, fs.Geometry())
			_, err = ioctl.New(k, "/srv")
			require.ErrorIs(t, err, ioctl.ErrGeometry)
			assert.Equal(t, 1, k.OpenFiles(), "nothing stays open")
		})
	}
}

func TestCountsAndGroups(t *testing.T) {
	fs, k := ioctltest.New(t)
	k.Update(func(m *ioctltest.Model) {
		m.Counts = ioctl.Counts{FreeData: 1, FreeRT: 2, FreeIno: 3, AllocIno: 4}
		m.AGSick[1] = ioctl.AGHealthRmapbt | ioctl.AGHealthInodes
		m.Chunks = append(m.Chunks, m.Geometry.AGToIno(1, 100, 0))
		m.RTGroups = []ioctl.RTGroupGeometry{{Length: 77, Sick: ioctl.RGHealthRmapbt, WritePointer: 5, HasWritePointer: true}}
	})
	counts, err := fs.Counts()
	require.NoError(t, err)
	assert.Equal(t, ioctl.Counts{FreeData: 1, FreeRT: 2, FreeIno: 3, AllocIno: 4}, counts)
	ag, err := fs.AGGeometry(1)
	require.NoError(t, err)
	assert.Equal(t, ioctl.AGGeometry{
		AGNo: 1, Length: 1000, FreeBlocks: ag.FreeBlocks, InodeCount: 64, FreeInodes: 64,
		Sick: ioctl.AGHealthRmapbt | ioctl.AGHealthInodes, Checked: ioctl.AGHealthRmapbt | ioctl.AGHealthInodes,
	}, ag)
	rg, err := fs.RTGroupGeometry(0)
	require.NoError(t, err)
	assert.Equal(t, ioctl.RTGroupGeometry{Length: 77, Sick: ioctl.RGHealthRmapbt, WritePointer: 5, HasWritePointer: true}, rg)
	_, err = fs.RTGroupGeometry(1)
	require.ErrorIs(t, err, unix.EINVAL)
	require.ErrorIs(t, err, ioctl.ErrNotSupported, "the geometry knows of no realtime groups")
}

func TestFlagStrings(t *testing.T) {
	for want, flags := range map[string]fmt.Stringer{
		"rmapbt,reflink":                ioctl.FlagRmapbt | ioctl.FlagReflink,
		"attr,zoned,0x80002000":         ioctl.FlagAttr | ioctl.FlagZoned | 1<<13 | 1<<31,
		"none":                          ioctl.FSHealth(0),
		"fscounters,metapath":           ioctl.FSHealthCounters | ioctl.FSHealthMetapath,
		"rmapbt,inodes":                 ioctl.AGHealthRmapbt | ioctl.AGHealthInodes,
		"rtrmapbt":                      ioctl.RGHealthRmapbt,
		"bmapbtd,dirtree":               ioctl.InodeHealthBMBTD | ioctl.InodeHealthDirtree,
		"repair,xcorrupt,force rebuild": ioctl.ScrubRepair | ioctl.ScrubXCorrupt | ioctl.ScrubForceRebuild,
		"corrupt,0x10000":               ioctl.ScrubCorrupt | 1<<16,
		"unwritten,last":                ioctl.FSMapPrealloc | ioctl.FSMapLast,
		"delalloc,shared":               ioctl.BmapDelalloc | ioctl.BmapShared,
		"device removed":                ioctl.ShutdownDeviceRemoved,
		"rmapbt":                        ioctl.ScrubTypeRMAPBT,
		"barrier":                       ioctl.ScrubTypeBarrier,
		"type 33":                       ioctl.ScrubTypeCount,
		"cow":                           ioctl.FSMapOwnerCoW,
		"owner 0x5800000063":            ioctl.FSMapOwner('X'<<32 | 99),
		"attr":                          ioctl.AttrFork,
		"realtime":                      ioctl.MediaRT,
		"device 9":                      ioctl.MediaDevice(9),
		"filerange":                     ioctl.HealthFileRange,
		"domain 77":                     ioctl.HealthDomain(77),
		"media error":                   ioctl.HealthMediaError,
		"optimize":                      ioctl.AutofsckOptimize,
		"force-rebuild":                 ioctl.FeatureForceRebuild,
	} {
		assert.Equal(t, want, flags.String())
	}
	assert.True(t, ioctl.FlagAttr.Has(ioctl.FlagAttr))
	assert.False(t, ioctl.FlagAttr.Has(ioctl.FlagAttr|ioctl.FlagNlink))
	assert.True(t, (ioctl.ScrubCorrupt | ioctl.ScrubPreen).Any(ioctl.ScrubPreen|ioctl.ScrubXFail))
}
