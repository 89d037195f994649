package kernel

import (
	"context"
	"fmt"
	"sync"

	"golang.org/x/sync/errgroup"

	"github.com/scrubd/scrubd/ioctl"
)

// UnlistedCap bounds [InodeTally].Unlisted; the total beside it counts all.
const UnlistedCap = 4096

// InodeTally counts what [Scrubber.Inodes] did.
type InodeTally struct {
	Inodes uint64 // checked, whatever came out
	Calls  uint64 // scrub calls, a vector for one
	// LeftOut are inodes that an earlier scan had checked; see [Resume].
	LeftOut uint64
	// Vanished inodes were freed between being listed and being checked.
	Vanished uint64
	// Silent inodes are allocated, and neither BULKSTAT nor scrub knows them:
	// waiting for inodegc, quota or realtime metadata, private to a repair.
	Silent uint64
	// Errors counts results with an Err: checks that could not be made.
	Errors uint64
	// Unlisted are inodes that BULKSTAT or INUMBERS could not give for an error,
	// at most UnlistedCap of them.
	Unlisted      []Unlisted
	UnlistedTotal uint64
}

// Unlisted is an inode that BULKSTAT failed on, or, where Last is larger than
// First, the range that INUMBERS failed in: what is allocated there is not
// known, and was not checked.
type Unlisted struct {
	First, Last ioctl.Ino
	Err         error
}

// chunksPerTurn is how many inobt records a worker takes at a time.
const chunksPerTurn = 8

// Inodes checks every inode of the filesystem. workers goroutines, at least 1,
// share the AGs.
//
// sink gets each result that is [Result.Noteworthy], one at a time. progress is
// told now and then how many inodes are done; it may be nil. Inodes are looked
// up by number and generation, none is opened.
//
// An inode that is allocated and that BULKSTAT does not give is asked for by
// itself: whether its core is corrupt is what the kernel's scrub of it tells.
func (s *Scrubber) Inodes(ctx context.Context, workers int, sink func(Result), progress func(inodes uint64)) (InodeTally, error) {
	return s.InodesLeft(ctx, workers, Resume{}, sink, progress)
}

// InodesLeft is [Scrubber.Inodes] without what an earlier scan has checked.
// progress is told of those that are left out, too.
func (s *Scrubber) InodesLeft(ctx context.Context, workers int, resume Resume, sink func(Result), progress func(inodes uint64)) (InodeTally, error) {
	scan := &inodeScan{s: s, earlier: resume.Earlier, sink: sink, progress: progress}
	scan.reached.tell = resume.Reached
	if err := s.freezeHeld(Object{Type: ioctl.ScrubTypeINODE}); err != nil {
		return scan.tally, err
	}
	workers = max(workers, 1)
	scan.turns.init(s.geo.AGCount, workers)
	group, gctx := errgroup.WithContext(ctx)
	defer context.AfterFunc(gctx, scan.turns.stop)()
	for range workers {
		group.Go(func() error { return scan.work(gctx) })
	}
	err := group.Wait()
	if err == nil {
		err = ctx.Err()
	}
	return scan.tally, err
}

// inodeScan is one call of Inodes.
type inodeScan struct {
	s       *Scrubber
	turns   turns
	reached reached
	earlier func(*ioctl.BulkstatRecord) bool // nil for none

	mu       sync.Mutex // over all below, and around sink and progress
	tally    InodeTally
	sink     func(Result)
	progress func(uint64)
}

// inodeWorker is what one goroutine of a scan reuses.
type inodeWorker struct {
	*inodeScan
	w       *worker
	inums   *ioctl.InumbersBuffer
	stats   *ioctl.BulkstatBuffer
	results []Result
	flags   ioctl.BulkFlags
	n       InodeTally // since the last report; Unlisted is kept in the scan
}

