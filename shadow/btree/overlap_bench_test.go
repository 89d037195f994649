package btree

import (
	"math/rand/v2"
	"testing"

	"github.com/scrubd/scrubd/xfile"
)

// BenchmarkOverlapVisits counts the leaves that queries visit in a tree of 10 M
// records of which 1 % are long.
func BenchmarkOverlapVisits(b *testing.B) {
	const n, queries = 10_000_000, 100_000
	f, err := xfile.New(xfile.Options{Name: "bench"})
	if err != nil {
		b.Fatal(err)
	}
	defer f.Close()
	tree, err := New[span, spanKey, spanOps](f, 1)
	if err != nil {
		b.Fatal(err)
	}
	rng := rand.New(rand.NewPCG(1, 2))
	block := uint32(0)
	err = tree.Load(func(yield func([]span, error) bool) {
		batch := make([]span, 1000)
		for range n / len(batch) {
			for i := range batch {
				batch[i] = span{block, 1 + rng.Uint32N(30), 0}
				block += batch[i].len
				if rng.IntN(100) == 0 {
					batch[i].len = 1 + rng.Uint32N(20_000)
				}
			}
			if !yield(batch, nil) {
				return
			}
		}
	})
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		records, leaves, excess := int64(0), int64(0), int64(0)
		for range queries {
			start := uint64(rng.Uint32N(block))
			q := query[span, spanKey, spanOps]{c: &tree.c, start: start, end: start + 4}
			k := int64(0)
			for {
				if err := q.nextLeaf(); err != nil {
					b.Fatal(err)
				}
				if len(q.buf) == 0 {
					break
				}
				k += int64(len(q.buf))
			}
			records += k
			leaves += q.leaves
			excess = max(excess, q.leaves-k)
		}
		b.ReportMetric(float64(records)/queries, "records/query")
		b.ReportMetric(float64(leaves)/queries, "leaves/query")
		b.ReportMetric(float64(excess), "max-leaves-over-records")
		b.ReportMetric(float64(tree.Height()), "height")
	}
}
