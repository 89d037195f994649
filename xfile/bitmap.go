package xfile

import "math/bits"

// bitmap says which pages of a file are held. One bit a page: 3.5 GB of
// records cost 107 KiB of heap.
type bitmap struct {
	words []uint64
	count int64 // bits set
}

func (m *bitmap) has(i int64) bool {
	w := i >> 6
	return w < int64(len(m.words)) && m.words[w]&(1<<uint(i&63)) != 0
}

// set sets the bits of [i, j) and returns how many were clear.
func (m *bitmap) set(i, j int64) int64 {
	if j <= i {
		return 0
	}
	for int64(len(m.words)) < (j+63)>>6 {
		m.words = append(m.words, 0)
	}
	var n int64
	for i < j {
		mask, next := wordMask(i, j)
		w := &m.words[i>>6]
		n += int64(bits.OnesCount64(mask &^ *w))
		*w |= mask
		i = next
	}
	m.count += n
	return n
}

// clear clears the bits of [i, j) and returns how many were set.
func (m *bitmap) clear(i, j int64) int64 {
	j = min(j, int64(len(m.words))<<6)
	var n int64
	for i < j {
		mask, next := wordMask(i, j)
		w := &m.words[i>>6]
		n += int64(bits.OnesCount64(mask & *w))
		*w &^= mask
		i = next
	}
	m.count -= n
	return n
}

// next returns the first page in [i, j) whose bit is as wanted, or j.
func (m *bitmap) next(i, j int64, want bool) int64 {
	for i < j {
		var w uint64
		if x := i >> 6; x < int64(len(m.words)) {
			w = m.words[x]
		} else if !want {
			return i
		} else {
			return j
		}
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
