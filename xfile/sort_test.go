package xfile

import (
	"cmp"
	"context"
	"math"
	"math/rand/v2"
	"runtime"
	"slices"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
	"pgregory.net/rapid"
)

// smallTeam returns a team that divides and distributes even short ranges.
func smallTeam(ctx context.Context, size int) *team {
	tm, _ := newTeam(ctx, size)
	tm.tuning = tuning{minShare: 8, bigKeyed: 64 * 16, bigCompared: 64 * 16}
	return tm
}

// item has a key that says nothing about its second part.
type item struct{ Key, Rest uint64 }

func compareItems(x, y *item) int {
	if c := cmp.Compare(x.Key, y.Key); c != 0 {
		return c
	}
	return cmp.Compare(x.Rest, y.Rest)
}

func keyItem(x *item) uint64 { return x.Key }

// drawKeys draws keys of one of the shapes that sorts dislike.
func drawKeys(t *rapid.T, n int) []uint64 {
	keys := make([]uint64, n)
	rng := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 0))
	shape := rapid.SampledFrom([]string{"random", "few", "same", "up", "down", "bell", "powers", "outlier", "organ pipe", "extremes"}).Draw(t, "shape")
	for i := range keys {
		switch shape {
		case "random":
			keys[i] = rng.Uint64()
		case "few":
			keys[i] = rng.Uint64N(3)
		case "same":
			keys[i] = 42
		case "up":
			keys[i] = uint64(i) / 2
		case "down":
			keys[i] = uint64(n-i) / 3
		case "bell":
			keys[i] = uint64(1e9 + rng.NormFloat64()*1e3)
		case "powers":
			keys[i] = 1 << rng.IntN(64)
		case "outlier":
			keys[i] = rng.Uint64N(1000)
			if i == n/2 {
				keys[i] = math.MaxUint64
			}
		case "organ pipe":
			keys[i] = uint64(min(i, n-i))
		case "extremes":
			keys[i] = -rng.Uint64N(2)
		}
	}
	return keys
}

// TestSortTwin compares both sorts, with teams of several sizes, with the
// standard library's.
func TestSortTwin(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		keys := drawKeys(t, rapid.IntRange(0, 3000).Draw(t, "n"))
		s := make([]item, len(keys))
		for i, k := range keys {
			s[i] = item{k, uint64(i*7919) % 17}
		}
		want := slices.Clone(s)
		slices.SortFunc(want, func(x, y item) int { return compareItems(&x, &y) })
		tm := smallTeam(context.Background(), rapid.IntRange(1, 5).Draw(t, "workers"))
		if rapid.Bool().Draw(t, "default sizes") {
			tm.tuning = defaultTuning
		}
		for name, sort := range map[string]func([]item) error{
			"keyed":   (&keyedSort[item]{keyItem, compareItems, tm}).sort,
			"compare": (&compareSort[item]{compareItems, tm}).sort,
			"heap":    func(s []item) error { return heapsort(tm, s, compareItems) },
			"quick":   func(s []item) error { return quicksort(tm, s, compareItems, 4) },
		} {
			got := slices.Clone(s)
			require.NoError(t, sort(got), name)
			require.Equal(t, want, got, name)
		}
	})
}

// TestPartitionTwin compares the parallel partition with counting.
func TestPartitionTwin(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		classes := rapid.IntRange(1, maxClasses).Draw(t, "classes")
		keys := drawKeys(t, rapid.IntRange(0, 3000).Draw(t, "n"))
		s := make([]item, len(keys))
		counts := make([]int, classes+1)
		for i, k := range keys {
			s[i] = item{k % uint64(classes), uint64(i)}
			counts[s[i].Key+1]++
		}
		for c := range classes {
			counts[c+1] += counts[c]
		}
		tm := smallTeam(context.Background(), rapid.IntRange(1, 9).Draw(t, "workers"))
		bounds, err := partition(tm, s, classes, classifyKey, rapid.Bool().Draw(t, "remember"))
		require.NoError(t, err)
		require.Equal(t, counts, bounds)
		require.True(t, slices.IsSortedFunc(s, func(x, y item) int { return cmp.Compare(x.Key, y.Key) }))
		seen := make([]bool, len(s))
		for _, x := range s {
			require.False(t, seen[x.Rest])
			seen[x.Rest] = true
		}
	})
}

