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
		gaps := a.gaps.Load()
		for i := int64(0); i < n; {
			from, end, err := a.nextSpan(i, n)
			for i = from; err == nil && i < end; {
				if err = a.goOn(ctx); err != nil {
					break
				}
				s := a.span(i, min(end, i+chunkRecords))
				i += int64(len(s))
				if !yieldSet(s, gaps, yield) {
					return
				}
			}
			if err != nil {
				yield(nil, err)
				return
			}
		}
	}
}

// goOn says why an iteration must end, if it must.
func (a *Array[T]) goOn(ctx context.Context) error {
	if a.closed.Load() {
		return a.f.errClosed()
	}
	return ctx.Err()
}

// nextSpan returns the first range of records in [i, n) that are held whole; it
// is empty, at n, if there is none. All pages of a record are held before it is
// stored, so that one that is held in part was never stored.
func (a *Array[T]) nextSpan(i, n int64) (from, end int64, err error) {
	for i < n {
		lo, hi, err := a.f.nextHeld(i*a.recSize, n*a.recSize)
		if err != nil {
			return n, n, err
		}
		from, end = (lo+a.recSize-1)/a.recSize, hi/a.recSize
		if from < end {
			return from, end, nil
		}
		i = (hi + a.recSize - 1) / a.recSize
	}
	return n, n, nil
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

// yieldSet yields the runs of set records in s, which may have gaps or not.
func yieldSet[T any](s []T, gaps bool, yield func([]T, error) bool) bool {
	if !gaps {
		return yield(s[:len(s):len(s)], nil)
	}
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
