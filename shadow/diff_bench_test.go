package shadow

import (
	"math/rand/v2"
	"slices"
	"testing"
)

// benchRmaps makes n sorted mappings; of each 100 blocks' worth, shared have
// between 2 and 5 owners.
func benchRmaps(n, shared int) []Rmap {
	rng := rand.New(rand.NewPCG(1, uint64(n)))
	out := make([]Rmap, 0, n)
	block := uint32(0)
	for len(out) < n {
		length := 1 + rng.Uint32N(40)
		owners := 1
		if rng.IntN(100) < shared {
			owners = 2 + rng.IntN(4)
		}
		first := len(out)
		for range min(owners, n-len(out)) {
			out = append(out, Rmap{block, 1 + rng.Uint32N(length), 100 + rng.Uint64N(1<<20), rng.Uint64N(1 << 30)})
		}
		sortRmaps(out[first:])
		block += length + rng.Uint32N(3)/2
	}
	return out
}

const benchDiffRecords = 10_000_000

// BenchmarkDiff counts the records of the kernel's side, by processor time: the
// claims have as many, or more.
func BenchmarkDiff(b *testing.B) {
	for _, c := range []struct {
		name   string
		shared int
		change func(claims []Rmap) []Rmap
	}{
		{"equal but for 100", 0, damage(benchDiffRecords / 100)},
		{"30 % shared, equal but for 100", 30, damage(benchDiffRecords / 100)},
		{"30 % shared, 1 % changed", 30, damage(100)},
		{"claims cut in two", 0, cutInTwo},
	} {
		b.Run(c.name, func(b *testing.B) {
			kernel := benchRmaps(benchDiffRecords, c.shared)
			claims := c.change(kernel)
			found := 0
			for b.Loop() {
				t := contest(b, 3, func() func() {
					return func() {
						found = 0
						for _, err := range Diff(batches(claims, 2048), batches(kernel, 2048)) {
							if err != nil {
								b.Fatal(err)
							}
							found++
						}
					}
				})
				b.ReportMetric(benchDiffRecords/t[0].Seconds()/1e6, "Mrecords/s")
			}
			b.ReportMetric(float64(found), "differences")
		})
	}
}

// damage changes the owner of every nth record.
func damage(nth int) func([]Rmap) []Rmap {
	return func(records []Rmap) []Rmap {
		claims := slices.Clone(records)
		for i := 0; i < len(claims); i += nth {
			claims[i].Owner = OwnerUnknown
		}
		return sortRmaps(claims)
	}
}

func cutInTwo(records []Rmap) []Rmap {
	claims := make([]Rmap, 0, 2*len(records))
	for _, r := range records {
		if r.BlockCount == 1 {
			claims = append(claims, r)
			continue
		}
		l, mid := lineOf(&r), uint64(r.StartBlock)+uint64(r.BlockCount/2)
		claims = append(claims, l.rmap(uint64(r.StartBlock), mid), l.rmap(mid, r.End()))
	}
	return claims
}
