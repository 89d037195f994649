package xfile

import "math/bits"

// bitmap says which pages of a file are held. It costs a bit for each page, in
// pieces that are made when the first page in them is held: 3.5 GB of records
// cost 108 KiB of heap, and so does a single record at the end of a long hole.
type bitmap struct {
	pieces []*[pieceWords]uint64 // nil: no bit set
	count  int64                 // bits set
}

const (
	pieceWords = 512
	pieceBits  = pieceWords * 64
)

// word returns the 64 bits around bit i.
func (m *bitmap) word(i int64) uint64 {
	if p := i / pieceBits; p < int64(len(m.pieces)) && m.pieces[p] != nil {
		return m.pieces[p][i%pieceBits/64]
	}
	return 0
}

// set sets the bits of [i, j) and returns how many were clear.
func (m *bitmap) set(i, j int64) (n int64) {
	for i < j {
		p := i / pieceBits
		for int64(len(m.pieces)) <= p {
			m.pieces = append(m.pieces, nil)
		}
		if m.pieces[p] == nil {
			m.pieces[p] = new([pieceWords]uint64)
		}
		w := &m.pieces[p][i%pieceBits/64]
		mask, next := wordMask(i, j)
		n += int64(bits.OnesCount64(mask &^ *w))
		*w |= mask
		i = next
	}
	m.count += n
	return n
}

// clear clears the bits of [i, j) and returns how many were set.
func (m *bitmap) clear(i, j int64) (n int64) {
	for i < j {
		p := i / pieceBits
		if p >= int64(len(m.pieces)) {
			break
		}
		if m.pieces[p] == nil {
			i = (p + 1) * pieceBits
			continue
		}
		w := &m.pieces[p][i%pieceBits/64]
		mask, next := wordMask(i, j)
		n += int64(bits.OnesCount64(mask & *w))
		*w &^= mask
		i = next
	}
	m.count -= n
	return n
}

// next returns the first bit in [i, j) that is as wanted, or j.
func (m *bitmap) next(i, j int64, want bool) int64 {
	for i < j {
		p := i / pieceBits
		if p >= int64(len(m.pieces)) || m.pieces[p] == nil {
			if !want {
				return i
			}
			if p >= int64(len(m.pieces)) {
				return j
			}
			i = (p + 1) * pieceBits
			continue
		}
		w := m.word(i)
		if !want {
			w = ^w
		}
		w &= ^uint64(0) << uint(i&63)
		if w != 0 {
			return min(j, i&^63+int64(bits.TrailingZeros64(w)))
		}
		i = i&^63 + 64
	}
	return j
}

// wordMask returns the bits of [i, j) in i's word, and where the next begins.
func wordMask(i, j int64) (mask uint64, next int64) {
	next = min(j, i&^63+64)
	mask = ^uint64(0) << uint(i&63)
	if r := next & 63; r != 0 {
		mask &= 1<<uint(r) - 1
	}
	return mask, next
}
