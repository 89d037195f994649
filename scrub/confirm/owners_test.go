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
	"github.com/scrubd/scrubd/shadow"
)

// stateOf asks anew.
func (r *rig) stateOf(ino ioctl.Ino) verdict.OwnerState {
	r.t.Helper()
	state, err := r.s.StateOf(uint64(ino))
	require.NoError(r.t, err)
	return state
}

func TestStateOf(t *testing.T) {
	const symlink, quota, inactive ioctl.Ino = 133, 134, 135
	change := func(m *ioctltest.Model) {
		m.AddInode(&ioctltest.Inode{Ino: symlink, Gen: 1, Mode: unix.S_IFLNK | 0o777, Data: []ioctltest.Extent{{AGBno: 300, Length: 1}}})
		m.AddInode(&ioctltest.Inode{Ino: quota, Gen: 1, Private: true})
		m.AddInode(&ioctltest.Inode{Ino: inactive, Gen: 1, Inactive: true})
		m.Derive()
	}
	inBubble(t, change, func(r *rig) {
		for ino, want := range map[ioctl.Ino]verdict.OwnerState{
			alice: verdict.OwnerLive, 128: verdict.OwnerLive,
			gap: verdict.OwnerDead, ghost: verdict.OwnerDead,
			0: verdict.OwnerDead, 1 << 40: verdict.OwnerDead, 7999: verdict.OwnerDead, 8100: verdict.OwnerDead,
			symlink: verdict.OwnerSilent, quota: verdict.OwnerSilent, inactive: verdict.OwnerSilent,
		} {
			assert.Equal(t, want, r.stateOf(ino), "inode %d", ino)
			require.NotNil(t, r.s.InodeOf(uint64(ino)))
			assert.Equal(t, ino, r.s.InodeOf(uint64(ino)).Ino)
		}
		assert.Nil(t, r.s.InodeOf(77))
		assert.Equal(t, ioctl.Gen(7), r.s.InodeOf(uint64(alice)).Gen)
		assert.Equal(t, uint64(16), r.s.InodeOf(uint64(alice)).Blocks)
	})
}

// How calls that fail are taken, each for an inode that was not looked at yet.
func TestStateOfErrors(t *testing.T) {
	for _, c := range []struct {
		name  string
		op    ioctltest.Op
		errno unix.Errno
		ino   ioctl.Ino
		want  verdict.OwnerState
	}{
		{"BULKSTAT cannot read it", ioctltest.OpBulkstat, unix.EUCLEAN, alice, verdict.OwnerUnloadable},
		{"BULKSTAT cannot read its neighbour", ioctltest.OpBulkstat, unix.EUCLEAN, gap, verdict.OwnerDead},
		{"the inobt cannot be read", ioctltest.OpInumbers, unix.EUCLEAN, gap, verdict.OwnerUnknown},
		{"gone since", ioctltest.OpOpenByHandle, unix.ESTALE, alice, verdict.OwnerUnknown},
		{"open cannot read it", ioctltest.OpOpenByHandle, unix.EUCLEAN, alice, verdict.OwnerUnreadable},
		{"a lease", ioctltest.OpOpenByHandle, unix.EWOULDBLOCK, alice, verdict.OwnerSilent},
		{"a scanner", ioctltest.OpOpenByHandle, unix.EPERM, alice, verdict.OwnerSilent},
	} {
		t.Run(c.name, func(t *testing.T) {
			inBubble(t, nil, func(r *rig) {
				r.k.OnCall = func(call ioctltest.Call) unix.Errno {
					if call.Op == c.op {
						return c.errno
					}
					return 0
				}
				assert.Equal(t, c.want, r.stateOf(c.ino))
				r.k.OnCall = nil
			})
		})
	}
	inBubble(t, nil, func(r *rig) {
		r.k.OnBulkstat = func(req ioctltest.BulkRequest) ([]ioctl.BulkstatRecord, ioctl.Ino, unix.Errno) {
			if req.Ino == alice {
				return nil, 0, unix.EIO
			}
			return r.k.DefaultBulkstat(req)
		}
		assert.Equal(t, verdict.OwnerUnloadable, r.stateOf(alice), "a bad sector")
	})
	for _, op := range []ioctltest.Op{ioctltest.OpBulkstat, ioctltest.OpInumbers, ioctltest.OpOpenByHandle} {
		inBubble(t, nil, func(r *rig) {
			r.k.OnCall = func(call ioctltest.Call) unix.Errno {
				if call.Op == op {
					return unix.ENOMEM
				}
				return 0
			}
			ino := alice
			if op == ioctltest.OpInumbers {
				ino = gap
			}
			_, err := r.s.StateOf(uint64(ino))
			require.ErrorIs(t, err, unix.ENOMEM)
			r.k.OnCall = nil
		})
	}
}

