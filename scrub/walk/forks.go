package walk

import (
	"fmt"
	"syscall"

	"github.com/scrubd/scrubd/ioctl"
	"github.com/scrubd/scrubd/shadow"
)

// xflagRealtime marks files whose data is on the realtime device.
//
// Source: include/uapi/linux/fs.h (FS_XFLAG_REALTIME).
const xflagRealtime = 1

// readInode notes what BULKSTAT says of an inode and reads its forks if they
// have extents. Inodes that have none cost nothing here: that is most of the
// speed of a walk.
func (w *worker) readInode(rec *ioctl.BulkstatRecord) error {
	w.count.inodes++
	extents := rec.Extents64
	if w.statFlags&ioctl.BulkNrext64 == 0 {
		extents = uint64(rec.Extents)
	}
	if rec.Sick != 0 {
		w.notes.sick(rec, extents)
	}
	if !rec.Openable() {
		if extents|uint64(rec.AExtents)|rec.Blocks == 0 {
			return nil
		}
		return w.addOpaque(rec, extents)
	}
	data, attr := extents > 0, rec.AExtents > 0
	dev := &w.data
	if rec.XFlags&xflagRealtime != 0 && rec.Type() == syscall.S_IFREG {
		w.count.rtInodes++
		if attr {
			w.count.rtAttrs++
			if err := w.addOpaque(rec, extents); err != nil {
				return err
			}
			attr = false
		}
		if data && len(w.res.RTClaims) == 0 {
			w.count.rtSkipped++
			data = false
		}
		dev = &w.rt
	}
	if !data && !attr {
		return nil
	}
	fd, err := w.fs.OpenFD(rec.Ino, rec.Gen)
	if err != nil {
		return w.openFailed(rec, extents, err)
	}
	w.count.opened++
	if data {
		err = w.readFork(rec, fd, dev, ioctl.DataFork, extents)
	}
	if err == nil && attr {
		err = w.readFork(rec, fd, &w.data, ioctl.AttrFork, uint64(rec.AExtents))
	}
	w.fs.CloseFD(fd)
	return err
}

func (w *worker) openFailed(rec *ioctl.BulkstatRecord, extents uint64, err error) error {
	switch outcomeOf(err) {
	case gone:
		return w.notOpened(rec.Ino, rec.Gen, rec.Type() == syscall.S_IFDIR, err)
	case refused:
		w.notes.refused(Refused{Ino: rec.Ino, Gen: rec.Gen, Err: err, Extents: extents, AExtents: rec.AExtents})
	case unreadable:
		w.notes.unreadable(Unreadable{Ino: rec.Ino, LastIno: rec.Ino, Gen: rec.Gen, Stage: StageOpen, Err: err})
	default:
		return err
	}
	return nil
}

// notOpened tells an inode that is gone from a directory that cannot be reached:
// a directory is opened by looking up "..", and if that fails for whatever
// reason, the kernel says no more than ESTALE.
//
// Source: Documentation/filesystems/nfs/exporting.rst (reconnecting directories).
func (w *worker) notOpened(ino ioctl.Ino, gen ioctl.Gen, directory bool, err error) error {
	there := false
	if directory {
		agno, _ := w.res.Geometry.InoToAGIno(ino)
		req := ioctl.BulkRequest{Ino: ino, Flags: w.statFlags | ioctl.BulkAGNo, AGNo: agno}
		n, err := w.fs.Bulkstat(&req, w.oneStat)
		if err != nil && bulkOutcome(err) != unreadable {
			return err
		}
		there = err == nil && n > 0 && w.oneStat.Records()[0].Ino == ino && w.oneStat.Records()[0].Gen == gen
	}
	if !there {
		w.count.vanished++
		return nil
	}
	w.notes.unreadable(Unreadable{Ino: ino, LastIno: ino, Gen: gen, Stage: StageReach, Err: err})
	return nil
}

