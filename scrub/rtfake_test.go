package scrub

import (
	"math"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/scrubd/scrubd/ioctl"
	"github.com/scrubd/scrubd/ioctl/ioctltest"
	"github.com/scrubd/scrubd/scrub/verdict"
)

// fakeRT is a model of a filesystem with two realtime groups of 1000 blocks. The
// groups are the AGs of a model of their own: its rmapbt, free space and shared
// blocks are those of the realtime device.
type fakeRT struct {
	*ioctltest.Model
	rt     *ioctltest.Model
	files  map[ioctl.Ino]bool
	broken [2]uint32 // blocks of group 1 of whose records the rtrmapbt cannot be read
}

const (
	rtGroup0 ioctl.AGNumber = 0
	rtGroup1 ioctl.AGNumber = 1
)

func newFakeRT() *fakeRT {
	f := &fakeRT{Model: ioctltest.NewModel(), rt: ioctltest.NewModel(), files: make(map[ioctl.Ino]bool)}
	g := &f.Geometry
	g.RTBlocks, g.RTExtents, g.RGExtents, g.RGCount = 2000, 2000, 1000, 2
	f.rt.DevMinor = 400
	r := &f.rt.Geometry
	r.AGCount, r.DataBlocks = 2, 2000
	f.rt.Rmaps = []ioctltest.Rmap{{Length: 1, Owner: uint64(ioctl.FSMapOwnerFS), Flags: ioctl.FSMapSpecialOwner}}
	f.derive()
	return f
}

// derive makes free and shared blocks of the realtime device what its records say.
func (f *fakeRT) derive() {
	f.rt.SortRmaps()
	f.rt.DeriveFree()
	f.rt.DeriveShared()
}

// file adds a realtime file with its records.
func (f *fakeRT) file(ino ioctl.Ino, extents ...ioctltest.Extent) {
	f.AddInode(&ioctltest.Inode{Ino: ino, Gen: 7, Data: extents})
	f.files[ino] = true
	for _, e := range extents {
		f.record(uint64(ino), e)
	}
	f.derive()
}

func (f *fakeRT) record(owner uint64, e ioctltest.Extent) {
	f.rt.Rmaps = append(f.rt.Rmaps, ioctltest.Rmap{AGNo: e.AGNo, AGBno: e.AGBno, Length: e.Length, Owner: owner, Offset: e.Offset})
}

// forget takes the records that begin at a block of group 1 out of the rtrmapbt, and
// nothing else.
func (f *fakeRT) forget(block ioctl.AGBlock) {
	var kept []ioctltest.Rmap
	for _, r := range f.rt.Rmaps {
		if r.AGNo != rtGroup1 || r.AGBno != block {
			kept = append(kept, r)
		}
	}
	f.rt.Rmaps = kept
}

// says sets what the kernel's scrub of metadata of group 1 says.
func (f *fakeRT) says(t ioctl.ScrubType, flags ioctl.ScrubFlags) {
	f.Verdicts[ioctl.ScrubRequest{Type: t, AGNo: rtGroup1}] = flags
}

func (f *fakeRT) saysOf(ino ioctl.Ino, t ioctl.ScrubType, flags ioctl.ScrubFlags) {
	f.Verdicts[ioctl.ScrubRequest{Type: t, Ino: ino, Gen: 7}] = flags
}

