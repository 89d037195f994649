package xfile

import "math/bits"

// keyedSort is the radix sort behind [Array.SortKeyed].
type keyedSort[T any] struct {
	key     func(*T) uint64
	compare func(x, y *T) int
	team    *team
}

const (
	// smallKeyed is up to how many records are sorted by insertion.
	smallKeyed = 24
	// digitBits is the log of the most buckets that one worker uses at once:
	// as many places as the second-level cache and TLB follow.
	digitBits = 12
)

// sort sorts s with the whole team.
func (k *keyedSort[T]) sort(s []T) error { return k.level(s, 0) }

// level is sort after so many divisions.
func (k *keyedSort[T]) level(s []T, depth int) error {
	if len(s) < k.team.minShare {
		return k.team.run(1, func(int) error { return k.start()(s) })
	}
	var low, high uint64
	if depth < guessDepth {
		err := k.team.run(1, func(int) error {
			low, high = k.guess(s)
			return nil
		})
		if err != nil {
			return err
		}
	}
	if low == high {
		var err error
		if low, high, err = k.extremes(s); err != nil {
			return err
		}
	}
	if low == high {
		return (&compareSort[T]{compare: k.compare, team: k.team}).sort(s)
	}
	r := newRuler(low, high, 8)
	bounds, err := partition(k.team, s, r.last+1, func(b []T, out *[classBatch]uint8) {
		for i := range b {
			out[i&(classBatch-1)] = uint8(r.class(k.key(&b[i])))
		}
	}, false)
	if err != nil {
		return err
	}
	whole := func(part []T) error { return k.level(part, depth+1) }
	return sortParts(k.team, s, spans(bounds, 1), k.team.bigKeyed, whole, k.start)
}

// ruler divides a range of keys into equal classes; what lies outside of the
// range is in the first or last class.
type ruler struct {
	low   uint64
	shift int
	last  int // the highest class
}

// newRuler returns the ruler of up to 1<<width classes from low to high, two at
// least if they differ.
func newRuler(low, high uint64, width int) ruler {
	shift := max(0, bits.Len64(high-low)-width)
	return ruler{low, shift, int((high - low) >> shift)}
}

func (r *ruler) class(key uint64) int {
	return int(min((max(key, r.low)-r.low)>>(r.shift&63), uint64(r.last)))
}

// guess returns the lowest and highest of some keys of s. That is enough for a
// ruler and saves a pass; it is tried guessDepth times, lest strange keys make
// divisions that divide nearly nothing.
func (k *keyedSort[T]) guess(s []T) (low, high uint64) {
	low = ^uint64(0)
	for i := range guesses {
		key := k.key(&s[share(len(s), i, guesses)])
		low, high = min(low, key), max(high, key)
	}
	return low, high
}

const (
	guesses    = 512
	guessDepth = 3
	// guessMin is from how many records on one worker guesses.
	guessMin = 16 * guesses
)

// extremes returns the lowest and the highest key of s.
func (k *keyedSort[T]) extremes(s []T) (low, high uint64, err error) {
	workers := k.team.size
	lows, highs := make([]uint64, workers), make([]uint64, workers)
	err = k.team.run(workers, func(w int) error {
		lo, hi := ^uint64(0), uint64(0)
		mine := s[share(len(s), w, workers):share(len(s), w+1, workers)]
		sweep, block := newStream(k.team.read), blockFor[T](workers)
		for i := range mine {
			if i%chunkRecords == 0 && k.team.stopped() {
				return k.team.err()
			}
			if i >= sweep.mark {
				ask(k.team.read, mine, &sweep, i, len(mine), block)
			}
			key := k.key(&mine[i])
			lo, hi = min(lo, key), max(hi, key)
		}
		lows[w], highs[w] = lo, hi
		return nil
	})
	low, high = ^uint64(0), 0
	for w := range workers {
		low, high = min(low, lows[w]), max(high, highs[w])
	}
	return low, high, err
}

// start returns the sort of one worker.
func (k *keyedSort[T]) start() func([]T) error {
	w := &keyedWorker[T]{keyedSort: k}
	return func(s []T) error { return w.sort(s, 0) }
}

// keyedWorker sorts ranges with one goroutine.
type keyedWorker[T any] struct {
	*keyedSort[T]
	digits []*digit // by depth, made when first needed
	held   T        // the record being inserted; here, because compare may keep its argument
}

// digit is the bucket table of one level.
type digit struct {
	head, end [1 << digitBits]int32
}

// sort sorts s by the bits of the key that differ in it, most significant
// first. Every level without a guess takes at least two bits, or ends.
func (w *keyedWorker[T]) sort(s []T, depth int) error {
	if len(s) <= smallKeyed {
		w.insert(s)
		return nil
	}
	if w.team.stopped() {
		return w.team.err()
	}
	var low, high uint64
	if len(s) >= guessMin && depth < guessDepth {
		low, high = w.guess(s)
	}
	if low == high {
		low, high = ^uint64(0), 0
		for i := range s {
			key := w.key(&s[i])
			low, high = min(low, key), max(high, key)
		}
	}
	if low == high {
		return introsort(w.team, s, w.compare)
	}
	if depth == len(w.digits) {
		w.digits = append(w.digits, new(digit))
	}
	d := w.digits[depth]
	r := newRuler(low, high, min(max(bits.Len(uint(len(s)))-4, 2), digitBits))
	if !w.spread(s, d, r) {
		return ErrOrder
	}
	begin := int32(0)
	for _, end := range d.end[:r.last+1] {
		if end-begin > 1 {
			if err := w.sort(s[begin:end], depth+1); err != nil {
				return err
			}
		}
		begin = end
	}
	return nil
}

// spread swaps the records of s to their classes, and leaves their ends in d. It
// says false if the key of a record changed between two calls.
func (w *keyedWorker[T]) spread(s []T, d *digit, r ruler) bool {
	const mask = 1<<digitBits - 1
	head, end := &d.head, &d.end
	clear(head[:r.last+1])
	for i := range s {
		head[r.class(w.key(&s[i]))&mask]++
	}
	at := int32(0)
	for c := range r.last + 1 {
		count := head[c]
		head[c] = at
		at += count
		end[c] = at
	}
	for placed := 0; placed < len(s); {
		was := placed
		for c := range r.last + 1 {
			// Each step puts one record in place; what it brings to i comes
			// to its turn in the next round.
			for i, last := head[c], end[c]; i < last; i++ {
				to := r.class(w.key(&s[i])) & mask
				j := head[to]
				if j >= end[to] {
					continue
				}
				head[to] = j + 1
				s[i], s[j] = s[j], s[i]
				placed++
			}
		}
		if placed == was {
			return false
		}
	}
	return true
}

// insert sorts up to smallKeyed records, asking for every key once.
func (w *keyedWorker[T]) insert(s []T) {
	var keys [smallKeyed]uint64
	for i := range s {
		keys[i] = w.key(&s[i])
	}
	for i := 1; i < len(s); i++ {
		key := keys[i]
		if keys[i-1] < key {
			continue
		}
		w.held = s[i]
		j := i
		for j > 0 && (keys[j-1] > key || keys[j-1] == key && w.compare(&s[j-1], &w.held) > 0) {
			keys[j] = keys[j-1]
			s[j] = s[j-1]
			j--
		}
		keys[j] = key
		s[j] = w.held
	}
}
