package xfile

import "math/bits"

const (
	// insertMax is up to how many records introsort inserts.
	insertMax = 12
	// stopCheck is from how many records on a partition asks whether to stop.
	stopCheck = 1 << 10
)

// introsort sorts s with one goroutine: quicksort with the median of nine as
// its pivot, insertion for short ranges, heapsort where pivots keep failing.
// Records are only ever swapped, so that s holds all of them at any time.
//
// slices.SortFunc would have every record copied to the heap for a compare that
// takes pointers.
func introsort[T any](t *team, s []T, compare func(x, y *T) int) error {
	if inOrder(s, compare) {
		return nil
	}
	return quicksort(t, s, compare, 2*bits.Len(uint(len(s))))
}

func inOrder[T any](s []T, compare func(x, y *T) int) bool {
	for i := 1; i < len(s); i++ {
		if compare(&s[i-1], &s[i]) > 0 {
			return false
		}
	}
	return true
}

func quicksort[T any](t *team, s []T, compare func(x, y *T) int, depth int) error {
	for len(s) > insertMax {
		if len(s) >= stopCheck && t.stopped() {
			return t.err()
		}
		if depth == 0 {
			return heapsort(t, s, compare)
		}
		depth--
		m := split(s, compare)
		// The shorter side goes deeper, so that the stack stays short.
		short, long := s[:m], s[m+1:]
		if len(short) > len(long) {
			short, long = long, short
		}
		if err := quicksort(t, short, compare, depth); err != nil {
			return err
		}
		s = long
	}
	for i := 1; i < len(s); i++ {
		for j := i; j > 0 && compare(&s[j-1], &s[j]) > 0; j-- {
			s[j-1], s[j] = s[j], s[j-1]
		}
	}
	return nil
}

// split moves a pivot to m so that nothing before it is greater and nothing
// after it less, and returns m. Records equal to the pivot stop both sides, so
// that equal records are halved and not piled up.
func split[T any](s []T, compare func(x, y *T) int) (m int) {
	p := ninther(s, compare)
	s[0], s[p] = s[p], s[0]
	i, j := 1, len(s)-1
	for {
		for i <= j && compare(&s[i], &s[0]) < 0 {
			i++
		}
		for i <= j && compare(&s[j], &s[0]) > 0 {
			j--
		}
		if i >= j {
			break
		}
		s[i], s[j] = s[j], s[i]
		i++
		j--
	}
	s[0], s[j] = s[j], s[0]
	return j
}

// ninther returns the index of the median of three medians of three.
func ninther[T any](s []T, compare func(x, y *T) int) int {
	n := len(s)
	if n < 64 {
		return median(s, 0, n/2, n-1, compare)
	}
	e := n / 8
	return median(s,
		median(s, 0, e, 2*e, compare),
		median(s, n/2-e, n/2, n/2+e, compare),
		median(s, n-1-2*e, n-1-e, n-1, compare), compare)
}

func median[T any](s []T, a, b, c int, compare func(x, y *T) int) int {
	if compare(&s[b], &s[a]) < 0 {
		a, b = b, a
	}
	if compare(&s[c], &s[b]) < 0 {
		b = c
		if compare(&s[b], &s[a]) < 0 {
			b = a
		}
	}
	return b
}

func heapsort[T any](t *team, s []T, compare func(x, y *T) int) error {
	for i := len(s)/2 - 1; i >= 0; i-- {
		if i%stopCheck == 0 && t.stopped() {
			return t.err()
		}
		siftDown(s, i, compare)
	}
	for n := len(s) - 1; n > 0; n-- {
		if n%stopCheck == 0 && t.stopped() {
			return t.err()
		}
		s[0], s[n] = s[n], s[0]
		siftDown(s[:n], 0, compare)
	}
	return nil
}

func siftDown[T any](s []T, i int, compare func(x, y *T) int) {
	for {
		c := 2*i + 1
		if c >= len(s) {
			return
		}
		if c+1 < len(s) && compare(&s[c], &s[c+1]) < 0 {
			c++
		}
		if compare(&s[i], &s[c]) >= 0 {
			return
		}
		s[i], s[c] = s[c], s[i]
		i = c
	}
}
