package xfile

import (
	"context"
	"fmt"
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Sort brings the records into the order of compare, which says less (< 0),
// equal (0) or greater (> 0), in place, on all cores that GOMAXPROCS allows.
// Unset records are dropped: afterwards Len counts the set ones alone. The order
// of equal records is not defined. compare is called from several goroutines
// and must not touch the array.
//
// Shape: samples split the records into ranges that are moved to their places
// with swaps alone and then sorted each for itself, so that a pass over the
// data is sequential in a few places at a time, which is what swapped pages
// need. It takes no space in the array's budget; of the heap it takes a byte for
// each record, 16 MiB at most, and less than 1 MiB for each core.
// [Array.SortKeyed] is several times faster where it can be used.
//
// Errors: ctx's, [ErrBusy] while an iteration is open, [ErrClosed], a
// [*FaultError] if a page cannot be read, [ErrOrder]. After ctx's error the
// array still holds the same records, in some order.
func (a *Array[T]) Sort(ctx context.Context, compare func(x, y *T) int) error {
	return a.sort(ctx, func(s []T, t *team) error {
		return (&compareSort[T]{compare: compare, team: t}).sort(s)
	})
}

// SortKeyed is Sort for an order whose first part is a number: wherever
// key(x) < key(y), compare(x, y) must be less than 0. compare is asked only about
// records with equal keys, so the more of the order is in the key the better; a
// key that is the whole order may go with a compare that always returns 0.
//
// For the rmap order (startblock, owner, offset), startblock<<32 | owner>>32 is
// such a key, and so is startblock alone.
//
// Shape: an in-place radix sort, from the most significant bits that differ. It
// takes less than 1 MiB of heap for each core. Everything else is as for
// [Array.Sort].
func (a *Array[T]) SortKeyed(ctx context.Context, key func(*T) uint64, compare func(x, y *T) int) error {
	return a.sort(ctx, func(s []T, t *team) error {
		return (&keyedSort[T]{key: key, compare: compare, team: t}).sort(s)
	})
}

// sort locks the array, closes up unset records, maps the rest in one piece and
// runs one of the sorts on it.
func (a *Array[T]) sort(ctx context.Context, run func([]T, *team) error) error {
	a.use.Lock()
	defer a.use.Unlock()
	if a.views.Load() > 0 {
		return fmt.Errorf("sort %s: %w", a.f.name, ErrBusy)
	}
	if err := a.f.acquire(); err != nil {
		return err
	}
	defer a.f.release()
	if err := ctx.Err(); err != nil {
		return err
	}
	team, done := newTeam(ctx, runtime.GOMAXPROCS(0))
	defer done()
	err := Guard(func() error { return a.compact(team) })
	if err == nil {
		var all []T
		var unmap func()
		all, unmap, err = a.mapAll()
		if err == nil {
			defer unmap()
			team.read = newReader(a.f.k, a.f.place, all)
			err = run(all, team)
		}
	}
	if err != nil {
		return fmt.Errorf("sort %d records of %s: %w", a.n.Load(), a.f.name, err)
	}
	return nil
}

// compact moves all set records to the front and drops the rest.
func (a *Array[T]) compact(t *team) error {
	if !a.gaps.Load() {
		return nil
	}
	n := a.n.Load()
	var to int64
	for i := int64(0); i < n; {
		if t.stopped() {
			return t.err()
		}
		from, end, err := a.nextSpan(i, n)
		if err != nil {
			return err
		}
		for ; from < end; from++ {
			p := a.at(from)
			if isUnset(p) {
				continue
			}
			if to < from {
				if q := to * a.recSize; !a.f.holds(q, q+a.recSize) {
					if err := a.f.extend(q, q+a.recSize); err != nil {
						return err
					}
				}
				var zero T
				*a.at(to), *p = *p, zero
			}
			to++
		}
		i = end
	}
	if err := a.truncate(to); err != nil {
		return err
	}
	a.gaps.Store(false)
	return nil
}

// mapAll maps all records in one piece, beside the windows: the sorts swap
// records over any distance.
func (a *Array[T]) mapAll() ([]T, func(), error) {
	n := a.n.Load()
	if n == 0 {
		return nil, func() {}, nil
	}
	if n*a.recSize > int64(^uintptr(0)>>1) {
		return nil, nil, fmt.Errorf("map %d bytes in one piece: %w", n*a.recSize, unix.ENOMEM)
	}
	length := uintptr(pageUp(n * a.recSize))
	p, err := a.f.k.mmap(a.f.fd, 0, length, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return nil, nil, fmt.Errorf("map %d bytes in one piece: %w", length, err)
	}
	mapped.add(a.f, 0, p, length)
	return unsafe.Slice((*T)(p), n), func() {
		mapped.remove(p)
		_ = unix.MunmapPtr(p, length)
	}, nil
}
