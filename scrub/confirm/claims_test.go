package confirm_test

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/scrubd/scrubd/ioctl"
	"github.com/scrubd/scrubd/ioctl/ioctltest"
	"github.com/scrubd/scrubd/scrub/confirm"
	"github.com/scrubd/scrubd/shadow"
)

// What is left to compare without an rmapbt.
func against(a confirm.Against, c *confirm.Candidate) *confirm.Candidate {
	c.Against = a
	return c
}

func withoutRmapbt(change func(*ioctltest.Model)) func(*ioctltest.Model) {
	return func(m *ioctltest.Model) {
		m.Geometry.Flags &^= ioctl.FlagRmapbt
		if change != nil {
			change(m)
		}
	}
}

func TestAgainstBnobt(t *testing.T) {
	inBubble(t, withoutRmapbt(nil), func(r *rig) {
		c := against(confirm.AgainstBnobt, candidate(72, 16, alice))
		r.settle(c)
		assert.Equal(t, confirm.Dropped, c.Status)
	}, withoutDrain)
	freed := func(m *ioctltest.Model) {
		m.Free = append([]ioctltest.Range{{AGBno: 60, Length: 14}, {AGBno: 80, Length: 2}, {AGBno: 87, Length: 50}}, m.Free...)
	}
	inBubble(t, withoutRmapbt(freed), func(r *rig) {
		c := against(confirm.AgainstBnobt, candidate(72, 16, alice))
		r.settle(c)
		require.Equal(t, confirm.Confirmed, c.Status, c.Why)
		var got []shadow.Rmap
		for _, d := range c.Diffs {
			assert.True(t, d.HasClaim && !d.HasKernel)
			got = append(got, d.Claim)
		}
		assert.Equal(t, []shadow.Rmap{mapping(72, 2, alice, 0), mapping(80, 2, alice, 8), mapping(87, 1, alice, 15)}, got)
		for _, call := range r.k.Calls(ioctltest.OpFSMap) {
			assert.True(t, call.FSMap.Unprivileged, "only the bnobt is asked")
		}
	}, withoutDrain)
	inBubble(t, withoutRmapbt(freed), func(r *rig) {
		r.k.OnFSMap = func(ioctltest.FSMapRequest) ([]ioctl.FSMapRecord, unix.Errno) { return nil, unix.EUCLEAN }
		c := against(confirm.AgainstBnobt, candidate(72, 16, alice))
		r.settle(c)
		assert.Equal(t, confirm.Unsettled, c.Status)
		assert.Contains(t, c.Why, "bnobt cannot be read")
	}, withoutDrain)
	inBubble(t, withoutRmapbt(freed), func(r *rig) {
		r.k.OnFSMap = func(ioctltest.FSMapRequest) ([]ioctl.FSMapRecord, unix.Errno) { return nil, unix.ESHUTDOWN }
		require.ErrorIs(t, r.s.Settle(r.t.Context(), []*confirm.Candidate{against(confirm.AgainstBnobt, candidate(72, 16, alice))}), ioctl.ErrShutdown)
	}, withoutDrain)
}

func TestAgainstForks(t *testing.T) {
	cross := func(attr bool, reflink bool) func(*ioctltest.Model) {
		return withoutRmapbt(func(m *ioctltest.Model) {
			e := ioctltest.Extent{AGBno: 84, Length: 8}
			if attr {
				m.Inodes[bob].Attr = []ioctltest.Extent{e}
			} else {
				m.Inodes[bob].Data = []ioctltest.Extent{e}
			}
			if !reflink {
				m.Geometry.Flags &^= ioctl.FlagReflink
			}
		})
	}
	look := func(t *testing.T, change func(*ioctltest.Model)) (c *confirm.Candidate) {
		inBubble(t, change, func(r *rig) {
			c = against(confirm.AgainstForks, candidate(72, 16, alice, bob))
			r.settle(c)
			assert.Empty(t, r.k.Calls(ioctltest.OpFSMap))
		}, withoutDrain)
		return c
	}
	claims := func(c *confirm.Candidate) (out []shadow.Rmap) {
		for _, d := range c.Diffs {
			out = append(out, d.Claim)
		}
		return out
	}
	c := look(t, cross(true, true))
	require.Equal(t, confirm.Confirmed, c.Status, c.Why)
	assert.Equal(t, []shadow.Rmap{mapping(84, 4, alice, 12), mapping(84, 4, bob, shadow.OffsetAttrFork)}, claims(c))

	c = look(t, cross(false, false))
	require.Equal(t, confirm.Confirmed, c.Status, c.Why)
	assert.Equal(t, []shadow.Rmap{mapping(84, 4, alice, 12), mapping(84, 4, bob, 0)}, claims(c))

	assert.Equal(t, confirm.Dropped, look(t, cross(false, true)).Status, "data may be shared")
	assert.Equal(t, confirm.Dropped, look(t, withoutRmapbt(nil)).Status)
}
