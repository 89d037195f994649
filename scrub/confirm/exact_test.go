package confirm_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/scrubd/scrubd/ioctl"
	"github.com/scrubd/scrubd/ioctl/ioctltest"
	"github.com/scrubd/scrubd/scrub/confirm"
	"github.com/scrubd/scrubd/scrub/live"
	"github.com/scrubd/scrubd/scrub/verdict"
	"github.com/scrubd/scrubd/shadow"
)

// freezer plays a freeze, and lists what was called in the frozen time.
type freezer struct {
	r       *rig
	freezes int
	inside  []ioctltest.Call
	err     error
	before  func() // just before it is frozen
	limit   time.Duration
}

func (f *freezer) frozen(ctx context.Context, look func(context.Context)) error {
	f.freezes++
	if f.before != nil {
		f.before()
	}
	if f.err != nil && f.freezes == 1 {
		return f.err
	}
	f.r.k.ResetCalls()
	if f.limit > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, f.limit)
		defer cancel()
	}
	look(ctx)
	f.inside = append(f.inside, f.r.k.Calls()...)
	return nil
}

func (r *rig) frozen(f *freezer, subjects ...confirm.Subject) {
	r.t.Helper()
	f.r = r
	require.NoError(r.t, r.s.SettleFrozen(r.t.Context(), f.frozen, subjects))
}

// quietLook is a moment that is quiet at once.
func quietLook(_ context.Context, _ live.Group, observe func() error) (bool, error) {
	return true, observe()
}

// unsettled is a candidate that was given up.
func unsettled(start, count uint32, owners ...ioctl.Ino) *confirm.Candidate {
	c := candidate(start, count, owners...)
	c.Status, c.Why = confirm.Unsettled, "it never held still"
	return c
}

// What is seen in a freeze settles everything, and nothing but reading is done
// in it.
func TestSettleFrozen(t *testing.T) {
	for _, c := range []struct {
		name   string
		damage func(*ioctltest.Model)
		cand   func() *confirm.Candidate
		want   confirm.Status
		diffs  []shadow.Difference
	}{
		{"agrees", nil, func() *confirm.Candidate { return unsettled(72, 16, alice) }, confirm.Dropped, nil},
		{"extra", loseExtent, func() *confirm.Candidate { return unsettled(72, 16, alice) }, confirm.Confirmed, []shadow.Difference{
			{Kind: shadow.DiffExtra, Kernel: mapping(72, 16, alice, 0), HasKernel: true},
		}},
		{"another difference than was seen before", shiftOffset, func() *confirm.Candidate {
			c := unsettled(72, 16, alice)
			c.Diffs = []shadow.Difference{{Kind: shadow.DiffMissing, Claim: mapping(72, 16, alice, 0), HasClaim: true}}
			return c
		}, confirm.Confirmed, []shadow.Difference{
			{Kind: shadow.DiffOffset, Claim: mapping(72, 16, alice, 0), HasClaim: true, Kernel: mapping(72, 16, alice, 64), HasKernel: true},
		}},
		{"dead owner", giveTo(gap), func() *confirm.Candidate { return unsettled(72, 16, alice, gap) }, confirm.Confirmed, []shadow.Difference{
			{Kind: shadow.DiffOwner, Claim: mapping(72, 16, alice, 0), HasClaim: true, Kernel: mapping(72, 16, gap, 0), HasKernel: true},
		}},
		{"no such number", giveTo(1 << 40), func() *confirm.Candidate { return unsettled(72, 16, alice, 1<<40) }, confirm.Confirmed, []shadow.Difference{
			{Kind: shadow.DiffOwner, Claim: mapping(72, 16, alice, 0), HasClaim: true, Kernel: mapping(72, 16, 1<<40, 0), HasKernel: true},
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			inBubble(t, c.damage, func(r *rig) {
				f, cand := &freezer{}, c.cand()
				r.frozen(f, cand)
				assert.Equal(t, c.want, cand.Status)
				assert.Equal(t, c.want == confirm.Confirmed, cand.Exact)
				assert.Equal(t, c.diffs, cand.Diffs)
				assert.Empty(t, cand.Why)
				assert.Equal(t, 1, f.freezes)
				assert.NotEmpty(t, f.inside)
				for _, call := range f.inside {
					assert.Contains(t, []ioctltest.Op{ioctltest.OpFSMap, ioctltest.OpBmap, ioctltest.OpInumbers}, call.Op,
						"nothing that could wait for the thaw")
				}
				// It is settled: nobody is stopped again for it.
				r.frozen(f, cand)
				assert.Equal(t, 1, f.freezes)
			})
		})
	}
	inBubble(t, func(m *ioctltest.Model) { freed(76, 4)(m); leaked(m) }, func(r *rig) {
		both := []*confirm.SpaceCandidate{space(290, 30, confirm.Neither), space(72, 16, confirm.OwnedFree), space(400, 10, confirm.Neither)}
		f := &freezer{}
		r.frozen(f, both[0], both[1], both[2])
		assert.Equal(t, 1, f.freezes)
		assert.True(t, both[0].Quiet && both[1].Quiet)
		assert.Equal(t, []verdict.Range{{Start: 300, Count: 10}}, both[0].Parts)
		assert.Equal(t, []verdict.Range{{Start: 76, Count: 4}}, both[1].Parts)
		assert.Equal(t, confirm.Dropped, both[2].Status)
	})
}

