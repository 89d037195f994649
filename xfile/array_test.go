package xfile

import (
	"context"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"unsafe"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
	"pgregory.net/rapid"
)

// newTestArray makes an array that ends with the test.
func newTestArray[T any](t testing.TB, o Options) *Array[T] {
	t.Helper()
	a, err := NewArray[T](o)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, a.Close()) })
	return a
}

// The shapes that records come in: one that divides a page, one that lies
// across pages, one of single bytes, one that is larger than a page.
type (
	word   uint64
	triad  struct{ A, B, C uint32 }
	bytes5 [5]byte
	large  struct {
		ID   uint64
		Rest [5000]byte
		Tail uint32
		More uint32
	}
)

// collect returns all set records through both kinds of iteration.
func collect[T comparable](t require.TestingT, a *Array[T]) []T {
	var chunks, all []T
	for c, err := range a.Chunks(context.Background()) {
		require.NoError(t, err)
		require.NotEmpty(t, c)
		require.LessOrEqual(t, len(c), chunkRecords)
		chunks = append(chunks, c...)
	}
	for r, err := range a.All(context.Background()) {
		require.NoError(t, err)
		all = append(all, r)
	}
	require.True(t, slices.Equal(chunks, all))
	return all
}

func testArrayTwin[T comparable](t *testing.T, draw func(uint64) T) {
	rapid.Check(t, func(t *rapid.T) { arrayTwin(t, draw) })
}

// arrayTwin compares an array with a slice.
func arrayTwin[T comparable](t *rapid.T, draw func(uint64) T) {
	budget := NewBudget(Unlimited)
	a, err := NewArray[T](Options{Name: "twin", Budget: budget})
	require.NoError(t, err)
	defer a.Close()
	var twin []T
	var zero T
	far := max(3, 24<<10/len(raw(&zero))) // a few pages
	value := func(t *rapid.T) T { return draw(rapid.Uint64Range(0, 50).Draw(t, "value")) }
	set := func() (s []T) {
		for _, v := range twin {
			if v != zero {
				s = append(s, v)
			}
		}
		return s
	}
	t.Repeat(map[string]func(*rapid.T){
		"": func(t *rapid.T) {
			require.EqualValues(t, len(twin), a.Len())
			require.True(t, slices.Equal(set(), collect(t, a)))
			requireCounted(t, a.f, budget)
		},
		"append": func(t *rapid.T) {
			batch := make([]T, rapid.IntRange(0, far/4+1).Draw(t, "n"))
			for i := range batch {
				batch[i] = value(t)
			}
			require.NoError(t, a.Append(batch))
			twin = append(twin, batch...)
		},
		"set": func(t *rapid.T) {
			i := rapid.IntRange(0, len(twin)+far).Draw(t, "i")
			v := value(t)
			require.NoError(t, a.Set(int64(i), v))
			if i >= len(twin) {
				twin = append(twin, make([]T, i+1-len(twin))...)
			}
			twin[i] = v
		},
		"get": func(t *rapid.T) {
			i := rapid.IntRange(-1, len(twin)).Draw(t, "i")
			v, err := a.Get(int64(i))
			if i < 0 || i == len(twin) {
				require.ErrorIs(t, err, ErrRange)
				return
			}
			require.NoError(t, err)
			require.True(t, slices.Equal(raw(&twin[i]), raw(&v)))
		},
		"truncate": func(t *rapid.T) {
			n := rapid.IntRange(0, len(twin)).Draw(t, "n")
			require.NoError(t, a.Truncate(int64(n)))
			twin = twin[:n:n]
		},
		"sort": func(t *rapid.T) {
			compare := func(x, y *T) int { return slices.Compare(raw(x), raw(y)) }
			if rapid.Bool().Draw(t, "keyed") {
				key := func(p *T) uint64 { return uint64(raw(p)[0]) }
				require.NoError(t, a.SortKeyed(context.Background(), key, compare))
			} else {
				require.NoError(t, a.Sort(context.Background(), compare))
			}
			twin = set()
			slices.SortFunc(twin, func(x, y T) int { return compare(&x, &y) })
		},
	})
}

// raw returns the bytes of a record.
func raw[T any](p *T) []byte { return unsafe.Slice((*byte)(unsafe.Pointer(p)), unsafe.Sizeof(*p)) }

func drawWord(v uint64) word   { return word(v * v * v) }
func drawTriad(v uint64) triad { return triad{uint32(v / 7), uint32(v % 7), uint32(v)} }
func drawBytes(v uint64) bytes5 {
	return bytes5{4: byte(v)}
}
func drawLarge(v uint64) large { return large{ID: v / 2, Tail: uint32(v)} }

func TestArrayTwin(t *testing.T) {
	t.Run("word", func(t *testing.T) { testArrayTwin(t, drawWord) })
	t.Run("triad", func(t *testing.T) { testArrayTwin(t, drawTriad) })
	t.Run("bytes", func(t *testing.T) { testArrayTwin(t, drawBytes) })
	t.Run("large", func(t *testing.T) { testArrayTwin(t, drawLarge) })
}

