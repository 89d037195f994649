package confirm_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
	"pgregory.net/rapid"

	"github.com/scrubd/scrubd/ioctl"
	"github.com/scrubd/scrubd/ioctl/ioctltest"
	"github.com/scrubd/scrubd/scrub/confirm"
	"github.com/scrubd/scrubd/scrub/live"
	"github.com/scrubd/scrubd/scrub/verdict"
)

func space(start, count uint32, conflict confirm.Conflict) *confirm.SpaceCandidate {
	return &confirm.SpaceCandidate{Window: confirm.Window{Start: start, Count: count}, Conflict: conflict}
}

func (r *rig) settleSpace(c ...*confirm.SpaceCandidate) {
	r.t.Helper()
	require.NoError(r.t, r.s.SettleSpace(r.t.Context(), c))
}

// triples counts the samples taken of one window.
func (r *rig) triples() int {
	n := 0
	for _, c := range r.k.Calls(ioctltest.OpFSMap) {
		if c.FSMap.Unprivileged {
			n++
		}
	}
	return n
}

// freed has the bnobt call blocks free that are in use.
func freed(agbno, length ioctl.AGBlock) func(*ioctltest.Model) {
	return func(m *ioctltest.Model) {
		m.Free = append([]ioctltest.Range{{AGBno: agbno, Length: length}}, m.Free...)
	}
}

// leaked takes blocks 300..309 of AG 0 from the bnobt.
func leaked(m *ioctltest.Model) {
	for i := range m.Free {
		f := &m.Free[i]
		if f.AGNo == 0 && f.AGBno <= 300 && f.AGBno+f.Length > 310 {
			end := f.AGBno + f.Length
			f.Length = 300 - f.AGBno
			rest := ioctltest.Range{AGBno: 310, Length: end - 310}
			m.Free = append(m.Free[:i+1], append([]ioctltest.Range{rest}, m.Free[i+1:]...)...)
			return
		}
	}
}

// Both kinds take 32 samples over three seconds, with barriers between, and
// name the blocks that disagreed in all of them.
func TestSettleSpace(t *testing.T) {
	for _, c := range []struct {
		name   string
		damage func(*ioctltest.Model)
		cand   *confirm.SpaceCandidate
		want   []verdict.Range
	}{
		{"owned and free", freed(76, 4), space(76, 4, confirm.OwnedFree), []verdict.Range{{Start: 76, Count: 4}}},
		{"owned and free, seen larger", freed(76, 4), space(70, 30, confirm.OwnedFree), []verdict.Range{{Start: 76, Count: 4}}},
		{"neither", leaked, space(300, 10, confirm.Neither), []verdict.Range{{Start: 300, Count: 10}}},
		{"neither, seen larger", leaked, space(290, 30, confirm.Neither), []verdict.Range{{Start: 300, Count: 10}}},
		{"several stretches", func(m *ioctltest.Model) {
			m.Free = append([]ioctltest.Range{{AGBno: 74, Length: 2}, {AGBno: 80, Length: 2}}, m.Free...)
		}, space(72, 16, confirm.OwnedFree), []verdict.Range{{Start: 74, Count: 2}, {Start: 80, Count: 2}}},
	} {
		t.Run(c.name, func(t *testing.T) {
			inBubble(t, c.damage, func(r *rig) {
				began := time.Now()
				r.settleSpace(c.cand)
				assert.Equal(t, confirm.Confirmed, c.cand.Status, c.cand.Why)
				assert.Equal(t, c.want, c.cand.Parts)
				assert.False(t, c.cand.Quiet)
				assert.GreaterOrEqual(t, r.triples(), 32)
				assert.GreaterOrEqual(t, time.Since(began), 3*time.Second)
				assert.GreaterOrEqual(t, r.drains, 3)
			})
		})
	}
}

// Owners that overlap cover their blocks once.
func TestSettleSpaceOfSharedBlocks(t *testing.T) {
	shared := func(m *ioctltest.Model) {
		m.Inodes[bob].Data = []ioctltest.Extent{{AGBno: 74, Length: 4}, {Offset: 4, AGBno: 84, Length: 10}}
		m.Derive()
		freed(70, 30)(m)
	}
	inBubble(t, shared, func(r *rig) {
		c := space(60, 60, confirm.OwnedFree)
		r.settleSpace(c)
		assert.Equal(t, confirm.Confirmed, c.Status)
		assert.Equal(t, []verdict.Range{{Start: 72, Count: 22}}, c.Parts)
	})
}

