package shadow

import "cmp"

// rmapKey is the key of an rmap tree, with the high key of the blocks below it
// where the on-disk record has its length.
type rmapKey struct {
	start  uint32
	high   uint32 // the greatest end below
	owner  uint64
	offset uint64 // without the unwritten bit
}

func keyOf(r Rmap) rmapKey {
	return rmapKey{r.StartBlock, r.StartBlock + r.BlockCount, r.Owner, r.Offset &^ OffsetUnwritten}
}

// rmapOps orders the records of an rmap tree.
type rmapOps struct{}

func (rmapOps) Key(r Rmap) rmapKey { return keyOf(r) }

func (rmapOps) Compare(a, b rmapKey) int {
	if a.start != b.start {
		return cmp.Compare(a.start, b.start)
	}
	if a.owner != b.owner {
		return cmp.Compare(a.owner, b.owner)
	}
	return cmp.Compare(a.offset, b.offset)
}

func (rmapOps) Find(recs []Rmap, k rmapKey) int {
	start := k.start
	lo, n := 0, len(recs)
	for n > 0 {
		half := n / 2
		if recs[lo+half].StartBlock < start {
			lo += half + 1
			n -= half + 1
		} else {
			n = half
		}
	}
	for lo < len(recs) && recs[lo].StartBlock == start &&
		(recs[lo].Owner < k.owner || recs[lo].Owner == k.owner && recs[lo].Offset&^OffsetUnwritten < k.offset) {
		lo++
	}
	return lo
}

func (rmapOps) Route(keys []rmapKey, k rmapKey) int {
	start := k.start
	lo, n := 0, len(keys)
	for n > 0 {
		half := n / 2
		if keys[lo+half].start < start {
			lo += half + 1
			n -= half + 1
		} else {
			n = half
		}
	}
	for lo < len(keys) && keys[lo].start == start &&
		(keys[lo].owner < k.owner || keys[lo].owner == k.owner && keys[lo].offset <= k.offset) {
		lo++
	}
	return lo
}

func (rmapOps) Ascending(recs []Rmap) int {
	for i := 1; i < len(recs); i++ {
		if recs[i-1].StartBlock < recs[i].StartBlock {
			continue
		}
		if Compare(&recs[i-1], &recs[i]) >= 0 {
			return i
		}
	}
	return len(recs)
}

func (rmapOps) Cover(recs []Rmap) rmapKey {
	k := keyOf(recs[0])
	for i := range recs {
		k.high = max(k.high, recs[i].StartBlock+recs[i].BlockCount)
	}
	return k
}

func (rmapOps) CoverKeys(keys []rmapKey) rmapKey {
	k := keys[0]
	for i := range keys {
		k.high = max(k.high, keys[i].high)
	}
	return k
}

func (o rmapOps) Widen(e, k rmapKey) rmapKey {
	high := max(e.high, k.high)
	if o.Compare(k, e) < 0 {
		e = k
	}
	e.high = high
	return e
}

func (o rmapOps) Holds(e, k rmapKey) bool { return k.high >= e.high || o.Compare(e, k) == 0 }

func (rmapOps) Touching(recs []Rmap, from int, start, end uint64) int {
	for i := from; i < len(recs); i++ {
		if uint64(recs[i].StartBlock) >= end {
			break
		}
		if recs[i].End() > start {
			return i
		}
	}
	return len(recs)
}

func (rmapOps) TouchingKeys(keys []rmapKey, from int, start, end uint64) int {
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
