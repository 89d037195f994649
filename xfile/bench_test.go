package xfile

import (
	"cmp"
	"math/rand/v2"
	"os"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// rmapRecord has the shape of shadow's Rmap, which this package cannot import.
type rmapRecord struct {
	StartBlock, BlockCount uint32
	Owner, Offset          uint64
}

func compareRmap(a, b *rmapRecord) int {
	if a.StartBlock != b.StartBlock {
		return cmp.Compare(a.StartBlock, b.StartBlock)
	}
	if a.Owner != b.Owner {
		return cmp.Compare(a.Owner, b.Owner)
	}
	return cmp.Compare(a.Offset, b.Offset)
}

func keyRmap(r *rmapRecord) uint64 { return uint64(r.StartBlock)<<32 | r.Owner>>32 }

// fillRmaps makes n random records, always the same, in batches.
func fillRmaps(n int, take func([]rmapRecord) error) error {
	rng := rand.New(rand.NewPCG(1, 2))
	batch := make([]rmapRecord, 0, 1024)
	for i := range n {
		batch = append(batch, rmapRecord{rng.Uint32N(1 << 28), 1 + rng.Uint32N(100), 128 + rng.Uint64N(1<<40), rng.Uint64N(1 << 50)})
		if len(batch) == cap(batch) || i == n-1 {
			if err := take(batch); err != nil {
				return err
			}
			batch = batch[:0]
		}
	}
	return nil
}

// watchAnonymous returns, when asked, the most anonymous memory that the process
// had since, in bytes.
func watchAnonymous(b *testing.B) (most func() int64) {
	debug.FreeOSMemory() // what other benchmarks left
	var peak int64
	stop, done := make(chan bool), make(chan bool)
	go func() {
		defer close(done)
		for tick := time.Tick(5 * time.Millisecond); ; {
			peak = max(peak, anonymous(b))
			select {
			case <-tick:
			case <-stop:
				return
			}
		}
	}()
	return func() int64 {
		close(stop)
		<-done
		return peak
	}
}

// anonymous returns the anonymous memory of the process in bytes.
func anonymous(b *testing.B) int64 {
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		b.Error(err)
	}
	for line := range strings.Lines(string(status)) {
		if rest, ok := strings.CutPrefix(line, "RssAnon:"); ok {
			n, err := strconv.ParseInt(strings.Fields(rest)[0], 10, 64)
			if err != nil {
				b.Error(err)
			}
			return n << 10
		}
	}
	b.Error("no RssAnon in /proc/self/status")
	return 0
}

// BenchmarkSort sorts 10 M random rmap records in an array, and the same ones in
// the heap with slices.SortFunc right after it, so that whatever else the machine
// does weighs on both.
//
//	x-slices      time of slices.SortFunc / time of the array's sort
//	x-slices-cpu  the same of the processor time, all cores added up
//	anon-MiB      the most anonymous memory of the process during the sort
//	x-data        the most bytes that the array held / bytes of the records
func BenchmarkSort(b *testing.B) {
	const n = 10_000_000
	sorts := []struct {
		name string
		sort func(*Array[rmapRecord]) error
	}{
		{"keyed", func(a *Array[rmapRecord]) error { return a.SortKeyed(b.Context(), keyRmap, compareRmap) }},
		{"compare", func(a *Array[rmapRecord]) error { return a.Sort(b.Context(), compareRmap) }},
	}
	for _, s := range sorts {
		b.Run(s.name, func(b *testing.B) {
			var anon, held int64
			var ours, theirs stopwatch
			for b.Loop() {
				b.StopTimer()
				budget := NewBudget(Unlimited)
				a, err := NewArray[rmapRecord](Options{Name: "bench", Budget: budget})
				require.NoError(b, err)
				require.NoError(b, fillRmaps(n, a.Append))
				most := watchAnonymous(b)
				b.StartTimer()
				ours.start()
				err = s.sort(a)
				ours.stop()
				b.StopTimer()
				require.NoError(b, err)
				anon = max(anon, most())
				_, peak := budget.Used(Memory)
				held = max(held, peak)
				require.NoError(b, a.Close())

				heap := make([]rmapRecord, 0, n)
				require.NoError(b, fillRmaps(n, func(r []rmapRecord) error {
					heap = append(heap, r...)
					return nil
				}))
				theirs.start()
				slices.SortFunc(heap, compareValues)
				theirs.stop()
				b.StartTimer()
			}
			b.ReportMetric(theirs.wall.Seconds()/ours.wall.Seconds(), "x-slices")
			b.ReportMetric(theirs.cpu.Seconds()/ours.cpu.Seconds(), "x-slices-cpu")
			b.ReportMetric(float64(anon)/(1<<20), "anon-MiB")
			b.ReportMetric(float64(held)/(24*n), "x-data")
		})
	}
}

