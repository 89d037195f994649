package xfile

import (
	"context"
	"fmt"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Sort brings the records into the order of compare, in place. Unset records
// are dropped: afterwards Len counts the set ones alone. The order of equal
// records is not defined.
//
// Errors: ctx's, [ErrBusy], [ErrClosed]. After an error the array still holds
// the same records, in some order.
func (a *Array[T]) Sort(ctx context.Context, compare func(x, y *T) int) error {
	a.use.Lock()
	defer a.use.Unlock()
	if a.views.Load() > 0 {
		return fmt.Errorf("sort %s: %w", a.f.name, ErrBusy)
	}
	if err := a.f.acquire(); err != nil {
		return err
	}
	defer a.f.release()
	if err := a.compact(ctx); err != nil {
		return err
	}
	all, unmap, err := a.mapAll()
	if err != nil {
		return err
	}
	defer unmap()
	return sortRecords(ctx, all, compare)
}

// compact closes up unset records.
func (a *Array[T]) compact(ctx context.Context) error {
	n := a.n.Load()
	var to int64
	for i := int64(0); i < n; i++ {
		if i%chunkRecords == 0 && ctx.Err() != nil {
			return ctx.Err()
		}
		if !a.f.holds(i*a.recSize, (i+1)*a.recSize) || isUnset(a.at(i)) {
			continue
		}
		if to < i {
			if err := a.f.extend(to*a.recSize, (to+1)*a.recSize); err != nil {
				return err
			}
			var zero T
			*a.at(to) = *a.at(i)
			*a.at(i) = zero
		}
		to++
	}
	return a.truncate(to)
}

// mapAll maps all records in one piece.
func (a *Array[T]) mapAll() ([]T, func(), error) {
	n := a.n.Load()
	if n == 0 {
		return nil, func() {}, nil
	}
	length := uintptr(pageUp(n * a.recSize))
	p, err := a.f.k.mmap(a.f.fd, 0, length, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return nil, nil, fmt.Errorf("map %d records of %s in one piece: %w", n, a.f.name, err)
	}
	mapped.add(a.f, 0, p, length)
	return unsafe.Slice((*T)(p), n), func() {
		mapped.remove(p)
		_ = unix.MunmapPtr(p, length)
	}, nil
}

// sortRecords is a heapsort.
func sortRecords[T any](ctx context.Context, s []T, compare func(x, y *T) int) error {
	for i := len(s)/2 - 1; i >= 0; i-- {
		siftDown(s, i, compare)
	}
	for i := len(s) - 1; i > 0; i-- {
		if i%chunkRecords == 0 && ctx.Err() != nil {
			return ctx.Err()
		}
		s[0], s[i] = s[i], s[0]
		siftDown(s[:i], 0, compare)
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