func (scan *inodeScan) work(ctx context.Context) error {
	s := scan.s
	iw := &inodeWorker{
		inodeScan: scan, w: s.workers.acquire(), flags: ioctl.BulkAGNo | ioctl.BulkNrext64,
		inums: ioctl.NewInumbersBuffer(chunksPerTurn),
		stats: ioctl.NewBulkstatBuffer(chunksPerTurn * ioctl.InodesPerChunk),
	}
	defer s.workers.release(iw.w)
	if s.geo.Has(ioctl.FlagMetadir) {
		iw.flags |= ioctl.BulkMetadir
	}
	for {
		at, ok := scan.turns.take()
		if !ok {
			return ctx.Err()
		}
		if err := iw.turn(ctx, at); err != nil {
			return err
		}
	}
}

// turn lists the next chunks of an AG, lets others have the AG, and checks what
// is in the chunks.
func (iw *inodeWorker) turn(ctx context.Context, at cursor) error {
	req := ioctl.BulkRequest{Ino: at.ino, AGNo: at.agno, Flags: ioctl.BulkAGNo}
	n, err := iw.s.fs.Inumbers(&req, iw.inums)
	switch {
	case err != nil && endsRun(err):
		iw.turns.finish()
		return fmt.Errorf("list inodes: %w", err)
	case err != nil:
		iw.unlisted(at.agno, iw.restOfAG(at), err)
		iw.turns.finish()
		return nil
	case n == 0:
		iw.reached.listed(at.agno)
		iw.turns.finish()
		return nil
	}
	iw.reached.began(at.agno, at.ino, req.Ino)
	iw.turns.put(cursor{agno: at.agno, ino: req.Ino})
	inodes, err := iw.checkChunks(ctx, at.agno)
	if err != nil {
		return err
	}
	iw.reached.ended(at.agno, at.ino, inodes)
	return nil
}

// restOfAG is what an AG may hold from the cursor on.
func (iw *inodeWorker) restOfAG(at cursor) Unlisted {
	g := iw.s.geo
	first := max(at.ino, g.AGToIno(at.agno, 0, 0))
	return Unlisted{First: first, Last: g.AGToIno(at.agno, g.AGLength(at.agno)-1, g.InodesPerBlock()-1)}
}

// checkChunks checks every inode of the listed chunks: first those that
// BULKSTAT gives, then those that it should have given. It returns how many they
// were.
func (iw *inodeWorker) checkChunks(ctx context.Context, agno ioctl.AGNumber) (inodes uint64, err error) {
	chunks := iw.inums.Records()
	end := chunks[len(chunks)-1].StartIno + ioctl.InodesPerChunk
	var seen [chunksPerTurn]uint64
	req := ioctl.BulkRequest{Ino: chunks[0].StartIno, AGNo: agno, Flags: iw.flags}
	turn := iw.s.turn(iw.w)
	for req.Ino < end {
		if err := turn.Begin(ctx); err != nil {
			return 0, err
		}
		req.Limit = turn.Batch(chunksPerTurn * ioctl.InodesPerChunk)
		n, err := iw.s.fs.Bulkstat(&req, iw.stats)
		_ = turn.End(ctx, 0) // the checks that follow look at ctx
		if err != nil && endsRun(err) {
			return 0, fmt.Errorf("list inodes: %w", err)
		}
		if err != nil || n == 0 {
			break // whom the error is about is found out one by one
		}
		c := 0
		for i := range iw.stats.Records() {
			rec := &iw.stats.Records()[i]
			if rec.Ino >= end {
				break
			}
			for c < len(chunks)-1 && rec.Ino >= chunks[c].StartIno+ioctl.InodesPerChunk {
				c++
			}
			if bit := rec.Ino - chunks[c].StartIno; bit < ioctl.InodesPerChunk {
				seen[c] |= 1 << bit
			}
			if err := iw.check(ctx, rec); err != nil {
				return 0, err
			}
		}
	}
	for c := range chunks {
		missing := chunks[c]
		missing.AllocMask &^= seen[c]
		for ino := range missing.AllocatedInodes {
			if err := iw.lookAgain(ctx, ino, agno); err != nil {
				return 0, err
			}
		}
	}
	inodes = iw.n.Inodes + iw.n.LeftOut
	iw.report()
	return inodes, nil
}

