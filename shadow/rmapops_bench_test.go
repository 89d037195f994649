package shadow

import (
	"math/rand/v2"
	"slices"
	"testing"

	gbtree "github.com/google/btree"
	tbtree "github.com/tidwall/btree"

	"github.com/scrubd/scrubd/shadow/btree"
	"github.com/scrubd/scrubd/xfile"
)

type rmapTree = btree.Tree[Rmap, rmapKey, rmapOps]

func benchTree(b *testing.B) *rmapTree {
	f, err := xfile.New(xfile.Options{Name: "bench"})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = f.Close() })
	t, err := btree.New[Rmap, rmapKey, rmapOps](f, 1)
	if err != nil {
		b.Fatal(err)
	}
	return t
}

const benchTreeRecords = 1_000_000

// BenchmarkTree compares the rmap tree with two well-known trees on the Go heap,
// which hold the same struct, work on one core and take no lock. A ratio over 1
// means that the rmap tree is faster.
func BenchmarkTree(b *testing.B) {
	recs := benchRmaps(benchTreeRecords, 0)
	rng := rand.New(rand.NewPCG(1, 2))
	shuffle := func() []Rmap {
		s := slices.Clone(recs)
		rng.Shuffle(len(s), func(i, j int) { s[i], s[j] = s[j], s[i] })
		return s
	}
	order, other := shuffle(), shuffle()
	less := func(a, b Rmap) bool { return Compare(&a, &b) < 0 }
	must := func(ok bool) {
		if !ok {
			b.Fatal("a tree has lost a record")
		}
	}
	var (
		st *rmapTree
		tt *tbtree.BTreeG[Rmap]
		gt *gbtree.BTreeG[Rmap]
	)
	insert := []func() func(){
		func() func() {
			st = benchTree(b)
			return func() {
				for i := range order {
					must(st.Insert(order[i]) == nil)
				}
			}
		},
		func() func() {
			tt = tbtree.NewBTreeGOptions(less, tbtree.Options{NoLocks: true})
			return func() {
				for i := range order {
					tt.Set(order[i])
				}
			}
		},
		func() func() {
			gt = gbtree.NewG(32, less)
			return func() {
				for i := range order {
					gt.ReplaceOrInsert(order[i])
				}
			}
		},
	}
	get := []func() func(){
		func() func() {
			return func() {
				for i := range other {
					_, ok, _ := st.Get(keyOf(other[i]))
					must(ok)
				}
			}
		},
		func() func() {
			return func() {
				for i := range other {
					_, ok := tt.Get(other[i])
					must(ok)
				}
			}
		},
		func() func() {
			return func() {
				for i := range other {
					_, ok := gt.Get(other[i])
					must(ok)
				}
			}
		},
	}
	remove := []func() func(){
		func() func() {
			insert[0]()()
			return func() {
				for i := range other {
					_, err := st.Delete(keyOf(other[i]))
					must(err == nil)
				}
			}
		},
		func() func() {
			insert[1]()()
			return func() {
				for i := range other {
					_, ok := tt.Delete(other[i])
					must(ok)
				}
			}
		},
		func() func() {
			insert[2]()()
			return func() {
				for i := range other {
					_, ok := gt.Delete(other[i])
					must(ok)
				}
			}
		},
	}
	for _, c := range []struct {
		name string
		all  []func() func()
	}{{"insert", insert}, {"lookup", get}, {"delete", remove}} {
		b.Run(c.name, func(b *testing.B) {
			for b.Loop() {
				if c.name == "lookup" {
					for _, p := range insert {
						p()()
					}
				}
				t := contest(b, 3, c.all...)
				b.ReportMetric(float64(t[0].Nanoseconds())/benchTreeRecords, "ns/record")
				b.ReportMetric(float64(t[1])/float64(t[0]), "×tidwall")
				b.ReportMetric(float64(t[2])/float64(t[0]), "×google")
			}
		})
	}
	b.Run("memory", func(b *testing.B) {
		for b.Loop() {
			st, tt, gt = nil, nil, nil
			for i, name := range []string{"shadow", "tidwall", "google"} {
				before := heapInUse()
				insert[i]()()
				grown := float64(heapInUse()) - float64(before)
				if i == 0 {
					b.ReportMetric(grown/(1<<20), "heap-MiB")
					grown += float64(st.Bytes())
				}
				b.ReportMetric(grown/benchTreeRecords, name+"-B/record")
			}
		}
	})
}

const benchLoadRecords = 10_000_000

