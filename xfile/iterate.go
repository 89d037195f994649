package xfile

import (
	"context"
	"iter"
)

// chunkRecords bounds a chunk, so that a consumer's context is looked at often
// enough and the pages it has seen can go.
const chunkRecords = 4096

// Chunks iterates over all set records in order, as views into the mapping
// that are valid until the next step: nothing is copied, and changing a record
// changes the array. Records appended after the first step are not seen.
//
// Shape: every chunk has 1 to 4096 records, none of them unset; holes are not
// read. An error comes last, with a nil chunk.
// Errors: ctx's; [ErrClosed].
func (a *Array[T]) Chunks(ctx context.Context) iter.Seq2[[]T, error] {
	return func(yield func([]T, error) bool) {
		n, err := a.view()
		if err != nil {
			yield(nil, err)
			return
		}
		defer a.unview()
		for i := int64(0); i < n; {
			if err := ctx.Err(); err != nil {
				yield(nil, err)
				return
			}
			lo, hi, err := a.f.nextHeld(i*a.recSize, n*a.recSize)
			if err != nil {
				yield(nil, err)
				return
			}
			if lo == hi {
				return
			}
			// All pages of a record are held before it is stored, so that one
			// that is held in part was never stored.
			i = (lo + a.recSize - 1) / a.recSize
			end := min(hi/a.recSize, i+chunkRecords)
			if i >= end {
				i = (hi + a.recSize - 1) / a.recSize
			}
			for i < end {
				s := a.span(i, end)
				i += int64(len(s))
				if !yieldSet(s, yield) {
					return
				}
			}
		}
	}
}

// view opens an iteration and returns how many records it is to see.
func (a *Array[T]) view() (int64, error) {
	a.use.RLock()
	defer a.use.RUnlock()
	if err := a.f.acquire(); err != nil {
		return 0, err
	}
	a.views.Add(1)
	return a.n.Load(), nil
}

func (a *Array[T]) unview() {
	a.views.Add(-1)
	a.f.release()
}

// yieldSet yields the runs of set records in s.
func yieldSet[T any](s []T, yield func([]T, error) bool) bool {
	for len(s) > 0 {
		n := 0
		for n < len(s) && !isUnset(&s[n]) {
			n++
		}
		if n > 0 && !yield(s[:n:n], nil) {
			return false
		}
		for n < len(s) && isUnset(&s[n]) {
			n++
		}
		s = s[n:]
	}
	return true
}

// All iterates over all set records in order, by value; see [Array.Chunks].
func (a *Array[T]) All(ctx context.Context) iter.Seq2[T, error] {
	return func(yield func(T, error) bool) {
		for chunk, err := range a.Chunks(ctx) {
			if err != nil {
				var zero T
				yield(zero, err)
				return
			}
			for i := range chunk {
				if !yield(chunk[i], nil) {
					return
				}
			}
		}
	}
}
