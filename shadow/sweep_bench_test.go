package shadow

import (
	"iter"
	"math/rand/v2"
	"testing"

	"github.com/scrubd/scrubd/xfile"
)

// sharedRmaps yields n sorted mappings whose degrees of sharing are mixed: most
// extents have one owner, others up to 100,000, and sharers of an extent share
// all of it, or different parts. The batch is reused.
func sharedRmaps(n int) iter.Seq2[[]Rmap, error] {
	return func(yield func([]Rmap, error) bool) {
		rng := rand.New(rand.NewPCG(11, uint64(n)))
		out := make([]Rmap, 0, 2048)
		flush := func(least int) bool {
			if len(out) < least {
				return true
			}
			ok := yield(out, nil)
			out = out[:0]
			return ok
		}
		block := uint32(0)
		for left := n; left > 0; {
			length := 1 + rng.Uint32N(64)
			degree := 1
			switch p := rng.IntN(1_000_000); {
			case p < 3:
				degree = 100_000
			case p < 1_000:
				degree = 100 + rng.IntN(900)
			case p < 300_000:
				degree = 2 + rng.IntN(8)
			}
			degree = min(degree, left)
			left -= degree
			// Some have all of it, some its beginning, some its middle.
			starts := [3]uint32{block, block, block + length/3}
			for part := range uint32(3) {
				if part == 1 {
					continue
				}
				for i := range uint32(degree) {
					if (i%5 == 4) != (part == 2) {
						continue
					}
					r := Rmap{starts[part], length, 1000 + 8*uint64(i), uint64(block)}
					if part == 2 {
						r.BlockCount = max(length/3, 1)
					} else if i%5 == 3 {
						r.BlockCount = max(length/2, 1)
					}
					out = append(out, r)
					if !flush(2048) {
						return
					}
				}
			}
			block += length
		}
		flush(1)
	}
}

func BenchmarkSweep(b *testing.B) {
	const small, large = 1_000_000, 10_000_000
	run := func(n int, with bool) func() func() {
		return func() func() {
			// Mappings are made beforehand: the sweep alone is timed.
			all := make([]Rmap, 0, n)
			for batch, err := range sharedRmaps(n) {
				if err != nil {
					b.Fatal(err)
				}
				all = append(all, batch...)
			}
			var files [2]*xfile.File
			for i := range files {
				f, err := xfile.New(xfile.Options{Name: "bench"})
				if err != nil {
					b.Fatal(err)
				}
				b.Cleanup(func() { _ = f.Close() })
				files[i] = f
			}
			var sharers *InodeSet
			if with {
				s, err := NewInodeSet(files[1])
				if err != nil {
					b.Fatal(err)
				}
				sharers = s
			}
			return func() {
				for _, err := range Refcounts(batches(all, 2048), files[0], sharers) {
					if err != nil {
						b.Fatal(err)
					}
				}
			}
		}
	}
	for b.Loop() {
		t := contest(b, 3, run(small, false), run(large, false), run(large, true))
		b.ReportMetric(large/t[1].Seconds()/1e6, "Mrmaps/s")
		b.ReportMetric(large/t[2].Seconds()/1e6, "with-sharers-Mrmaps/s")
		b.ReportMetric(float64(t[1])/10/float64(t[0]), "growth-1M-to-10M")
	}
}

// BenchmarkSweepHighDegree has 100,000 mappings over the same blocks: of one
// extent, and of 1,000 distinct ones.
func BenchmarkSweepHighDegree(b *testing.B) {
	const degree = 100_000
	for _, c := range []struct {
		name     string
		distinct uint32
	}{{"one extent", 1}, {"1000 extents", 1000}, {"100000 extents", degree}} {
		b.Run(c.name, func(b *testing.B) {
			var all []Rmap
			for i := range uint32(degree) {
				all = append(all, Rmap{7, 1 + i%c.distinct, 1000 + uint64(i), 0})
			}
			f, err := xfile.New(xfile.Options{Name: "bench"})
			if err != nil {
				b.Fatal(err)
			}
			b.Cleanup(func() { _ = f.Close() })
			for b.Loop() {
				bag, err := NewBag(f)
				if err != nil {
					b.Fatal(err)
				}
				s := sweep{bag: bag, out: make([]Refcount, 0, sweepBatch), yield: func([]Refcount, error) bool { return true }}
				start := cpuTime(b)
				if err := s.run(batches(all, 2048)); err != nil {
					b.Fatal(err)
				}
				b.ReportMetric(degree/(cpuTime(b)-start).Seconds()/1e6, "Mrmaps/s")
				b.ReportMetric(float64(bag.Peak())/xfile.PageSize, "peak-pages")
			}
		})
	}
}
