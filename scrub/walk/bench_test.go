package walk_test

import (
	"context"
	"fmt"
	"iter"
	"runtime"
	"runtime/metrics"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"github.com/scrubd/scrubd/internal/lab"
	"github.com/scrubd/scrubd/ioctl"
	"github.com/scrubd/scrubd/scrub/trees"
	"github.com/scrubd/scrubd/scrub/walk"
	"github.com/scrubd/scrubd/scrub/witness"
	"github.com/scrubd/scrubd/shadow"
)

const (
	benchInodes  = 200_000
	benchExtents = 1_000_000
	benchRounds  = 7 // of floor and pass each, in turns
)

// BenchmarkShadowPass compares a whole shadow pass (walk, sort, comparison with
// the rmapbt of every group) with its floor: the same ioctls by as many
// goroutines, with the batch sizes that are best for them, and the answers
// dropped. Both run in turns and the medians count, as a machine is never
// quiet.
//
// ratio is pass over floor in time, cpu-ratio the same in the CPU time of the
// process, which other processes disturb less; trees-cpu-ratio is the CPU time of
// a pass that makes trees of the claims and counts owners, over that of one that
// compares the arrays; floor-inodes/s is the speed of the
// floor, heap-MiB the highest that Go heap and stacks were during the passes,
// allocs/inode the allocations of a pass.
func BenchmarkShadowPass(b *testing.B) {
	lab.Require(b, lab.Root, lab.Loop)
	dir := lab.NewLoopFS(b, lab.MkfsOptions{Size: 32 << 30}).Dir()
	fill(b, dir, fillPlan{dirs: 200, files: 1020, extents: 5, workers: runtime.GOMAXPROCS(0)})
	fs, err := ioctl.Open(dir)
	require.NoError(b, err)
	defer fs.Close()
	workers := runtime.GOMAXPROCS(0)
	ctx := context.Background()

	for b.Loop() {
		var floors, passes, floorCPU, passCPU, treesCPU []time.Duration
		var inodes, peak, allocs uint64
		for range benchRounds {
			stop := startClock()
			n, err := floor(ctx, fs, workers)
			wall, cpu, _ := stop()
			require.NoError(b, err)
			inodes = n
			floors, floorCPU = append(floors, wall), append(floorCPU, cpu)

			stop, heap := startClock(), sampleHeap()
			got, err := shadowPass(ctx, fs, workers)
			wall, cpu, mallocs := stop()
			peak, allocs = max(peak, heap()), max(allocs, mallocs)
			require.NoError(b, err)
			passes, passCPU = append(passes, wall), append(passCPU, cpu)

			require.Equal(b, inodes, got.inodes)
			require.GreaterOrEqual(b, got.inodes, uint64(benchInodes))
			require.GreaterOrEqual(b, got.extents, uint64(benchExtents))
			require.Zero(b, got.unexplained)

			stop = startClock()
			got, err = treesPass(ctx, fs, workers)
			_, cpu, _ = stop()
			require.NoError(b, err)
			treesCPU = append(treesCPU, cpu)
			require.Zero(b, got.unexplained)
		}
		floor, pass := median(floors), median(passes)
		b.ReportMetric(pass.Seconds()/floor.Seconds(), "ratio")
		b.ReportMetric(median(passCPU).Seconds()/median(floorCPU).Seconds(), "cpu-ratio")
		b.ReportMetric(median(treesCPU).Seconds()/median(passCPU).Seconds(), "trees-cpu-ratio")
		b.ReportMetric(float64(inodes)/floor.Seconds(), "floor-inodes/s")
		b.ReportMetric(float64(inodes)/pass.Seconds(), "inodes/s")
		b.ReportMetric(float64(peak)/(1<<20), "heap-MiB")
		b.ReportMetric(float64(allocs)/float64(inodes), "allocs/inode")
		b.ReportMetric(0, "ns/op") // of set-up and rounds together: means nothing
	}
}

// startClock collects garbage and returns a function that tells how much time,
// CPU time of the process and allocations have passed since.
func startClock() (stop func() (wall, cpu time.Duration, mallocs uint64)) {
	runtime.GC()
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	began, usedBefore := time.Now(), cpuTime()
	return func() (wall, cpu time.Duration, mallocs uint64) {
		wall, cpu = time.Since(began), cpuTime()-usedBefore
		runtime.ReadMemStats(&after)
		return wall, cpu, after.Mallocs - before.Mallocs
	}
}

func cpuTime() time.Duration {
	var use unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &use); err != nil {
		panic(err)
	}
	return time.Duration(use.Utime.Nano() + use.Stime.Nano())
}

