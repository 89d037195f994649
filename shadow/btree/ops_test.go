package btree

import (
	"cmp"
	"slices"
	"sort"
)

// span is the record of the overlapping trees under test.
type span struct {
	start, len uint32
	id         uint64
}

func (s span) end() uint64 { return uint64(s.start) + uint64(s.len) }

type spanKey struct {
	start, high uint32
	id          uint64
}

func keyOfSpan(s span) spanKey { return spanKey{s.start, s.start + s.len, s.id} }

type spanOps struct{}

func (spanOps) Key(s span) spanKey { return keyOfSpan(s) }

func (spanOps) Compare(a, b spanKey) int {
	return cmp.Or(cmp.Compare(a.start, b.start), cmp.Compare(a.id, b.id))
}

func (o spanOps) Find(recs []span, k spanKey) int {
	return sort.Search(len(recs), func(i int) bool { return o.Compare(keyOfSpan(recs[i]), k) >= 0 })
}

func (o spanOps) Route(keys []spanKey, k spanKey) int {
	return sort.Search(len(keys), func(i int) bool { return o.Compare(keys[i], k) > 0 })
}

func (o spanOps) Ascending(recs []span) int {
	for i := 1; i < len(recs); i++ {
		if o.Compare(keyOfSpan(recs[i-1]), keyOfSpan(recs[i])) >= 0 {
			return i
		}
	}
	return len(recs)
}

func (o spanOps) Cover(recs []span) spanKey {
	k := keyOfSpan(recs[0])
	for _, r := range recs {
		k = o.Widen(k, keyOfSpan(r))
	}
	return k
}

func (o spanOps) CoverKeys(keys []spanKey) spanKey {
	k := keys[0]
	for _, r := range keys {
		k = o.Widen(k, r)
	}
	return k
}

func (o spanOps) Widen(e, k spanKey) spanKey {
	high := max(e.high, k.high)
	if o.Compare(k, e) < 0 {
		e = k
	}
	e.high = high
	return e
}

func (o spanOps) Holds(e, k spanKey) bool { return k.high >= e.high || o.Compare(e, k) == 0 }

func (spanOps) Touching(recs []span, from int, start, end uint64) int {
	for i := from; i < len(recs); i++ {
		if uint64(recs[i].start) >= end {
			break
		}
		if recs[i].end() > start {
			return i
		}
	}
	return len(recs)
}

func (spanOps) TouchingKeys(keys []spanKey, from int, start, end uint64) int {
	for i := from; i < len(keys); i++ {
		if uint64(keys[i].start) >= end {
			break
		}
		if uint64(keys[i].high) > start {
			return i
		}
	}
	return len(keys)
}

type spanTree = Tree[span, spanKey, spanOps]

// smallTree has few records in a block, so that few records make many levels.
func smallTree(pages Pages, maxLeaf, maxNode int) *spanTree {
	l := newLayout[span, spanKey]()
	l.maxLeaf, l.maxNode = maxLeaf, maxNode
	return newTree[span, spanKey, spanOps](pages, 7, l)
}

// pairRec is the record of the plain trees under test.
type pairRec struct{ key, value uint32 }

type pairOps struct {
	Plain[pairRec, uint32, pairOps2]
	pairOps2
}

type pairOps2 struct{}

func (pairOps2) Key(p pairRec) uint32      { return p.key }
func (pairOps2) Compare(a, b uint32) int   { return cmp.Compare(a, b) }
func (pairOps2) Ascending(r []pairRec) int { return ascendingPairs(r) }
func (pairOps2) Find(r []pairRec, k uint32) int {
	return sort.Search(len(r), func(i int) bool { return r[i].key >= k })
}

func (pairOps2) Route(keys []uint32, k uint32) int {
	return sort.Search(len(keys), func(i int) bool { return keys[i] > k })
}

func ascendingPairs(r []pairRec) int {
	for i := 1; i < len(r); i++ {
		if r[i-1].key >= r[i].key {
			return i
		}
	}
	return len(r)
}

// twin is the dumb twin of a tree: a sorted slice.
type twin []span

func (t twin) find(k spanKey) (int, bool) {
	return slices.BinarySearchFunc(t, k, func(s span, k spanKey) int { return spanOps{}.Compare(keyOfSpan(s), k) })
}

func (t *twin) insert(s span) bool {
	i, ok := t.find(keyOfSpan(s))
	if !ok {
		*t = slices.Insert(*t, i, s)
	}
	return !ok
}

func (t *twin) remove(k spanKey) (span, bool) {
	i, ok := t.find(k)
	if !ok {
		return span{}, false
	}
	s := (*t)[i]
	*t = slices.Delete(*t, i, i+1)
	return s, true
}

func (t twin) replace(s span) (span, bool) {
	i, ok := t.find(keyOfSpan(s))
	if !ok {
		return span{}, false
	}
	old := t[i]
	t[i] = s
	return old, true
}

func (t twin) touching(start, end uint64) []span {
	var out []span
	for _, s := range t {
		if uint64(s.start) < end && s.end() > start {
			out = append(out, s)
		}
	}
	return out
}
