package btree

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/scrubd/scrubd/xfile"
)

func fileTree(t *testing.T) (*spanTree, *xfile.File) {
	f, err := xfile.New(xfile.Options{Name: "btree test"})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, f.Close()) })
	tree, err := New[span, spanKey, spanOps](f, 7)
	require.NoError(t, err)
	return tree, f
}

func spans(n int) []span {
	s := make([]span, n)
	for i := range s {
		s[i] = span{uint32(2 * i), 1, 3}
	}
	return s
}

// TestFanOutBoundaries grows and shrinks trees of real blocks through every size
// at which their shape changes, in three orders.
func TestFanOutBoundaries(t *testing.T) {
	l := newLayout[span, spanKey]()
	sizes := []int{0, 1, 2}
	for _, n := range []int{l.maxLeaf, l.full(0), l.maxLeaf * 2, l.min(0), l.maxLeaf * 3 / 2, l.full(0) * l.full(1), l.maxLeaf * l.maxNode} {
		sizes = append(sizes, n-1, n, n+1)
	}
	for _, n := range sizes {
		all3 := map[string][]span{"ascending": spans(n), "descending": spans(n), "random": spans(n)}
		slices.Reverse(all3["descending"])
		rand.New(rand.NewPCG(1, uint64(n))).Shuffle(n, func(i, j int) {
			r := all3["random"]
			r[i], r[j] = r[j], r[i]
		})
		for name, order := range all3 {
			tree, f := fileTree(t)
			for _, s := range order {
				require.NoError(t, tree.Insert(s))
			}
			require.NoError(t, tree.Check(context.Background()), "%s %d", name, n)
			require.EqualValues(t, n, tree.Len())
			if name == "ascending" && n > 0 {
				full := (int64(n)+int64(l.maxLeaf)-1)/int64(l.maxLeaf) + 1
				assert.LessOrEqual(t, tree.Bytes(), (full+full/int64(l.maxNode)+2)*xfile.PageSize, "ascending inserts fill blocks")
			}
			if n > 1000 {
				order = order[:n/2+n%7]
			}
			for _, s := range order {
				got, err := tree.Delete(keyOfSpan(s))
				require.NoError(t, err)
				require.Equal(t, s, got)
			}
			require.NoError(t, tree.Check(context.Background()), "%s %d, after deletes", name, n)
			if tree.Len() == 0 {
				assert.Zero(t, tree.Height())
				assert.Zero(t, tree.Bytes())
				tree.Trim()
				assert.LessOrEqual(t, f.Allocated(), int64(1<<20))
			}
			require.NoError(t, f.Close())
		}
		tree, f := fileTree(t)
		require.NoError(t, tree.Load(inBatches(spans(n), 100)))
		require.NoError(t, tree.Check(context.Background()), "load %d", n)
		got, err := all(tree.Batches())
		require.NoError(t, err)
		same(t, spans(n), got)
		require.NoError(t, f.Close())
	}
}

// TestLoadEverySize loads small trees of every size up to four levels.
func TestLoadEverySize(t *testing.T) {
	for n := range 500 {
		m := &memPages{}
		tree := smallTree(m, 4+n%5, 4+n%3)
		require.NoError(t, tree.Load(inBatches(spans(n), 1+n%9)))
		require.NoError(t, tree.Check(context.Background()), "%d records", n)
		assert.EqualValues(t, n, tree.Len())
	}
}

func TestLoadErrors(t *testing.T) {
	broken := errors.New("broken")
	for name, c := range map[string]struct {
		records []span
		err     error
		want    error
	}{
		"unordered":             {[]span{{5, 1, 0}, {4, 1, 0}}, nil, ErrUnordered},
		"unordered batches":     {append(spans(7), span{0, 1, 0}), nil, ErrUnordered},
		"twice":                 {[]span{{5, 1, 0}, {5, 2, 0}}, nil, ErrUnordered},
		"the stream's error":    {spans(100), broken, broken},
		"the stream's, at once": {nil, broken, broken},
	} {
		m := &memPages{}
		tree := smallTree(m, 4, 4)
		err := tree.Load(func(yield func([]span, error) bool) {
			for i := range c.records {
				if !yield(c.records[i:i+1], nil) {
					return
				}
			}
			if c.err != nil {
				yield(nil, c.err)
			}
		})
		require.ErrorIs(t, err, c.want, name)
		require.NoError(t, tree.Check(context.Background()), name)
		require.Zero(t, tree.Len(), name)
		require.NoError(t, tree.Load(inBatches(spans(50), 7)), name)
		require.NoError(t, tree.Check(context.Background()), name)
		require.ErrorIs(t, tree.Load(inBatches(spans(50), 7)), ErrNotEmpty)
	}
}