func median(d []time.Duration) time.Duration {
	slices.Sort(d)
	return d[len(d)/2]
}

// sampleHeap watches Go heap and stacks until the function that it returns is
// called, which returns the highest sum seen, in bytes.
func sampleHeap() (stop func() uint64) {
	done, result := make(chan struct{}), make(chan uint64)
	go func() {
		s := []metrics.Sample{
			{Name: "/memory/classes/heap/objects:bytes"},
			{Name: "/memory/classes/heap/unused:bytes"},
			{Name: "/memory/classes/heap/stacks:bytes"},
			{Name: "/memory/classes/os-stacks:bytes"},
		}
		var peak uint64
		tick := time.NewTicker(time.Millisecond)
		defer tick.Stop()
		for {
			metrics.Read(s)
			var sum uint64
			for i := range s {
				sum += s[i].Value.Uint64()
			}
			peak = max(peak, sum)
			select {
			case <-done:
				result <- peak
				return
			case <-tick.C:
			}
		}
	}()
	return func() uint64 {
		close(done)
		return <-result
	}
}

// passResult is what a shadow pass has seen.
type passResult struct {
	inodes, extents uint64
	// unexplained counts differences that a healthy idle filesystem must not
	// have.
	unexplained uint64
}

func shadowPass(ctx context.Context, fs *ioctl.FS, workers int) (passResult, error) {
	res, err := walk.Run(ctx, fs, walk.Options{Workers: workers})
	if err != nil {
		return passResult{}, err
	}
	defer res.Close()
	var bad atomic.Uint64
	err = eachAG(fs, workers, func(agno ioctl.AGNumber, buf *ioctl.FSMapBuffer) error {
		n, err := strange(ctx, fs, res, agno, res.Claims[agno].Chunks(ctx), buf)
		bad.Add(n)
		return err
	})
	return passResult{inodes: res.Inodes, extents: res.Extents, unexplained: bad.Load()}, err
}

// treesPass is shadowPass by way of trees.
func treesPass(ctx context.Context, fs *ioctl.FS, workers int) (got passResult, err error) {
	res, err := walk.Run(ctx, fs, walk.Options{Workers: workers})
	if err != nil {
		return passResult{}, err
	}
	defer res.Close()
	claims := res.Claims
	res.Claims = nil
	set, err := trees.New(claims, trees.Options{})
	if err != nil {
		return passResult{}, err
	}
	defer set.Close()
	buf := ioctl.NewFSMapBuffer(ioctl.MaxFSMapRecords)
	for agno := range ioctl.AGNumber(set.Len()) {
		tree, err := set.Rmaps(ctx, agno)
		if err != nil {
			return passResult{}, err
		}
		if _, err := set.Refcounts(ctx, agno); err != nil {
			return passResult{}, err
		}
		n, err := strange(ctx, fs, res, agno, tree.Batches(), buf)
		if err != nil {
			return passResult{}, err
		}
		got.unexplained += n
	}
	got.inodes, got.extents = res.Inodes, res.Extents
	return got, nil
}

// strange counts the unexplained differences of one group.
func strange(ctx context.Context, fs *ioctl.FS, res *walk.Result, agno ioctl.AGNumber, claims iter.Seq2[[]shadow.Rmap, error], buf *ioctl.FSMapBuffer) (n uint64, err error) {
	for d, err := range shadow.Diff(claims, witness.RmapView(ctx, fs, agno, buf)) {
		if err != nil {
			return n, err
		}
		switch strange, err := unexplained(res, &d); {
		case err != nil:
			return n, err
		case strange:
			n++
		}
	}
	return n, nil
}

// eachAG calls f for every group from a number of goroutines, each with a buffer
// of its own.
func eachAG(fs *ioctl.FS, workers int, f func(ioctl.AGNumber, *ioctl.FSMapBuffer) error) error {
	var next atomic.Uint32
	var g errgroup.Group
	for range workers {
		g.Go(func() error {
			buf := ioctl.NewFSMapBuffer(ioctl.MaxFSMapRecords)
			for {
				agno := next.Add(1) - 1
				if agno >= fs.Geometry().AGCount {
					return nil
				}
				if err := f(ioctl.AGNumber(agno), buf); err != nil {
					return err
				}
			}
		})
	}
	return g.Wait()
}