func classifyKey(s []item, out *[classBatch]uint8) {
	for i := range s {
		out[i] = uint8(s[i].Key)
	}
}

// TestSortLarge sorts enough records for every path at its real sizes: the
// whole team, several levels, small and large parts.
func TestSortLarge(t *testing.T) {
	old := runtime.GOMAXPROCS(3)
	defer runtime.GOMAXPROCS(old)
	const n = 400_000
	for name, block := range map[string]func(i int) uint32{
		"random": func(int) uint32 { return rand.Uint32() },
		"skewed": func(int) uint32 { return uint32(math.Exp(rand.Float64() * 22)) },
		"sorted": func(i int) uint32 { return uint32(i) },
		"one":    func(int) uint32 { return 77 },
		"hot": func(i int) uint32 {
			if i%4 > 0 {
				return 1 << 20
			}
			return rand.Uint32N(1 << 21)
		},
	} {
		t.Run(name, func(t *testing.T) {
			a := newTestArray[rmapRecord](t, Options{Name: "large"})
			want := make([]rmapRecord, n)
			for i := range want {
				want[i] = rmapRecord{block(i), 1, rand.Uint64N(50), rand.Uint64()}
			}
			require.NoError(t, a.Append(want))
			slices.SortFunc(want, func(x, y rmapRecord) int { return compareRmap(&x, &y) })
			require.NoError(t, a.Sort(t.Context(), compareRmap))
			requireRecords(t, want, a)
			rand.Shuffle(n, func(i, j int) {
				x, _ := a.Get(int64(i))
				y, _ := a.Get(int64(j))
				_ = a.Set(int64(i), y)
				_ = a.Set(int64(j), x)
			})
			require.NoError(t, a.SortKeyed(t.Context(), func(r *rmapRecord) uint64 { return uint64(r.StartBlock) }, compareRmap))
			requireRecords(t, want, a)
		})
	}
}

// requireRecords compares without making a megabyte of message.
func requireRecords[T comparable](t *testing.T, want []T, a *Array[T]) {
	t.Helper()
	require.EqualValues(t, len(want), a.Len())
	i := 0
	for c, err := range a.Chunks(t.Context()) {
		require.NoError(t, err)
		for k := range c {
			if c[k] != want[i] {
				require.Equal(t, want[i], c[k], "record %d", i)
			}
			i++
		}
	}
	require.Equal(t, len(want), i)
}

// TestSortCancelled stops sorts at any moment: the array keeps its records.
func TestSortCancelled(t *testing.T) {
	old := runtime.GOMAXPROCS(4)
	defer runtime.GOMAXPROCS(old)
	const n = 150_000
	a := newTestArray[word](t, Options{Name: "cancelled"})
	rng := rand.New(rand.NewPCG(7, 7))
	want := make([]word, n)
	var cancelled int
	for _, after := range []int64{0, 1, 1000, n / 2, n - 1, n + n/2, 2 * n, 5 * n / 2, 3 * n, 4 * n, 5 * n, 8 * n, 12 * n, 20 * n} {
		for _, keyed := range []bool{true, false} {
			for i := range want {
				want[i] = word(rng.Uint64() | 1)
			}
			require.NoError(t, a.Truncate(0))
			require.NoError(t, a.Append(want))
			ctx, cancel := context.WithCancel(t.Context())
			var calls atomic.Int64
			count := func() {
				if calls.Add(1) == after {
					cancel()
				}
			}
			if after == 0 {
				cancel()
			}
			compare := func(x, y *word) int { count(); return cmp.Compare(*x, *y) }
			var err error
			if keyed {
				err = a.SortKeyed(ctx, func(x *word) uint64 { count(); return uint64(*x) }, compare)
			} else {
				err = a.Sort(ctx, compare)
			}
			cancel()
			if err != nil {
				cancelled++
				require.ErrorIs(t, err, context.Canceled)
			}
			slices.Sort(want)
			if err == nil {
				requireRecords(t, want, a)
			} else {
				got := collectQuick(t, a)
				slices.Sort(got)
				require.True(t, slices.Equal(want, got), "records lost or made up")
			}
		}
	}
	require.Greater(t, cancelled, 10)
}

