package btree

import (
	"errors"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

// machine drives a tree and its twin with the same operations.
type machine struct {
	pages *memPages
	tree  *spanTree
	twin  twin
	n     int // greatest start
}

func newMachine(t *rapid.T) *machine {
	m := &machine{pages: &memPages{}}
	m.tree = smallTree(m.pages, rapid.IntRange(4, 9).Draw(t, "leaf"), rapid.IntRange(4, 9).Draw(t, "node"))
	m.n = rapid.SampledFrom([]int{20, 100, 400}).Draw(t, "starts")
	return m
}

func (m *machine) span(t *rapid.T) span {
	s := span{start: uint32(rapid.IntRange(0, m.n).Draw(t, "start")), id: uint64(rapid.IntRange(0, 1).Draw(t, "id"))}
	s.len = uint32(rapid.SampledFrom([]int{1, 1, 2, 5, 300}).Draw(t, "len"))
	return s
}

// key prefers keys that exist.
func (m *machine) key(t *rapid.T) spanKey {
	if len(m.twin) > 0 && rapid.IntRange(0, 3).Draw(t, "any") > 0 {
		return keyOfSpan(m.twin[rapid.IntRange(0, len(m.twin)-1).Draw(t, "i")])
	}
	return keyOfSpan(m.span(t))
}

func (m *machine) check(t require.TestingT) {
	require.NoError(t, m.tree.Check(ctxOf(t)))
	require.EqualValues(t, len(m.twin), m.tree.Len())
	got, err := all(m.tree.Batches())
	require.NoError(t, err)
	same(t, m.twin, got)
}

func (m *machine) insert(t *rapid.T) {
	for range rapid.IntRange(1, 8).Draw(t, "inserts") {
		s := m.span(t)
		err := m.tree.Insert(s)
		if m.twin.insert(s) {
			require.NoError(t, err)
		} else {
			require.ErrorIs(t, err, ErrExists)
		}
	}
}

func (m *machine) remove(t *rapid.T) {
	for range rapid.IntRange(1, 8).Draw(t, "deletes") {
		k := m.key(t)
		got, err := m.tree.Delete(k)
		want, ok := m.twin.remove(k)
		if !ok {
			require.ErrorIs(t, err, ErrNotFound)
			continue
		}
		require.NoError(t, err)
		require.Equal(t, want, got)
	}
}

func (m *machine) replace(t *rapid.T) {
	s := m.span(t)
	if len(m.twin) > 0 {
		k := m.key(t)
		s.start, s.id = k.start, k.id
	}
	old, err := m.tree.Replace(s)
	want, ok := m.twin.replace(s)
	if !ok {
		require.ErrorIs(t, err, ErrNotFound)
		return
	}
	require.NoError(t, err)
	require.Equal(t, want, old)
}

func (m *machine) lookup(t *rapid.T) {
	k := m.key(t)
	i, ok := m.twin.find(k)
	got, found, err := m.tree.Get(k)
	require.NoError(t, err)
	require.Equal(t, ok, found)
	if ok {
		require.Equal(t, m.twin[i], got)
	}
	got, found, err = m.tree.GE(k)
	require.NoError(t, err)
	require.Equal(t, i < len(m.twin), found)
	if found {
		require.Equal(t, m.twin[i], got)
	}
	if !ok {
		i--
	}
	got, found, err = m.tree.LE(k)
	require.NoError(t, err)
	require.Equal(t, i >= 0, found)
	if found {
		require.Equal(t, m.twin[i], got)
	}
	first, found, err := m.tree.First()
	require.NoError(t, err)
	require.Equal(t, len(m.twin) > 0, found)
	last, found, err := m.tree.Last()
	require.NoError(t, err)
	if found {
		require.Equal(t, m.twin[0], first)
		require.Equal(t, m.twin[len(m.twin)-1], last)
	}
}

func (m *machine) overlaps(t *rapid.T) {
	start := uint64(rapid.IntRange(0, m.n+10).Draw(t, "from"))
	end := start + uint64(rapid.SampledFrom([]int{0, 1, 1, 7, 1000}).Draw(t, "blocks"))
	got, err := all1(Overlaps(m.tree, start, end))
	require.NoError(t, err)
	same(t, m.twin.touching(start, end), got)
	k := m.key(t)
	got, err = all1(m.tree.From(k))
	require.NoError(t, err)
	i, _ := m.twin.find(k)
	same(t, m.twin[i:], got)
}

// batch does operations in a batch that is committed or cancelled, with parts
// that fail.
func (m *machine) batch(t *rapid.T) {
	before := slices.Clone(m.twin)
	fails := errors.New("change of mind")
	err := m.tree.Update(func(b *Batch[span, spanKey, spanOps]) error {
		for range rapid.IntRange(0, 6).Draw(t, "parts") {
			inner := slices.Clone(m.twin)
			err := b.Try(func() error {
				m.batchPart(t, b)
				if rapid.Bool().Draw(t, "fail part") {
					return fails
				}
				return nil
			})
			if err != nil {
				require.Equal(t, fails, err)
				m.twin = inner
			}
			require.NoError(t, m.tree.c.check(ctxOf(t)))
		}
		m.batchPart(t, b)
		if rapid.Bool().Draw(t, "fail batch") {
			return fails
		}
		return nil
	})
	if err != nil {
		require.Equal(t, fails, err)
		m.twin = before
	}
}

func (m *machine) batchPart(t *rapid.T, b *Batch[span, spanKey, spanOps]) {
	for range rapid.IntRange(1, 20).Draw(t, "changes") {
		s, k := m.span(t), m.key(t)
		if rapid.Bool().Draw(t, "insert") {
			err := b.Insert(s)
			require.Equal(t, m.twin.insert(s), err == nil, "%v", err)
		} else {
			_, err := b.Delete(k)
			_, ok := m.twin.remove(k)
			require.Equal(t, ok, err == nil, "%v", err)
		}
	}
	require.EqualValues(t, len(m.twin), b.Len())
	got, err := all1(BatchOverlaps(b, 3, 30))
	require.NoError(t, err)
	same(t, m.twin.touching(3, 30), got)
}

// starve does operations while pages are short: each fails and changes nothing,
// or works.
func (m *machine) starve(t *rapid.T) {
	m.tree.Trim()
	m.pages.fail, m.pages.left = true, rapid.IntRange(0, 3).Draw(t, "calls")
	defer func() { m.pages.fail = false }()
	for range rapid.IntRange(1, 30).Draw(t, "changes") {
		s, k := m.span(t), m.key(t)
		if rapid.IntRange(0, 3).Draw(t, "delete") == 0 {
			_, err := m.tree.Delete(k)
			_, ok := m.twin.remove(k)
			require.Equal(t, ok, err == nil, "a delete needs no space")
			continue
		}
		err := m.tree.Insert(s)
		if errors.Is(err, errNoSpace) {
			require.NoError(t, m.tree.Check(ctxOf(t)))
			return
		}
		require.Equal(t, m.twin.insert(s), err == nil)
	}
}

func (m *machine) reload(t *rapid.T) {
	if rapid.IntRange(0, 4).Draw(t, "reload") > 0 {
		return
	}
	require.ErrorIs(t, loadOrNil(m.tree, m.twin), errIf(len(m.twin) > 0, ErrNotEmpty))
	l := m.tree.c.layout
	m.pages = &memPages{}
	m.tree = smallTree(m.pages, l.maxLeaf, l.maxNode)
	require.NoError(t, m.tree.Load(inBatches(m.twin, rapid.IntRange(1, 20).Draw(t, "batch"))))
}

func TestTreeLikeTwin(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m := newMachine(t)
		t.Repeat(map[string]func(*rapid.T){
			"":         func(t *rapid.T) { m.check(t) },
			"insert":   m.insert,
			"delete":   m.remove,
			"replace":  m.replace,
			"lookup":   m.lookup,
			"overlaps": m.overlaps,
			"batch":    m.batch,
			"starve":   m.starve,
			"reload":   m.reload,
			"seal": func(t *rapid.T) {
				require.NoError(t, m.tree.Seal())
			},
		})
	})
}

func FuzzTreeLikeTwin(f *testing.F) {
	f.Fuzz(rapid.MakeFuzz(func(t *rapid.T) {
		m := newMachine(t)
		t.Repeat(map[string]func(*rapid.T){
			"":       func(t *rapid.T) { m.check(t) },
			"insert": m.insert,
			"delete": m.remove,
			"batch":  m.batch,
			"starve": m.starve,
		})
	}))
}
