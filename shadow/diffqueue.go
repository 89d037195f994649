package shadow

// edge is a block where the coverage of a line changes.
type edge struct {
	at uint64
	line
}

// edgeHeap is a binary heap, least block first.
type edgeHeap []edge

func (h edgeHeap) min() (uint64, bool) {
	if len(h) == 0 {
		return 0, false
	}
	return h[0].at, true
}

func (h *edgeHeap) push(e edge) {
	s := append(*h, e)
	*h = s
	i := len(s) - 1
	for i > 0 {
		up := (i - 1) / 2
		if s[up].at <= e.at {
			break
		}
		s[i] = s[up]
		i = up
	}
	s[i] = e
}

func (h *edgeHeap) pop() edge {
	s := *h
	top := s[0]
	n := len(s) - 1
	e := s[n]
	s = s[:n]
	*h = s
	for i := 0; n > 0; {
		down := 2*i + 1
		if down+1 < n && s[down+1].at < s[down].at {
			down++
		}
		if down >= n || e.at <= s[down].at {
			s[i] = e
			break
		}
		s[i] = s[down]
		i = down
	}
	return top
}

// diffQueue holds differences in order of their start; a slot is filled when
// its end is known.
type diffQueue struct {
	slots []slot
	first int    // slots before it have been popped
	base  uint64 // number of slots[0]
}

type slot struct {
	diff Difference
	run  *run // while not done
	done bool
}

func (q *diffQueue) len() int    { return len(q.slots) - q.first }
func (q *diffQueue) head() *slot { return &q.slots[q.first] }

// push returns the slot's number, which stays its name.
func (q *diffQueue) push(s slot) uint64 {
	q.slots = append(q.slots, s)
	return q.base + uint64(len(q.slots)) - 1
}

func (q *diffQueue) at(number uint64) *slot { return &q.slots[number-q.base] }

func (q *diffQueue) pop() slot {
	s := q.slots[q.first]
	q.first++
	if q.first == len(q.slots) || q.first > 1024 && 2*q.first > len(q.slots) {
		q.base += uint64(q.first)
		n := copy(q.slots, q.slots[q.first:])
		clear(q.slots[n:])
		q.slots, q.first = q.slots[:n], 0
	}
	return s
}