// BenchmarkLoad compares bulk loading of a B+tree with inserting the same sorted
// records one by one, and of an rmap tree with mapping them one by one.
func BenchmarkLoad(b *testing.B) {
	recs := benchRmaps(benchLoadRecords, 30)
	for b.Loop() {
		var t *rmapTree
		tm := contest(b, 3,
			func() func() {
				t = benchTree(b)
				return func() {
					if err := t.Load(batches(recs, 2048)); err != nil {
						b.Fatal(err)
					}
				}
			},
			func() func() {
				t := benchTree(b)
				return func() {
					for i := range recs {
						if err := t.Insert(recs[i]); err != nil {
							b.Fatal(err)
						}
					}
				}
			},
			func() func() {
				t := RmapTree{benchTree(b)}
				return func() {
					if err := t.Load(batches(recs, 2048), nil); err != nil {
						b.Fatal(err)
					}
				}
			},
			func() func() {
				t := RmapTree{benchTree(b)}
				return func() {
					for i := range recs {
						if err := t.Map(recs[i]); err != nil {
							b.Fatal(err)
						}
					}
				}
			},
			func() func() { // what the pages alone cost
				f, err := xfile.New(xfile.Options{Name: "bench"})
				if err != nil {
					b.Fatal(err)
				}
				b.Cleanup(func() { _ = f.Close() })
				const step = 64
				buf := make([]byte, step*xfile.PageSize)
				return func() {
					for range t.Bytes() / int64(len(buf)) {
						first, err := f.AllocPages(step)
						if err == nil {
							_, err = f.WriteAt(buf, first*xfile.PageSize)
						}
						if err != nil {
							b.Fatal(err)
						}
					}
				}
			})
		for i, name := range []string{"load", "insert", "rmap-load", "rmap-map", "pages"} {
			b.ReportMetric(float64(tm[i].Nanoseconds())/benchLoadRecords, name+"-ns")
		}
		b.ReportMetric(float64(tm[1])/float64(tm[0]), "×insert")
		b.ReportMetric(float64(tm[3])/float64(tm[2]), "×map")
		b.ReportMetric(float64(t.Bytes())/benchLoadRecords, "B/record")
	}
}

// BenchmarkOverlaps asks a tree of 10 M records, 1 % of which are long, who owns
// blocks, and compares that with plain lookups of as many records plus a visit of
// a leaf for each record that comes back.
func BenchmarkOverlaps(b *testing.B) {
	const n, queries = 10_000_000, 200_000
	rng := rand.New(rand.NewPCG(13, 14))
	recs := make([]Rmap, n)
	block := uint32(0)
	for i := range recs {
		length := 1 + rng.Uint32N(30)
		recs[i] = Rmap{block, length, 100 + rng.Uint64N(1<<20), rng.Uint64N(1 << 30)}
		if rng.IntN(100) == 0 {
			recs[i].BlockCount = 1 + rng.Uint32N(20_000)
		}
		block += length
	}
	f, err := xfile.New(xfile.Options{Name: "bench"})
	if err != nil {
		b.Fatal(err)
	}
	defer f.Close()
	t, err := NewRmapTree(f, 1)
	if err != nil {
		b.Fatal(err)
	}
	if err := t.Load(batches(recs, 2048), nil); err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		found := 0
		var leaf [169]Rmap
		tm := contest(b, 3,
			func() func() {
				return func() {
					found = 0
					for range queries {
						at := uint64(rng.Uint32N(block))
						for _, err := range t.Overlaps(at, at+4) {
							if err != nil {
								b.Fatal(err)
							}
							found++
						}
					}
				}
			},
			func() func() {
				return func() {
					for range queries {
						if _, ok, err := t.t.Get(keyOf(recs[rng.IntN(n)])); !ok || err != nil {
							b.Fatal(ok, err)
						}
					}
				}
			},
			func() func() { // visits of leaves that nobody has visited lately
				return func() {
					for range queries {
						i := rng.IntN(n - len(leaf))
						copy(leaf[:], recs[i:])
					}
				}
			})
		lookup := float64(tm[1].Nanoseconds()) / queries
		visit := float64(tm[2].Nanoseconds()) / queries
		perQuery := float64(found) / queries
		b.ReportMetric(float64(tm[0].Nanoseconds())/queries, "ns/query")
		b.ReportMetric(perQuery, "records/query")
		b.ReportMetric(lookup, "lookup-ns")
		b.ReportMetric(visit, "leaf-ns")
		b.ReportMetric(float64(tm[0].Nanoseconds())/queries/(lookup+perQuery*visit), "×(lookup+leaves)")
	}
}
