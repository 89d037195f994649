package scrub

import (
	"slices"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/scrubd/scrubd/ioctl"
	"github.com/scrubd/scrubd/ioctl/ioctltest"
	"github.com/scrubd/scrubd/scrub/state"
)

// A log on the filesystem under repair is written only if nothing that is open,
// due or not, has to do with its blocks or its inode.
func TestDoubtsLog(t *testing.T) {
	const log, other, bystander = 131, 132, 133
	extents := []ioctltest.Extent{{Offset: 0, AGNo: 1, AGBno: 300, Length: 40}, {Offset: 40, AGNo: 1, AGBno: 400, Length: 24}}
	scrub := func(typ ioctl.ScrubType, agno ioctl.AGNumber) func(*ioctltest.Model) {
		return func(m *ioctltest.Model) {
			m.Verdicts[ioctl.ScrubRequest{Type: typ, AGNo: agno}] = ioctl.ScrubCorrupt
		}
	}
	for _, c := range []struct {
		name           string
		inodes         func(*ioctltest.Model) // before the btrees are derived from them
		damage, during func(*ioctltest.Model) // after it, and after the pass
		kernel         func(*ioctltest.Kernel)
		doubt          string // part of what it says; empty if the log may be written
	}{
		{name: "all is well"},
		{name: "a dispute about another file", damage: func(m *ioctltest.Model) {
			m.Rmaps = slices.DeleteFunc(m.Rmaps, func(r ioctltest.Rmap) bool { return r.Owner == bystander })
		}},
		{name: "lost space elsewhere in the AG", damage: func(m *ioctltest.Model) {
			i := slices.IndexFunc(m.Free, func(r ioctltest.Range) bool { return r.AGNo == 1 && r.AGBno == 424 })
			m.Free[i].Length -= 3
		}},
		{name: "its record is missing", damage: func(m *ioctltest.Model) {
			m.Rmaps = slices.DeleteFunc(m.Rmaps, func(r ioctltest.Rmap) bool { return r.Owner == log && r.AGBno == 400 })
		}, doubt: "in question"},
		{name: "its blocks are free", damage: func(m *ioctltest.Model) {
			i := slices.IndexFunc(m.Free, func(r ioctltest.Range) bool { return r.AGNo == 1 && r.AGBno == 340 })
			m.Free[i].AGBno, m.Free[i].Length = 338, m.Free[i].Length+2
		}, doubt: "in question"},
		{name: "another fork has them too", inodes: func(m *ioctltest.Model) {
			m.AddInode(&ioctltest.Inode{Ino: other, Gen: 2, Data: []ioctltest.Extent{{AGNo: 1, AGBno: 310, Length: 2}}})
		}, damage: func(m *ioctltest.Model) { m.Shared = nil }, doubt: "in question"},
		{name: "a fork has a block of its inode's cluster", inodes: func(m *ioctltest.Model) {
			m.AddInode(&ioctltest.Inode{Ino: other, Gen: 2, Data: []ioctltest.Extent{{AGNo: 0, AGBno: 18, Length: 1}}})
		}, damage: func(m *ioctltest.Model) {
			m.Rmaps = slices.DeleteFunc(m.Rmaps, func(r ioctltest.Rmap) bool { return r.Owner == other })
		}, doubt: "blocks 16+8 of AG 0 are in question"},
		{name: "its inode", damage: func(m *ioctltest.Model) {
			m.Verdicts[ioctl.ScrubRequest{Type: ioctl.ScrubTypeBMBTA, Ino: log, Gen: 7}] = ioctl.ScrubCorrupt
		}, doubt: "inode 131"},
		{name: "the inode btree of its inode", damage: scrub(ioctl.ScrubTypeINOBT, 0), doubt: "AG 0"},
		{name: "the inode btree of another AG", damage: scrub(ioctl.ScrubTypeINOBT, 3)},
		{name: "the refcountbt of its AG", damage: scrub(ioctl.ScrubTypeREFCNTBT, 1), doubt: "as a whole"},
		{name: "the refcountbt of another", damage: scrub(ioctl.ScrubTypeREFCNTBT, 3)},
		{name: "its rmapbt cannot be read", kernel: func(k *ioctltest.Kernel) {
			k.OnCall = func(c ioctltest.Call) unix.Errno {
				if c.Op == ioctltest.OpFSMap && !c.Unprivileged && c.FSMap.Low.Physical >= 1000*4096 && c.FSMap.Low.Physical < 2000*4096 {
					return unix.EUCLEAN
				}
				return 0
			}
		}, doubt: "could not be compared"},
		{name: "another record by now", during: func(m *ioctltest.Model) {
			m.Rmaps = append(m.Rmaps, ioctltest.Rmap{AGNo: 1, AGBno: 405, Length: 1, Owner: other})
		}, doubt: "another record"},
		{name: "no record by now", during: func(m *ioctltest.Model) {
			m.Rmaps = slices.DeleteFunc(m.Rmaps, func(r ioctltest.Rmap) bool { return r.Owner == log })
		}, doubt: "no record"},
		{name: "free by now", during: func(m *ioctltest.Model) {
			m.Free = append(m.Free, ioctltest.Range{AGNo: 1, AGBno: 423, Length: 1})
			slices.SortFunc(m.Free, func(a, b ioctltest.Range) int {
				return int(a.AGNo)*1000 + int(a.AGBno) - int(b.AGNo)*1000 - int(b.AGBno)
			})
		}, doubt: "in use"},
	} {
		t.Run(c.name, func(t *testing.T) {
			m := ioctltest.NewModel()
			m.AddInode(&ioctltest.Inode{Ino: log, Gen: 7, Data: extents, HasAttrFork: true})
			m.AddInode(&ioctltest.Inode{Ino: bystander, Gen: 8, Data: []ioctltest.Extent{{AGNo: 1, AGBno: 200, Length: 9}}})
			if c.inodes != nil {
				c.inodes(m)
			}
			m.Derive()
			if c.damage != nil {
				c.damage(m)
			}
			own := &state.OwnLog{Ino: log}
			for _, e := range extents {
				own.Extents = append(own.Extents, ioctl.BmapRecord{
					Offset: ioctl.DAddr(e.Offset * 8), Length: ioctl.DAddr(e.Length * 8), Block: m.Geometry.AGToDAddr(e.AGNo, e.AGBno),
				})
			}
			var k *ioctltest.Kernel
			withPass(t, m, Options{}, func(of *ioctltest.Kernel) {
				if k = of; c.kernel != nil {
					c.kernel(k)
				}
			}, func(t *testing.T, p *pass) {
				if c.during != nil {
					k.Update(c.during)
				}
				why, err := p.doubtsLog(t.Context(), own)
				require.NoError(t, err)
				for _, f := range p.findings {
					t.Logf("%s %s: %s; %s", f.Outcome, f.AtFault, f.Summary, f.Reason)
				}
				if c.doubt == "" {
					assert.Empty(t, why)
				} else {
					assert.Contains(t, why, c.doubt)
				}
			})
		})
	}
}