func FuzzArray(f *testing.F) {
	f.Fuzz(rapid.MakeFuzz(func(t *rapid.T) { arrayTwin(t, drawTriad) }))
}

func TestRecordTypes(t *testing.T) {
	type inner struct{ A, B uint16 }
	type named struct {
		A [3]inner
		_ uint32
		C complex128
		B [8]bool
	}
	require.NoError(t, second(closing(NewArray[named](Options{}))))
	for name, err := range map[string]error{
		"pointer":   second(NewArray[*int](Options{})),
		"string":    second(NewArray[string](Options{})),
		"slice":     second(NewArray[struct{ A []int }](Options{})),
		"map":       second(NewArray[[3]map[int]int](Options{})),
		"func":      second(NewArray[func()](Options{})),
		"interface": second(NewArray[any](Options{})),
		"chan":      second(NewArray[chan int](Options{})),
		"unsafe":    second(NewArray[unsafe.Pointer](Options{})),
		"uintptr":   second(NewArray[uintptr](Options{})),
		"empty":     second(NewArray[struct{}](Options{})),
		"huge":      second(NewArray[[maxRecord + 1]byte](Options{})),
		"padding": second(NewArray[struct {
			A uint8
			B uint32
		}](Options{})),
		"end padding": second(NewArray[struct {
			A uint32
			B uint8
		}](Options{})),
	} {
		require.ErrorIs(t, err, ErrRecordType, name)
	}
	err := second(NewArray[struct {
		X [2]inner
		Y []byte
	}](Options{Name: "claims"}))
	require.ErrorContains(t, err, "make array for claims")
	require.ErrorContains(t, err, ".Y is a slice")
	_, err = NewArray[word](Options{kernel: (&faulty{memfd: func(int) error { return unix.ENFILE }}).kernel()})
	require.ErrorIs(t, err, unix.ENFILE)
}

func closing[T any](a *Array[T], err error) (int, error) {
	if err == nil {
		err = a.Close()
	}
	return 0, err
}

func TestRecordWindow(t *testing.T) {
	for size := int64(1); size <= maxRecord; size = size*5/4 + 1 {
		w := recordWindow(size)
		require.Zero(t, w%size)
		require.Zero(t, w%sysPage)
		require.LessOrEqual(t, w, max(pageWindowBytes, size*sysPage))
	}
}

// TestArrayWindows appends over several windows and checks where records lie.
func TestArrayWindows(t *testing.T) {
	type row struct {
		ID   uint64
		Rest [1192]byte // 1200 bytes do not divide a page
	}
	a := newTestArray[row](t, Options{Name: "windows"})
	n := int(2*a.perWin + 100)
	var next uint64
	rows := func(n int64) []row {
		batch := make([]row, n)
		for i := range batch {
			next++
			batch[i].ID = next
		}
		return batch
	}
	require.NoError(t, a.Append(rows(a.perWin-5)))
	require.NoError(t, a.Append(rows(a.perWin+105))) // one batch over two ends of windows
	for _, i := range []int64{0, a.perWin - 1, a.perWin, 2*a.perWin - 1, 2 * a.perWin, int64(n) - 1} {
		v, err := a.Get(i)
		require.NoError(t, err)
		require.EqualValues(t, i+1, v.ID)
	}
	next = 0
	for c, err := range a.Chunks(t.Context()) {
		require.NoError(t, err)
		for i := range c {
			next++
			require.Equal(t, next, c[i].ID)
		}
	}
	require.EqualValues(t, n, next)
	require.LessOrEqual(t, float64(a.Allocated()), 1.13*1200*float64(n))
}

// TestSparse sets records far apart: what lies between takes no space and no
// time.
func TestSparse(t *testing.T) {
	budget := NewBudget(Unlimited)
	a := newTestArray[triad](t, Options{Name: "sparse", Budget: budget})
	at := []int64{5, 1 << 20, 1<<20 + 1, 1 << 33, 1 << 36}
	for _, i := range at {
		require.NoError(t, a.Set(i, triad{A: uint32(i % 1000)}))
	}
	require.LessOrEqual(t, a.Allocated(), int64(aheadFirst+6*sysPage))
	require.Len(t, collect(t, a), len(at))
	v, err := a.Get(1 << 34)
	require.NoError(t, err)
	require.Zero(t, v)
	requireCounted(t, a.f, budget)
	require.NoError(t, a.Sort(t.Context(), func(x, y *triad) int { return int(x.A) - int(y.A) }))
	require.EqualValues(t, len(at), a.Len())
	require.LessOrEqual(t, a.Allocated(), sysPage)
	require.ErrorIs(t, a.Set(-1, triad{}), ErrRange)
	require.ErrorIs(t, a.Set(maxFile, triad{}), ErrRange)
}