// TestLoadWithoutSpace fails the load of a tree at every call for pages.
func TestLoadWithoutSpace(t *testing.T) {
	for left := 0; ; left++ {
		m := &memPages{fail: true, left: left}
		tree := smallTree(m, 4, 4)
		err := tree.Load(inBatches(spans(1500), 10))
		require.NoError(t, tree.Check(context.Background()))
		if err == nil {
			require.Greater(t, left, 5)
			return
		}
		require.ErrorIs(t, err, errNoSpace)
		require.Zero(t, tree.Len())
		require.Zero(t, tree.Bytes())
	}
}

// TestInsertWithoutSpace fails inserts at every call for pages, in a batch and
// alone.
func TestInsertWithoutSpace(t *testing.T) {
	order := rand.New(rand.NewPCG(3, 4)).Perm(300)
	for left := 0; ; left++ {
		m := &memPages{}
		tree := smallTree(m, 4, 4)
		require.NoError(t, tree.Load(inBatches(spans(100), 10)))
		tree.Trim()
		m.fail, m.left = true, left
		batch := tree.Begin()
		failed := false
		for i, n := range order {
			err := batch.Insert(span{uint32(2*n + 1), 9, 1})
			if err != nil {
				require.ErrorIs(t, err, errNoSpace)
				require.NoError(t, tree.c.check(context.Background()), "an insert that fails leaves the rest of the batch")
				require.EqualValues(t, 100+i, batch.Len())
				failed = true
				break
			}
		}
		batch.Cancel()
		batch.Cancel()
		batch.Commit()
		require.NoError(t, tree.Check(context.Background()))
		got, err := all(tree.Batches())
		require.NoError(t, err)
		require.Equal(t, spans(100), got)
		if !failed {
			require.Greater(t, left, 10)
			return
		}
	}
}

func TestHeightIsBounded(t *testing.T) {
	tree := smallTree(&memPages{}, 4, 4)
	var err error
	n := 0
	for n = 0; err == nil && n < 1<<20; n++ {
		tree.c.maxNode = 2 // splits off one child at a time
		err = tree.Insert(span{uint32(n), 1, 0})
	}
	require.ErrorIs(t, err, ErrTooLarge)
	require.Equal(t, maxHeight, tree.Height())
	require.EqualValues(t, n-1, tree.Len())
}

func TestNewRefusesLargeRecords(t *testing.T) {
	_, err := New[[1000]byte, uint32, bigOps](&memPages{}, 0)
	require.ErrorContains(t, err, "4 records")
}

type bigOps struct {
	Plain[[1000]byte, uint32, bigOps2]
	bigOps2
}

type bigOps2 struct{}

func (bigOps2) Key([1000]byte) uint32         { return 0 }
func (bigOps2) Compare(uint32, uint32) int    { return 0 }
func (bigOps2) Find([][1000]byte, uint32) int { return 0 }
func (bigOps2) Route([]uint32, uint32) int    { return 0 }
func (bigOps2) Ascending(r [][1000]byte) int  { return len(r) }

func TestPlainTree(t *testing.T) {
	m := &memPages{}
	tree, err := New[pairRec, uint32, pairOps](m, 1)
	require.NoError(t, err)
	want := map[uint32]uint32{}
	rng := rand.New(rand.NewPCG(5, 6))
	for range 60_000 {
		k := rng.Uint32N(20_000)
		if _, ok := want[k]; ok {
			_, err := tree.Delete(k)
			require.NoError(t, err)
			delete(want, k)
		} else {
			require.NoError(t, tree.Insert(pairRec{k, k * 3}))
			want[k] = k * 3
		}
	}
	require.NoError(t, tree.Seal())
	require.NoError(t, tree.Check(context.Background()))
	require.EqualValues(t, len(want), tree.Len())
	for r, err := range tree.All() {
		require.NoError(t, err)
		require.Equal(t, want[r.key], r.value)
		delete(want, r.key)
	}
	require.Empty(t, want)
	_, err = tree.Replace(pairRec{1 << 30, 0})
	require.ErrorIs(t, err, ErrNotFound)
}

