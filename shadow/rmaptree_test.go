package shadow

import (
	"cmp"
	"errors"
	"slices"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/scrubd/scrubd/shadow/btree"
)

// blockMap is the dumb twin of an rmap tree: which blocks each line covers.
type blockMap map[line]*[twinSpace]bool

func (m blockMap) of(l line) *[twinSpace]bool {
	if m[l] == nil {
		m[l] = new([twinSpace]bool)
	}
	return m[l]
}

func (m blockMap) clone() blockMap {
	c := blockMap{}
	for l, b := range m {
		*c.of(l) = *b
	}
	return c
}

// covers counts the blocks of r that the line covers.
func (m blockMap) covers(l line, r Rmap) (n uint32) {
	for b := uint64(r.StartBlock); b < r.End(); b++ {
		if m.of(l)[b] {
			n++
		}
	}
	return n
}

func (m blockMap) set(l line, r Rmap, to bool) {
	for b := uint64(r.StartBlock); b < r.End(); b++ {
		m.of(l)[b] = to
	}
}

func other(l line) line { return line{l.owner, l.place ^ OffsetUnwritten} }

func (m blockMap) mapOne(r Rmap) error {
	l := lineOf(&r)
	if m.covers(l, r)+m.covers(other(l), r) > 0 {
		return ErrMapped
	}
	m.set(l, r, true)
	return nil
}

func (m blockMap) unmapOne(r Rmap) error {
	l := lineOf(&r)
	if m.covers(l, r) < r.BlockCount {
		return ErrNotMapped
	}
	m.set(l, r, false)
	return nil
}

func (m blockMap) convert(r Rmap) error {
	if err := m.unmapOne(r); err != nil {
		return err
	}
	r.Offset ^= OffsetUnwritten
	return m.mapOne(r)
}

// normal lists the maximal intervals in order.
func (m blockMap) normal() []Rmap {
	var out []Rmap
	for l, c := range m {
		for b := 0; b < twinSpace; b++ {
			start := b
			for b < twinSpace && c[b] {
				b++
			}
			if b > start {
				out = append(out, l.rmap(uint64(start), uint64(b)))
			}
		}
	}
	return inOrder(out)
}

func inOrder(rs []Rmap) []Rmap {
	slices.SortFunc(rs, func(a, b Rmap) int { return cmp.Or(Compare(&a, &b), cmp.Compare(a.Offset, b.Offset)) })
	return rs
}

// drawMapping prefers what exists, or parts of it.
func drawMapping(t *rapid.T, m blockMap) Rmap {
	all := m.normal()
	if len(all) == 0 || rapid.Bool().Draw(t, "new") {
		r := drawRmap(t)
		if !r.HasOffset() {
			r.Offset = r.Flags()
		}
		if !r.IsInode() {
			r.Offset = 0
		}
		return r
	}
	r := all[rapid.IntRange(0, len(all)-1).Draw(t, "of")]
	lo := rapid.Uint32Range(0, r.BlockCount-1).Draw(t, "skip")
	n := rapid.Uint32Range(1, r.BlockCount-lo).Draw(t, "blocks")
	return lineOf(&r).rmap(uint64(r.StartBlock+lo), uint64(r.StartBlock+lo+n))
}

func TestRmapTreeLikeTwin(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		tree, pages := newRmapTree(t)
		twin := blockMap{}
		change := func(t *rapid.T, b *RmapBatch) {
			r := drawMapping(t, twin)
			before := twin.clone()
			var err, want error
			switch rapid.IntRange(0, 3).Draw(t, "what") {
			case 0, 1:
				err, want = b.Map(r), twin.mapOne(r)
			case 2:
				err, want = b.Unmap(r), twin.unmapOne(r)
			default:
				if !r.HasOffset() || r.Offset&OffsetAttrFork != 0 {
					require.ErrorIs(t, b.Convert(r), ErrBadRecord)
					return
				}
				err, want = b.Convert(r), twin.convert(r)
			}
			if want == nil {
				require.NoError(t, err)
			} else {
				require.ErrorIs(t, err, want)
				twin = before
			}
		}
		t.Repeat(map[string]func(*rapid.T){
			"": func(t *rapid.T) {
				require.NoError(t, tree.Check(ctx()))
				got, err := collect(tree.NormalForm())
				require.NoError(t, err)
				require.Equal(t, twin.normal(), inOrder(got))
				require.Equal(t, copies(t, tree.Batches()), slices.Clone(got), "what Map leaves is maximally merged")
			},
			"change": func(t *rapid.T) {
				b := tree.Begin()
				change(t, b)
				b.Commit()
			},
			"alone": func(t *rapid.T) {
				r := drawMapping(t, twin)
				if want := twin.clone().mapOne(r); want != nil {
					require.ErrorIs(t, tree.Map(r), want)
				} else {
					require.NoError(t, tree.Map(r))
					require.NoError(t, tree.Unmap(r))
				}
				if want := twin.clone().unmapOne(r); want != nil {
					require.ErrorIs(t, tree.Unmap(r), want)
				}
			},
			"cancel": func(t *rapid.T) {
				before := twin.clone()
				b := tree.Begin()
				for range rapid.IntRange(1, 5).Draw(t, "changes") {
					change(t, b)
				}
				b.Cancel()
				twin = before
			},
			"starve": func(t *rapid.T) {
				tree.Trim()
				pages.limit, pages.left = true, rapid.IntRange(0, 2).Draw(t, "calls")
				r := drawMapping(t, twin)
				before := twin.clone()
				err, want := tree.Map(r), twin.mapOne(r)
				pages.limit = false
				if errors.Is(err, errNoSpace) {
					twin = before
				} else if want != nil {
					require.ErrorIs(t, err, want)
					twin = before
				}
			},
			"owners of a block": func(t *rapid.T) {
				b := rapid.Uint64Range(0, twinSpace-1).Draw(t, "block")
				var want []line
				for l, c := range twin {
					if c[b] {
						want = append(want, l)
					}
				}
				var got []line
				for r, err := range tree.Overlaps(b, b+1) {
					require.NoError(t, err)
					got = append(got, lineOf(&r))
				}
				slices.SortFunc(want, compareLines)
				slices.SortFunc(got, compareLines)
				require.Equal(t, want, got)
			},
			"records of owners": func(t *rapid.T) {
				got, err := collect(tree.OwnedBy(7, OwnerFS))
				require.NoError(t, err)
				want, err := collect(tree.All())
				require.NoError(t, err)
				want = slices.DeleteFunc(want, func(r Rmap) bool { return r.Owner != 7 && r.Owner != OwnerFS })
				if len(want)+len(got) > 0 {
					require.Equal(t, want, got)
				}
			},
		})
	})
}

