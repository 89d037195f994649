package xfile

import (
	"fmt"
	"reflect"
	"sync"
	"sync/atomic"
	"unsafe"
)

// Array is a sparse run of fixed-size records of type T in pageable memory,
// numbered from 0.
//
// A record whose bytes are all zero is unset, whether it was never stored or
// was stored as zero: iterations skip it, and Sort drops it.
//
// All methods may be called from several goroutines, with two limits: calls
// that store the same record at once leave one of the values, and an
// iteration must not run while the records it has still to see are stored.
type Array[T any] struct {
	f       *File
	perWin  int64
	recSize int64
	views   atomic.Int32 // iterations under way
	gaps    atomic.Bool  // some record below n may be unset
	closed  atomic.Bool  // tells iterations

	// use is held shared to touch records, exclusive to move or drop them.
	use sync.RWMutex
	mu  sync.Mutex // orders changes of n
	n   atomic.Int64
}

// NewArray makes an empty array. T must have a fixed size and hold neither
// pointers nor padding, else the error is [ErrRecordType].
func NewArray[T any](o Options) (*Array[T], error) {
	t := reflect.TypeFor[T]()
	if err := checkRecord(t); err != nil {
		return nil, fmt.Errorf("make array for %s: %w", o.Name, err)
	}
	size := int64(t.Size())
	win := recordWindow(size)
	f, err := newFile(o, win)
	if err != nil {
		return nil, err
	}
	return &Array[T]{f: f, perWin: win / size, recSize: size}, nil
}

// Len returns the number of records, unset ones among them included.
func (a *Array[T]) Len() int64 { return a.n.Load() }

// Allocated returns the bytes that the array holds, counted in its budget.
func (a *Array[T]) Allocated() int64 { return a.f.Allocated() }

// Place says whether the records count as memory or as disk.
func (a *Array[T]) Place() Place { return a.f.Place() }

// Append adds the records of batch at the end, one after the other, and copies
// them; batches of several goroutines come in any order, each in one piece. A
// batch of some hundred records makes the cost per record small.
//
// Errors: [*BudgetError], [*SpaceError], [ErrClosed]; nothing was added then.
func (a *Array[T]) Append(batch []T) error {
	a.use.RLock()
	defer a.use.RUnlock()
	if !a.gaps.Load() && anyUnset(batch) {
		a.gaps.Store(true)
	}
	at, err := a.reserve(int64(len(batch)))
	if err != nil {
		return err
	}
	for len(batch) > 0 {
		n := copy(a.span(at, at+int64(len(batch))), batch)
		batch = batch[n:]
		at += int64(n)
	}
	return nil
}

// reserve gives n records space at the end and returns the index of the first.
func (a *Array[T]) reserve(n int64) (int64, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	at := a.n.Load()
	if err := a.f.extend(at*a.recSize, (at+n)*a.recSize); err != nil {
		return 0, err
	}
	a.n.Store(at + n)
	return at, nil
}

// Get returns record i; zero if it is unset.
//
// Errors: [ErrRange] if i is not in [0, Len), [ErrClosed].
func (a *Array[T]) Get(i int64) (T, error) {
	a.use.RLock()
	defer a.use.RUnlock()
	var zero T
	if i < 0 || i >= a.n.Load() {
		return zero, a.errIndex("get", i)
	}
	if !a.f.holds(i*a.recSize, (i+1)*a.recSize) {
		return zero, nil
	}
	return *a.at(i), nil
}

// Set stores record i. Beyond Len the array grows, and the records between
// stay unset and without space.
//
// Errors: [ErrRange] if i is negative, [*BudgetError], [*SpaceError], [ErrClosed].
func (a *Array[T]) Set(i int64, v T) error {
	a.use.RLock()
	defer a.use.RUnlock()
	if i < 0 || i >= maxFile/a.recSize {
		return a.errIndex("set", i)
	}
	if i > a.n.Load() || isUnset(&v) {
		a.gaps.Store(true)
	}
	if end := (i + 1) * a.recSize; end > a.f.dense.Load() || i >= a.n.Load() {
		a.mu.Lock()
		err := a.f.extend(i*a.recSize, end)
		if err == nil {
			a.n.Store(max(a.n.Load(), i+1))
		}
		a.mu.Unlock()
		if err != nil {
			return err
		}
	}
	*a.at(i) = v
	return nil
}

// Truncate drops the records from n on and gives their space back.
//
// Errors: [ErrRange] if n is not in [0, Len]; [ErrBusy] while an iteration is
// open; [ErrClosed].
func (a *Array[T]) Truncate(n int64) error {
	a.use.Lock()
	defer a.use.Unlock()
	return a.truncate(n)
}

func (a *Array[T]) truncate(n int64) error {
	if n < 0 || n > a.n.Load() {
		return a.errIndex("truncate", n)
	}
	if a.views.Load() > 0 {
		return fmt.Errorf("truncate %s: %w", a.f.name, ErrBusy)
	}
	if err := a.f.Truncate(n * a.recSize); err != nil {
		return err
	}
	a.n.Store(n)
	if n == 0 {
		a.gaps.Store(false)
	}
	return nil
}

// Close gives everything back. An open iteration ends with [ErrClosed] at its
// next step, and the space is given back then. A second Close is a no-op.
func (a *Array[T]) Close() error {
	a.use.Lock()
	defer a.use.Unlock()
	a.closed.Store(true)
	a.n.Store(0)
	return a.f.Close()
}

func (a *Array[T]) errIndex(op string, i int64) error {
	if err := a.f.acquire(); err != nil {
		return err
	}
	defer a.f.release()
	return fmt.Errorf("%s record %d of %s (%d records): %w", op, i, a.f.name, a.n.Load(), ErrRange)
}

// at returns record i in place; its page must be held.
func (a *Array[T]) at(i int64) *T {
	w := (*a.f.table.Load())[i/a.perWin]
	return (*T)(unsafe.Add(w, i%a.perWin*a.recSize))
}

// span returns the records from i to j or to the end of i's window, in place;
// their pages must be held.
func (a *Array[T]) span(i, j int64) []T {
	return unsafe.Slice(a.at(i), min(j-i, a.perWin-i%a.perWin))
}
