package ioctl

import (
	"runtime"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/scrubd/scrubd/ioctl/internal/abi"
)

// ScrubRequest is one check, and repair if its flags say so. Which of Ino, Gen and AGNo must be set
// depends on [ScrubType.Object]; the others must be 0.
type ScrubRequest struct {
	Type  ScrubType
	Flags ScrubFlags // of ScrubFlagsIn
	// Ino and Gen are the inode; 0 is the file that the call is made on. Any type of inode will do,
	// symlinks and devices included. The kernel does not look at Gen if Ino is that very file, which for
	// [FS.Scrub] is the root directory.
	Ino Ino
	Gen Gen
	// AGNo is the group, or the number of the realtime group.
	AGNo AGNumber
}

// scrubArgs is what one scrub or scrubv call hands to the kernel. Kept in a pool.
type scrubArgs struct {
	one  abi.ScrubMetadata
	head abi.ScrubVecHead
	vec  [MaxScrubVec]abi.ScrubVec
}

// Scrub has the kernel check one piece of metadata, and repair it if the request says so. The flags
// returned are those of [ScrubFlagsOut]: none of them means that it is clean. After a repair, they are
// those of the check that follows it.
//
// Errors: [ErrNotSupported] (ENOTTY: no online scrub at all; EOPNOTSUPP: no repair for this),
// [ErrNoEntry] (the inode was freed, this filesystem has no such metadata, or the kernel does not know the
// type: [Features.ScrubType] tells), [ErrReadOnly], [ErrShutdown], [ErrNoRecovery], [ErrNoSpace], [ErrBusy],
// [ErrPrivilege]. Corruption that the kernel meets is no error, but [ScrubCorrupt].
//
// Source: man 2 ioctl_xfs_scrub_metadata; fs/xfs/scrub/scrub.c.
func (fs *FS) Scrub(req ScrubRequest) (ScrubFlags, error) {
	if err := fs.enter(); err != nil {
		return 0, err
	}
	defer fs.leave()
	return fs.scrub(fs.fd, req)
}

// ScrubFD is [FS.Scrub] on an open file of this filesystem. With Ino 0 the file itself is checked, and
// the kernel need not look the inode up.
func (fs *FS) ScrubFD(fd int, req ScrubRequest) (ScrubFlags, error) {
	if err := fs.enter(); err != nil {
		return 0, err
	}
	defer fs.leave()
	return fs.scrub(fd, req)
}

func (fs *FS) scrub(fd int, req ScrubRequest) (ScrubFlags, error) {
	args := fs.scrubs.Get().(*scrubArgs)
	defer fs.scrubs.Put(args)
	args.one = abi.ScrubMetadata{
		Type:  uint32(req.Type),
		Flags: uint32(req.Flags),
		Ino:   uint64(req.Ino),
		Gen:   uint32(req.Gen),
		AGNo:  uint32(req.AGNo),
	}
	_, errno := fs.scrubCall(fd, req.Flags, abi.ReqScrubMetadata, unsafe.Pointer(&args.one))
	if errno != 0 {
		return 0, fs.failScrub(req, errno)
	}
	return ScrubFlags(args.one.Flags) &^ ScrubFlagsIn, nil
}

// scrubCall does not repeat a repair that was interrupted: its first part may be done.
func (fs *FS) scrubCall(fd int, flags ScrubFlags, req uintptr, arg unsafe.Pointer) (int, unix.Errno) {
	if flags.Any(ScrubRepair) {
		return fs.kernel.Ioctl(fd, req, arg)
	}
	return fs.ioctl(fd, req, arg)
}

// failScrub names the object of a failed scrub.
func (fs *FS) failScrub(req ScrubRequest, errno unix.Errno) *Error {
	op := opScrub
	if req.Flags.Any(ScrubRepair) && errno != unix.ENOTTY {
		op = opRepair
	}
	e := fs.fail(op, errno)
	e.Type, e.AGNo, e.Ino, e.Gen = req.Type, req.AGNo, req.Ino, req.Gen
	switch req.Type.Object() {
	case ScrubObjectAG:
		e.Scope = ScopeAG
	case ScrubObjectRTGroup:
		e.Scope = ScopeRTGroup
	case ScrubObjectInode:
		e.Scope = ScopeInode
		if req.Ino == 0 {
			e.Scope = ScopeFile
		}
	case ScrubObjectNone, ScrubObjectFS, ScrubObjectMetapath:
	}
	if errno == unix.EOPNOTSUPP {
		e.Unsupported = &UnsupportedFeatureError{
			Feature: "repair of " + req.Type.String(),
			Reason:  "neither this kernel nor this filesystem offers one",
		}
	}
	return e
}

