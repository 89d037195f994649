package walk

import (
	"context"
	"fmt"
	"math/bits"
	"sync"
	"sync/atomic"

	"github.com/scrubd/scrubd/ioctl"
)

// takeChunks is how many inode chunks a worker takes at once: up to 4096 inodes,
// about 10 ms of work when everything is cached. Fewer would leave workers less
// uneven at the end of the last group, more would save INUMBERS calls.
const takeChunks = 64

// maxSkips bounds how often INUMBERS is started anew behind a part of the inobt
// that cannot be read. After that the rest of the group counts as unreadable.
const maxSkips = 256

// feeder hands out the inodes of one allocation group, take by take, in
// ascending order.
type feeder struct {
	mu    sync.Mutex
	next  ioctl.Ino // first inode number not handed out yet
	skips int
	done  atomic.Bool // set under mu, read without
}

// take is the part of a group that one worker reads: the inode numbers [first,
// end), and the chunks that INUMBERS lists there.
type take struct {
	agno       ioctl.AGNumber
	first, end ioctl.Ino
	began      uint64       // before INUMBERS was asked, by the watcher's clock
	listed     uint64       // when it had answered
	chunks     []takenChunk // ascending; at most takeChunks
	expected   int          // inodes allocated in chunks and not seen yet
}

// takenChunk is a chunk with what BULKSTAT has told of it.
type takenChunk struct {
	start ioctl.Ino
	alloc uint64 // from INUMBERS
	seen  uint64 // BULKSTAT has told of them, or they have been asked singly
}

// feeders has one feeder a group. A worker begins with a group that nobody has
// begun; when there is none left it helps where work is left.
type feeders struct {
	all   []feeder
	begun atomic.Uint32
}

// nextGroup returns a group with work left for a worker that is done with agno.
func (f *feeders) nextGroup(agno uint32) (uint32, bool) {
	if f.begun.Load() < uint32(len(f.all)) {
		if n := f.begun.Add(1) - 1; n < uint32(len(f.all)) {
			return n, true
		}
	}
	// From the next one on, so that helpers spread.
	for i := range uint32(len(f.all)) {
		if n := (agno + 1 + i) % uint32(len(f.all)); !f.all[n].done.Load() {
			return n, true
		}
	}
	return 0, false
}

// fill makes t the next take of a group; false means that the group is done.
// Chunks are added to out in their order.
func (w *worker) fill(ctx context.Context, t *take, agno ioctl.AGNumber) (bool, error) {
	f := &w.feeders.all[agno]
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.done.Load() {
		return false, nil
	}
	first, last := w.inoRange(agno)
	f.next = max(f.next, first)
	began := w.now()
	recs, next, err := w.listChunks(ctx, f, agno, last)
	if err != nil || len(recs) == 0 {
		f.done.Store(true)
		if err == nil {
			err = w.wasRead(f.next, last+1, began) // there was nobody
		}
		return false, err
	}
	// From the end of the last take on: a chunk that is new between the two is
	// in neither list, and yet BULKSTAT tells of its inodes.
	*t = take{agno: agno, first: min(f.next, recs[0].StartIno), end: next, began: began, listed: w.now(), chunks: t.chunks[:0]}
	w.chunkBatch = w.chunkBatch[:0]
	for i := range recs {
		r := &recs[i]
		t.chunks = append(t.chunks, takenChunk{start: r.StartIno, alloc: r.AllocMask})
		t.expected += bits.OnesCount64(r.AllocMask)
		w.chunkBatch = append(w.chunkBatch, Chunk{StartIno: r.StartIno, AllocMask: r.AllocMask, AllocCount: r.AllocCount})
	}
	f.next = next
	if err := w.res.Chunks[agno].Append(w.chunkBatch); err != nil {
		f.done.Store(true)
		return false, fmt.Errorf("keep inode chunks of AG %d: %w", agno, err)
	}
	return true, nil
}

// inoRange returns the first and the last inode number that a group can have.
func (w *worker) inoRange(agno ioctl.AGNumber) (first, last ioctl.Ino) {
	g := w.res.Geometry
	return g.AGToIno(agno, 0, 0), g.AGToIno(agno, g.AGLength(agno)-1, g.InodesPerBlock()-1)
}

// listChunks returns the next chunks of a group and the inode number behind
// them. Where INUMBERS fails it is started behind the part that it cannot read,
// which is noted.
func (w *worker) listChunks(ctx context.Context, f *feeder, agno ioctl.AGNumber, last ioctl.Ino) ([]ioctl.InumbersRecord, ioctl.Ino, error) {
	for f.next <= last {
		recs, next, err := w.inumbers(ctx, agno, f.next, last, w.chunkBuf)
		if err == nil {
			return recs, next, nil
		}
		if bulkOutcome(err) != unreadable {
			return nil, 0, err
		}
		lost := Unreadable{Ino: f.next, LastIno: last, Stage: StageInumbers, Err: err}
		resume := last + 1
		if f.skips++; f.skips <= maxSkips {
			if resume, err = w.skipUnreadable(ctx, agno, f.next, last); err != nil {
				return nil, 0, err
			}
			lost.LastIno = resume - 1
		}
		w.notes.unreadable(lost)
		f.next = resume
	}
	return nil, f.next, nil
}

// inumbers makes one call and checks the answer.
//
// Errors: the call's; [ioctl.ErrMalformed].
func (w *worker) inumbers(ctx context.Context, agno ioctl.AGNumber, from, last ioctl.Ino, buf *ioctl.InumbersBuffer) ([]ioctl.InumbersRecord, ioctl.Ino, error) {
	if err := ctx.Err(); err != nil {
		return nil, 0, err
	}
	req := ioctl.BulkRequest{Ino: from, Flags: ioctl.BulkAGNo, AGNo: agno}
	if _, err := w.fs.Inumbers(&req, buf); err != nil {
		return nil, 0, err
	}
	recs := buf.Records()
	next := from
	for i := range recs {
		start := recs[i].StartIno
		// The first chunk may begin before the inode that was asked for.
		if start > last || start+ioctl.InodesPerChunk <= from || i > 0 && start < next {
			return nil, 0, fmt.Errorf("list inodes of AG %d from inode %d on: %w: chunk at inode %d", agno, from, ioctl.ErrMalformed, start)
		}
		next = start + ioctl.InodesPerChunk
	}
	return recs, next, nil
}

// skipUnreadable returns the first inode number behind from at which INUMBERS
// works again, last+1 if there is none: strides are doubled until it does, and
// the way back is halved. A part of the inobt in between that could be read is
// lost if another one behind it cannot.
func (w *worker) skipUnreadable(ctx context.Context, agno ioctl.AGNumber, from, last ioctl.Ino) (ioctl.Ino, error) {
	works := func(ino ioctl.Ino) (bool, error) {
		if ino > last {
			return true, nil
		}
		_, _, err := w.inumbers(ctx, agno, ino, last, w.oneChunk)
		if err != nil && bulkOutcome(err) == unreadable {
			return false, nil
		}
		return err == nil, err
	}
	const step = ioctl.InodesPerChunk
	bad, good := from, from+step
	for stride := ioctl.Ino(step); ; stride *= 2 {
		ok, err := works(good)
		if err != nil {
			return 0, err
		}
		if ok {
			break
		}
		bad, good = good, min(good+stride, last+1)
	}
	for good-bad > step {
		mid := bad + max(1, (good-bad)/2/step)*step
		ok, err := works(mid)
		if err != nil {
			return 0, err
		}
		if ok {
			good = mid
		} else {
			bad = mid
		}
	}
	return good, nil
}
