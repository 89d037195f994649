package scrub

import (
	"cmp"
	"slices"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/scrubd/scrubd/ioctl/ioctltest"
)

// What speaks against a record of a link that counts fewer blocks: what was
// confirmed, and not what was so at some moment of the pass.
func TestDeniedOf(t *testing.T) {
	const link, file = 140, 141
	stray := ioctltest.Rmap{AGNo: 0, AGBno: 600, Length: 2, Owner: link, Offset: 4}
	claimed := func(m *ioctltest.Model) {
		m.AddInode(&ioctltest.Inode{Ino: file, Gen: 3, Data: []ioctltest.Extent{{AGBno: 600, Length: 2}}})
	}
	unrecorded := func(m *ioctltest.Model) { // the stray record is there instead
		m.Rmaps = slices.DeleteFunc(m.Rmaps, func(r ioctltest.Rmap) bool { return r.Owner == file })
	}
	free := func(m *ioctltest.Model) {
		m.Free = append(m.Free, ioctltest.Range{AGNo: 0, AGBno: 600, Length: 2})
		slices.SortFunc(m.Free, func(a, b ioctltest.Range) int {
			return cmp.Or(cmp.Compare(a.AGNo, b.AGNo), cmp.Compare(a.AGBno, b.AGBno))
		})
	}
	for _, c := range []struct {
		name                  string
		inodes, trees, during func(*ioctltest.Model)
		want                  uint64
	}{
		{name: "nobody"},
		{name: "a fork, confirmed", inodes: claimed, trees: unrecorded, want: 2},
		{name: "a fork and the rmapbt", inodes: claimed, want: 2},
		{name: "a fork that does not claim it any more", inodes: claimed, trees: unrecorded, during: func(m *ioctltest.Model) {
			m.Inodes[file].Data[0].AGBno = 700
		}},
		{name: "a fork that claims another offset by now", inodes: claimed, during: func(m *ioctltest.Model) {
			m.Inodes[file].Data[0].Offset = 9
		}},
		{name: "the bnobt, confirmed", trees: free, want: 2},
		{name: "the bnobt, for a moment", during: free},
	} {
		t.Run(c.name, func(t *testing.T) {
			m := ioctltest.NewModel()
			m.AddInode(&ioctltest.Inode{Ino: link, Gen: 2, Mode: unix.S_IFLNK | 0o777, Data: []ioctltest.Extent{{AGBno: 200, Length: 1}}})
			m.AddInode(&ioctltest.Inode{Ino: 142, Gen: 4, Data: []ioctltest.Extent{{AGBno: 600, Length: 2}}}) // keeps it from being free
			if c.inodes != nil {
				c.inodes(m)
				delete(m.Inodes, 142)
			}
			m.Derive()
			delete(m.Inodes, 142)
			m.Rmaps = slices.DeleteFunc(m.Rmaps, func(r ioctltest.Rmap) bool { return r.Owner == 142 })
			if c.trees != nil {
				c.trees(m)
			}
			m.Rmaps = append(m.Rmaps, stray)
			var k *ioctltest.Kernel
			withPass(t, m, Options{}, func(of *ioctltest.Kernel) { k = of }, func(t *testing.T, p *pass) {
				if c.during != nil {
					k.Update(c.during)
				}
				got, err := p.deniedOf(t.Context(), &p.groups[0], link)
				require.NoError(t, err)
				assert.Equal(t, c.want, got)
				unheard, err := p.unheardOwners(t.Context(), &p.groups[0])
				require.NoError(t, err)
				assert.Equal(t, c.want == 0, len(unheard) > 0, "%v", unheard)
			})
		})
	}
}
