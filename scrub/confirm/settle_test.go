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
	"github.com/scrubd/scrubd/shadow"
)

func TestNothingToSettle(t *testing.T) {
	inBubble(t, nil, func(r *rig) {
		r.k.ResetCalls()
		r.settle()
		r.settle(&confirm.Candidate{Status: confirm.Dropped})
		assert.Empty(t, r.k.Calls(), "no kernel call without a candidate")
	})
}

func TestAgreementDrops(t *testing.T) {
	inBubble(t, nil, func(r *rig) {
		c := candidate(72, 16, alice)
		r.settle(c)
		assert.Equal(t, confirm.Dropped, c.Status)
		assert.Equal(t, 1, r.looks(alice))
		assert.Equal(t, 0, r.drains)
		assert.Len(t, r.k.Calls(ioctltest.OpFlushInodegc), 1, "inodegc is waited for")
		assert.Equal(t, 1, r.k.OpenFiles(), "the inode is closed again at once")
	})
}

// Three identical looks, with a barrier between each two, and not before.
func TestConfirms(t *testing.T) {
	for _, c := range []struct {
		name   string
		damage func(*ioctltest.Model)
		want   shadow.Difference
	}{
		{"offset", shiftOffset, shadow.Difference{
			Kind: shadow.DiffOffset, Claim: mapping(72, 16, alice, 0), HasClaim: true, Kernel: mapping(72, 16, alice, 64), HasKernel: true,
		}},
		{"missing", dropRecord, shadow.Difference{Kind: shadow.DiffMissing, Claim: mapping(72, 16, alice, 0), HasClaim: true}},
		{"extra", loseExtent, shadow.Difference{Kind: shadow.DiffExtra, Kernel: mapping(72, 16, alice, 0), HasKernel: true}},
		{"unwritten", func(m *ioctltest.Model) { rmapOf(m, alice, 72).Flags = ioctl.FSMapPrealloc }, shadow.Difference{
			Kind: shadow.DiffFlags, Claim: mapping(72, 16, alice, 0), HasClaim: true,
			Kernel: mapping(72, 16, alice, shadow.OffsetUnwritten), HasKernel: true,
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			inBubble(t, c.damage, func(r *rig) {
				cand := candidate(72, 16, alice)
				began := time.Now()
				r.settle(cand)
				assert.Equal(t, confirm.Confirmed, cand.Status, cand.Why)
				assert.Equal(t, []shadow.Difference{c.want}, cand.Diffs)
				assert.Equal(t, 3, r.looks(alice))
				assert.Equal(t, 2, r.drains)
				assert.GreaterOrEqual(t, time.Since(began), 20*time.Millisecond, "there are pauses")
				assert.Len(t, r.k.Calls(ioctltest.OpOpenByHandle), 1, "the inode stays open, and so pinned")
				assert.Empty(t, cand.Why)
			})
		})
	}
}

// A record of another live inode: both are asked.
func TestConfirmsTwoOwners(t *testing.T) {
	inBubble(t, giveTo(bob), func(r *rig) {
		c := candidate(72, 16, alice, bob)
		r.settle(c)
		require.Equal(t, confirm.Confirmed, c.Status, c.Why)
		assert.Equal(t, []shadow.Difference{{
			Kind: shadow.DiffOwner, Claim: mapping(72, 16, alice, 0), HasClaim: true, Kernel: mapping(72, 16, bob, 0), HasKernel: true,
		}}, c.Diffs)
		assert.Equal(t, 3, r.looks(alice))
		assert.Equal(t, 3, r.looks(bob))
	})
}

// A candidate about a part of an extent is judged within its window alone.
func TestWindow(t *testing.T) {
	inBubble(t, shiftOffset, func(r *rig) {
		c := candidate(76, 4, alice)
		r.settle(c)
		require.Equal(t, confirm.Confirmed, c.Status, c.Why)
		assert.Equal(t, []shadow.Difference{{
			Kind: shadow.DiffOffset, Claim: mapping(76, 4, alice, 4), HasClaim: true, Kernel: mapping(76, 4, alice, 68), HasKernel: true,
		}}, c.Diffs)
	})
}