func TestRmapTreeLoad(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		records := healthy(rapid.SliceOfN(rapid.Custom(drawRmap), 0, 60).Draw(t, "records"))
		twin := blockMap{}
		records = slices.DeleteFunc(records, func(r Rmap) bool { return twin.mapOne(r) != nil })
		tree, _ := newRmapTree(t)
		require.NoError(t, tree.Load(batches(split(t, records), rapid.IntRange(1, 9).Draw(t, "batch")), nil))
		require.NoError(t, tree.Check(ctx()))
		got, err := collect(tree.NormalForm())
		require.NoError(t, err)
		require.Equal(t, twin.normal(), inOrder(got))
		require.NoError(t, tree.Seal())
		require.NoError(t, tree.Check(ctx()))
		assert.GreaterOrEqual(t, tree.Bytes(), tree.Len()*RmapSize)
		diffs, err := collect(Diff(tree.Batches(), batches(records, 5)))
		require.NoError(t, err)
		require.Empty(t, diffs)
	})
}

// TestRmapTreeLoadJoinsAcrossBatches: whatever the sizes of the batches that come
// in and go out, one long file is one record.
func TestRmapTreeLoadJoinsAcrossBatches(t *testing.T) {
	var records []Rmap
	for i := range uint32(5000) {
		records = append(records, Rmap{i, 1, 7, uint64(i)})
	}
	for i := range uint32(3000) {
		records = append(records, Rmap{5000 + i*3, 2, 9, uint64(i)})
	}
	tree, _ := newRmapTree(t)
	require.NoError(t, tree.Load(batches(records, 7), nil))
	assert.EqualValues(t, 3001, tree.Len())
	assert.Equal(t, 2, tree.Height())
	first, err := collect(tree.Overlaps(0, 1))
	require.NoError(t, err)
	assert.Equal(t, []Rmap{{0, 5000, 7, 0}}, first)
}

func TestRmapTreeLoadErrors(t *testing.T) {
	broken := errors.New("broken")
	for name, c := range map[string]struct {
		records []Rmap
		want    error
	}{
		"unsorted":  {[]Rmap{{5, 1, 7, 0}, {4, 1, 7, 0}}, ErrUnsorted},
		"no blocks": {[]Rmap{{5, 0, 7, 0}}, ErrBadRecord},
		"too long":  {[]Rmap{{5, 1, 7, 0}, {6, 1<<32 - 1, 7, 0}}, ErrBadRecord},
		"duplicate": {[]Rmap{{5, 1, 7, 0}, {5, 2, 7, 0}}, ErrDuplicate},
	} {
		tree, _ := newRmapTree(t)
		require.ErrorIs(t, tree.Load(batches(c.records, 3), nil), c.want, name)
		require.Zero(t, tree.Len())
		require.NoError(t, tree.Check(ctx()))
	}
	tree, pages := newRmapTree(t)
	require.ErrorIs(t, tree.Load(failing([]Rmap{{5, 1, 7, 0}}, broken), nil), broken)
	pages.limit = true
	require.ErrorIs(t, tree.Load(batches([]Rmap{{5, 1, 7, 0}}, 1), nil), errNoSpace)
	pages.limit = false

	var dropped []Rmap
	given := []Rmap{{5, 1, 7, 0}, {5, 2, 7, OffsetUnwritten}, {5, 1, 7, 0}, {6, 1, 7, 1}}
	require.NoError(t, tree.Load(batches(given, 9), func(r Rmap) { dropped = append(dropped, r) }))
	assert.Equal(t, []Rmap{{5, 1, 7, 0}, {5, 1, 7, 0}}, dropped)
	got, err := collect(tree.All())
	require.NoError(t, err)
	assert.Equal(t, []Rmap{{5, 2, 7, OffsetUnwritten}, {6, 1, 7, 1}}, got)
	assert.Equal(t, Rmap{5, 1, 7, 0}, given[0], "the stream's records are left alone")
	require.ErrorIs(t, tree.Load(batches(given, 9), nil), btree.ErrNotEmpty)
}

