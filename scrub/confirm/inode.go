package confirm

import (
	"errors"
	"fmt"
	"hash/maphash"
	"time"

	"golang.org/x/sys/unix"

	"github.com/scrubd/scrubd/ioctl"
	"github.com/scrubd/scrubd/scrub/verdict"
	"github.com/scrubd/scrubd/scrub/witness"
	"github.com/scrubd/scrubd/shadow"
)

// maxForkCalls bounds the ranged reads of one fork: 64 k records each.
const maxForkCalls = 4096

// xflagRealtime marks a file whose data is on the realtime device.
//
// Source: include/uapi/linux/fs.h (FS_XFLAG_REALTIME).
const xflagRealtime = 0x1

// forkEnd is beyond every mapping of a fork, blocks past EOF included.
const forkEnd ioctl.DAddr = 1 << 60

// Inode is one owner as it is now: whether it exists, and open if it can be.
type Inode struct {
	Ino   ioctl.Ino
	Gen   ioctl.Gen
	Mode  uint16
	State verdict.OwnerState
	// Blocks, Extents and AExtents are BULKSTAT's counters, Sick its health mask.
	Blocks, Extents uint64
	AExtents        uint32
	Sick            ioctl.InodeHealth
	CTime           ioctl.Timestamp // BULKSTAT's
	// UnreadableAttr tells which fork made State OwnerUnreadable.
	UnreadableAttr bool
	realtime       bool
	refused        bool // OwnerSilent for the moment only: a lease, or a scanner
	file           int  // descriptor, -1 when not open
	// failed has the forks that could not be read in the round failedIn. One
	// try a round is enough: the kernel logs each one with its stack.
	failed   [2]bool
	failedIn int
}

// unreadable tells the errors that are about one object alone: metadata that is
// not what it should be, a bad sector below it, an address that is no more.
func unreadable(err error) bool {
	switch {
	case errors.Is(err, ioctl.ErrShutdown):
		return false
	case errors.Is(err, ioctl.ErrCorrupt), errors.Is(err, ioctl.ErrMalformed),
		errors.Is(err, witness.ErrStuck), errors.Is(err, witness.ErrRange):
		return true
	}
	return errors.Is(err, unix.EIO)
}

// look finds out what ino is now and opens it when it can be opened. An inode
// that was open is kept: the descriptor pins it and its generation.
func (s *Settler) look(ino uint64) (*Inode, error) {
	if in, ok := s.inodes[ino]; ok && (in.file >= 0 || s.failedNow(in, ioctl.DataFork)) {
		return in, nil
	}
	in := &Inode{Ino: ioctl.Ino(ino), file: -1}
	if !validIno(s.geo, in.Ino) {
		in.State = verdict.OwnerDead
		s.inodes[ino] = in
		return in, nil
	}
	if err := s.stat(in); err != nil {
		return nil, err
	}
	if in.State == verdict.OwnerLive {
		if err := s.openInode(in); err != nil {
			return nil, err
		}
	}
	s.inodes[ino] = in
	return in, nil
}

// fail notes that a fork of in cannot be read in this round.
func (s *Settler) fail(in *Inode, fork ioctl.Fork) {
	if in.failedIn != s.round {
		in.failed, in.failedIn = [2]bool{}, s.round
	}
	in.failed[fork] = true
}

func (s *Settler) failedNow(in *Inode, fork ioctl.Fork) bool {
	return in.failed[fork] && in.failedIn == s.round
}

// validIno tells whether ino can be an inode number of this filesystem at all.
func validIno(g *ioctl.Geometry, ino ioctl.Ino) bool {
	agno, agbno, _ := g.InoToAG(ino)
	return ino != 0 && uint64(agno) < uint64(g.AGCount) && agbno < g.AGLength(agno)
}

// stat asks BULKSTAT, and INUMBERS where BULKSTAT is silent.
func (s *Settler) stat(in *Inode) error {
	req := ioctl.BulkRequest{Ino: in.Ino, Flags: ioctl.BulkNrext64, Limit: 1}
	n, err := s.fs.Bulkstat(&req, s.bulk)
	corrupt := unreadable(err)
	switch {
	case corrupt:
		n = 0 // the inode, or another one of its group, or the inobt
	case err != nil:
		return err
	}
	if n == 1 && s.bulk.Records()[0].Ino == in.Ino {
		st := &s.bulk.Records()[0]
		in.Gen, in.Mode, in.Sick = st.Gen, st.Mode, st.Sick
		in.Blocks, in.Extents, in.AExtents = st.Blocks, st.Extents64, st.AExtents
		in.CTime = ioctl.Timestamp{Sec: st.CTime, Nsec: st.CTimeNsec}
		in.realtime = st.XFlags&xflagRealtime != 0
		in.State = verdict.OwnerLive
		return nil
	}
	alive, err := s.allocated(in.Ino)
	switch {
	case unreadable(err):
		in.State = verdict.OwnerUnknown
	case err != nil:
		return err
	case alive && corrupt:
		in.State = verdict.OwnerUnloadable
	case alive:
		in.State = verdict.OwnerSilent
	default:
		in.State = verdict.OwnerDead
	}
	return nil
}