// pass makes a pass over the model and hands it to look.
func (f *fakeRT) pass(t *testing.T, look func(*testing.T, *pass)) {
	t.Helper()
	dev := f.rt.DevMinor&0xff | f.rt.DevMajor<<8 | f.rt.DevMinor&^0xff<<12
	groups := ioctltest.NewKernel(t, f.rt)
	withPass(t, f.Model, Options{}, func(k *ioctltest.Kernel) {
		k.OnFSMap = func(req ioctltest.FSMapRequest) ([]ioctl.FSMapRecord, unix.Errno) {
			switch {
			case req.High.Device == math.MaxUint32 && req.Low.Physical > 0: // what lies behind the data device?
				return []ioctl.FSMapRecord{{Device: dev, Length: 4096, Owner: uint64(ioctl.FSMapOwnerFS), Flags: ioctl.FSMapSpecialOwner}}, 0
			case req.High.Device != dev:
				return k.DefaultFSMap(req)
			}
			begin, end := ioctl.ByteOff(1000+f.broken[0])*4096, ioctl.ByteOff(1000+f.broken[1])*4096
			if !req.Unprivileged && req.Low.Physical < end && begin <= req.High.Physical {
				return nil, unix.EUCLEAN
			}
			return groups.DefaultFSMap(req)
		}
		k.OnBulkstat = func(req ioctltest.BulkRequest) ([]ioctl.BulkstatRecord, ioctl.Ino, unix.Errno) {
			recs, next, errno := k.DefaultBulkstat(req)
			for i := range recs {
				if f.files[recs[i].Ino] {
					recs[i].XFlags |= 1
				}
			}
			return recs, next, errno
		}
	}, func(t *testing.T, p *pass) {
		require.True(t, p.r.coverage.Realtime)
		for _, f := range p.findings {
			t.Logf("%s %s row %d: %s; %v", f.Outcome, f.AtFault, f.Row, f.Summary, f.Reasons)
		}
		look(t, p)
	})
}

func rtExtent(offset uint64, agbno, length ioctl.AGBlock) ioctltest.Extent {
	return ioctltest.Extent{Offset: offset, AGNo: rtGroup1, AGBno: agbno, Length: length}
}

// A fault of the metadata of a realtime group is repaired only if nothing is open
// that the repair would decide along the way.
func TestRTRepairs(t *testing.T) {
	const alice, bob, silent = 131, 132, 133
	xcorrupt, corrupt := ioctl.ScrubXCorrupt, ioctl.ScrubCorrupt
	lostRecord := func(f *fakeRT) {
		f.forget(100)
		f.says(ioctl.ScrubTypeRTBITMAP, xcorrupt)
		f.saysOf(alice, ioctl.ScrubTypeBMBTD, xcorrupt)
	}
	unreadable := func(f *fakeRT) {
		f.broken = [2]uint32{300, 310}
		f.says(ioctl.ScrubTypeRTRMAPBT, corrupt)
	}
	private := func(f *fakeRT) {
		f.AddInode(&ioctltest.Inode{Ino: silent, Gen: 7, Private: true})
		f.record(silent, rtExtent(0, 500, 5))
		f.derive()
	}
	lostSpace := func(f *fakeRT) {
		for i := range f.rt.Free {
			if r := &f.rt.Free[i]; r.AGNo == rtGroup1 && r.AGBno+r.Length == 1000 {
				r.Length -= 5
			}
		}
		f.says(ioctl.ScrubTypeRTBITMAP, xcorrupt)
	}
	for name, c := range map[string]struct {
		damage  func(*fakeRT)
		atFault verdict.Structure // empty: nothing is found
		held    string            // part of a reason; empty if it is repaired
	}{
		"all is well":                 {damage: func(*fakeRT) {}},
		"a record is missing":         {damage: lostRecord, atFault: verdict.RTRmapbt},
		"the rtrmapbt cannot be read": {damage: unreadable, atFault: verdict.RTRmapbt},
		"space is lost":               {damage: lostSpace, atFault: verdict.RTBitmap},
		"a record is missing, and one is of an inode that is not told of": {
			damage: func(f *fakeRT) {
				private(f)
				lostRecord(f)
			}, atFault: verdict.RTRmapbt, held: "blocks 500+5 of rtgroup 1 are of inode 133",
		},
		"space is lost, and some is of an inode that is not told of": {
			damage: func(f *fakeRT) {
				private(f)
				lostSpace(f)
			}, atFault: verdict.RTBitmap, held: "blocks 500+5 of rtgroup 1 are of inode 133",
		},
		"space is lost, and a fork is corrupt": {
			damage: func(f *fakeRT) {
				lostSpace(f)
				f.saysOf(alice, ioctl.ScrubTypeBMBTD, corrupt)
			}, atFault: verdict.RTBitmap, held: "inode 131",
		},
		"the rtrmapbt cannot be read, and a record has no claim beside another": {
			damage: func(f *fakeRT) {
				f.record(bob, rtExtent(70, 100, 10)) // a clone that lost its extent
				f.derive()
				unreadable(f)
			}, atFault: verdict.RTRmapbt, held: "and no fork does",
		},
		"the rtrmapbt cannot be read, and the counts tell of another owner": {
			damage: func(f *fakeRT) {
				f.Inodes[bob].Reflink = true
				f.Shared = append(f.Shared, ioctltest.Range{AGNo: 1, AGBno: 300, Length: 10})
				unreadable(f)
			}, atFault: verdict.RTRmapbt, held: "who shares blocks 300+10",
		},
		"the rtrmapbt cannot be read, and a scrub of an owner came to no end": {
			damage: func(f *fakeRT) {
				f.saysOf(alice, ioctl.ScrubTypeINODE, ioctl.ScrubIncomplete)
				unreadable(f)
			}, atFault: verdict.RTRmapbt, held: "came to no end",
		},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFakeRT()
			f.file(alice, rtExtent(0, 100, 10), rtExtent(20, 120, 10))
			f.file(bob, rtExtent(0, 300, 10))
			c.damage(f)
			f.pass(t, func(t *testing.T, p *pass) {
				if c.atFault == "" {
					assert.Empty(t, p.findings)
					return
				}
				require.NotEmpty(t, p.findings)
				for _, found := range p.findings {
					if found.AtFault != string(c.atFault) {
						continue
					}
					assert.True(t, found.Realtime)
					if c.held == "" {
						assert.Equal(t, Repairable, found.Outcome, found.Reasons)
						return
					}
					assert.Equal(t, Held, found.Outcome)
					assert.Contains(t, strings.Join(found.Reasons, "; "), c.held)
					return
				}
				t.Errorf("nothing is found wrong with the %s", c.atFault)
			})
		})
	}
}