// What has no blocks yet claims none, and other blocks of a file are not looked
// at: those of its btrees, and those of inodes that are not in question.
func TestWhatDoesNotCount(t *testing.T) {
	inBubble(t, func(m *ioctltest.Model) {
		m.Inodes[alice].Data = append(m.Inodes[alice].Data, ioctltest.Extent{Offset: 16, Length: 4, Delalloc: true})
		m.Inodes[alice].DataBmbt = []ioctltest.Range{{AGBno: 90, Length: 1}}
		m.AddInode(&ioctltest.Inode{Ino: gap, Gen: 1, Data: []ioctltest.Extent{{AGBno: 88, Length: 2}}})
		m.Derive()
	}, func(r *rig) {
		c := candidate(60, 40, alice)
		r.settle(c)
		assert.Equal(t, confirm.Dropped, c.Status)
	})
}

func TestGeometryIsAClaim(t *testing.T) {
	inBubble(t, func(m *ioctltest.Model) {
		for i := range m.Rmaps {
			if r := &m.Rmaps[i]; r.AGNo == 0 && r.AGBno == 0 {
				r.Owner, r.Flags = uint64(ghost), 0
			}
		}
	}, func(r *rig) {
		c := candidate(0, 1, ghost)
		r.settle(c)
		require.Equal(t, confirm.Confirmed, c.Status, c.Why)
		assert.Equal(t, shadow.OwnerFS, c.Diffs[0].Claim.Owner)
	})
}

// What heals by itself was never damage, in whichever look that is.
func TestLateAgreementDrops(t *testing.T) {
	for heal := 1; heal <= 2; heal++ {
		inBubble(t, shiftOffset, func(r *rig) {
			r.onDrain = func() error {
				if r.drains == heal {
					r.k.Update((*ioctltest.Model).Derive)
				}
				return nil
			}
			c := candidate(72, 16, alice)
			r.settle(c)
			assert.Equal(t, confirm.Dropped, c.Status)
			assert.Equal(t, heal+1, r.looks(alice))
		})
	}
}

// A look during which the owner changed does not count.
func TestCtimeChangeDoesNotCount(t *testing.T) {
	inBubble(t, shiftOffset, func(r *rig) {
		// The first two looks at the rmapbt fall between two changes.
		touched := 0
		r.k.OnFSMap = func(req ioctltest.FSMapRequest) ([]ioctl.FSMapRecord, unix.Errno) {
			if touched < 2 {
				touched++
				r.k.Update(func(m *ioctltest.Model) { m.Touch(alice) })
			}
			return r.k.DefaultFSMap(req)
		}
		c := candidate(72, 16, alice)
		r.settle(c)
		assert.Equal(t, confirm.Confirmed, c.Status)
		assert.Equal(t, 5, r.looks(alice), "two that do not count, and three")
		assert.Equal(t, 4, r.drains)
	})
}

// A change that brings the same blocks back is told by the ctime alone.
func TestForkChangeDoesNotCount(t *testing.T) {
	for name, change := range map[string]func(*ioctltest.Model){
		"another extent": func(m *ioctltest.Model) {
			m.Inodes[alice].Data = append(m.Inodes[alice].Data, ioctltest.Extent{Offset: 100 + uint64(len(m.Inodes[alice].Data)), AGBno: 500, Length: 1})
		},
		"link count": func(m *ioctltest.Model) { m.Inodes[alice].Nlink++ },
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, shiftOffset, func(r *rig) {
				changed := false
				r.k.OnFSMap = func(req ioctltest.FSMapRequest) ([]ioctl.FSMapRecord, unix.Errno) {
					if !changed {
						changed = true
						r.k.Update(change)
					}
					return r.k.DefaultFSMap(req)
				}
				c := candidate(72, 16, alice)
				r.settle(c)
				assert.Equal(t, confirm.Confirmed, c.Status)
				assert.Equal(t, 4, r.looks(alice))
			})
		})
	}
}

// One reading of the fork agreeing suffices, on either side of the rmapbt's.
func TestEitherReadingMayAgree(t *testing.T) {
	for _, agreeing := range []int{0, 1} {
		inBubble(t, dropRecord, func(r *rig) {
			n := 0
			r.k.OnBmap = func(req ioctltest.BmapRequest) ([]ioctl.BmapRecord, unix.Errno) {
				if req.Fork == ioctl.AttrFork {
					return r.k.DefaultBmap(req)
				}
				n++
				if n-1 == agreeing {
					return nil, 0
				}
				return r.k.DefaultBmap(req)
			}
			c := candidate(72, 16, alice)
			r.settle(c)
			assert.Equal(t, confirm.Dropped, c.Status)
		})
	}
}