func TestSettleSpaceDrops(t *testing.T) {
	for _, c := range []*confirm.SpaceCandidate{space(72, 16, confirm.OwnedFree), space(300, 10, confirm.Neither), space(72, 16, confirm.Neither)} {
		inBubble(t, nil, func(r *rig) {
			r.settleSpace(c)
			assert.Equal(t, confirm.Dropped, c.Status)
			assert.Nil(t, c.Parts)
			assert.Equal(t, 1, r.triples())
		})
	}
}

// A block that flips once is not confirmed, however late.
func TestSettleSpaceFlips(t *testing.T) {
	for _, c := range []struct {
		damage func(*ioctltest.Model)
		cand   func() *confirm.SpaceCandidate
	}{
		{freed(76, 4), func() *confirm.SpaceCandidate { return space(76, 4, confirm.OwnedFree) }},
		{leaked, func() *confirm.SpaceCandidate { return space(300, 10, confirm.Neither) }},
	} {
		for _, at := range []int{2, 10, 31, 60} {
			inBubble(t, c.damage, func(r *rig) {
				var healthy []ioctltest.Range
				n := 0
				r.k.OnFSMap = func(req ioctltest.FSMapRequest) ([]ioctl.FSMapRecord, unix.Errno) {
					if req.Unprivileged {
						if n++; n == at {
							r.k.Update(func(m *ioctltest.Model) { healthy = m.Free; m.DeriveFree() })
							defer r.k.Update(func(m *ioctltest.Model) { m.Free = healthy })
						}
					}
					return r.k.DefaultFSMap(req)
				}
				cand := c.cand()
				r.settleSpace(cand)
				assert.Equal(t, confirm.Dropped, cand.Status, "flipped at sample %d", at)
			})
		}
	}
}

// Two readings of the rmapbt enclose that of the bnobt: what only one of them
// has is in motion.
func TestTripleEncloses(t *testing.T) {
	for _, conflict := range []confirm.Conflict{confirm.OwnedFree, confirm.Neither} {
		for _, odd := range []int{1, 2} {
			inBubble(t, func(m *ioctltest.Model) { freed(76, 4)(m); leaked(m) }, func(r *rig) {
				n := 0
				r.k.OnFSMap = func(req ioctltest.FSMapRequest) ([]ioctl.FSMapRecord, unix.Errno) {
					if !req.Unprivileged {
						n++
						if n == odd {
							defer r.k.Update((*ioctltest.Model).Derive)
							r.k.Update(func(m *ioctltest.Model) {
								if conflict == confirm.OwnedFree {
									dropRecord(m)
								} else {
									m.Rmaps = append(m.Rmaps, ioctltest.Rmap{AGBno: 300, Length: 10, Owner: uint64(bob), Offset: 50})
									m.SortRmaps()
								}
							})
						}
					}
					return r.k.DefaultFSMap(req)
				}
				c := space(76, 4, conflict)
				if conflict == confirm.Neither {
					c = space(300, 10, conflict)
				}
				r.settleSpace(c)
				assert.Equal(t, confirm.Dropped, c.Status)
			})
		}
	}
}

// A stretch that shrinks starts over with what is left of it; what it loses it
// never gets back.
func TestSettleSpaceShrinks(t *testing.T) {
	inBubble(t, leaked, func(r *rig) {
		began := time.Now()
		r.onDrain = func() error {
			switch r.drains {
			case 10:
				r.k.Update(func(m *ioctltest.Model) {
					m.Free = append([]ioctltest.Range{{AGBno: 300, Length: 4}}, m.Free...)
				})
			case 12:
				r.k.Update(func(m *ioctltest.Model) { m.Free = m.Free[1:] })
			}
			return nil
		}
		c := space(300, 10, confirm.Neither)
		r.settleSpace(c)
		assert.Equal(t, confirm.Confirmed, c.Status)
		assert.Equal(t, []verdict.Range{{Start: 304, Count: 6}}, c.Parts)
		assert.GreaterOrEqual(t, r.triples(), 40+32)
		assert.GreaterOrEqual(t, time.Since(began), 3*time.Second+90*time.Millisecond)
	})
	t.Run("for ever", func(t *testing.T) {
		inBubble(t, func(m *ioctltest.Model) { m.DeriveFree(); m.Free = nil }, func(r *rig) {
			r.onDrain = func() error {
				r.k.Update(func(m *ioctltest.Model) { m.Free = []ioctltest.Range{{AGBno: 300, Length: ioctl.AGBlock(r.drains)}} })
				return nil
			}
			c := space(300, 400, confirm.Neither)
			r.settleSpace(c)
			assert.Equal(t, confirm.Unsettled, c.Status)
			assert.Contains(t, c.Why, "changed at every look")
		})
	})
}

