package confirm_test

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/scrubd/scrubd/ioctl"
	"github.com/scrubd/scrubd/ioctl/ioctltest"
	"github.com/scrubd/scrubd/scrub/confirm"
)

// fragment gives alice one more extent, which the rmapbt knows.
func fragment(m *ioctltest.Model) {
	m.Inodes[alice].Data = append(m.Inodes[alice].Data, ioctltest.Extent{Offset: 100, AGBno: 300, Length: 4})
	m.Derive()
}

// Candidates of one owner share a look, and each of them gets its own verdict
// from it: what is true of the one's blocks is not said of the other's.
func TestSharedLook(t *testing.T) {
	change := func(m *ioctltest.Model) {
		fragment(m)
		shiftOffset(m)
	}
	inBubble(t, change, func(r *rig) {
		good, left, right := candidate(300, 4, alice), candidate(72, 4, alice), candidate(80, 8, alice)
		other := candidate(200, 8, bob)
		r.settle(right, other, good, left)
		assert.Equal(t, confirm.Dropped, good.Status)
		assert.Equal(t, confirm.Dropped, other.Status)
		for _, c := range []*confirm.Candidate{left, right} {
			require.Equal(t, confirm.Confirmed, c.Status)
			require.Len(t, c.Diffs, 1)
			assert.Equal(t, mapping(c.Start, c.Count, alice, uint64(c.Start-72)), c.Diffs[0].Claim)
		}
		assert.Equal(t, 3, r.looks(alice), "one of three serves all of them")
		assert.Equal(t, 1, r.looks(bob))
		assert.Equal(t, [confirm.DropLooks]uint64{2}, r.s.DroppedAtLook())
	})
}

// A window that cannot be read leaves the others' look as it is.
func TestSharedLookWithAnUnreadableWindow(t *testing.T) {
	inBubble(t, fragment, func(r *rig) {
		r.k.OnFSMap = func(req ioctltest.FSMapRequest) ([]ioctl.FSMapRecord, unix.Errno) {
			if req.Low.Physical < 304*4096 && req.High.Physical >= 300*4096 {
				return nil, unix.EUCLEAN
			}
			return r.k.DefaultFSMap(req)
		}
		good, bad := candidate(72, 16, alice), candidate(300, 4, alice)
		r.settle(good, bad)
		assert.Equal(t, confirm.Dropped, good.Status)
		assert.Equal(t, confirm.Unsettled, bad.Status)
		assert.Equal(t, "the rmapbt cannot be read there", bad.Why)
	})
}

// More candidates than share a look are looked at in parts.
func TestSharedLooksAreBounded(t *testing.T) {
	inBubble(t, nil, func(r *rig) {
		var all []*confirm.Candidate
		for i := range uint32(100) {
			all = append(all, candidate(72+i%16, 1, alice))
		}
		r.settle(all...)
		for _, c := range all {
			require.Equal(t, confirm.Dropped, c.Status)
		}
		assert.Equal(t, 4, r.looks(alice))
		assert.Equal(t, [confirm.DropLooks]uint64{100}, r.s.DroppedAtLook())
	})
}

// Inodes that never hold still take turns: two of them take no longer than one.
func TestHotInodesTakeTurns(t *testing.T) {
	slept := func(hot ...ioctl.Ino) (total int) {
		change := func(m *ioctltest.Model) {
			shiftOffset(m)
			rmapOf(m, bob, 200).Offset = 9
		}
		sleep := func(o *confirm.Options) {
			o.Sleep = func(_ context.Context, d time.Duration) error {
				total++
				time.Sleep(d)
				return nil
			}
		}
		inBubble(t, change, func(r *rig) {
			r.k.OnFSMap = func(req ioctltest.FSMapRequest) ([]ioctl.FSMapRecord, unix.Errno) {
				r.k.Update(func(m *ioctltest.Model) {
					m.Touch(alice)
					m.Touch(bob)
				})
				return r.k.DefaultFSMap(req)
			}
			windows := map[ioctl.Ino]*confirm.Candidate{alice: candidate(72, 16, alice), bob: candidate(200, 8, bob)}
			var all []*confirm.Candidate
			for _, ino := range hot {
				all = append(all, windows[ino])
			}
			r.settle(all...)
			for _, c := range all {
				assert.Equal(t, confirm.Unsettled, c.Status)
			}
		}, sleep)
		return total
	}
	assert.Equal(t, slept(alice), slept(alice, bob), "naps")
}

// At which look a candidate went away is counted.
func TestDroppedAtLook(t *testing.T) {
	inBubble(t, shiftOffset, func(r *rig) {
		n := 0
		r.k.OnFSMap = func(req ioctltest.FSMapRequest) ([]ioctl.FSMapRecord, unix.Errno) {
			r.k.Update(func(m *ioctltest.Model) { m.Touch(alice) })
			if n++; n == 3 {
				r.k.Update(func(m *ioctltest.Model) { rmapOf(m, alice, 72).Offset = 0 })
			}
			return r.k.DefaultFSMap(req)
		}
		c := candidate(72, 16, alice)
		r.settle(c)
		assert.Equal(t, confirm.Dropped, c.Status)
		assert.Equal(t, [confirm.DropLooks]uint64{0, 0, 1}, r.s.DroppedAtLook())
	})
}