// Another difference than before starts over.
func TestAnotherDifferenceStartsOver(t *testing.T) {
	inBubble(t, shiftOffset, func(r *rig) {
		r.onDrain = func() error {
			if r.drains == 2 {
				r.k.Update(func(m *ioctltest.Model) { rmapOf(m, alice, 72).Offset = 128 })
			}
			return nil
		}
		c := candidate(72, 16, alice)
		r.settle(c)
		require.Equal(t, confirm.Confirmed, c.Status)
		assert.Equal(t, uint64(128), c.Diffs[0].Kernel.Offset)
		assert.Equal(t, 5, r.looks(alice), "two of the first, three of the second")
		assert.Equal(t, 4, r.drains)
	})
}

// An inode that is written to at every look is looked at many times; if it
// never holds still, nothing is confirmed.
func TestHotInodeIsUnsettled(t *testing.T) {
	inBubble(t, shiftOffset, func(r *rig) {
		r.k.OnFSMap = func(req ioctltest.FSMapRequest) ([]ioctl.FSMapRecord, unix.Errno) {
			r.k.Update(func(m *ioctltest.Model) { m.Touch(alice) })
			return r.k.DefaultFSMap(req)
		}
		c := candidate(72, 16, alice)
		r.settle(c)
		assert.Equal(t, confirm.Unsettled, c.Status)
		assert.Contains(t, c.Why, "changed during the look")
		assert.Greater(t, r.looks(alice), 400)
		assert.Greater(t, r.drains, 40)
	})
}

// One that holds still at last is confirmed, but with barriers all the same.
func TestHotInodeTakesBarriers(t *testing.T) {
	inBubble(t, shiftOffset, func(r *rig) {
		n := 0
		r.k.OnFSMap = func(req ioctltest.FSMapRequest) ([]ioctl.FSMapRecord, unix.Errno) {
			if n++; n <= 40 {
				r.k.Update(func(m *ioctltest.Model) { m.Touch(alice) })
			}
			return r.k.DefaultFSMap(req)
		}
		c := candidate(72, 16, alice)
		r.settle(c)
		assert.Equal(t, confirm.Confirmed, c.Status)
		assert.Equal(t, 40+17, r.looks(alice), "twelve looks and two barriers")
		assert.Equal(t, 40+2, r.drains)
	})
}

func TestHotInodeWithoutBarrierIsUnsettled(t *testing.T) {
	inBubble(t, shiftOffset, func(r *rig) {
		r.onDrain = func() error { return ioctl.ErrBusy }
		c := candidate(72, 16, alice)
		r.settle(c)
		assert.Equal(t, confirm.Unsettled, c.Status)
		assert.Contains(t, c.Why, "without transactions under way")
	})
}

// Without the barrier it takes twelve votes.
func TestWithoutDrain(t *testing.T) {
	inBubble(t, shiftOffset, func(r *rig) {
		c := candidate(72, 16, alice)
		r.settle(c)
		assert.Equal(t, confirm.Confirmed, c.Status)
		assert.Equal(t, 12, r.looks(alice))
	}, withoutDrain)
}

// A kernel whose scrub does not wait for chains is one without the barrier.
func TestDrainThatIsNone(t *testing.T) {
	inBubble(t, shiftOffset, func(r *rig) {
		r.onDrain = func() error { return &ioctl.UnsupportedFeatureError{Feature: "waiting", MinimumVersion: "6.4"} }
		c := candidate(72, 16, alice)
		r.settle(c)
		assert.Equal(t, confirm.Confirmed, c.Status)
		assert.Equal(t, 1, r.drains, "it is not asked again")
		assert.Equal(t, 12, r.looks(alice))
	})
}