func TestSettleSpaceWithoutDrain(t *testing.T) {
	inBubble(t, leaked, func(r *rig) {
		c := space(300, 10, confirm.Neither)
		r.settleSpace(c)
		assert.Equal(t, confirm.Confirmed, c.Status, c.Why)
		assert.GreaterOrEqual(t, r.triples(), 96)
	}, withoutDrain)
	inBubble(t, leaked, func(r *rig) {
		r.onDrain = func() error { return ioctl.ErrNotSupported }
		c := space(300, 10, confirm.Neither)
		r.settleSpace(c)
		assert.Equal(t, confirm.Confirmed, c.Status, c.Why)
		assert.GreaterOrEqual(t, r.triples(), 96)
		assert.Equal(t, 1, r.drains)
	})
	inBubble(t, leaked, func(r *rig) {
		r.onDrain = func() error { return ioctl.ErrBusy }
		c := space(300, 10, confirm.Neither)
		r.settleSpace(c)
		assert.Equal(t, confirm.Unsettled, c.Status, "an AG that cannot be drained is never sure")
		assert.Contains(t, c.Why, "without transactions under way")
	})
	inBubble(t, leaked, func(r *rig) {
		r.onDrain = func() error { return ioctl.ErrShutdown }
		err := r.s.SettleSpace(r.t.Context(), []*confirm.SpaceCandidate{space(300, 10, confirm.Neither)})
		require.ErrorIs(t, err, ioctl.ErrShutdown)
	})
}

func TestSettleSpaceErrors(t *testing.T) {
	for call := 1; call <= 3; call++ {
		for _, errno := range []unix.Errno{unix.EUCLEAN, unix.EIO, unix.ESHUTDOWN} {
			inBubble(t, leaked, func(r *rig) {
				n := 0
				r.k.OnFSMap = func(req ioctltest.FSMapRequest) ([]ioctl.FSMapRecord, unix.Errno) {
					if n++; n == call {
						return nil, errno
					}
					return r.k.DefaultFSMap(req)
				}
				c := space(300, 10, confirm.Neither)
				err := r.s.SettleSpace(r.t.Context(), []*confirm.SpaceCandidate{c})
				if errno == unix.ESHUTDOWN {
					require.ErrorIs(t, err, ioctl.ErrShutdown)
					return
				}
				require.NoError(t, err)
				assert.Equal(t, confirm.Unsettled, c.Status)
				assert.Contains(t, c.Why, "cannot be read")
			})
		}
	}
}

func TestSettleSpaceProgress(t *testing.T) {
	last := [2]int{-1, -1}
	inBubble(t, leaked, func(r *rig) {
		r.settleSpace(space(300, 10, confirm.Neither), space(72, 16, confirm.OwnedFree), &confirm.SpaceCandidate{Status: confirm.Confirmed})
		assert.Equal(t, [2]int{0, 2}, last)
	}, func(o *confirm.Options) {
		o.Progress = func(_, pending, total int) { last = [2]int{pending, total} }
	})
	inBubble(t, nil, func(r *rig) { r.settleSpace() })
}