// The counters of a realtime file are all that still tells of an extent that fork
// and rtrmapbt have both lost: they are not rewritten while there may be such a one.
func TestRTCountersWait(t *testing.T) {
	const bob = 132
	for name, c := range map[string]struct {
		damage func(*fakeRT)
		held   string
	}{
		"nothing is lost": {damage: func(*fakeRT) {}},
		"space that could not be settled": {damage: func(f *fakeRT) {
			for i := range f.rt.Free {
				if r := &f.rt.Free[i]; r.AGNo == rtGroup1 && r.AGBno+r.Length == 1000 {
					r.Length -= 5
				}
			}
			// So there is no barrier.
			f.says(ioctl.ScrubTypeRTSUM, ioctl.ScrubCorrupt)
			f.says(ioctl.ScrubTypeRTBITMAP, ioctl.ScrubCorrupt)
		}, held: "free space at block 995 of rtgroup 1 could not be settled"},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFakeRT()
			f.file(bob, rtExtent(0, 300, 10))
			f.Inodes[bob].ExtraBlocks = 5
			f.saysOf(bob, ioctl.ScrubTypeINODE, ioctl.ScrubXCorrupt)
			c.damage(f)
			f.pass(t, func(t *testing.T, p *pass) {
				for _, found := range p.findings {
					if found.AtFault != ioctl.ScrubTypeINODE.String() {
						continue
					}
					if c.held == "" {
						assert.Equal(t, Repairable, found.Outcome, found.Reasons)
						return
					}
					assert.Equal(t, Held, found.Outcome)
					assert.Contains(t, found.Reasons, c.held)
					return
				}
				t.Error("nothing is found wrong with the inode")
			})
		})
	}
}