// An AG that cannot be drained now is no reason to give up; one that ends the
// run is.
func TestDrainFails(t *testing.T) {
	for _, soft := range []error{ioctl.ErrBusy, ioctl.ErrCorrupt, ioctl.ErrInterrupted, ioctl.ErrNoEntry, unix.EIO} {
		inBubble(t, shiftOffset, func(r *rig) {
			r.onDrain = func() error {
				if r.drains <= 3 {
					return soft
				}
				return nil
			}
			c := candidate(72, 16, alice)
			r.settle(c)
			assert.Equal(t, confirm.Confirmed, c.Status)
			assert.Equal(t, 5, r.drains, "three that failed do not count (%v)", soft)
		})
	}
	for _, hard := range []error{ioctl.ErrShutdown, ioctl.ErrPrivilege, errors.New("anything else")} {
		inBubble(t, shiftOffset, func(r *rig) {
			r.onDrain = func() error { return hard }
			require.ErrorIs(t, r.s.Settle(r.t.Context(), []*confirm.Candidate{candidate(72, 16, alice)}), hard)
		})
	}
}

// Before multigrain stamps, two changes within the clock's grain look the same.
func TestRacyCtime(t *testing.T) {
	now := func(r *rig) {
		r.k.Update(func(m *ioctltest.Model) {
			m.Inodes[alice].CTime = ioctl.Timestamp{Sec: time.Now().Unix(), Nsec: uint32(time.Now().Nanosecond())}
		})
	}
	t.Run("coarse", func(t *testing.T) {
		inBubble(t, shiftOffset, func(r *rig) {
			now(r)
			c := candidate(72, 16, alice)
			r.settle(c)
			assert.Equal(t, confirm.Confirmed, c.Status)
			assert.Greater(t, r.looks(alice), 3, "the first look falls into the grain")
		}, coarseCtime)
	})
	t.Run("multigrain", func(t *testing.T) {
		inBubble(t, shiftOffset, func(r *rig) {
			now(r)
			c := candidate(72, 16, alice)
			r.settle(c)
			assert.Equal(t, 3, r.looks(alice))
		})
	})
	t.Run("a stamp far in the future guards as well", func(t *testing.T) {
		inBubble(t, shiftOffset, func(r *rig) {
			c := candidate(72, 16, alice)
			r.settle(c) // the model's stamps are later than the bubble's clock
			assert.Equal(t, confirm.Confirmed, c.Status)
			assert.Equal(t, 3, r.looks(alice))
		}, coarseCtime)
	})
}

func TestRmapbtUnreadable(t *testing.T) {
	for _, errno := range []unix.Errno{unix.EUCLEAN, unix.EBADMSG, unix.EIO} {
		inBubble(t, shiftOffset, func(r *rig) {
			r.k.OnFSMap = func(ioctltest.FSMapRequest) ([]ioctl.FSMapRecord, unix.Errno) { return nil, errno }
			c := candidate(72, 16, alice)
			r.settle(c)
			assert.Equal(t, confirm.Unsettled, c.Status)
			assert.Contains(t, c.Why, "rmapbt cannot be read")
		})
	}
}

// What ends a run comes out as it is.
func TestFatalErrors(t *testing.T) {
	for _, op := range []ioctltest.Op{
		ioctltest.OpFlushInodegc, ioctltest.OpBulkstat, ioctltest.OpOpenByHandle, ioctltest.OpStatx, ioctltest.OpBmap, ioctltest.OpFSMap,
	} {
		t.Run(string(op), func(t *testing.T) {
			inBubble(t, shiftOffset, func(r *rig) {
				r.k.OnCall = func(c ioctltest.Call) unix.Errno {
					if c.Op == op {
						return unix.ESHUTDOWN
					}
					return 0
				}
				err := r.s.Settle(r.t.Context(), []*confirm.Candidate{candidate(72, 16, alice)})
				require.ErrorIs(t, err, ioctl.ErrShutdown)
				r.k.OnCall = nil
			})
		})
	}
}

// A read-only mount has nothing to inactivate.
func TestReadOnly(t *testing.T) {
	inBubble(t, func(m *ioctltest.Model) { shiftOffset(m); m.ReadOnly = true }, func(r *rig) {
		c := candidate(72, 16, alice)
		r.settle(c)
		assert.Equal(t, confirm.Confirmed, c.Status)
	})
}

