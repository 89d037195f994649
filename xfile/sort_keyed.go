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
func (k *keyedSort[T]) sort(s []T) error {
	if len(s) < k.team.minShare {
		return k.team.run(1, func(int) error { return k.start()(s) })
	}
	low, high, err := k.extremes(s)
	if err != nil {
		return err
	}
	if low == high {
		return (&compareSort[T]{compare: k.compare, team: k.team}).sort(s)
	}
	shift := max(0, bits.Len64(high-low)-8)
	bounds, err := partition(k.team, s, int((high-low)>>shift)+1, func(b []T, out *[classBatch]uint8) {
		for i := range b {
			out[i&(classBatch-1)] = uint8((k.key(&b[i]) - low) >> shift)
		}
	}, false)
	if err != nil {
		return err
	}
	return sortParts(k.team, s, spans(bounds, 1), k.team.bigKeyed, k.sort, k.start)
}

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
// first. Every level takes at least two bits, or ends.
func (w *keyedWorker[T]) sort(s []T, depth int) error {
	if len(s) <= smallKeyed {
		w.insert(s)
		return nil
	}
	if w.team.stopped() {
		return w.team.err()
	}
	low, high := ^uint64(0), uint64(0)
	for i := range s {
		key := w.key(&s[i])
		low, high = min(low, key), max(high, key)
	}
	if low == high {
		return introsort(w.team, s, w.compare)
	}
	width := min(max(bits.Len(uint(len(s)))-4, 2), digitBits)
	shift := max(0, bits.Len64(high-low)-width)
	if depth == len(w.digits) {
		w.digits = append(w.digits, new(digit))
	}
	d := w.digits[depth]
	if !w.spread(s, d, low, shift, int((high-low)>>shift)+1) {
		return ErrOrder
	}
	begin := int32(0)
	for _, end := range d.end[:int((high-low)>>shift)+1] {
		if end-begin > 1 {
			if err := w.sort(s[begin:end], depth+1); err != nil {
				return err
			}
		}
		begin = end
	}
	return nil
}

// spread swaps the records of s into n buckets, and leaves their ends in d. It
// says false if the key of a record changed between two calls.
func (w *keyedWorker[T]) spread(s []T, d *digit, low uint64, shift, n int) bool {
	const mask = 1<<digitBits - 1
	head, end := &d.head, &d.end
	clear(head[:n])
	for i := range s {
		head[(w.key(&s[i])-low)>>shift&mask]++
	}
	at := int32(0)
	for b := range n {
		count := head[b]
		head[b] = at
		at += count
		end[b] = at
	}
	if int(at) != len(s) {
		return false
	}
	for placed := 0; placed < len(s); {
		was := placed
		for b := range n {
			// Each step puts one record in place; what it brings to i comes
			// to its turn in the next round.
			for i, last := head[b], end[b]; i < last; i++ {
				to := (w.key(&s[i]) - low) >> shift & mask
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