func collectQuick[T any](t *testing.T, a *Array[T]) []T {
	var all []T
	for c, err := range a.Chunks(t.Context()) {
		require.NoError(t, err)
		all = append(all, c...)
	}
	return all
}

// TestSortContradictions feeds functions that change their minds: the sort ends,
// with or without an error, and loses nothing.
func TestSortContradictions(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(0, 2000).Draw(t, "n")
		s := make([]item, n)
		for i := range s {
			s[i] = item{uint64(i), uint64(i)}
		}
		rng := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 1))
		// One worker, because rng is not safe for more.
		tm := smallTeam(context.Background(), 1)
		width := rapid.IntRange(1, 64).Draw(t, "width")
		key := func(*item) uint64 { return rng.Uint64() >> (64 - width) }
		compare := func(_, _ *item) int { return rng.IntN(3) - 1 }
		var err error
		if rapid.Bool().Draw(t, "keyed") {
			err = (&keyedSort[item]{key, compare, tm}).sort(s)
		} else {
			err = (&compareSort[item]{compare, tm}).sort(s)
		}
		if err != nil {
			require.ErrorIs(t, err, ErrOrder)
		}
		seen := make([]bool, n)
		for _, x := range s {
			require.False(t, seen[x.Rest])
			seen[x.Rest] = true
		}
	})
}

func TestPartitionContradicts(t *testing.T) {
	tm := smallTeam(t.Context(), 2)
	_, err := partition(tm, make([]item, 100), 2, func(s []item, out *[classBatch]uint8) {
		for i := range s {
			out[i] = 9
		}
	}, false)
	require.ErrorIs(t, err, ErrOrder)
	calls := 0
	tm = smallTeam(t.Context(), 1)
	_, err = partition(tm, make([]item, 100), 2, func(s []item, out *[classBatch]uint8) {
		calls++
		for i := range s {
			if out[i] = 0; calls <= 2 {
				out[i] = 1
			}
		}
	}, false)
	require.ErrorIs(t, err, ErrOrder)
}

// TestSortPanics: the panic of a compare function reaches the caller, who may
// recover it, and not only a goroutine that nobody watches.
func TestSortPanics(t *testing.T) {
	old := runtime.GOMAXPROCS(4)
	defer runtime.GOMAXPROCS(old)
	a := newTestArray[word](t, Options{Name: "panics"})
	for i := range 100 {
		require.NoError(t, a.Append(slices.Repeat([]word{word(i + 1)}, 1000)))
	}
	require.PanicsWithValue(t, "bad compare", func() {
		_ = a.Sort(t.Context(), func(_, _ *word) int { panic("bad compare") })
	})
	require.PanicsWithValue(t, "bad key", func() {
		_ = a.SortKeyed(t.Context(), func(*word) uint64 { panic("bad key") }, nil)
	})
	// Nothing is left locked.
	require.NoError(t, a.Sort(t.Context(), func(x, y *word) int { return cmp.Compare(*x, *y) }))
}

func TestSortUnmapped(t *testing.T) {
	no := &faulty{}
	a := newTestArray[word](t, Options{Name: "unmapped", kernel: no.kernel()})
	require.NoError(t, a.Sort(t.Context(), nil)) // nothing to sort
	require.NoError(t, a.Append([]word{2, 1}))
	no.mmap = func() error { return unix.ENOMEM }
	err := a.Sort(t.Context(), nil)
	require.ErrorIs(t, err, unix.ENOMEM)
	require.ErrorContains(t, err, "sort 2 records of unmapped: map ")
}

// TestCompactFails: closing up may need space where the front was a hole.
func TestCompactFails(t *testing.T) {
	budget := NewBudget(Unlimited)
	a := newTestArray[triad](t, Options{Name: "compact", Budget: budget})
	for i := range int64(3000) {
		require.NoError(t, a.Set(100_000+i, triad{A: uint32(i + 1)}))
	}
	budget.SetLimit(Memory, a.Allocated())
	compare := func(x, y *triad) int { return cmp.Compare(x.A, y.A) }
	require.ErrorIs(t, a.Sort(t.Context(), compare), ErrBudget)
	require.Len(t, collect(t, a), 3000)
	budget.SetLimit(Memory, Unlimited)
	require.NoError(t, a.Sort(t.Context(), compare))
	require.EqualValues(t, 3000, a.Len())
}
