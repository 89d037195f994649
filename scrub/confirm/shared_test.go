package confirm_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/scrubd/scrubd/ioctl"
	"github.com/scrubd/scrubd/ioctl/ioctltest"
	"github.com/scrubd/scrubd/scrub/confirm"
	"github.com/scrubd/scrubd/scrub/verdict"
)

// carol shares blocks 76..83 with alice.
const carol ioctl.Ino = 133

func withCarol(change func(*ioctltest.Model)) func(*ioctltest.Model) {
	return func(m *ioctltest.Model) {
		m.Inodes[alice].Reflink = true
		m.AddInode(&ioctltest.Inode{Ino: carol, Gen: 9, Reflink: true, Data: []ioctltest.Extent{{AGBno: 76, Length: 8}}})
		m.Derive()
		if change != nil {
			change(m)
		}
	}
}

func counted(ranges ...ioctltest.Range) func(*ioctltest.Model) {
	return func(m *ioctltest.Model) { m.Shared = ranges }
}

func sharedCandidate(start, count uint32, unmarked bool) *confirm.SharedCandidate {
	return &confirm.SharedCandidate{Window: confirm.Window{Start: start, Count: count}, Unmarked: unmarked}
}

func (r *rig) settleShared(c ...*confirm.SharedCandidate) {
	r.t.Helper()
	require.NoError(r.t, r.s.SettleShared(r.t.Context(), c))
}

func TestSettleShared(t *testing.T) {
	none := func(m *ioctltest.Model) { m.Inodes[alice].Reflink, m.Inodes[carol].Reflink = false, false }
	for _, c := range []struct {
		name   string
		damage func(*ioctltest.Model)
		cand   *confirm.SharedCandidate
		status confirm.Status
		want   []verdict.Range
		coarse bool
	}{
		{"well", nil, sharedCandidate(72, 16, true), confirm.Dropped, nil, false},
		{"well, a mark", nil, sharedCandidate(72, 16, false), confirm.Dropped, nil, false},
		{"gone", counted(), sharedCandidate(76, 8, true), confirm.Confirmed, []verdict.Range{{Start: 76, Count: 8}}, false},
		{"too short", counted(ioctltest.Range{AGBno: 76, Length: 5}), sharedCandidate(72, 16, true), confirm.Confirmed, []verdict.Range{{Start: 81, Count: 3}}, false},
		{"too long", counted(ioctltest.Range{AGBno: 76, Length: 12}), sharedCandidate(72, 16, false), confirm.Confirmed, []verdict.Range{{Start: 84, Count: 4}}, false},
		{"shifted, what lacks", counted(ioctltest.Range{AGBno: 78, Length: 8}), sharedCandidate(76, 8, true), confirm.Confirmed, []verdict.Range{{Start: 76, Count: 2}}, false},
		{"shifted, what is too much", counted(ioctltest.Range{AGBno: 78, Length: 8}), sharedCandidate(76, 12, false), confirm.Confirmed, []verdict.Range{{Start: 84, Count: 2}}, false},
		{"stray over a file without the flag", counted(ioctltest.Range{AGBno: 76, Length: 8}, ioctltest.Range{AGBno: 202, Length: 2}), sharedCandidate(200, 8, false), confirm.Confirmed, []verdict.Range{{Start: 200, Count: 8}}, true},
		{"nobody has the flag", none, sharedCandidate(76, 8, true), confirm.Confirmed, []verdict.Range{{Start: 76, Count: 8}}, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			inBubble(t, withCarol(c.damage), func(r *rig) {
				began := time.Now()
				r.settleShared(c.cand)
				assert.Equal(t, c.status, c.cand.Status, c.cand.Why)
				assert.Equal(t, c.want, c.cand.Parts)
				assert.Equal(t, c.coarse, c.cand.Coarse)
				if c.status == confirm.Confirmed {
					assert.GreaterOrEqual(t, time.Since(began), 3*time.Second)
					assert.GreaterOrEqual(t, r.drains, 3)
					assert.GreaterOrEqual(t, len(r.k.Calls(ioctltest.OpFSMap)), 2*32)
				}
			})
		})
	}
}

// One sample at which rmapbt and refcountbt agree is enough.
func TestSharedThatHealsIsDropped(t *testing.T) {
	inBubble(t, withCarol(counted()), func(r *rig) {
		r.onDrain = func() error {
			if r.drains == 2 {
				r.k.Update(func(m *ioctltest.Model) { m.DeriveShared() })
			}
			return nil
		}
		c := sharedCandidate(76, 8, true)
		r.settleShared(c)
		assert.Equal(t, confirm.Dropped, c.Status)
		assert.Empty(t, c.Parts)
	})
}

// What shrinks starts over; what cannot be read is never confirmed; without the
// barrier it takes more samples.
func TestSharedUnsettledAndWithoutBarrier(t *testing.T) {
	inBubble(t, withCarol(counted()), func(r *rig) {
		r.k.OnFSMap = func(ioctltest.FSMapRequest) ([]ioctl.FSMapRecord, unix.Errno) { return nil, unix.EUCLEAN }
		c := sharedCandidate(76, 8, true)
		r.settleShared(c)
		assert.Equal(t, confirm.Unsettled, c.Status)
		assert.NotEmpty(t, c.Why)
	})
	inBubble(t, withCarol(counted()), func(r *rig) {
		c := sharedCandidate(76, 8, true)
		r.settleShared(c)
		assert.Equal(t, confirm.Confirmed, c.Status)
		assert.GreaterOrEqual(t, len(r.k.Calls(ioctltest.OpFSMap)), 2*96)
	}, withoutDrain)
}
