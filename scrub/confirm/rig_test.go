package confirm_test

import (
	"context"
	"slices"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/scrubd/scrubd/ioctl"
	"github.com/scrubd/scrubd/ioctl/ioctltest"
	"github.com/scrubd/scrubd/scrub/confirm"
	"github.com/scrubd/scrubd/shadow"
)

// The inodes of the fake filesystem. Ghost is in a chunk that does not exist,
// gap in one that does.
const (
	alice ioctl.Ino = 131
	bob   ioctl.Ino = 132
	gap   ioctl.Ino = 140
	ghost ioctl.Ino = 4000
)

// rig is a settler on a fake filesystem. It runs in a bubble of fake time, so
// that pauses cost nothing and spans count.
type rig struct {
	t      *testing.T
	fs     *ioctl.FS
	k      *ioctltest.Kernel
	s      *confirm.Settler
	drains int
	// onDrain is called by each barrier.
	onDrain func() error
}

// inBubble runs a test with a rig: alice maps blocks 72..87 of AG 0 at offset
// 0, bob 200..207 at offset 0 and attr block 210. change damages the model.
func inBubble(t *testing.T, change func(*ioctltest.Model), test func(r *rig), options ...func(*confirm.Options)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		m := ioctltest.NewModel()
		m.AddInode(&ioctltest.Inode{Ino: alice, Gen: 7, Data: []ioctltest.Extent{{AGBno: 72, Length: 16}}})
		m.AddInode(&ioctltest.Inode{
			Ino: bob, Gen: 8, Data: []ioctltest.Extent{{AGBno: 200, Length: 8}}, Attr: []ioctltest.Extent{{AGBno: 210, Length: 1}},
		})
		m.Derive()
		if change != nil {
			change(m)
		}
		fs, k := ioctltest.NewWithModel(t, m)
		r := &rig{t: t, fs: fs, k: k}
		view, err := fs.OpenBnobtView()
		require.NoError(t, err)
		defer func() { require.NoError(t, view.Close()) }()
		k.ResetCalls()
		o := confirm.Options{
			MultigrainCtime: true,
			Drain: func(context.Context, ioctl.AGNumber) error {
				r.drains++
				if r.onDrain != nil {
					return r.onDrain()
				}
				return nil
			},
			Static: func(ioctl.AGNumber) []shadow.Rmap { return []shadow.Rmap{{BlockCount: 1, Owner: shadow.OwnerFS}} },
		}
		for _, set := range options {
			set(&o)
		}
		r.s = confirm.New(fs, view, o)
		defer r.closed()
		test(r)
	})
}

// closed closes the settler and sees to it that nothing stays open.
func (r *rig) closed() {
	r.s.Close()
	assert.Equal(r.t, 1, r.k.OpenFiles(), "only the root directory stays open")
	r.s.Close()
}

func withoutDrain(o *confirm.Options) { o.Drain = nil }

func coarseCtime(o *confirm.Options) { o.MultigrainCtime = false }

// candidate is one on blocks of AG 0.
func candidate(start, count uint32, owners ...ioctl.Ino) *confirm.Candidate {
	c := &confirm.Candidate{Window: confirm.Window{Start: start, Count: count}}
	for _, ino := range owners {
		c.Owners = append(c.Owners, uint64(ino))
	}
	return c
}

func (r *rig) settle(c ...*confirm.Candidate) {
	r.t.Helper()
	require.NoError(r.t, r.s.Settle(r.t.Context(), c))
}

// rmapOf is the model's record of an inode at a block.
func rmapOf(m *ioctltest.Model, ino ioctl.Ino, agbno ioctl.AGBlock) *ioctltest.Rmap {
	for i := range m.Rmaps {
		if r := &m.Rmaps[i]; r.Owner == uint64(ino) && r.Flags&ioctl.FSMapSpecialOwner == 0 && r.AGBno == agbno {
			return r
		}
	}
	return nil
}

// giveTo gives alice's record to another owner.
func giveTo(ino ioctl.Ino) func(*ioctltest.Model) {
	return func(m *ioctltest.Model) {
		rmapOf(m, alice, 72).Owner = uint64(ino)
		m.SortRmaps()
	}
}

// shiftOffset makes alice's record wrong about the offset.
func shiftOffset(m *ioctltest.Model) { rmapOf(m, alice, 72).Offset = 64 }

// dropRecord takes alice's record away.
func dropRecord(m *ioctltest.Model) {
	r := rmapOf(m, alice, 72)
	m.Rmaps = slices.DeleteFunc(m.Rmaps, func(o ioctltest.Rmap) bool { return o == *r })
}

// loseExtent takes alice's extent away and leaves the record.
func loseExtent(m *ioctltest.Model) { m.Inodes[alice].Data = nil }

func mapping(start, count uint32, owner ioctl.Ino, off uint64) shadow.Rmap {
	return shadow.Rmap{StartBlock: start, BlockCount: count, Owner: uint64(owner), Offset: off}
}

// votes counts the looks at a fork of an inode: two readings each.
func (r *rig) looks(ino ioctl.Ino) int {
	n := 0
	for _, c := range r.k.Calls(ioctltest.OpBmap) {
		if c.Bmap.Ino == ino && c.Bmap.Fork == ioctl.DataFork {
			n++
		}
	}
	return n / 2
}