// A dead owner has no ctime: it takes as many looks as space without an owner,
// over as long, and the inobt is asked before and after each of them.
func TestDeadOwner(t *testing.T) {
	for _, dead := range []ioctl.Ino{ghost, gap, 1 << 40} {
		inBubble(t, giveTo(dead), func(r *rig) {
			c := candidate(72, 16, alice, dead)
			began := time.Now()
			r.settle(c)
			require.Equal(t, confirm.Confirmed, c.Status, c.Why)
			assert.Equal(t, []shadow.Difference{{
				Kind: shadow.DiffOwner, Claim: mapping(72, 16, alice, 0), HasClaim: true, Kernel: mapping(72, 16, dead, 0), HasKernel: true,
			}}, c.Diffs)
			// One try a look: what failed before the rmapbt was read is not read again after it.
			assert.GreaterOrEqual(t, 2*r.looks(alice), 32)
			assert.GreaterOrEqual(t, time.Since(began), 3*time.Second)
			assert.GreaterOrEqual(t, r.drains, 3)
			if dead != 1<<40 {
				assert.Len(t, r.k.Calls(ioctltest.OpInumbers), 2*r.looks(alice), "before and after each look")
			}
		})
	}
}

func TestDeadOwnerWithoutDrain(t *testing.T) {
	inBubble(t, giveTo(ghost), func(r *rig) {
		c := candidate(72, 16, alice, ghost)
		r.settle(c)
		assert.Equal(t, confirm.Confirmed, c.Status, c.Why)
		assert.Equal(t, 96, r.looks(alice))
	}, withoutDrain)
}

// A number that comes to life during a look makes it not count, and one that
// lives is judged as such.
func TestDeadOwnerComesToLife(t *testing.T) {
	inBubble(t, giveTo(gap), func(r *rig) {
		r.k.OnFSMap = func(req ioctltest.FSMapRequest) ([]ioctl.FSMapRecord, unix.Errno) {
			r.k.Update(func(m *ioctltest.Model) {
				if m.Inodes[gap] == nil {
					m.AddInode(&ioctltest.Inode{Ino: gap, Gen: 3, Data: []ioctltest.Extent{{AGBno: 72, Length: 16}}})
					m.Inodes[alice].Data = nil
				}
			})
			return r.k.DefaultFSMap(req)
		}
		c := candidate(72, 16, alice, gap)
		r.settle(c)
		assert.Equal(t, confirm.Dropped, c.Status, "the record is the new inode's, and alice claims nothing")
		assert.Equal(t, 2, r.looks(alice))
	})
}

// An inode that is deleted takes its candidate with it.
func TestOwnerVanishes(t *testing.T) {
	inBubble(t, shiftOffset, func(r *rig) {
		r.onDrain = func() error {
			r.k.Update(func(m *ioctltest.Model) { delete(m.Inodes, alice); m.Derive() })
			r.k.OnBmap = func(ioctltest.BmapRequest) ([]ioctl.BmapRecord, unix.Errno) { return nil, 0 }
			r.k.OnStatx = func(ioctl.Ino) (ioctl.Statx, unix.Errno) { return ioctl.Statx{}, 0 }
			return nil
		}
		c := candidate(72, 16, alice)
		r.settle(c)
		assert.Equal(t, confirm.Dropped, c.Status)
	})
}

