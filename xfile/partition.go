package xfile

import (
	"errors"
	"math/bits"
)

// ErrOrder means that a compare or key function contradicts itself.
var ErrOrder = errors.New("compare or key function is not consistent")

// maxClasses bounds the classes of one partition: a class fits in a byte, and
// the places that a pass writes to fit in the first levels of cache and TLB.
const maxClasses = 256

// classBatch is how many records are classified in one call.
const classBatch = 64

// classifier writes the class of every record of s, less than the number of
// classes, to out, which is as long as s.
type classifier[T any] func(s []T, out *[classBatch]uint8)

// partition moves the records of s so that classes stand in ascending order,
// and returns where each begins; bounds[classes] is len(s).
//
// It is the parallel in-place distribution that PARADIS describes (Cho et al.,
// VLDB 2015): every class's place is divided among the workers, each worker
// swaps records between its own parts alone until nothing more fits, and the
// records that found their parts full are the input of the next, much smaller,
// round. Only swaps are made, so that it can be stopped at any time.
//
// A classifier that is costly is asked only once for each record if remember is
// set; that takes a byte of heap for each, and so is done up to rememberMax.
func partition[T any](t *team, s []T, classes int, classify classifier[T], remember bool) (bounds []int, err error) {
	var known []uint8
	if remember && len(s) <= rememberMax {
		known = make([]uint8, len(s))
	}
	bounds, err = countClasses(t, s, classes, classify, known)
	if err != nil {
		return nil, err
	}
	// left[c] is where the part of class c begins that is not in place yet.
	left := make([]int, classes)
	copy(left, bounds)
	workers := t.size
	for remain := len(s); remain > 0; {
		if remain < t.minShare*workers {
			workers = 1
		}
		if t.stopped() {
			return nil, t.err()
		}
		parts := make([]parts, workers)
		err := t.run(workers, func(w int) error {
			p := &parts[w]
			p.divide(left, bounds, w, workers)
			for c := range left {
				p.heads[c] = newStream(t.read)
			}
			return distribute(t, s, p, classify, known)
		})
		if err != nil {
			return nil, err
		}
		if err := gather(t, s, left, parts, known); err != nil {
			return nil, err
		}
		was := remain
		remain = 0
		for c := range classes {
			remain += bounds[c+1] - left[c]
		}
		if remain > 0 && workers == 1 {
			return nil, ErrOrder // one worker has room for everything
		}
		if remain > was/2 {
			workers = 1
		}
	}
	return bounds, nil
}

// rememberMax is up to how many records their classes are remembered.
const rememberMax = 16 << 20

// countClasses returns the bounds that partition returns, and writes the class
// of every record to known, if there is room for them.
func countClasses[T any](t *team, s []T, classes int, classify classifier[T], known []uint8) ([]int, error) {
	workers := min(t.size, len(s)/t.minShare+1)
	counts := make([][maxClasses]int, workers)
	err := t.run(workers, func(w int) error {
		begin := share(len(s), w, workers)
		mine := s[begin:share(len(s), w+1, workers)]
		var class [classBatch]uint8
		sweep, block := newStream(t.read), blockFor[T](workers)
		for i := 0; i < len(mine); i += classBatch {
			if i >= sweep.mark {
				ask(t.read, mine, &sweep, i, len(mine), block)
			}
			if i%(classBatch<<8) == 0 && t.stopped() {
				return t.err()
			}
			n := min(classBatch, len(mine)-i)
			classify(mine[i:i+n], &class)
			for _, c := range class[:n] {
				counts[w][c]++
			}
			if known != nil {
				copy(known[begin+i:], class[:n])
			}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	bounds := make([]int, classes+1)
	for c := range classes {
		bounds[c+1] = bounds[c]
		for w := range workers {
			bounds[c+1] += counts[w][c]
		}
	}
	if bounds[classes] != len(s) {
		return nil, ErrOrder
	}
	return bounds, nil
}

// parts is one worker's share of every class's place: [begin, end), of which
// [begin, head) holds records of the class already.
type parts struct {
	classes          int
	begin, head, end [maxClasses]int
	heads            [maxClasses]stream
}

func (p *parts) divide(left, bounds []int, w, workers int) {
	p.classes = len(left)
	for c := range left {
		n := bounds[c+1] - left[c]
		p.begin[c] = left[c] + share(n, w, workers)
		p.head[c] = p.begin[c]
		p.end[c] = left[c] + share(n, w+1, workers)
	}
}

// share is n*w/workers without overflow.
func share(n, w, workers int) int {
	hi, lo := bits.Mul64(uint64(n), uint64(w))
	q, _ := bits.Div64(hi, lo, uint64(workers))
	return int(q)
}

// distribute swaps records to their classes' parts until a sweep over all that
// are not in place moves nothing.
func distribute[T any](t *team, s []T, p *parts, classify classifier[T], known []uint8) error {
	var class [classBatch]uint8
	block := blockFor[T](p.classes * t.size)
	for moved := true; moved; {
		moved = false
		for c := range p.classes {
			sweep := newStream(t.read)
			for i := p.head[c]; i < p.end[c]; i += classBatch {
				if i >= sweep.mark {
					ask(t.read, s, &sweep, i, p.end[c], block)
				}
				if i%(classBatch<<8) < classBatch && t.stopped() {
					return t.err()
				}
				n := min(classBatch, p.end[c]-i)
				if known != nil {
					copy(class[:n], known[i:])
				} else {
					classify(s[i:i+n], &class)
				}
				for k := range n {
					d := class[k]
					j := p.head[d]
					if j < p.end[d] {
						if j >= p.heads[d].mark {
							ask(t.read, s, &p.heads[d], j, p.end[d], block)
						}
						p.head[d] = j + 1
						s[i+k], s[j] = s[j], s[i+k]
						if known != nil {
							known[i+k], known[j] = known[j], known[i+k]
						}
						moved = true
					}
				}
			}
		}
	}
	return nil
}

// gather brings what each worker has put in place to the front of its class,
// and moves left over it.
func gather[T any](t *team, s []T, left []int, all []parts, known []uint8) error {
	if len(all) == 1 {
		copy(left, all[0].head[:len(left)])
		return nil
	}
	return t.each(len(left), func() func(int) error {
		return func(c int) error {
			// lo runs up over records that are not in place, hi down over those
			// that are, from both ends of the class, worker by worker.
			var holes, fills []span
			for w := range all {
				holes = append(holes, span{all[w].head[c], all[w].end[c]})
				fills = append(fills, span{all[w].begin[c], all[w].head[c]})
			}
			good := left[c]
			for _, f := range fills {
				good += f.hi - f.lo
			}
			h, f := 0, len(fills)-1
			for h < len(holes) && f >= 0 {
				hole, fill := &holes[h], &fills[f]
				switch {
				case hole.lo >= hole.hi || hole.lo >= good:
					h++
				case fill.lo >= fill.hi || fill.hi <= good:
					f--
				default:
					fill.hi--
					s[hole.lo], s[fill.hi] = s[fill.hi], s[hole.lo]
					if known != nil {
						known[hole.lo], known[fill.hi] = known[fill.hi], known[hole.lo]
					}
					hole.lo++
				}
			}
			left[c] = good
			return nil
		}
	})
}
