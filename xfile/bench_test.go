package xfile

import (
	"cmp"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
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

// anonymous returns the anonymous memory of the process in bytes.
func anonymous(b *testing.B) int64 {
	status, err := os.ReadFile("/proc/self/status")
	require.NoError(b, err)
	for line := range strings.Lines(string(status)) {
		if rest, ok := strings.CutPrefix(line, "RssAnon:"); ok {
			n, err := strconv.ParseInt(strings.Fields(rest)[0], 10, 64)
			require.NoError(b, err)
			return n << 10
		}
	}
	b.Fatal("no RssAnon in /proc/self/status")
	return 0
}

// BenchmarkSort sorts 10 M random rmap records. The metrics: how many times as
// fast as slices.SortFunc on the same records in the heap (x-slices), the most
// anonymous memory of the process (anon-MiB), and the bytes that the array held
// at its peak in relation to the data (x-data).
func BenchmarkSort(b *testing.B) {
	const n = 10_000_000
	sorts := []struct {
		name string
		sort func(*testing.B, *Array[rmapRecord]) error
	}{
		{"keyed", func(b *testing.B, a *Array[rmapRecord]) error { return a.SortKeyed(b.Context(), keyRmap, compareRmap) }},
		{"compare", func(b *testing.B, a *Array[rmapRecord]) error { return a.Sort(b.Context(), compareRmap) }},
	}
	took := make([]time.Duration, len(sorts))
	for i, s := range sorts {
		b.Run(s.name, func(b *testing.B) {
			var anon, held int64
			took[i] = 0
			for b.Loop() {
				b.StopTimer()
				budget := NewBudget(Unlimited)
				a, err := NewArray[rmapRecord](Options{Name: "bench", Budget: budget})
				require.NoError(b, err)
				require.NoError(b, fillRmaps(n, a.Append))
				b.StartTimer()
				start := time.Now()
				require.NoError(b, s.sort(b, a))
				took[i] += time.Since(start)
				b.StopTimer()
				anon = max(anon, anonymous(b))
				_, peak := budget.Used(Memory)
				held = max(held, peak)
				require.NoError(b, a.Close())
				b.StartTimer()
			}
			took[i] /= time.Duration(b.N)
			b.ReportMetric(float64(anon)/(1<<20), "anon-MiB")
			b.ReportMetric(float64(held)/(24*n), "x-data")
		})
	}
	b.Run("slices", func(b *testing.B) {
		var base time.Duration
		s := make([]rmapRecord, 0, n)
		for b.Loop() {
			b.StopTimer()
			s = s[:0]
			require.NoError(b, fillRmaps(n, func(r []rmapRecord) error {
				s = append(s, r...)
				return nil
			}))
			b.StartTimer()
			start := time.Now()
			slices.SortFunc(s, func(x, y rmapRecord) int {
				if x.StartBlock != y.StartBlock {
					return cmp.Compare(x.StartBlock, y.StartBlock)
				}
				if x.Owner != y.Owner {
					return cmp.Compare(x.Owner, y.Owner)
				}
				return cmp.Compare(x.Offset, y.Offset)
			})
			base += time.Since(start)
		}
		base /= time.Duration(b.N)
		for i, s := range sorts {
			if took[i] > 0 {
				b.ReportMetric(base.Seconds()/took[i].Seconds(), s.name+"-x-slices")
			}
		}
	})
}