// Waiting for inodegc, private or a link: its records are nobody's to hold
// against it.
func TestSilentOwner(t *testing.T) {
	for name, change := range map[string]func(*ioctltest.Inode){
		"private": func(i *ioctltest.Inode) { i.Private = true },
		"a link":  func(i *ioctltest.Inode) { i.Mode = unix.S_IFLNK | 0o777 },
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(m *ioctltest.Model) { change(m.Inodes[alice]) }, func(r *rig) {
				c := candidate(72, 16, alice)
				r.settle(c)
				assert.Equal(t, confirm.Dropped, c.Status)
			})
		})
	}
	t.Run("as the owner of a record in place of another", func(t *testing.T) {
		inBubble(t, func(m *ioctltest.Model) {
			m.AddInode(&ioctltest.Inode{Ino: gap, Gen: 1, Mode: unix.S_IFLNK | 0o777})
			giveTo(gap)(m)
		}, func(r *rig) {
			c := candidate(72, 16, alice, gap)
			r.settle(c)
			require.Equal(t, confirm.Confirmed, c.Status, c.Why)
			assert.Equal(t, shadow.DiffMissing, c.Diffs[0].Kind)
		})
	})
}

// An inode that a lease keeps shut may well be damaged: it is neither dropped
// nor confirmed, and judged as soon as it opens.
func TestRefusedOwner(t *testing.T) {
	for name, damage := range map[string]func(*ioctltest.Model){"missing": dropRecord, "extra": loseExtent, "offset": shiftOffset} {
		t.Run(name, func(t *testing.T) {
			refuse := func(r *rig, times int) *int {
				n := 0
				r.k.OnOpenByHandle = func(ino ioctl.Ino, gen ioctl.Gen, path bool) unix.Errno {
					if n++; n <= times {
						return unix.EWOULDBLOCK
					}
					return r.k.DefaultOpenByHandle(ino, gen, path)
				}
				return &n
			}
			inBubble(t, damage, func(r *rig) {
				refuse(r, 1<<30)
				c := candidate(72, 16, alice)
				r.settle(c)
				assert.Equal(t, confirm.Unsettled, c.Status)
				assert.Contains(t, c.Why, "lease")
			})
			inBubble(t, damage, func(r *rig) {
				refuse(r, 5)
				c := candidate(72, 16, alice)
				r.settle(c)
				assert.Equal(t, confirm.Confirmed, c.Status)
			})
			inBubble(t, nil, func(r *rig) {
				refuse(r, 5)
				c := candidate(72, 16, alice)
				r.settle(c)
				assert.Equal(t, confirm.Dropped, c.Status)
			})
		})
	}
}

