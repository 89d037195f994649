package xfile

import "unsafe"

// sortParts sorts parts of s: those of big bytes and more one after the other
// by whole, with the whole team; the small ones between them at the same time,
// by what each worker gets from start. It goes from left to right, so that what
// has come into memory is finished before the next is touched.
func sortParts[T any](t *team, s []T, parts []span, big int, whole func([]T) error, start func() func([]T) error) error {
	isBig := func(p span) bool { return byteLen(s[p.lo:p.hi]) >= big }
	for len(parts) > 0 {
		if p := parts[0]; isBig(p) {
			if err := whole(s[p.lo:p.hi]); err != nil {
				return err
			}
			parts = parts[1:]
			continue
		}
		n := 0
		for n < len(parts) && !isBig(parts[n]) {
			n++
		}
		small := parts[:n]
		err := t.each(n, func() func(int) error {
			sort := start()
			return func(i int) error {
				part := s[small[i].lo:small[i].hi]
				need(t.read, part)
				return sort(part)
			}
		})
		if err != nil {
			return err
		}
		parts = parts[n:]
	}
	return nil
}

// span is the records from lo to hi.
type span struct{ lo, hi int }

// spans returns every step-th range between bounds that is worth sorting.
func spans(bounds []int, step int) []span {
	var all []span
	for c := 0; c+1 < len(bounds); c += step {
		if bounds[c+1]-bounds[c] > 1 {
			all = append(all, span{bounds[c], bounds[c+1]})
		}
	}
	return all
}

// byteLen returns the bytes of s.
func byteLen[T any](s []T) int {
	var zero T
	return len(s) * int(unsafe.Sizeof(zero))
}