// compareValues is compareRmap as slices.SortFunc likes it best: pointers would
// have every record copied to the heap.
func compareValues(a, b rmapRecord) int {
	if a.StartBlock != b.StartBlock {
		return cmp.Compare(a.StartBlock, b.StartBlock)
	}
	if a.Owner != b.Owner {
		return cmp.Compare(a.Owner, b.Owner)
	}
	return cmp.Compare(a.Offset, b.Offset)
}

// stopwatch adds up wall clock and processor time.
type stopwatch struct {
	wall, cpu time.Duration
	t0        time.Time
	c0        time.Duration
}

func (w *stopwatch) start() { w.t0, w.c0 = time.Now(), processorTime() }

func (w *stopwatch) stop() {
	w.wall += time.Since(w.t0)
	w.cpu += processorTime() - w.c0
}

func processorTime() time.Duration {
	var u unix.Rusage
	if unix.Getrusage(unix.RUSAGE_SELF, &u) != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// BenchmarkAppend appends batches of 1024 rmap records, the time of the kernel
// for the pages included; the metric is per record.
func BenchmarkAppend(b *testing.B) {
	batch := make([]rmapRecord, 1024)
	for i := range batch {
		batch[i].BlockCount = 1
	}
	a, err := NewArray[rmapRecord](Options{Name: "bench"})
	require.NoError(b, err)
	defer a.Close()
	for b.Loop() {
		require.NoError(b, a.Append(batch))
		if a.Len() >= 1<<22 {
			require.NoError(b, a.Truncate(0))
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(len(batch)), "ns/record")
}

// BenchmarkPage reads a byte of pages in turn, from a file and, as the baseline,
// from a slice of pointers to pages in the heap.
func BenchmarkPage(b *testing.B) {
	const pages = 1 << 10
	f, err := New(Options{Name: "bench"})
	require.NoError(b, err)
	defer f.Close()
	_, err = f.AllocPages(pages)
	require.NoError(b, err)
	heap := make([]*Page, pages)
	for i := range heap {
		heap[i] = new(Page)
	}
	var sum byte
	b.Run("xfile", func(b *testing.B) {
		for i := int64(0); b.Loop(); i++ {
			sum += f.Page(i & (pages - 1))[i&63]
		}
	})
	b.Run("heap", func(b *testing.B) {
		for i := int64(0); b.Loop(); i++ {
			sum += heap[i&(pages-1)][i&63]
		}
	})
	_ = sum
}

// BenchmarkGet reads single records, which costs locks that chunks do not.
func BenchmarkGet(b *testing.B) {
	a, err := NewArray[rmapRecord](Options{Name: "bench"})
	require.NoError(b, err)
	defer a.Close()
	require.NoError(b, fillRmaps(1<<16, a.Append))
	for i := int64(0); b.Loop(); i++ {
		_, err := a.Get(i & (1<<16 - 1))
		require.NoError(b, err)
	}
}

// BenchmarkChunks goes over records through views; the metric is per record.
func BenchmarkChunks(b *testing.B) {
	const n = 1 << 20
	a, err := NewArray[rmapRecord](Options{Name: "bench"})
	require.NoError(b, err)
	defer a.Close()
	require.NoError(b, fillRmaps(n, a.Append))
	var sum uint64
	for b.Loop() {
		for c, err := range a.Chunks(b.Context()) {
			require.NoError(b, err)
			for i := range c {
				sum += uint64(c[i].StartBlock)
			}
		}
	}
	require.NotZero(b, sum)
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/n, "ns/record")
}

// BenchmarkBlob puts and gets values of 200 bytes.
func BenchmarkBlob(b *testing.B) {
	blob, err := NewBlob(Options{Name: "bench"})
	require.NoError(b, err)
	defer func() { require.NoError(b, blob.Close()) }()
	value := make([]byte, 200)
	for b.Loop() {
		c, err := blob.Put(value)
		require.NoError(b, err)
		got, err := blob.Get(c)
		require.NoError(b, err)
		require.Len(b, got, len(value))
	}
}