// A fork that cannot be read has a record that nobody bears out. Each look
// tries again, so that a moment's failure is none.
func TestUnreadableOwner(t *testing.T) {
	t.Run("data fork", func(t *testing.T) {
		inBubble(t, func(m *ioctltest.Model) { m.Inodes[alice].DamagedData = true }, func(r *rig) {
			c := candidate(72, 16, alice)
			began := time.Now()
			r.settle(c)
			require.Equal(t, confirm.Confirmed, c.Status, c.Why)
			assert.Equal(t, shadow.DiffExtra, c.Diffs[0].Kind)
			assert.Equal(t, verdict.OwnerUnreadable, r.s.InodeOf(uint64(alice)).State)
			assert.False(t, r.s.InodeOf(uint64(alice)).UnreadableAttr)
			// One try a look: what failed before the rmapbt was read is not read again after it.
			assert.GreaterOrEqual(t, 2*r.looks(alice), 32)
			assert.GreaterOrEqual(t, time.Since(began), 3*time.Second)
		})
	})
	t.Run("attr fork", func(t *testing.T) {
		inBubble(t, func(m *ioctltest.Model) { m.Inodes[bob].DamagedAttr = true }, func(r *rig) {
			c := candidate(210, 1, bob)
			r.settle(c)
			require.Equal(t, confirm.Confirmed, c.Status, c.Why)
			assert.True(t, r.s.InodeOf(uint64(bob)).UnreadableAttr)
			ok := candidate(200, 8, bob)
			r.settle(ok)
			assert.Equal(t, confirm.Unsettled, ok.Status, "no difference, but not all of the inode was heard")
		})
	})
	t.Run("a bad sector", func(t *testing.T) {
		inBubble(t, nil, func(r *rig) {
			r.k.OnBmap = func(ioctltest.BmapRequest) ([]ioctl.BmapRecord, unix.Errno) { return nil, unix.EIO }
			c := candidate(72, 16, alice)
			r.settle(c)
			assert.Equal(t, confirm.Confirmed, c.Status)
			assert.Equal(t, verdict.OwnerUnreadable, r.stateOf(alice))
		})
	})
	t.Run("for a moment", func(t *testing.T) {
		inBubble(t, nil, func(r *rig) {
			n := 0
			r.k.OnBmap = func(req ioctltest.BmapRequest) ([]ioctl.BmapRecord, unix.Errno) {
				if n++; n <= 9 {
					return nil, unix.EUCLEAN
				}
				return r.k.DefaultBmap(req)
			}
			c := candidate(72, 16, alice)
			r.settle(c)
			assert.Equal(t, confirm.Dropped, c.Status)
			assert.Equal(t, verdict.OwnerLive, r.stateOf(alice))
		})
	})
	t.Run("one try a round", func(t *testing.T) {
		inBubble(t, func(m *ioctltest.Model) { m.Inodes[alice].DamagedData = true }, func(r *rig) {
			var many []*confirm.Candidate
			for i := range uint32(200) {
				many = append(many, candidate(72+i%16, 1, alice))
			}
			r.settle(many...)
			for _, c := range many {
				require.Equal(t, confirm.Confirmed, c.Status, c.Why)
			}
			assert.Less(t, 2*r.looks(alice), 100)
			// 200 candidates share each reading of the rmapbt too.
			assert.Less(t, len(r.k.Calls(ioctltest.OpFSMap)), 200*32/4)
		})
	})
	t.Run("a directory that cannot be reached", func(t *testing.T) {
		inBubble(t, func(m *ioctltest.Model) { m.Inodes[alice].Mode = unix.S_IFDIR | 0o755 }, func(r *rig) {
			opens := 0
			r.k.OnOpenByHandle = func(ioctl.Ino, ioctl.Gen, bool) unix.Errno { opens++; return unix.ESTALE }
			c, d := candidate(72, 16, alice), candidate(72, 1, alice)
			r.settle(c, d)
			assert.Equal(t, confirm.Confirmed, c.Status, c.Why)
			assert.Equal(t, confirm.Confirmed, d.Status, d.Why)
			assert.Equal(t, verdict.OwnerUnreadable, r.stateOf(alice))
			assert.Less(t, opens, 60)
		})
	})
	t.Run("a file that is gone", func(t *testing.T) {
		inBubble(t, nil, func(r *rig) {
			r.k.OnOpenByHandle = func(ioctl.Ino, ioctl.Gen, bool) unix.Errno { return unix.ESTALE }
			c := candidate(72, 16, alice)
			r.settle(c)
			assert.Equal(t, confirm.Unsettled, c.Status)
		})
	})
	t.Run("cannot be opened for that", func(t *testing.T) {
		inBubble(t, nil, func(r *rig) {
			r.k.OnOpenByHandle = func(ioctl.Ino, ioctl.Gen, bool) unix.Errno { return unix.EUCLEAN }
			c := candidate(72, 16, alice)
			r.settle(c)
			assert.Equal(t, confirm.Confirmed, c.Status, c.Why)
		})
	})
	t.Run("lost its record too", func(t *testing.T) {
		inBubble(t, func(m *ioctltest.Model) { m.Inodes[alice].DamagedData = true; dropRecord(m) }, func(r *rig) {
			c := candidate(72, 16, alice)
			r.settle(c)
			assert.Equal(t, confirm.Unsettled, c.Status)
			assert.Contains(t, c.Why, "cannot be read")
		})
	})
}