func TestCancelled(t *testing.T) {
	inBubble(t, shiftOffset, func(r *rig) {
		ctx, cancel := context.WithCancel(r.t.Context())
		r.onDrain = func() error { cancel(); return nil }
		err := r.s.Settle(ctx, []*confirm.Candidate{candidate(72, 16, alice)})
		require.ErrorIs(t, err, context.Canceled)
		assert.Equal(t, 1, r.looks(alice))
		require.ErrorIs(t, r.s.Glance(ctx, []*confirm.Candidate{candidate(72, 16, alice)}), context.Canceled)
		require.ErrorIs(t, r.s.Settle(ctx, []*confirm.Candidate{candidate(72, 16, alice)}), context.Canceled)
		require.ErrorIs(t, r.s.SettleSpace(ctx, []*confirm.SpaceCandidate{{Window: confirm.Window{Count: 1}}}), context.Canceled)
	})
	inBubble(t, shiftOffset, func(r *rig) {
		// In the last resort as well.
		ctx, cancel := context.WithCancel(r.t.Context())
		n := 0
		r.k.OnFSMap = func(req ioctltest.FSMapRequest) ([]ioctl.FSMapRecord, unix.Errno) {
			if n++; n == 50 {
				cancel()
			}
			r.k.Update(func(m *ioctltest.Model) { m.Touch(alice) })
			return r.k.DefaultFSMap(req)
		}
		require.ErrorIs(t, r.s.Settle(ctx, []*confirm.Candidate{candidate(72, 16, alice)}), context.Canceled)
		assert.Equal(t, 50, r.looks(alice))
	})
}

func TestGlance(t *testing.T) {
	inBubble(t, shiftOffset, func(r *rig) {
		bad, good, done := candidate(72, 16, alice), candidate(200, 8, bob), candidate(72, 16, alice)
		done.Status = confirm.Confirmed
		for range 20 {
			require.NoError(t, r.s.Glance(r.t.Context(), []*confirm.Candidate{bad, good, done}))
		}
		assert.Equal(t, confirm.Pending, bad.Status, "glances never confirm")
		assert.Equal(t, confirm.Dropped, good.Status)
		assert.Equal(t, confirm.Confirmed, done.Status)
		r.settle(bad)
		assert.Equal(t, confirm.Confirmed, bad.Status)
		assert.Equal(t, 20+3, r.looks(alice), "nor do they count as votes")
	})
}

func TestProgress(t *testing.T) {
	type step struct{ round, pending, total int }
	var steps []step
	inBubble(t, shiftOffset, func(r *rig) {
		r.settle(candidate(72, 16, alice), candidate(200, 8, bob))
	}, func(o *confirm.Options) {
		o.Progress = func(round, pending, total int) { steps = append(steps, step{round, pending, total}) }
	})
	assert.Equal(t, []step{{0, 1, 2}, {1, 1, 2}, {2, 0, 2}}, steps)
}

// With more owners in question than may be open, each is opened anew.
func TestOpenFilesAreBounded(t *testing.T) {
	const files = 300
	crowd := func(m *ioctltest.Model) {
		for i := range files {
			m.AddInode(&ioctltest.Inode{Ino: 1024 + ioctl.Ino(i), Gen: 1, Data: []ioctltest.Extent{{AGNo: 1, AGBno: 300 + ioctl.AGBlock(i), Length: 1}}})
		}
		m.Derive()
		for i := range m.Rmaps {
			if r := &m.Rmaps[i]; r.AGNo == 1 && r.AGBno >= 300 {
				r.Offset = 99
			}
		}
	}
	inBubble(t, crowd, func(r *rig) {
		most := 0
		r.k.OnBmap = func(req ioctltest.BmapRequest) ([]ioctl.BmapRecord, unix.Errno) {
			most = max(most, r.k.OpenFiles())
			return r.k.DefaultBmap(req)
		}
		var cands []*confirm.Candidate
		for i := range files {
			// Two owners each, so that the bound falls between the two.
			c := candidate(300+uint32(i), 1, 1024+ioctl.Ino(i), 1024+ioctl.Ino((i+1)%files))
			c.AGNo = 1
			cands = append(cands, c)
		}
		r.settle(cands...)
		for _, c := range cands {
			require.Equal(t, confirm.Confirmed, c.Status, c.Why)
		}
		assert.LessOrEqual(t, most, 130)
		assert.Greater(t, most, 100)
	})
}
