package walk

import (
	"context"

	"github.com/scrubd/scrubd/ioctl"
	"github.com/scrubd/scrubd/scrub/throttle"
	"github.com/scrubd/scrubd/xfile"
)

// rareBatch is how many opaque or silent inodes wait for one Append.
const rareBatch = 128

// worker is one goroutine of a walk, with the buffers that it uses again and
// again: nothing is allocated for an inode that has nothing strange about it.
type worker struct {
	*shared
	ctx     context.Context //nolint:containedctx // of one Run, for the calls deep inside of an inode
	turn    *throttle.Turn
	data    device
	rt      device
	buffers forkBuffers

	chunkBuf   *ioctl.InumbersBuffer
	oneChunk   *ioctl.InumbersBuffer
	statBuf    *ioctl.BulkstatBuffer
	oneStat    *ioctl.BulkstatBuffer
	chunkBatch []Chunk
	opaque     []Opaque
	silent     []ioctl.Ino

	count     counters
	published counters
}

// device is one of the devices that forks map blocks of, with what was claimed
// there and waits for its arrays.
type device struct {
	space   space
	claims  *batcher
	shared  *xfile.Array[Shared]
	marks   []Shared
	spaceOf func(*ioctl.Geometry) space
}

// counters are those of the result, of one worker.
type counters struct {
	inodes, extents, blocks, opened, vanished, rtInodes, rtSkipped, rtAttrs, grown uint64
}

func (s *shared) newWorker(ctx context.Context, workers int) *worker {
	return &worker{
		shared:     s,
		ctx:        ctx,
		turn:       s.options.Throttle.Turn(),
		data:       device{space: spaceOf(s.res.Geometry), claims: newBatcher(s.res.Claims, workers), shared: s.res.Shared, spaceOf: spaceOf},
		rt:         device{space: rtSpaceOf(s.res.Geometry), claims: newBatcher(s.res.RTClaims, workers), shared: s.res.RTShared, spaceOf: rtSpaceOf},
		buffers:    forkBuffers{large: s.large},
		chunkBuf:   ioctl.NewInumbersBuffer(takeChunks),
		oneChunk:   ioctl.NewInumbersBuffer(1),
		statBuf:    ioctl.NewBulkstatBuffer(statBatch),
		oneStat:    ioctl.NewBulkstatBuffer(1),
		chunkBatch: make([]Chunk, 0, takeChunks),
		opaque:     make([]Opaque, 0, rareBatch),
		silent:     make([]ioctl.Ino, 0, rareBatch),
	}
}

// run reads takes until no group has any left.
func (w *worker) run(ctx context.Context) error {
	t := take{chunks: make([]takenChunk, 0, takeChunks)}
	agno := uint32(0)
	if err := w.turn.Begin(ctx); err != nil {
		return err
	}
	defer w.turn.Leave()
	for {
		var ok bool
		if agno, ok = w.feeders.nextGroup(agno); !ok {
			break
		}
		for {
			more, err := w.fill(ctx, &t, ioctl.AGNumber(agno))
			if err != nil {
				return err
			}
			if !more {
				break
			}
			if err := w.readTake(ctx, &t); err != nil {
				return err
			}
		}
	}
	w.publish()
	w.addTotals()
	return w.flush()
}

// flush gives everything that waits to the result.
func (w *worker) flush() error {
	for _, d := range []*device{&w.data, &w.rt} {
		if err := d.claims.flush(); err != nil {
			return err
		}
		if err := d.flushShared(); err != nil {
			return err
		}
	}
	return w.flushRare()
}

// publish adds what is new since the last time to the progress.
func (w *worker) publish() {
	inodes := w.inodes.Add(w.count.inodes - w.published.inodes)
	extents := w.extents.Add(w.count.extents - w.published.extents)
	w.published = w.count
	if w.options.Progress != nil {
		w.options.Progress(inodes, extents)
	}
}

// pause reports progress, and rests where the walk is to be slow.
func (w *worker) pause(ctx context.Context) error {
	w.publish()
	return w.turn.Rest(ctx)
}

// addTotals adds the worker's counters to the result.
func (w *worker) addTotals() {
	w.notes.mu.Lock()
	defer w.notes.mu.Unlock()
	w.res.Inodes += w.count.inodes
	w.res.Extents += w.count.extents
	w.res.Blocks += w.count.blocks
	w.res.Opened += w.count.opened
	w.res.Vanished += w.count.vanished
	w.res.RTInodes += w.count.rtInodes
	w.res.RTSkipped += w.count.rtSkipped
	w.res.RTAttrs += w.count.rtAttrs
	w.res.Grown += w.count.grown
}