// What cannot be told in a freeze stays as it is.
func TestSettleFrozenTellsNothing(t *testing.T) {
	for name, refuse := range map[string]func(r *rig){
		"a lease": func(r *rig) {
			r.k.OnOpenByHandle = func(ioctl.Ino, ioctl.Gen, bool) unix.Errno { return unix.EWOULDBLOCK }
		},
		"gone in between": func(r *rig) {
			r.k.OnOpenByHandle = func(ioctl.Ino, ioctl.Gen, bool) unix.Errno { return unix.ESTALE }
		},
		"the rmapbt cannot be read": func(r *rig) {
			r.k.OnFSMap = func(ioctltest.FSMapRequest) ([]ioctl.FSMapRecord, unix.Errno) { return nil, unix.EUCLEAN }
		},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, shiftOffset, func(r *rig) {
				refuse(r)
				f, c := &freezer{}, unsettled(72, 16, alice)
				r.frozen(f, c)
				assert.Equal(t, confirm.Unsettled, c.Status)
				assert.False(t, c.Exact)
				assert.Zero(t, f.freezes, "nobody is stopped for it")
			})
		})
	}
	// A number that is given out between the look-up and the freeze.
	inBubble(t, giveTo(gap), func(r *rig) {
		f := &freezer{before: func() {
			r.k.Update(func(m *ioctltest.Model) { m.AddInode(&ioctltest.Inode{Ino: gap, Gen: 3}) })
		}}
		c := unsettled(72, 16, alice, gap)
		r.frozen(f, c)
		assert.Equal(t, 1, f.freezes)
		assert.Equal(t, confirm.Unsettled, c.Status)
	})
	// An unreadable fork agrees with nothing.
	inBubble(t, func(m *ioctltest.Model) { m.Inodes[alice].DamagedData = true; dropRecord(m) }, func(r *rig) {
		f, c := &freezer{}, unsettled(72, 16, alice)
		r.frozen(f, c)
		assert.Equal(t, confirm.Unsettled, c.Status)
	})
}

// What a freeze that did not last has seen is forgotten.
func TestSettleFrozenThatBroke(t *testing.T) {
	inBubble(t, loseExtent, func(r *rig) {
		broke := errors.New("somebody else thawed it")
		c, s := unsettled(72, 16, alice), space(300, 10, confirm.Neither)
		f := func(ctx context.Context, look func(context.Context)) error {
			look(ctx)
			return broke
		}
		require.ErrorIs(t, r.s.SettleFrozen(t.Context(), f, []confirm.Subject{c, s}), broke)
		assert.Equal(t, confirm.Unsettled, c.Status)
		assert.Equal(t, confirm.Pending, s.Status)
		assert.Equal(t, "it never held still", c.Why)
	})
	inBubble(t, loseExtent, func(r *rig) {
		r.k.OnBmap = func(ioctltest.BmapRequest) ([]ioctl.BmapRecord, unix.Errno) { return nil, unix.ESHUTDOWN }
		f := &freezer{r: r}
		require.ErrorIs(t, r.s.SettleFrozen(t.Context(), f.frozen, []confirm.Subject{unsettled(72, 16, alice)}), ioctl.ErrShutdown)
	})
}