// MaxScrubVec is how many entries a vector may have: what fits in a page of 4096 bytes.
const MaxScrubVec = 256

// MaxScrubRest is the longest rest between two entries of a vector.
const MaxScrubRest = 65535 * time.Microsecond

// scrubNotRun is put into sv_ret beforehand, and stays there when an entry is not run. It is no errno.
const scrubNotRun = -1000

// ScrubVecEntry is one check of a vector. Type and Flags go in; Flags, Err and Ran come out.
type ScrubVecEntry struct {
	Type ScrubType
	// Flags in: of ScrubFlagsIn; for a barrier, of ScrubFlagsOut: the findings that end the vector.
	// Flags out: of ScrubFlagsOut, if the check ran.
	Flags ScrubFlags
	// Err is why the check failed; nil for an entry that did not run. For a barrier that ended the
	// vector it is ECANCELED.
	Err error
	// Ran says that the entry was reached.
	Ran bool
}

// ScrubVec has the kernel run several checks on one object, in order, with a rest between two. Ino, gen
// and agno are those of [ScrubRequest] and count for all entries; an inode is looked up and held once.
//
// An entry of type [ScrubTypeBarrier] ends the vector if an entry before it failed (other than with EBUSY,
// ENOENT or EUSERS) or found one of the barrier's flags; what follows does not run. The error returned is
// that of the call as a whole; those of the entries are in v. A vector of more than [MaxScrubVec]
// entries is refused with E2BIG. The rest is cut to [MaxScrubRest].
//
// Errors: [ErrNotSupported] before Linux 6.10 or without online scrub; [ErrPrivilege].
//
// Source: man 2 ioctl_xfs_scrubv_metadata; fs/xfs/scrub/scrub.c.
func (fs *FS) ScrubVec(ino Ino, gen Gen, agno AGNumber, rest time.Duration, v []ScrubVecEntry) error {
	return fs.ScrubVecFD(fs.fd, ino, gen, agno, rest, v)
}

// ScrubVecFD is [FS.ScrubVec] on an open file of this filesystem. With ino 0 the file itself is checked.
func (fs *FS) ScrubVecFD(fd int, ino Ino, gen Gen, agno AGNumber, rest time.Duration, v []ScrubVecEntry) error {
	if err := fs.enter(); err != nil {
		return err
	}
	defer fs.leave()
	if len(v) > MaxScrubVec {
		return fs.fail(opScrubVec, unix.E2BIG)
	}
	args := fs.scrubs.Get().(*scrubArgs)
	defer fs.scrubs.Put(args)

	var flags ScrubFlags
	for i := range v {
		e := &v[i]
		e.Err, e.Ran = nil, false
		args.vec[i] = abi.ScrubVec{Type: uint32(e.Type), Flags: uint32(e.Flags), Ret: scrubNotRun}
		if e.Type != ScrubTypeBarrier {
			flags |= e.Flags
		}
	}
	args.head = abi.ScrubVecHead{
		Ino:     uint64(ino),
		Gen:     uint32(gen),
		AGNo:    uint32(agno),
		RestUs:  uint16(min(max(rest, 0), MaxScrubRest) / time.Microsecond),
		Nr:      uint16(len(v)),
		Vectors: abi.NewUserPtr(unsafe.Pointer(&args.vec)),
	}
	_, errno := fs.scrubCall(fd, flags, abi.ReqScrubvMetadata, unsafe.Pointer(&args.head))
	runtime.KeepAlive(args)
	if errno != 0 {
		e := fs.fail(opScrubVec, errno)
		if ino != 0 {
			e.Scope, e.Ino, e.Gen = ScopeInode, ino, gen
		}
		return e
	}
	for i := range v {
		e, raw := &v[i], &args.vec[i]
		if raw.Ret == scrubNotRun {
			continue
		}
		e.Ran = true
		if raw.Ret != 0 {
			req := ScrubRequest{Type: e.Type, Flags: e.Flags, Ino: ino, Gen: gen, AGNo: agno}
			e.Err = fs.failScrub(req, unix.Errno(-raw.Ret))
		}
		if e.Type != ScrubTypeBarrier {
			e.Flags = ScrubFlags(raw.Flags) &^ ScrubFlagsIn
		}
	}
	return nil
}
