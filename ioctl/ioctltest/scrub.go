package ioctltest

import (
	"time"

	"golang.org/x/sys/unix"

	"github.com/scrubd/scrubd/ioctl"
)

// ScrubVecRequest is one vectored scrub. The entries are answered in place: an entry that ran has Ran,
// Flags, and Errno if it failed.
type ScrubVecRequest struct {
	Ino     ioctl.Ino
	Gen     ioctl.Gen
	AGNo    ioctl.AGNumber
	Rest    time.Duration
	Entries []ScrubVecEntry
}

// ScrubVecEntry is one entry of a vector.
type ScrubVecEntry struct {
	Type  ioctl.ScrubType
	Flags ioctl.ScrubFlags
	Errno unix.Errno
	Ran   bool
}

// DefaultScrub answers from Model.Verdicts, after the checks that the kernel makes. A repair of
// something with a verdict removes it; one of something clean answers ScrubNoRepairNeeded, unless forced.
func (k *Kernel) DefaultScrub(req ioctl.ScrubRequest) (ioctl.ScrubFlags, unix.Errno) {
	k.mu.Lock()
	defer k.mu.Unlock()
	m := k.model
	if errno := m.validateScrub(req); errno != 0 {
		return 0, errno
	}
	repair := req.Flags.Has(ioctl.ScrubRepair)
	key := req
	key.Flags = 0
	found := m.Verdicts[key]
	switch {
	case !repair:
		return found, 0
	case m.NoRepair && req.Type == ioctl.ScrubTypeProbe:
		return 0, unix.EOPNOTSUPP
	case m.NoRepair:
		return found | ioctl.ScrubNoRepairNeeded, 0
	case found == 0 && !req.Flags.Has(ioctl.ScrubForceRebuild) && req.Type != ioctl.ScrubTypeProbe:
		return ioctl.ScrubNoRepairNeeded, 0
	}
	delete(m.Verdicts, key)
	return 0, 0
}

// validateScrub makes the kernel's checks, in its order.
func (m *Model) validateScrub(req ioctl.ScrubRequest) unix.Errno {
	g := &m.Geometry
	repair := req.Flags.Has(ioctl.ScrubRepair)
	switch {
	case m.NoScrub:
		return unix.ENOTTY
	case m.NoAdmin:
		return unix.EPERM
	case m.Shutdown:
		return unix.ESHUTDOWN
	case m.NoRecovery:
		return unix.ENOTRECOVERABLE
	case req.Flags&^(ioctl.ScrubFlagsIn|ioctl.ScrubFlagsOut) != 0:
		return unix.EINVAL
	case !m.hasScrubType(req.Type):
		return unix.ENOENT
	}
	bad := false
	switch req.Type.Object() {
	case ioctl.ScrubObjectNone, ioctl.ScrubObjectFS:
		bad = req.Ino != 0 || req.Gen != 0 || req.AGNo != 0
	case ioctl.ScrubObjectAG:
		bad = req.Ino != 0 || req.Gen != 0 || uint32(req.AGNo) >= g.AGCount
	case ioctl.ScrubObjectRTGroup:
		bad = req.Ino != 0 || req.Gen != 0 || uint32(req.AGNo) >= max(g.RGCount, 1)
	case ioctl.ScrubObjectInode:
		bad = req.AGNo != 0 || req.Gen != 0 && req.Ino == 0
	case ioctl.ScrubObjectMetapath:
		bad = req.Gen != 0
	}
	switch {
	case bad:
		return unix.EINVAL
	case req.Flags.Has(ioctl.ScrubForceRebuild) && !repair:
		return unix.EINVAL
	case repair && !g.Has(ioctl.FlagV5):
		return unix.EOPNOTSUPP
	case repair && m.ReadOnly:
		return unix.EROFS
	}
	if req.Type.Object() == ioctl.ScrubObjectInode && req.Ino != 0 {
		if i := m.Inodes[req.Ino]; i == nil || i.Gen != req.Gen {
			return unix.ENOENT
		}
	}
	return 0
}

// hasScrubType says whether the filesystem has this metadata.
func (m *Model) hasScrubType(t ioctl.ScrubType) bool {
	g := &m.Geometry
	switch t {
	case ioctl.ScrubTypeFINOBT:
		return g.Has(ioctl.FlagFinobt)
	case ioctl.ScrubTypeRMAPBT:
		return g.Has(ioctl.FlagRmapbt)
	case ioctl.ScrubTypeREFCNTBT:
		return g.Has(ioctl.FlagReflink)
	case ioctl.ScrubTypeRTBITMAP, ioctl.ScrubTypeRTSUM:
		return !g.Has(ioctl.FlagZoned)
	case ioctl.ScrubTypeDIRTREE:
		return g.Has(ioctl.FlagParent)
	case ioctl.ScrubTypeMETAPATH:
		return g.Has(ioctl.FlagMetadir)
	case ioctl.ScrubTypeRGSUPER:
		return g.RGCount > 0
	case ioctl.ScrubTypeRTRMAPBT:
		return g.RGCount > 0 && g.Has(ioctl.FlagRmapbt)
	case ioctl.ScrubTypeRTREFCBT:
		return g.RGCount > 0 && g.Has(ioctl.FlagReflink)
	}
	return t < ioctl.ScrubTypeCount
}

// DefaultScrubVec runs the entries one after the other through the answer for single scrubs, with the
// kernel's rule for barriers.
func (k *Kernel) DefaultScrubVec(req ScrubVecRequest) unix.Errno {
	k.mu.RLock()
	noScrub, noAdmin := k.model.NoScrub, k.model.NoAdmin
	k.mu.RUnlock()
	switch {
	case noScrub:
		return unix.ENOTTY
	case noAdmin:
		return unix.EPERM
	case len(req.Entries) > ioctl.MaxScrubVec:
		return unix.ENOMEM
	}
	for i := range req.Entries {
		e := &req.Entries[i]
		if e.Type == ioctl.ScrubTypeBarrier && e.Flags&^ioctl.ScrubFlagsOut != 0 {
			return unix.EINVAL
		}
	}
	for i := range req.Entries {
		e := &req.Entries[i]
		e.Ran = true
		if e.Type == ioctl.ScrubTypeBarrier {
			if barrierStops(req.Entries[:i], e.Flags) {
				e.Errno = unix.ECANCELED
				return 0
			}
			continue
		}
		e.Flags, e.Errno = k.scrub(ioctl.ScrubRequest{Type: e.Type, Flags: e.Flags, Ino: req.Ino, Gen: req.Gen, AGNo: req.AGNo})
	}
	return 0
}

func barrierStops(before []ScrubVecEntry, mask ioctl.ScrubFlags) bool {
	for _, e := range before {
		if e.Type == ioctl.ScrubTypeBarrier {
			continue
		}
		switch e.Errno {
		case 0, unix.EBUSY, unix.ENOENT, unix.EUSERS:
		default:
			return true
		}
		if e.Flags.Any(mask) {
			return true
		}
	}
	return false
}

// scrub logs and answers one check.
func (k *Kernel) scrub(req ioctl.ScrubRequest) (ioctl.ScrubFlags, unix.Errno) {
	if errno := k.begin(Call{Op: OpScrub, Scrub: req, Ino: req.Ino, Gen: req.Gen, AGNo: req.AGNo}); errno != 0 {
		return 0, errno
	}
	if k.OnScrub != nil {
		return k.OnScrub(req)
	}
	return k.DefaultScrub(req)
}