// unexplained tells differences that no healthy idle filesystem has from those
// that every one has: a walk cannot predict AG metadata, btree blocks of forks,
// and what opaque and silent inodes own.
func unexplained(res *walk.Result, d *shadow.Difference) (bool, error) {
	r := &d.Kernel
	if d.Kind != shadow.DiffExtra {
		return true, nil
	}
	if !r.IsInode() {
		return r.Owner == shadow.OwnerFS || r.Owner == shadow.OwnerLog, nil
	}
	if r.Offset&shadow.OffsetBmbtBlock != 0 {
		return false, nil
	}
	if _, opaque, err := res.FindOpaque(ioctl.Ino(r.Owner)); err != nil || opaque {
		return false, err
	}
	silent, err := res.IsSilent(ioctl.Ino(r.Owner))
	return !silent, err
}

// floor asks the kernel all that a shadow pass asks, and drops the answers.
func floor(ctx context.Context, fs *ioctl.FS, workers int) (inodes uint64, err error) {
	var total atomic.Uint64
	takes := make(chan floorTake, workers)
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error {
		defer close(takes)
		return floorTakes(ctx, fs, takes)
	})
	for range workers {
		g.Go(func() error {
			n, err := floorInodes(fs, takes)
			total.Add(n)
			return err
		})
	}
	if err := g.Wait(); err != nil {
		return 0, err
	}
	err = eachAG(fs, workers, func(agno ioctl.AGNumber, buf *ioctl.FSMapBuffer) error {
		low, high := fs.FSMapAGKeys(agno)
		for {
			if err := fs.FSMap(low, high, buf); err != nil {
				return err
			}
			recs := buf.Records()
			if len(recs) == 0 || recs[len(recs)-1].Flags&ioctl.FSMapLast != 0 {
				return nil
			}
			low = recs[len(recs)-1].Key()
		}
	})
	return total.Load(), err
}

// floorTake is a range of inode numbers with as many inodes allocated in it.
type floorTake struct {
	agno       ioctl.AGNumber
	first, end ioctl.Ino
	inodes     int
}

const (
	floorInumbers  = 1024
	floorBulkstat  = 1024
	floorTakeSize  = 64 // chunks
	floorBmap      = 64
	floorBmapLarge = 1024
)

func floorTakes(ctx context.Context, fs *ioctl.FS, takes chan<- floorTake) error {
	buf := ioctl.NewInumbersBuffer(floorInumbers)
	for agno := range ioctl.AGNumber(fs.Geometry().AGCount) {
		req := ioctl.BulkRequest{Flags: ioctl.BulkAGNo, AGNo: agno}
		for {
			n, err := fs.Inumbers(&req, buf)
			if err != nil {
				return err
			}
			if n == 0 {
				break
			}
			for recs := range slices.Chunk(buf.Records(), floorTakeSize) {
				t := floorTake{agno: agno, first: recs[0].StartIno, end: recs[len(recs)-1].StartIno + ioctl.InodesPerChunk}
				for i := range recs {
					t.inodes += int(recs[i].AllocCount)
				}
				select {
				case takes <- t:
				case <-ctx.Done():
					return ctx.Err()
				}
			}
		}
	}
	return nil
}

func floorInodes(fs *ioctl.FS, takes <-chan floorTake) (inodes uint64, err error) {
	buf := ioctl.NewBulkstatBuffer(floorBulkstat)
	small, large := ioctl.NewBmapBuffer(floorBmap), ioctl.NewBmapBuffer(floorBmapLarge)
	for t := range takes {
		req := ioctl.BulkRequest{Ino: t.first, Flags: ioctl.BulkAGNo | ioctl.BulkNrext64, AGNo: t.agno}
		for t.inodes > 0 && req.Ino < t.end {
			req.Limit = min(t.inodes, floorBulkstat)
			n, err := fs.Bulkstat(&req, buf)
			if err != nil {
				return 0, err
			}
			if n == 0 {
				break
			}
			for i := range buf.Records() {
				r := &buf.Records()[i]
				if r.Ino >= t.end {
					break
				}
				inodes++
				t.inodes--
				if err := floorForks(fs, r, small, large); err != nil {
					return 0, err
				}
			}
		}
	}
	return inodes, nil
}

func floorForks(fs *ioctl.FS, r *ioctl.BulkstatRecord, small, large *ioctl.BmapBuffer) error {
	if !r.Openable() || r.Extents64 == 0 && r.AExtents == 0 {
		return nil
	}
	fd, err := fs.OpenFD(r.Ino, r.Gen)
	if err != nil {
		return fmt.Errorf("floor: %w", err)
	}
	defer fs.CloseFD(fd)
	if r.Extents64 > 0 {
		buf := small
		if r.Extents64 >= floorBmap {
			buf = large
		}
		if err := fs.Bmap(fd, ioctl.DataFork, buf); err != nil {
			return err
		}
	}
	if r.AExtents > 0 {
		return fs.Bmap(fd, ioctl.AttrFork, small)
	}
	return nil
}
