package walk

import (
	"errors"
	"fmt"

	"github.com/scrubd/scrubd/ioctl"
)

// addOpaque notes an inode whose forks userspace cannot read.
func (w *worker) addOpaque(rec *ioctl.BulkstatRecord, extents uint64) error {
	o := Opaque{
		Ino: rec.Ino, Gen: rec.Gen, Mode: rec.Mode,
		Blocks: rec.Blocks, Extents: extents, AExtents: rec.AExtents,
	}
	if o.Blocks == 0 {
		blocks, err := w.statBlocks(rec)
		if err != nil || blocks == 0 && extents == 0 && rec.AExtents == 0 {
			return err
		}
		o.Blocks = blocks
	}
	w.opaque = append(w.opaque, o)
	if len(w.opaque) < cap(w.opaque) {
		return nil
	}
	return w.flushRare()
}

// statBlocks asks statx for the blocks of an inode with an inline data fork,
// where BULKSTAT has none. It returns 0 if they cannot be had.
func (w *worker) statBlocks(rec *ioctl.BulkstatRecord) (uint64, error) {
	fd, err := w.fs.OpenPathFD(rec.Ino, rec.Gen)
	if err != nil {
		if outcomeOf(err) == ends && !errors.Is(err, ioctl.ErrNotSupported) {
			return 0, err
		}
		return 0, nil
	}
	defer w.fs.CloseFD(fd)
	st, err := w.fs.Statx(fd)
	if err != nil {
		if outcomeOf(err) == ends {
			return 0, err
		}
		return 0, nil
	}
	return st.Blocks >> w.data.space.shift, nil
}

func (w *worker) addSilent(ino ioctl.Ino) error {
	w.silent = append(w.silent, ino)
	if len(w.silent) < cap(w.silent) {
		return nil
	}
	return w.flushRare()
}

// flushRare gives what waits for Opaque and Silent to their arrays.
func (w *worker) flushRare() error {
	if err := w.res.Opaque.Append(w.opaque); err != nil {
		return fmt.Errorf("keep opaque inodes: %w", err)
	}
	if err := w.res.Silent.Append(w.silent); err != nil {
		return fmt.Errorf("keep silent inodes: %w", err)
	}
	w.opaque, w.silent = w.opaque[:0], w.silent[:0]
	return nil
}