// allocated asks the inobt whether ino is in use.
func (s *Settler) allocated(ino ioctl.Ino) (bool, error) {
	req := ioctl.BulkRequest{Ino: ino &^ 63, Limit: 2}
	n, err := s.fs.Inumbers(&req, s.inums)
	if err != nil {
		return false, err
	}
	for _, c := range s.inums.Records()[:n] {
		if ino >= c.StartIno && ino < c.StartIno+64 {
			return c.AllocMask>>(ino-c.StartIno)&1 != 0, nil
		}
	}
	return false, nil
}

// openInode opens a regular file or directory by handle. What cannot be opened by
// design, or is refused by a lease or a scanner, is OwnerSilent: nobody waits.
func (s *Settler) openInode(in *Inode) error {
	if t := in.Mode & unix.S_IFMT; t != unix.S_IFREG && t != unix.S_IFDIR {
		in.State = verdict.OwnerSilent
		return nil
	}
	if s.open >= maxOpen {
		s.closeAll()
	}
	fd, err := s.fs.OpenFD(in.Ino, in.Gen)
	switch {
	case err == nil:
		in.file = fd
		s.open++
	case errors.Is(err, ioctl.ErrStale), errors.Is(err, ioctl.ErrNoEntry):
		return s.unopened(in)
	case unreadable(err):
		in.State = verdict.OwnerUnreadable
		s.fail(in, ioctl.DataFork)
	case errors.Is(err, ioctl.ErrBusy), errors.Is(err, ioctl.ErrPrivilege):
		in.State, in.refused = verdict.OwnerSilent, true
	default:
		return err
	}
	return nil
}

// unopened finds out why an inode that BULKSTAT has seen could not be opened. As
// a rule it is gone by now, and the next look will say what it is. But a
// directory is opened with all directories above it, by looking up "..", and where
// that fails for whatever reason, ESTALE is all that comes of it.
//
// Source: Documentation/filesystems/nfs/exporting.rst (reconnecting directories).
func (s *Settler) unopened(in *Inode) error {
	if in.Mode&unix.S_IFMT == unix.S_IFDIR {
		gen := in.Gen
		if err := s.stat(in); err != nil {
			return err
		}
		if in.State == verdict.OwnerLive && in.Gen == gen {
			in.State = verdict.OwnerUnreadable
			s.fail(in, ioctl.DataFork)
			return nil
		}
	}
	in.State = verdict.OwnerUnknown
	return nil
}

// forget closes what is open of ino, so that the next look starts anew.
func (s *Settler) forget(ino uint64) {
	in, ok := s.inodes[ino]
	if !ok {
		return
	}
	if in.file >= 0 {
		s.fs.CloseFD(in.file)
		in.file = -1
		s.open--
	}
	delete(s.inodes, ino)
}

// makeRoom sees to it that owners can all be open at once.
func (s *Settler) makeRoom(owners []uint64) {
	more := 0
	for _, ino := range owners {
		if in, ok := s.inodes[ino]; !ok || in.file < 0 {
			more++
		}
	}
	if s.open+more > maxOpen {
		s.closeAll()
	}
}

// closeAll makes room: with so many inodes in question, each is opened anew
// at every look. The generation still tells a reused number.
func (s *Settler) closeAll() {
	for ino := range s.inodes {
		s.forget(ino)
	}
}

// view is what an inode's forks say at one moment.
type view struct {
	state  verdict.OwnerState
	sum    uint64        // over every mapping of both forks
	claims []shadow.Rmap // those that touch the window, clipped to it
	ctime  ioctl.Timestamp
	nlink  uint32
	at     time.Time // just before ctime was asked for
	blocks uint64    // mapped blocks of both forks
	attr   bool      // which fork could not be read
}