// TestAppendConcurrent appends from several goroutines: every batch is there,
// in one piece.
func TestAppendConcurrent(t *testing.T) {
	a := newTestArray[triad](t, Options{Name: "concurrent"})
	const workers, batches, size = 4, 100, 33
	var wg sync.WaitGroup
	for w := range workers {
		wg.Go(func() {
			for b := range batches {
				batch := make([]triad, size)
				for i := range batch {
					batch[i] = triad{uint32(w + 1), uint32(b), uint32(i)}
				}
				if err := a.Append(batch); err != nil {
					t.Error(err)
				}
				if _, err := a.Get(int64(rand.IntN(b + 1))); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	require.EqualValues(t, workers*batches*size, a.Len())
	seen := map[triad]bool{}
	all := collect(t, a)
	for i := 0; i < len(all); i += size {
		for k := range size {
			require.Equal(t, triad{all[i].A, all[i].B, uint32(k)}, all[i+k])
		}
		seen[all[i]] = true
	}
	require.Len(t, seen, workers*batches)
}

// TestAppendRefused: a refused batch leaves nothing behind, at any budget.
func TestAppendRefused(t *testing.T) {
	for pages := range int64(8) {
		budget := NewBudget(pages * sysPage)
		a := newTestArray[triad](t, Options{Name: "refused", Budget: budget})
		var n int64
		var err error
		for err == nil {
			if err = a.Append(make([]triad, 100)); err == nil {
				n += 100
			}
		}
		require.ErrorIs(t, err, ErrBudget)
		require.Equal(t, n, a.Len())
		require.Equal(t, pages*sysPage/1200*100, n)
		require.ErrorIs(t, a.Set(pages*sysPage/12+1, triad{A: 1}), ErrBudget)
		require.Equal(t, n, a.Len())
		requireCounted(t, a.f, budget)
	}
}

func TestIterationStops(t *testing.T) {
	a := newTestArray[triad](t, Options{Name: "stops"})
	for range 5 {
		require.NoError(t, a.Append(slices.Repeat([]triad{{1, 2, 3}}, chunkRecords)))
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	n := 0
	var last error
	for c, err := range a.Chunks(ctx) {
		if last = err; err == nil {
			n += len(c)
			cancel()
		}
	}
	require.ErrorIs(t, last, context.Canceled)
	require.Equal(t, chunkRecords, n)
	for _, err := range a.All(ctx) {
		require.ErrorIs(t, err, context.Canceled)
	}
	for _, err := range a.All(t.Context()) {
		require.NoError(t, err)
		break
	}
	require.NoError(t, a.Set(3*chunkRecords, triad{})) // now there is a gap
	for _, err := range a.Chunks(t.Context()) {
		require.NoError(t, err)
		break
	}
	// What was appended after the first step is not seen.
	n = 0
	for c, err := range a.Chunks(t.Context()) {
		require.NoError(t, err)
		n += len(c)
		require.NoError(t, a.Append(c[:1:1]))
	}
	require.Equal(t, 5*chunkRecords-1, n)
}

func TestBusy(t *testing.T) {
	a := newTestArray[word](t, Options{Name: "busy"})
	require.NoError(t, a.Append([]word{3, 2, 1}))
	compare := func(x, y *word) int { return int(*x) - int(*y) }
	for _, err := range a.Chunks(t.Context()) {
		require.NoError(t, err)
		require.ErrorIs(t, a.Truncate(0), ErrBusy)
		require.ErrorIs(t, a.Sort(t.Context(), compare), ErrBusy)
	}
	require.NoError(t, a.Sort(t.Context(), compare))
	require.Equal(t, []word{1, 2, 3}, collect(t, a))
	require.NoError(t, a.Truncate(0))
	require.Zero(t, a.Allocated())
	require.Equal(t, Memory, a.Place())
}

// TestArrayClose closes in the middle of an iteration: it ends at its next
// step and only then gives the space back.
func TestArrayClose(t *testing.T) {
	budget := NewBudget(Unlimited)
	a, err := NewArray[word](Options{Name: "closing", Budget: budget})
	require.NoError(t, err)
	require.NoError(t, a.Append(slices.Repeat([]word{7}, 3*chunkRecords)))
	steps := 0
	for c, err := range a.Chunks(t.Context()) {
		if steps++; steps == 2 {
			require.ErrorIs(t, err, ErrClosed)
			continue
		}
		require.NoError(t, a.Close())
		require.EqualValues(t, 7, c[chunkRecords-1]) // still there
		used, _ := budget.Used(Memory)
		require.Positive(t, used)
	}
	require.Equal(t, 2, steps)
	used, _ := budget.Used(Memory)
	require.Zero(t, used)
	require.NoError(t, a.Close())

	compare := func(_, _ *word) int { return 0 }
	for what, err := range map[string]error{
		"append":   a.Append([]word{1}),
		"empty":    a.Append(nil),
		"get":      second(a.Get(0)),
		"set":      a.Set(0, 1),
		"set far":  a.Set(1000, 1),
		"truncate": a.Truncate(0),
		"sort":     a.Sort(t.Context(), compare),
		"keyed":    a.SortKeyed(t.Context(), func(*word) uint64 { return 0 }, compare),
	} {
		require.ErrorIs(t, err, ErrClosed, what)
	}
	for _, err := range a.Chunks(t.Context()) {
		require.ErrorIs(t, err, ErrClosed)
	}
	require.Zero(t, a.Len())
}