// TestRmapTreeDuplicates: what Load let pass can be unmapped, and comes once in
// normal form.
// What a record of somebody else kept apart in the stream is joined when that goes.
func TestRmapTreeUnmapClosesUp(t *testing.T) {
	tree, _ := newRmapTree(t)
	require.NoError(t, tree.Load(batches([]Rmap{{0, 2, 7, 0}, {0, 2, 9, 50}, {2, 3, 7, 2}}, 2), nil))
	require.EqualValues(t, 3, tree.Len())
	require.NoError(t, tree.Unmap(Rmap{0, 2, 9, 50}))
	require.NoError(t, tree.Check(ctx()))
	got, err := collect(tree.All())
	require.NoError(t, err)
	assert.Equal(t, []Rmap{{0, 5, 7, 0}}, got)
}

func TestRmapTreeDuplicates(t *testing.T) {
	tree, _ := newRmapTree(t)
	require.NoError(t, tree.Load(batches([]Rmap{{0, 10, 7, 0}, {5, 10, 7, 5}, {7, 1, 7, 7}}, 2), nil))
	blocks := 0
	for r, err := range tree.NormalForm() {
		require.NoError(t, err)
		blocks += int(r.BlockCount)
	}
	assert.Equal(t, 15, blocks)
	require.NoError(t, tree.Unmap(Rmap{6, 6, 7, 6}))
	got, err := collect(tree.All())
	require.NoError(t, err)
	assert.Equal(t, []Rmap{{0, 10, 7, 0}, {5, 1, 7, 5}, {7, 1, 7, 7}, {12, 3, 7, 12}}, got)
	require.NoError(t, tree.Unmap(Rmap{6, 3, 7, 6}))
	got, err = collect(tree.All())
	require.NoError(t, err)
	assert.Equal(t, []Rmap{{0, 6, 7, 0}, {5, 1, 7, 5}, {9, 1, 7, 9}, {12, 3, 7, 12}}, got)
}

func TestRmapTreeDamage(t *testing.T) {
	tree, pages := newRmapTree(t)
	for i := range uint32(1000) {
		require.NoError(t, tree.Map(Rmap{i * 5, 2, 7, uint64(i)}))
	}
	require.NoError(t, tree.Check(ctx()))
	pages.smash()
	for name, op := range map[string]func() error{
		"check":   func() error { return tree.Check(ctx()) },
		"map":     func() error { return tree.Map(Rmap{8, 1, 9, 0}) },
		"unmap":   func() error { return tree.Unmap(Rmap{0, 1, 7, 0}) },
		"convert": func() error { return tree.Convert(Rmap{0, 1, 7, 0}) },
		"owned":   func() error { _, err := collect(tree.OwnedBy(7)); return err },
		"normal":  func() error { _, err := collect(tree.NormalForm()); return err },
		"seal":    tree.Seal,
	} {
		require.ErrorIs(t, op(), btree.ErrDamaged, name)
	}
}

// TestRmapTreeCheck: records that no key order forbids and that yet are wrong.
func TestRmapTreeCheck(t *testing.T) {
	for what, records := range map[string][]Rmap{
		"no blocks":  {{5, 0, 7, 0}},
		"not merged": {{5, 2, 7, 0}, {7, 1, 7, 2}},
	} {
		tree, _ := newRmapTree(t)
		require.NoError(t, tree.t.Load(batches(records, 2)))
		err := tree.Check(ctx())
		require.ErrorIs(t, err, btree.ErrDamaged)
		require.ErrorContains(t, err, what)
	}
}

func TestRmapTreeRefusesBadRecords(t *testing.T) {
	tree, _ := newRmapTree(t)
	require.ErrorIs(t, tree.Map(Rmap{0, 0, 7, 0}), ErrBadRecord)
	require.ErrorIs(t, tree.Unmap(Rmap{0, 1, OwnerFS, 1}), ErrBadRecord)
	require.ErrorIs(t, tree.Convert(Rmap{0, 1, OwnerFS, 0}), ErrBadRecord)
	require.NoError(t, tree.Map(Rmap{1<<32 - 2, 1, 7, 0}))
	require.NoError(t, tree.Map(Rmap{1<<32 - 3, 1, 7, 1<<54 - 1}))
	require.NoError(t, tree.Check(ctx()))
}