func TestEmptyTree(t *testing.T) {
	tree := smallTree(&memPages{}, 4, 4)
	k := spanKey{}
	for _, find := range []func() (span, bool, error){
		tree.First, tree.Last,
		func() (span, bool, error) { return tree.Get(k) },
		func() (span, bool, error) { return tree.GE(k) },
		func() (span, bool, error) { return tree.LE(k) },
	} {
		_, ok, err := find()
		require.NoError(t, err)
		assert.False(t, ok)
	}
	_, err := tree.Delete(k)
	require.ErrorIs(t, err, ErrNotFound)
	_, err = tree.Replace(span{})
	require.ErrorIs(t, err, ErrNotFound)
	require.NoError(t, tree.Seal())
	require.NoError(t, tree.Load(inBatches[span](nil, 1)))
	got, err := all1(Overlaps(tree, 0, 1<<32))
	require.NoError(t, err)
	assert.Empty(t, got)
	c := tree.Cursor()
	assert.False(t, c.First() || c.Last() || c.SeekGE(k) || c.SeekLE(k) || c.SeekEQ(k) || c.Next() || c.Prev())
	require.NoError(t, tree.Check(context.Background()))
}

func TestCursor(t *testing.T) {
	tree := smallTree(&memPages{}, 4, 4)
	want := spans(60)
	require.NoError(t, tree.Load(inBatches(want, 10)))
	c := tree.Cursor()
	var got []span
	for ok := c.First(); ok; ok = c.Next() {
		got = append(got, c.Record())
	}
	require.NoError(t, c.Err())
	require.Equal(t, want, got)
	got = nil
	for ok := c.Last(); ok; ok = c.Prev() {
		got = append(got, c.Record())
	}
	slices.Reverse(got)
	require.Equal(t, want, got)

	require.True(t, c.SeekEQ(keyOfSpan(want[7])))
	require.False(t, c.SeekEQ(spanKey{start: 15}))
	require.True(t, c.SeekGE(spanKey{start: 15}))
	require.Equal(t, want[8], c.Record())
	require.True(t, c.SeekLE(spanKey{start: 15}))
	require.Equal(t, want[7], c.Record())

	// The record goes away under the cursor, and neighbours come.
	_, err := tree.Delete(keyOfSpan(want[7]))
	require.NoError(t, err)
	require.NoError(t, tree.Insert(span{15, 1, 3}))
	require.True(t, c.Next())
	require.Equal(t, span{15, 1, 3}, c.Record())
	_, err = tree.Delete(spanKey{start: 15, id: 3})
	require.NoError(t, err)
	require.True(t, c.Prev())
	require.Equal(t, want[6], c.Record())
}

// TestIterationUnderChange: what was there throughout comes once, in order.
func TestIterationUnderChange(t *testing.T) {
	tree := smallTree(&memPages{}, 5, 5)
	want := spans(300)
	require.NoError(t, tree.Load(inBatches(want, 10)))
	var got []span
	i := uint32(0)
	for s, err := range tree.All() {
		require.NoError(t, err)
		if s.start%2 == 0 {
			got = append(got, s)
		}
		// Odd records come and go before and behind.
		require.NoError(t, tree.Insert(span{2*(i*37%300) + 1, 5, uint64(i)}))
		if i%3 == 0 {
			_, err := tree.Delete(spanKey{start: 2*(i*37%300) + 1, id: uint64(i)})
			require.NoError(t, err)
		}
		if i++; i > 5000 {
			break
		}
	}
	require.Equal(t, want, got)

	got = nil
	for s, err := range Overlaps(tree, 100, 400) {
		require.NoError(t, err)
		if s.start%2 == 0 {
			got = append(got, s)
			require.NoError(t, tree.Insert(span{s.start + 1, 1, 1 << 40}))
		}
	}
	require.Equal(t, twin(want).touching(100, 400), got)
	require.NoError(t, tree.Check(context.Background()))

	// And a tree that is emptied under its readers.
	for s, err := range Overlaps(tree, 0, 1000) {
		require.NoError(t, err)
		for left, err := range tree.All() {
			require.NoError(t, err)
			_, err = tree.Delete(keyOfSpan(left))
			require.NoError(t, err)
		}
		require.Equal(t, want[0], s)
		break
	}
	require.Zero(t, tree.Len())
}