func TestUnloadableOwner(t *testing.T) {
	unloadable := func(r *rig) {
		r.k.OnBulkstat = func(req ioctltest.BulkRequest) ([]ioctl.BulkstatRecord, ioctl.Ino, unix.Errno) {
			if req.Ino == alice {
				return nil, 0, unix.EUCLEAN
			}
			return r.k.DefaultBulkstat(req)
		}
	}
	inBubble(t, nil, func(r *rig) {
		unloadable(r)
		c := candidate(72, 16, alice)
		r.settle(c)
		assert.Equal(t, confirm.Confirmed, c.Status, c.Why)
		assert.Equal(t, verdict.OwnerUnloadable, r.s.InodeOf(uint64(alice)).State)
	})
	inBubble(t, dropRecord, func(r *rig) {
		unloadable(r)
		c := candidate(72, 16, alice)
		r.settle(c)
		assert.Equal(t, confirm.Unsettled, c.Status, "no record, and nobody knows what it claims")
	})
}

// What cannot be looked up says nothing, not even by having no claims.
func TestUnknownOwner(t *testing.T) {
	for _, damage := range []func(*ioctltest.Model){dropRecord, shiftOffset} {
		inBubble(t, damage, func(r *rig) {
			n := 0
			r.k.OnOpenByHandle = func(ino ioctl.Ino, gen ioctl.Gen, path bool) unix.Errno {
				if n++; n <= 4 {
					return unix.ESTALE
				}
				return r.k.DefaultOpenByHandle(ino, gen, path)
			}
			c := candidate(72, 16, alice)
			r.settle(c)
			assert.Equal(t, confirm.Confirmed, c.Status, c.Why)
			assert.Equal(t, 3, r.looks(alice))
		})
	}
}

// A reused number is another inode: the generation tells.
func TestReusedNumber(t *testing.T) {
	inBubble(t, shiftOffset, func(r *rig) {
		r.k.OnBulkstat = func(req ioctltest.BulkRequest) ([]ioctl.BulkstatRecord, ioctl.Ino, unix.Errno) {
			recs, next, errno := r.k.DefaultBulkstat(req)
			for i := range recs {
				recs[i].Gen++ // of a moment that has passed
			}
			return recs, next, errno
		}
		c := candidate(72, 16, alice)
		r.settle(c)
		assert.Equal(t, confirm.Unsettled, c.Status)
		assert.Contains(t, c.Why, "looked up")
	})
}

// The data of a realtime file is on another device.
func TestRealtimeFile(t *testing.T) {
	inBubble(t, nil, func(r *rig) {
		r.k.OnBulkstat = func(req ioctltest.BulkRequest) ([]ioctl.BulkstatRecord, ioctl.Ino, unix.Errno) {
			recs, next, errno := r.k.DefaultBulkstat(req)
			for i := range recs {
				recs[i].XFlags = 1
			}
			return recs, next, errno
		}
		c := candidate(72, 16, alice)
		r.settle(c)
		require.Equal(t, confirm.Confirmed, c.Status)
		assert.Equal(t, shadow.DiffExtra, c.Diffs[0].Kind, "a record on this device is nobody's")
		assert.Zero(t, r.looks(alice))
	})
}

// Where the attributes of a realtime file are, the kernel does not say as it is:
// the rmapbt's records of them are held against nothing, even when the file
// gets them while it is looked at.
func TestAttributesOfARealtimeFile(t *testing.T) {
	change := func(m *ioctltest.Model) { rmapOf(m, bob, 210).AGBno = 220 }
	inBubble(t, change, func(r *rig) {
		var attr []ioctltest.Extent
		r.k.Update(func(m *ioctltest.Model) { attr, m.Inodes[bob].Attr = m.Inodes[bob].Attr, nil })
		r.k.OnBulkstat = func(req ioctltest.BulkRequest) ([]ioctl.BulkstatRecord, ioctl.Ino, unix.Errno) {
			recs, next, errno := r.k.DefaultBulkstat(req)
			for i := range recs {
				recs[i].XFlags = 1
			}
			return recs, next, errno
		}
		r.k.OnFSMap = func(req ioctltest.FSMapRequest) ([]ioctl.FSMapRecord, unix.Errno) {
			r.k.Update(func(m *ioctltest.Model) { m.Inodes[bob].Attr = attr })
			return r.k.DefaultFSMap(req)
		}
		c := candidate(220, 1, bob)
		r.settle(c)
		assert.Equal(t, confirm.Dropped, c.Status)
		assert.Equal(t, [confirm.DropLooks]uint64{0, 1}, r.s.DroppedAtLook())
	})
}
