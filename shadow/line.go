package shadow

import "cmp"

// line names a line of the normal form: all mappings that could continue one
// another.
//
// place joins the three flag bits with the distance offset − startblock taken
// modulo 2^61, or with 0 where the offset means nothing. Neither an inode's
// data fork and a bmbt block nor an inode and another owner can meet in the
// same place by accident: they differ in a flag or in the owner.
type line struct {
	owner uint64
	place uint64
}

// lineOf is the line on which r lies.
func lineOf(r *Rmap) line {
	if !r.HasOffset() {
		return line{r.Owner, r.Offset & offsetFlags}
	}
	return line{r.Owner, r.Offset&offsetFlags | (r.Offset-uint64(r.StartBlock))&offsetBits}
}

// rmap is the mapping of blocks [start, end) on the line.
func (l line) rmap(start, end uint64) Rmap {
	r := Rmap{StartBlock: uint32(start), BlockCount: uint32(end - start), Owner: l.owner, Offset: l.flags()}
	if r.HasOffset() {
		r.Offset |= (l.place + start) & offsetBits
	}
	return r
}

func (l line) flags() uint64 { return l.place & offsetFlags }

func compareLines(a, b line) int {
	if c := cmp.Compare(a.owner, b.owner); c != 0 {
		return c
	}
	return cmp.Compare(a.place, b.place)
}

// hash spreads lines over 64 bits: owners are often neighbours, and so are
// places.
func (l line) hash() uint64 {
	h := (l.owner ^ 0x9e3779b97f4a7c15) * 0xff51afd7ed558ccd
	h ^= h >> 32
	h = (h ^ l.place) * 0xc4ceb9fe1a85ec53
	return h ^ h>>29
}

// The two sides of a comparison.
const (
	claimSide  = 0
	kernelSide = 1
)

// lineState is what a sweep knows about one line: how far each side covers it.
// At sweep position x the line is covered by a side in [x, end[side]), empty if
// end[side] <= x: every record seen so far began at or before x.
type lineState struct {
	line
	end  [2]uint64
	open *openLine // not nil while exactly one side covers the line
	// seen is the position of the last step that touched the line, plus one, and
	// before says which sides covered the block just before that position.
	seen   uint64
	before [2]bool
}

func (s *lineState) last() uint64 { return max(s.end[claimSide], s.end[kernelSide]) }

// lineTable is a hash table of line states with open addressing. States are
// not deleted: a state whose coverage ended before the sweep's position counts
// as absent and is dropped when the table is next rebuilt, so that the table
// stays within four times the lines active at once.
type lineTable struct {
	slots []lineState // empty slot: last() == 0; len is a power of two
	spare []lineState // the array before the last rebuild, all empty
	used  int
}

const lineTableMin = 64

// get returns the state of l or nil. The pointer is good until the next put.
func (t *lineTable) get(l line) *lineState {
	if len(t.slots) == 0 {
		return nil
	}
	mask := uint64(len(t.slots) - 1)
	for i := l.hash() & mask; ; i = (i + 1) & mask {
		s := &t.slots[i]
		if s.last() == 0 {
			return nil
		}
		if s.line == l {
			return s
		}
	}
}

// put returns the state of l; a state that is new, or that ended before x, comes
// back with both ends 0: the caller gives at least one side an end before the
// next call. The pointer is good until the next put.
func (t *lineTable) put(l line, x uint64) *lineState {
	if 2*(t.used+1) > len(t.slots) {
		t.rebuild(x)
	}
	mask := uint64(len(t.slots) - 1)
	for i := l.hash() & mask; ; i = (i + 1) & mask {
		s := &t.slots[i]
		switch {
		case s.last() == 0:
			t.used++
			*s = lineState{line: l}
			return s
		case s.line != l:
		case s.last() < x:
			*s = lineState{line: l}
			return s
		default:
			return s
		}
	}
}

// rebuild drops the states that ended before x and makes room.
func (t *lineTable) rebuild(x uint64) {
	old := t.slots
	live := 0
	for i := range old {
		if old[i].last() >= x && old[i].last() != 0 {
			live++
		}
	}
	n := lineTableMin
	for n < 4*(live+1) {
		n *= 2
	}
	if len(t.spare) == n {
		t.slots = t.spare
	} else {
		t.slots = make([]lineState, n)
	}
	t.used = live
	mask := uint64(n - 1)
	for i := range old {
		if old[i].last() < x || old[i].last() == 0 {
			continue
		}
		j := old[i].hash() & mask
		for t.slots[j].last() != 0 {
			j = (j + 1) & mask
		}
		t.slots[j] = old[i]
	}
	clear(old)
	t.spare = old
}
