package scrub

import (
	"slices"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/scrubd/scrubd/ioctl"
	"github.com/scrubd/scrubd/ioctl/ioctltest"
	"github.com/scrubd/scrubd/scrub/confirm"
	"github.com/scrubd/scrubd/shadow"
)

// A fork that the kernel finds corrupt is rebuilt from the rmapbts only if these
// have just as many blocks of the inode as it counts: whether scrubd cannot read
// it, or reads it and finds nothing in dispute.
func TestForkRebuildAddsUp(t *testing.T) {
	for _, c := range []struct {
		name        string
		unreadable  bool
		extra       int64 // blocks that the inode counts beside those that it has
		lost        bool  // an rmap record of the fork is missing
		wantOutcome Outcome
	}{
		{"unreadable", true, 0, false, Repairable},
		{"unreadable, and a record is missing", true, 0, true, Held},
		{"unreadable, and it counts more", true, 1, false, Held},
		{"readable", false, 0, false, Repairable},
		{"readable, and it counts more", false, 2, false, Held},
	} {
		t.Run(c.name, func(t *testing.T) {
			m := ioctltest.NewModel()
			in := m.AddInode(&ioctltest.Inode{Ino: 131, Gen: 5, ExtraBlocks: c.extra, DamagedData: c.unreadable, Data: []ioctltest.Extent{
				{Offset: 0, AGNo: 0, AGBno: 200, Length: 8}, {Offset: 8, AGNo: 1, AGBno: 300, Length: 4}, {Offset: 12, AGNo: 3, AGBno: 40, Length: 1},
			}, DataBmbt: []ioctltest.Range{{AGNo: 0, AGBno: 400, Length: 1}}})
			m.Derive()
			if c.lost {
				for i, r := range m.Rmaps {
					if r.Owner == uint64(in.Ino) && r.AGNo == 1 {
						m.Rmaps = append(m.Rmaps[:i], m.Rmaps[i+1:]...)
						break
					}
				}
			}
			m.Verdicts[ioctl.ScrubRequest{Type: ioctl.ScrubTypeBMBTD, Ino: in.Ino, Gen: in.Gen}] = ioctl.ScrubCorrupt
			withPass(t, m, Options{}, nil, func(t *testing.T, p *pass) {
				var of []*finding
				for _, f := range p.findings {
					t.Logf("%s %s row %d: %s; %s; %v", f.Outcome, f.AtFault, f.Row, f.Summary, f.Reason, f.steps)
					if len(f.Files) == 1 && f.Files[0].Ino == in.Ino {
						of = append(of, f)
					}
				}
				require.Len(t, of, 1)
				assert.Equal(t, c.wantOutcome, of[0].Outcome, of[0].Reason)
				if c.unreadable {
					assert.Equal(t, 16, of[0].Row)
				}
				if c.wantOutcome == Held {
					assert.Contains(t, of[0].Reason, "which counts")
				} else {
					require.Len(t, of[0].steps, 1)
					assert.Equal(t, ioctl.ScrubTypeBMBTD, of[0].steps[0].obj.Type)
				}
			})
		})
	}
}

// What the bnobt has free of a record, unless the AGFL names it.
func TestSeenFree(t *testing.T) {
	free := func(conflict confirm.Conflict, status confirm.Status, start, count uint32) *confirm.SpaceCandidate {
		return &confirm.SpaceCandidate{Window: confirm.Window{Start: start, Count: count}, Conflict: conflict, Status: status}
	}
	r := &shadow.Rmap{StartBlock: 10, BlockCount: 4, Owner: shadow.OwnerAG}
	for _, c := range []struct {
		name  string
		space *confirm.SpaceCandidate
		but   []ioctl.AGBlock
		want  bool
	}{
		{"one of its blocks", free(confirm.OwnedFree, confirm.Confirmed, 13, 2), nil, true},
		{"one that is listed", free(confirm.OwnedFree, confirm.Confirmed, 13, 2), []ioctl.AGBlock{9, 13}, false},
		{"two, of which one is listed", free(confirm.OwnedFree, confirm.Confirmed, 12, 9), []ioctl.AGBlock{13}, true},
		{"not settled", free(confirm.OwnedFree, confirm.Unsettled, 10, 1), nil, true},
		{"the block behind it", free(confirm.OwnedFree, confirm.Confirmed, 14, 2), nil, false},
		{"the block before it", free(confirm.OwnedFree, confirm.Confirmed, 8, 2), nil, false},
		{"dropped", free(confirm.OwnedFree, confirm.Dropped, 10, 4), nil, false},
		{"lost space", free(confirm.Neither, confirm.Confirmed, 10, 4), nil, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			g := &group{space: []*confirm.SpaceCandidate{c.space}}
			assert.Equal(t, c.want, g.seenFreeBut(r, c.but))
		})
	}
}

// Whatever takes a block from the AGFL writes over it: every one has to be the AG's
// own by the rmapbt, and nobody else's.
func TestAllOwnedByAG(t *testing.T) {
	m := ioctltest.NewModel()
	m.AddInode(&ioctltest.Inode{Ino: 140, Gen: 2, Data: []ioctltest.Extent{{AGBno: 200, Length: 2}}})
	m.Derive()
	m.Rmaps = append(m.Rmaps,
		ioctltest.Rmap{AGNo: 0, AGBno: 600, Length: 3, Owner: uint64(ioctl.FSMapOwnerAG), Flags: ioctl.FSMapSpecialOwner},
		ioctltest.Rmap{AGNo: 0, AGBno: 603, Length: 1, Owner: uint64(ioctl.FSMapOwnerInobt), Flags: ioctl.FSMapSpecialOwner})
	m.Free = slices.DeleteFunc(m.Free, func(r ioctltest.Range) bool { return r.AGNo == 0 })
	withPass(t, m, Options{}, nil, func(t *testing.T, p *pass) {
		g := &p.groups[0]
		assert.True(t, p.allOwnedByAG(g, []ioctl.AGBlock{600, 602}))
		assert.True(t, p.allOwnedByAG(g, nil))
		for name, agbno := range map[string]ioctl.AGBlock{"an inode's": 200, "an inode btree's": 603, "nobody's": 700} {
			assert.False(t, p.allOwnedByAG(g, []ioctl.AGBlock{600, agbno}), name)
		}
	})
}
