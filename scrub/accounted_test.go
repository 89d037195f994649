package scrub

import (
	"slices"
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/scrubd/scrubd/ioctl"
	"github.com/scrubd/scrubd/ioctl/ioctltest"
)

// A fork that cannot be read does not stand against a rebuild of the bnobt if
// the rmapbts have all blocks of its inode, and only then.
func TestForksAccountedFor(t *testing.T) {
	mine := func(m *ioctltest.Model, agno ioctl.AGNumber) int {
		return slices.IndexFunc(m.Rmaps, func(r ioctltest.Rmap) bool { return r.Owner == 131 && r.AGNo == agno })
	}
	for _, c := range []struct {
		name   string
		change func(m *ioctltest.Model, in *ioctltest.Inode)
		want   bool
	}{
		{"all records are there", func(*ioctltest.Model, *ioctltest.Inode) {}, true},
		{"it counts more", func(_ *ioctltest.Model, in *ioctltest.Inode) { in.ExtraBlocks = 1 }, false},
		{"a record is lost", func(m *ioctltest.Model, _ *ioctltest.Inode) {
			i := mine(m, 1)
			m.Rmaps = slices.Delete(m.Rmaps, i, i+1)
		}, false},
		{"a record was given to another inode", func(m *ioctltest.Model, _ *ioctltest.Inode) { m.Rmaps[mine(m, 1)].Owner = 132 }, false},
		{"a record was moved to free space", func(m *ioctltest.Model, _ *ioctltest.Inode) { m.Rmaps[mine(m, 1)].AGBno += 100 }, false},
		{"a record was moved onto another's", func(m *ioctltest.Model, _ *ioctltest.Inode) { m.Rmaps[mine(m, 1)].AGBno = 500 }, false},
		{"the bnobt has a block of it free", func(m *ioctltest.Model, _ *ioctltest.Inode) {
			m.Free = append(m.Free, ioctltest.Range{AGNo: 1, AGBno: 301, Length: 1})
		}, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			m := ioctltest.NewModel()
			in := m.AddInode(&ioctltest.Inode{Ino: 131, Gen: 5, DamagedData: true, Data: []ioctltest.Extent{
				{Offset: 0, AGNo: 0, AGBno: 200, Length: 8}, {Offset: 8, AGNo: 1, AGBno: 300, Length: 4},
			}, DataBmbt: []ioctltest.Range{{AGNo: 0, AGBno: 400, Length: 1}}})
			m.AddInode(&ioctltest.Inode{Ino: 132, Gen: 5, Data: []ioctltest.Extent{{AGNo: 1, AGBno: 500, Length: 8}}})
			m.Derive()
			c.change(m, in)
			m.Verdicts[ioctl.ScrubRequest{Type: ioctl.ScrubTypeBMBTD, Ino: in.Ino, Gen: in.Gen}] = ioctl.ScrubCorrupt
			withPass(t, m, Options{}, nil, func(t *testing.T, p *pass) {
				assert.Equal(t, c.want, p.accounted[in.Ino])
				unproven := p.unprovenForks()
				if c.want {
					assert.Empty(t, unproven)
				} else {
					assert.NotEmpty(t, unproven)
				}
			})
		})
	}
}