// Many candidates take several freezes, with time for the writers in between,
// and no more than a few.
func TestSettleFrozenInBatches(t *testing.T) {
	inBubble(t, leaked, func(r *rig) {
		var all []confirm.Subject
		for range 1000 {
			all = append(all, space(300, 10, confirm.Neither))
		}
		f := &freezer{}
		began := time.Now()
		r.frozen(f, all...)
		assert.Equal(t, 4, f.freezes)
		assert.GreaterOrEqual(t, time.Since(began), 9*time.Second)
		settled := 0
		for _, s := range all {
			if s.(*confirm.SpaceCandidate).Quiet {
				settled++
			}
		}
		assert.Equal(t, 4*64, settled)
	})
	// The time is up in the midst of it: the rest comes in the next one.
	inBubble(t, leaked, func(r *rig) {
		var all []confirm.Subject
		for range 20 {
			all = append(all, space(300, 10, confirm.Neither))
		}
		f := &freezer{limit: 10 * time.Millisecond}
		r.k.OnFSMap = func(req ioctltest.FSMapRequest) ([]ioctl.FSMapRecord, unix.Errno) {
			time.Sleep(300 * time.Microsecond)
			return r.k.DefaultFSMap(req)
		}
		r.frozen(f, all...)
		assert.Equal(t, 2, f.freezes)
		for _, s := range all {
			assert.True(t, s.(*confirm.SpaceCandidate).Quiet)
		}
	})
}

// A quiet moment settles whatever a freeze would.
func TestProveQuietOfForks(t *testing.T) {
	prove := func(r *rig, quiet confirm.QuietFunc, c ...confirm.Subject) {
		require.NoError(r.t, r.s.ProveQuiet(r.t.Context(), quiet, c))
	}
	inBubble(t, loseExtent, func(r *rig) {
		c := candidate(72, 16, alice)
		r.settle(c)
		require.Equal(t, confirm.Confirmed, c.Status)
		assert.False(t, c.Exact)
		prove(r, quietLook, c)
		assert.True(t, c.Exact)
		assert.Len(t, c.Diffs, 1)
	})
	inBubble(t, nil, func(r *rig) {
		c := unsettled(72, 16, alice)
		prove(r, quietLook, c)
		assert.Equal(t, confirm.Dropped, c.Status)
	})
	// Many of one AG in one moment; where that lasts too short, fewer.
	for _, lasting := range []int{1000, 4, 1} {
		inBubble(t, shiftOffset, func(r *rig) {
			var all []confirm.Subject
			for n := range uint32(16) {
				all = append(all, unsettled(72+n, 1, alice))
			}
			var sizes []int
			prove(r, func(_ context.Context, _ live.Group, observe func() error) (bool, error) {
				r.k.ResetCalls()
				err := observe()
				n := len(r.k.Calls(ioctltest.OpFSMap))
				sizes = append(sizes, n)
				return n <= lasting, err
			}, all...)
			for _, c := range all {
				assert.True(t, c.(*confirm.Candidate).Exact)
			}
			assert.LessOrEqual(t, sizes[len(sizes)-1], lasting)
			assert.Equal(t, 16, sizes[0])
		})
	}
}

// Before multigrain stamps a change within the clock's tick of the first statx
// has the same ctime as before: such a look does not count, however long it took.
func TestCoarseCtimeIsJudgedAtTheFirstStatx(t *testing.T) {
	inBubble(t, shiftOffset, func(r *rig) {
		now := time.Now()
		r.k.Update(func(m *ioctltest.Model) {
			m.Inodes[alice].CTime = ioctl.Timestamp{Sec: now.Unix(), Nsec: uint32(now.Nanosecond())}
		})
		r.k.OnFSMap = func(req ioctltest.FSMapRequest) ([]ioctl.FSMapRecord, unix.Errno) {
			time.Sleep(50 * time.Millisecond) // on a busy machine
			return r.k.DefaultFSMap(req)
		}
		c := candidate(72, 16, alice)
		r.settle(c)
		assert.Equal(t, confirm.Confirmed, c.Status)
		assert.Equal(t, 4, r.looks(alice), "the first one does not count")
	}, coarseCtime)
}