// readFork claims what one fork of an open inode maps. A fork of up to
// [maxForkRecords] records is read in one call; a longer one in ranges, which
// together are no picture of one moment.
func (w *worker) readFork(rec *ioctl.BulkstatRecord, fd int, dev *device, fork ioctl.Fork, extents uint64) error {
	stage, flags := StageDataFork, uint64(0)
	if fork == ioctl.AttrFork {
		stage, flags = StageAttrFork, shadow.OffsetAttrFork
	}
	buf := w.buffers.get(extents)
	defer w.buffers.put(buf)
	var bad error // the first malformed record
	err := w.fs.Bmap(fd, fork, buf)
	for err == nil {
		if err := w.claimRecords(dev, rec.Ino, flags, buf.Records(), &bad); err != nil {
			return err
		}
		if buf.Complete() {
			break
		}
		if err := w.ctx.Err(); err != nil {
			return err
		}
		start := buf.Next()
		if start>>63 != 0 || start >= forkEnd {
			bad = fmt.Errorf("%w: extent list of inode %d goes on at sector %d", ioctl.ErrMalformed, rec.Ino, int64(start))
			break
		}
		err = w.fs.BmapRange(fd, fork, start, forkEnd-start, buf)
		if err == nil && len(buf.Records()) > 0 && buf.Next() <= start {
			err = fmt.Errorf("%w: extent list of inode %d does not advance from sector %d", ioctl.ErrMalformed, rec.Ino, start)
		}
	}
	if err != nil && outcomeOf(err) == ends {
		return fmt.Errorf("read %s of inode %d: %w", stage, rec.Ino, err)
	}
	if err == nil {
		err = bad
	}
	if err != nil {
		w.notes.unreadable(Unreadable{Ino: rec.Ino, LastIno: rec.Ino, Gen: rec.Gen, Stage: stage, Err: err})
	}
	return nil
}

// forkEnd is behind every fork, in sectors; the same that Bmap asks for.
const forkEnd ioctl.DAddr = 1 << 60

// claimRecords claims the extents of one call. The first record that cannot be
// is left in bad, and the others still count.
func (w *worker) claimRecords(dev *device, ino ioctl.Ino, flags uint64, recs []ioctl.BmapRecord, bad *error) error {
	for i := range recs {
		r := &recs[i]
		if !r.HasBlocks() {
			continue // a hole, or space that is not allocated yet
		}
		e, err := dev.space.extent(r)
		if err != nil {
			if *bad == nil {
				*bad = err
			}
			continue
		}
		if !dev.space.has(e) {
			w.outside(dev, ino, e, bad)
			continue
		}
		f := flags
		if r.Flags&ioctl.BmapPrealloc != 0 {
			f |= shadow.OffsetUnwritten
		}
		if r.Flags&ioctl.BmapShared != 0 {
			if err := dev.addShared(e); err != nil {
				return err
			}
		}
		if err := dev.claims.claim(&dev.space, e, uint64(ino), f); err != nil {
			return fmt.Errorf("keep claims of inode %d: %w", ino, err)
		}
		w.count.extents++
		w.count.blocks += e.count
	}
	return nil
}

// outside handles an extent beyond the walk's geometry: the filesystem may have
// been grown since.
func (w *worker) outside(dev *device, ino ioctl.Ino, e extent, bad *error) {
	geo := w.fs.Geometry()
	if dev.spaceOf(geo).blocks == dev.space.blocks {
		if fresh, err := w.fs.RefreshGeometry(w.ctx); err == nil {
			geo = fresh
		}
	}
	grown := dev.spaceOf(geo)
	if grown.has(e) {
		w.count.grown++
		return
	}
	if *bad == nil {
		*bad = fmt.Errorf("%w: inode %d maps blocks %d to %d of a device of %d blocks",
			ioctl.ErrMalformed, ino, e.start, e.start+e.count-1, dev.space.blocks)
	}
}