func TestIterationStops(t *testing.T) {
	tree := smallTree(&memPages{}, 5, 5)
	require.NoError(t, tree.Load(inBatches(spans(100), 10)))
	want := spans(1)[0]
	require.Equal(t, want, only(t, tree.All()))
	require.Equal(t, want, only(t, Overlaps(tree, 0, 1000)))
	b := tree.Begin()
	require.Equal(t, want, only(t, BatchOverlaps(b, 0, 1000)))
	first, ok, err := b.First()
	require.NoError(t, err)
	require.True(t, ok)
	require.Equal(t, want, first)
	_, ok, err = b.GE(spanKey{start: 1})
	require.True(t, ok && err == nil)
	_, ok, err = b.LE(spanKey{start: 1})
	require.True(t, ok && err == nil)
	_, ok, err = b.Get(spanKey{start: 1})
	require.True(t, !ok && err == nil)
	_, err = b.Replace(span{0, 77, 3})
	require.NoError(t, err)
	b.Commit()
	got, ok, err := tree.First()
	require.True(t, ok && err == nil)
	require.EqualValues(t, 77, got.len)
	require.Equal(t, spans(100)[60], only(t, tree.BatchesFrom(spanKey{start: 119}))[0])
}

// TestOneWriterManyReaders is for the race detector.
func TestOneWriterManyReaders(t *testing.T) {
	tree := smallTree(&memPages{}, 6, 6)
	want := spans(400)
	require.NoError(t, tree.Load(inBatches(want, 10)))
	stop := make(chan struct{})
	errs := make(chan error, 8)
	for r := range 4 {
		go func() {
			errs <- read(tree, want, r, stop)
		}()
	}
	rng := rand.New(rand.NewPCG(7, 8))
	for i := range 3000 {
		s := span{2*rng.Uint32N(400) + 1, 1 + rng.Uint32N(50), uint64(i)}
		b := tree.Begin()
		require.NoError(t, b.Insert(s))
		if i%3 == 0 {
			b.Cancel()
			continue
		}
		b.Commit()
		if i%2 == 0 {
			_, err := tree.Delete(keyOfSpan(s))
			require.NoError(t, err)
		}
	}
	close(stop)
	for range 4 {
		require.NoError(t, <-errs)
	}
	require.NoError(t, tree.Check(context.Background()))
}

// read looks for the records in want until it is stopped.
func read(tree *spanTree, want []span, r int, stop chan struct{}) error {
	for {
		select {
		case <-stop:
			return nil
		default:
		}
		n := 0
		switch r % 4 {
		case 0, 1:
			for s, err := range tree.All() {
				if err != nil {
					return err
				}
				if s.start%2 == 0 {
					if s != want[n] {
						return fmt.Errorf("%v instead of %v", s, want[n])
					}
					n++
				}
			}
			if n != len(want) {
				return fmt.Errorf("%d records", n)
			}
		case 2:
			for s, err := range Overlaps(tree, 100, 101) {
				if err != nil {
					return err
				}
				if s == want[50] {
					n++
				}
			}
			if n != 1 {
				return fmt.Errorf("record met %d times", n)
			}
		default:
			if err := tree.Check(context.Background()); err != nil {
				return err
			}
		}
	}
}

// TestOverlapVisits holds the number of leaves visited to what the shape of the
// tree promises.
func TestOverlapVisits(t *testing.T) {
	tree := smallTree(&memPages{}, 8, 8)
	rng := rand.New(rand.NewPCG(9, 10))
	for i := range uint32(4000) {
		s := span{4 * i, 1 + rng.Uint32N(4), 0}
		if i%100 == 0 {
			s.len = 3000
		}
		require.NoError(t, tree.Insert(s))
	}
	for range 1000 {
		start := uint64(rng.Uint32N(16000))
		q := query[span, spanKey, spanOps]{c: &tree.c, start: start, end: start + uint64(1+rng.Uint32N(20))}
		k := int64(0)
		for {
			require.NoError(t, q.nextLeaf())
			if len(q.buf) == 0 {
				break
			}
			k += int64(len(q.buf))
		}
		require.LessOrEqual(t, q.leaves, k+1)
	}
}