// read takes the forks of in and its ctime. The statx marks the ctime as
// queried, so that the next change gets a stamp of its own (multigrain ctime);
// BULKSTAT's does not. before tells on which side of the forks it goes.
func (s *Settler) read(in *Inode, w Window, before bool) (view, error) {
	var stamped view
	if before && in.file >= 0 {
		if err := s.stamp(in, &stamped); err != nil {
			return stamped, err
		}
	}
	v, err := s.readForks(in, w)
	if err != nil || in.file < 0 {
		return v, err
	}
	if before {
		v.ctime, v.nlink, v.at = stamped.ctime, stamped.nlink, stamped.at
		return v, nil
	}
	err = s.stamp(in, &v)
	return v, err
}

// readForks takes both forks of in.
func (s *Settler) readForks(in *Inode, w Window) (view, error) {
	v := view{state: in.State}
	if in.file < 0 {
		return v, nil
	}
	v.state = verdict.OwnerLive // until a fork says otherwise; it may have been a moment's
	if in.realtime && !w.Realtime {
		// Its data is on another device, and of the blocks of its attributes the
		// kernel says other addresses, see walk.Opaque. Who has none, has nothing here.
		switch err := s.fs.Bmap(in.file, ioctl.AttrFork, s.bmap); {
		case unreadable(err):
			v.state, v.attr = verdict.OwnerUnreadable, true
		case err != nil:
			return v, err
		case len(s.bmap.Records()) > 0:
			v.state = verdict.OwnerSilent
		}
		in.State, in.UnreadableAttr = v.state, v.attr
		return v, nil
	}
	for _, fork := range [2]ioctl.Fork{ioctl.DataFork, ioctl.AttrFork} {
		if !s.failedNow(in, fork) {
			var h maphash.Hash
			h.SetSeed(s.seed)
			read := v
			err := s.readFork(in, fork, w, &read, &h)
			if err == nil {
				v = read
				v.sum = v.sum*31 + h.Sum64()
				continue
			}
			if !unreadable(err) {
				return v, err
			}
			s.fail(in, fork)
		}
		v.state, v.attr = verdict.OwnerUnreadable, fork == ioctl.AttrFork
	}
	in.State, in.UnreadableAttr = v.state, v.attr
	return v, nil
}

func (s *Settler) stamp(in *Inode, v *view) error {
	v.at = time.Now() // before, so that the kernel's clock was no earlier
	st, err := s.fs.Statx(in.file)
	if err != nil {
		return err
	}
	v.ctime, v.nlink = st.CTime, st.Nlink
	return nil
}

// readFork reads one fork whole, in one call where it fits the buffer. A
// larger one is read in ranges; the ctime guard is then all that holds the
// pieces together.
func (s *Settler) readFork(in *Inode, fork ioctl.Fork, w Window, v *view, h *maphash.Hash) error {
	err := s.fs.Bmap(in.file, fork, s.bmap)
	if err != nil {
		return err
	}
	for calls := 0; ; calls++ {
		recs := s.bmap.Records()
		for i := range recs {
			s.take(in, fork, &recs[i], w, v, h)
		}
		if s.bmap.Complete() || len(recs) == 0 {
			return nil
		}
		if calls == maxForkCalls {
			return fmt.Errorf("read %s of inode %d: more than %d mappings", fork, in.Ino, calls*len(recs))
		}
		next := s.bmap.Next()
		if err := s.fs.BmapRange(in.file, fork, next, forkEnd-next, s.bmap); err != nil {
			return err
		}
	}
}

// take adds one mapping to the view.
func (s *Settler) take(in *Inode, fork ioctl.Fork, r *ioctl.BmapRecord, w Window, v *view, h *maphash.Hash) {
	if !r.HasBlocks() {
		return
	}
	maphash.WriteComparable(h, [4]uint64{uint64(r.Offset), uint64(r.Block), uint64(r.Length), uint64(r.Flags & ioctl.BmapPrealloc)})
	count := uint64(r.Length) >> s.sectorsLog
	v.blocks += count
	realtime := in.realtime && fork == ioctl.DataFork
	if realtime != w.Realtime || in.realtime && !realtime {
		return // on the other device, or nobody knows where: see walk.Opaque
	}
	start, count, skipped := s.inGroup(r, w)
	lo, hi := max(start, uint64(w.Start)), min(start+count, w.end())
	if lo >= hi {
		return
	}
	flags := uint64(0)
	if fork == ioctl.AttrFork {
		flags |= shadow.OffsetAttrFork
	}
	if r.Flags&ioctl.BmapPrealloc != 0 {
		flags |= shadow.OffsetUnwritten
	}
	off := uint64(r.Offset)>>s.sectorsLog + skipped + lo - start
	v.claims = append(v.claims, shadow.Rmap{
		StartBlock: uint32(lo), BlockCount: uint32(hi - lo),
		Owner: uint64(in.Ino), Offset: shadow.PackOffset(off, flags),
	})
}
