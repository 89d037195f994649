package walk

import (
	"context"
	"fmt"

	"github.com/scrubd/scrubd/ioctl"
)

// statBatch is how many inodes one BULKSTAT returns at most.
const statBatch = 1024

// readTake reads every inode of a take.
//
// BULKSTAT returns what it has read before an inode that it cannot read, and
// then fails without saying which inode that was; the other inodes of that
// chunk are asked one by one then, and BULKSTAT goes on behind it. In the end
// every inode that INUMBERS had as allocated has been told of, is noted as
// unreadable, has been freed, or is silent.
func (w *worker) readTake(ctx context.Context, t *take) error {
	at := t.first
	req := ioctl.BulkRequest{Flags: w.statFlags | ioctl.BulkAGNo, AGNo: t.agno}
	chunk := 0 // chunks before it lie below at
	for at < t.end && t.expected > 0 {
		if err := ctx.Err(); err != nil {
			return err
		}
		req.Ino, req.Limit = at, min(w.turn.Batch(statBatch), t.expected)
		from, began := at, w.now()
		n, err := w.fs.Bulkstat(&req, w.statBuf)
		if err == nil && n == 0 {
			break
		}
		if err == nil {
			at, chunk, err = w.readBatch(t, w.statBuf.Records(), at, chunk)
			if told := w.wasRead(from, at, began); told != nil {
				return told
			}
			if err == nil {
				err = w.pause(ctx)
			}
			if err != nil && !isMalformed(err) {
				return err
			}
		}
		if err == nil {
			continue
		}
		if bulkOutcome(err) != unreadable {
			return err
		}
		// The first chunk with somebody missing from at on is where it failed.
		for chunk < len(t.chunks) && t.chunks[chunk].missing(at) == 0 {
			chunk++
		}
		if chunk == len(t.chunks) {
			break
		}
		from, began = at, w.now()
		if err := w.askSingly(ctx, t, chunk, at); err != nil {
			return err
		}
		at = max(at, t.chunks[chunk].start+ioctl.InodesPerChunk)
		if err := w.wasRead(from, at, began); err != nil {
			return err
		}
	}
	// Nobody was allocated from here on when the chunks were listed.
	if err := w.wasReadBy(at, t.end, t.began, t.listed); err != nil {
		return err
	}
	return w.settleMissing(ctx, t)
}

// missing is the mask of the inodes from at on that are allocated and not seen.
func (c *takenChunk) missing(at ioctl.Ino) uint64 {
	m := c.alloc &^ c.seen
	if at <= c.start {
		return m
	}
	return m >> min(at-c.start, 64) << min(at-c.start, 64)
}

// mark notes that an inode was seen.
func (t *take) mark(c *takenChunk, ino ioctl.Ino) {
	bit := uint64(1) << (ino - c.start)
	if c.alloc&^c.seen&bit != 0 {
		t.expected--
	}
	c.seen |= bit
}

// readBatch reads the inodes of one BULKSTAT, up to the end of the take, and
// returns the inode number and the chunk to go on at.
//
// Errors: [ioctl.ErrMalformed] for inode numbers that do not ascend; those of
// readInode.
func (w *worker) readBatch(t *take, recs []ioctl.BulkstatRecord, at ioctl.Ino, chunk int) (ioctl.Ino, int, error) {
	for i := range recs {
		rec := &recs[i]
		if rec.Ino < at {
			return at, chunk, fmt.Errorf("read inodes of AG %d: %w: inode %d where %d or a later one was to come",
				t.agno, ioctl.ErrMalformed, rec.Ino, at)
		}
		if rec.Ino >= t.end {
			return t.end, chunk, nil
		}
		for chunk < len(t.chunks) && t.chunks[chunk].start+ioctl.InodesPerChunk <= rec.Ino {
			chunk++
		}
		if chunk < len(t.chunks) && t.chunks[chunk].start <= rec.Ino {
			t.mark(&t.chunks[chunk], rec.Ino)
		}
		at = rec.Ino + 1
		if err := w.readInode(rec); err != nil {
			return at, chunk, err
		}
	}
	return at, chunk, nil
}

// askSingly asks for each missing inode of a chunk from at on by itself.
//
// BULKSTAT starts at the inode that it is asked for and goes over those that are
// silent. So an error may also come from the next inode, behind a silent one;
// both are noted as unreadable then, which errs on the safe side.
func (w *worker) askSingly(ctx context.Context, t *take, chunk int, at ioctl.Ino) error {
	c := &t.chunks[chunk]
	for i := range ioctl.Ino(ioctl.InodesPerChunk) {
		ino := c.start + i
		if ino < at || c.alloc&^c.seen>>i&1 == 0 {
			continue
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		req := ioctl.BulkRequest{Ino: ino, Flags: w.statFlags | ioctl.BulkAGNo, AGNo: t.agno}
		n, err := w.fs.Bulkstat(&req, w.oneStat)
		if err == nil && n > 0 && w.oneStat.Records()[0].Ino < ino {
			err = fmt.Errorf("read inode %d: %w: inode %d came", ino, ioctl.ErrMalformed, w.oneStat.Records()[0].Ino)
		}
		switch {
		case err == nil && n > 0 && w.oneStat.Records()[0].Ino == ino:
			t.mark(c, ino)
			if err := w.readInode(&w.oneStat.Records()[0]); err != nil {
				return err
			}
		case err == nil: // silent, for now
		case bulkOutcome(err) == unreadable:
			t.mark(c, ino)
			w.notes.unreadable(Unreadable{Ino: ino, LastIno: ino, Stage: StageBulkstat, Err: err})
		default:
			return err
		}
	}
	return nil
}

// settleMissing asks for those that BULKSTAT has gone over without a word, once
// more each, and takes for silent those that INUMBERS still has as allocated.
func (w *worker) settleMissing(ctx context.Context, t *take) error {
	if t.expected == 0 {
		return nil
	}
	for i := range t.chunks {
		c := &t.chunks[i]
		if c.missing(c.start) == 0 {
			continue
		}
		if err := w.askSingly(ctx, t, i, c.start); err != nil {
			return err
		}
		missing := c.missing(c.start)
		if missing == 0 {
			continue
		}
		still, err := w.allocatedNow(ctx, t.agno, c.start)
		if err != nil {
			return err
		}
		for i := range ioctl.Ino(ioctl.InodesPerChunk) {
			switch {
			case missing>>i&1 == 0:
			case still>>i&1 == 0:
				w.count.vanished++
			default:
				if err := w.addSilent(c.start + i); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// allocatedNow returns the mask of a chunk as INUMBERS has it now, 0 if the chunk
// is gone. Where INUMBERS cannot read it any more, all count as allocated.
func (w *worker) allocatedNow(ctx context.Context, agno ioctl.AGNumber, start ioctl.Ino) (uint64, error) {
	_, last := w.inoRange(agno)
	recs, _, err := w.inumbers(ctx, agno, start, last, w.oneChunk)
	switch {
	case err != nil && bulkOutcome(err) == unreadable:
		return ^uint64(0), nil
	case err != nil:
		return 0, err
	case len(recs) == 0 || recs[0].StartIno != start:
		return 0, nil
	}
	return recs[0].AllocMask, nil
}