// A moment without transactions under way proves what was confirmed, or drops it.
func TestProveQuiet(t *testing.T) {
	quietAfter := func(n int) confirm.QuietFunc {
		return func(_ context.Context, _ live.Group, observe func() error) (bool, error) {
			n--
			return n <= 0, observe()
		}
	}
	confirmed := func() *confirm.SpaceCandidate {
		c := space(290, 30, confirm.Neither)
		c.Status, c.Parts = confirm.Confirmed, []verdict.Range{{Start: 300, Count: 10}}
		return c
	}
	inBubble(t, leaked, func(r *rig) {
		c := confirmed()
		require.NoError(t, r.s.ProveQuiet(r.t.Context(), quietAfter(3), []confirm.Subject{c}))
		assert.True(t, c.Quiet)
		assert.Equal(t, confirm.Confirmed, c.Status)
		assert.Equal(t, 1+3, r.triples(), "one to have all in memory")
	})
	inBubble(t, nil, func(r *rig) {
		c := confirmed()
		require.NoError(t, r.s.ProveQuiet(r.t.Context(), quietAfter(1), []confirm.Subject{c}))
		assert.False(t, c.Quiet)
		assert.Equal(t, confirm.Dropped, c.Status)
		assert.Nil(t, c.Parts)
	})
	t.Run("a part is gone", func(t *testing.T) {
		inBubble(t, leaked, func(r *rig) {
			c := confirmed()
			c.Parts = []verdict.Range{{Start: 295, Count: 10}} // busy at 32 looks
			require.NoError(t, r.s.ProveQuiet(r.t.Context(), quietAfter(1), []confirm.Subject{c}))
			assert.Equal(t, confirm.Confirmed, c.Status)
			assert.Equal(t, []verdict.Range{{Start: 300, Count: 5}}, c.Parts)
		})
	})
	t.Run("never quiet", func(t *testing.T) {
		inBubble(t, leaked, func(r *rig) {
			c := confirmed()
			require.NoError(t, r.s.ProveQuiet(r.t.Context(), quietAfter(1000), []confirm.Subject{c}))
			assert.False(t, c.Quiet)
			assert.Equal(t, confirm.Confirmed, c.Status)
			assert.Equal(t, 101, r.triples())
		})
	})
	t.Run("cannot be read", func(t *testing.T) {
		inBubble(t, leaked, func(r *rig) {
			r.k.OnFSMap = func(ioctltest.FSMapRequest) ([]ioctl.FSMapRecord, unix.Errno) { return nil, unix.EUCLEAN }
			c := confirmed()
			require.NoError(t, r.s.ProveQuiet(r.t.Context(), quietAfter(1), []confirm.Subject{c}))
			assert.False(t, c.Quiet)
			assert.Equal(t, confirm.Unsettled, c.Status)
		})
	})
	t.Run("no barrier to be had", func(t *testing.T) {
		for _, soft := range []error{ioctl.ErrBusy, ioctl.ErrCorrupt, ioctl.ErrNotSupported} {
			inBubble(t, leaked, func(r *rig) {
				c := confirmed()
				refuse := func(context.Context, live.Group, func() error) (bool, error) { return false, soft }
				require.NoError(t, r.s.ProveQuiet(r.t.Context(), refuse, []confirm.Subject{c}))
				assert.False(t, c.Quiet)
				assert.Equal(t, confirm.Confirmed, c.Status)
			})
		}
	})
	t.Run("errors", func(t *testing.T) {
		inBubble(t, leaked, func(r *rig) {
			odd := errors.New("the trace cannot be read")
			fail := func(context.Context, live.Group, func() error) (bool, error) { return true, odd }
			require.ErrorIs(t, r.s.ProveQuiet(r.t.Context(), fail, []confirm.Subject{confirmed()}), odd)
			ctx, cancel := context.WithCancel(r.t.Context())
			cancel()
			require.ErrorIs(t, r.s.ProveQuiet(ctx, quietAfter(5), []confirm.Subject{confirmed()}), context.Canceled)
			r.k.OnFSMap = func(ioctltest.FSMapRequest) ([]ioctl.FSMapRecord, unix.Errno) { return nil, unix.ESHUTDOWN }
			require.ErrorIs(t, r.s.ProveQuiet(r.t.Context(), quietAfter(1), []confirm.Subject{confirmed()}), ioctl.ErrShutdown)
		})
	})
}

func genRanges(t *rapid.T, label string, disjoint bool) (out []verdict.Range) {
	at := uint32(0)
	for range rapid.IntRange(0, 6).Draw(t, label) {
		at += rapid.Uint32Range(0, 6).Draw(t, "gap")
		n := rapid.Uint32Range(1, 8).Draw(t, "length")
		out = append(out, verdict.Range{Start: at, Count: n})
		if disjoint {
			at += n
		}
	}
	return out
}

// Subtract against a twin that looks at every block.
func TestSubtract(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a, b := genRanges(t, "a", true), genRanges(t, "b", false)
		has := func(list []verdict.Range, block uint32) bool {
			for _, r := range list {
				if r.Start <= block && block < r.Start+r.Count {
					return true
				}
			}
			return false
		}
		got := confirm.Subtract(a, b)
		for block := range uint32(100) {
			require.Equal(t, has(a, block) && !has(b, block), has(got, block), "block %d of %v - %v = %v", block, a, b, got)
		}
		for i := range got {
			require.NotZero(t, got[i].Count)
			require.True(t, i == 0 || got[i-1].Start+got[i-1].Count <= got[i].Start)
		}
	})
}