// check checks one inode that BULKSTAT knows.
func (iw *inodeWorker) check(ctx context.Context, rec *ioctl.BulkstatRecord) error {
	if iw.earlier != nil && iw.earlier(rec) {
		iw.n.LeftOut++
		return nil
	}
	if err := iw.run(ctx, Object{Ino: rec.Ino, Gen: rec.Gen}, iw.s.planOf(rec)); err != nil {
		return err
	}
	if iw.results[0].Absent && !isMetadata(rec) {
		iw.n.Vanished++
		return nil
	}
	iw.n.Inodes++
	return nil
}

// lookAgain is for an inode that is allocated and that BULKSTAT left out, which
// it does without a word for those that it cannot load.
func (iw *inodeWorker) lookAgain(ctx context.Context, ino ioctl.Ino, agno ioctl.AGNumber) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	req := ioctl.BulkRequest{Ino: ino, AGNo: agno, Flags: iw.flags, Limit: 1}
	n, statErr := iw.s.fs.Bulkstat(&req, iw.stats)
	switch {
	case statErr != nil && endsRun(statErr):
		return fmt.Errorf("list inodes: %w", statErr)
	case n == 1 && iw.stats.Records()[0].Ino == ino:
		rec := iw.stats.Records()[0]
		return iw.check(ctx, &rec)
	}
	// The generation is not known. One that cannot be loaded has none that could
	// differ, and for any other the answer is that there is no such inode.
	if err := iw.run(ctx, Object{Ino: ino}, coreOnly); err != nil {
		return err
	}
	if iw.results[0].Absent {
		// An error of BULKSTAT is that of an inode further on then.
		iw.n.Silent++
		return nil
	}
	if statErr != nil {
		iw.unlisted(agno, Unlisted{First: ino, Last: ino}, statErr)
	}
	iw.n.Inodes++
	return nil
}

// coreOnly is the plan for an inode of which nothing but the number is known.
var coreOnly = plan{{typ: ioctl.ScrubTypeINODE}}

// run makes the checks and hands on what is worth it.
func (iw *inodeWorker) run(ctx context.Context, o Object, p plan) error {
	var err error
	iw.results, err = iw.s.run(ctx, iw.w, o, p, iw.results[:0])
	for i := range iw.results {
		res := &iw.results[i]
		if !res.Noteworthy() || err != nil && (!iw.w.done[i] || res.Err != nil) {
			continue // or it is what ends the scan
		}
		if res.Err != nil {
			iw.n.Errors++
		}
		iw.mu.Lock()
		iw.sink(*res)
		iw.mu.Unlock()
	}
	return err
}

func (iw *inodeWorker) unlisted(agno ioctl.AGNumber, u Unlisted, err error) {
	u.Err = err
	iw.reached.broke(agno)
	iw.mu.Lock()
	defer iw.mu.Unlock()
	iw.tally.UnlistedTotal++
	if len(iw.tally.Unlisted) < UnlistedCap {
		iw.tally.Unlisted = append(iw.tally.Unlisted, u)
	}
}

// report adds what was counted to the tally.
func (iw *inodeWorker) report() {
	iw.mu.Lock()
	defer iw.mu.Unlock()
	t := &iw.tally
	t.Inodes += iw.n.Inodes
	t.LeftOut += iw.n.LeftOut
	t.Vanished += iw.n.Vanished
	t.Silent += iw.n.Silent
	t.Errors += iw.n.Errors
	t.Calls += iw.w.calls
	iw.n, iw.w.calls = InodeTally{}, 0
	if iw.progress != nil {
		iw.progress(t.Inodes + t.LeftOut)
	}
}
