package trees

import (
	"errors"
	"slices"
	"sync"

	"github.com/scrubd/scrubd/xfile"
)

// arena is one file that many trees live in.
type arena struct {
	file *xfile.File

	mu   sync.Mutex
	free []span // punched, sorted by first, never adjacent
}

// span is a run of pages.
type span struct{ first, n int64 }

// take returns n pages in a row with space.
func (a *arena) take(n int64) (int64, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for i := range a.free {
		s := &a.free[i]
		if s.n < n {
			continue
		}
		first := s.first
		if err := a.file.EnsurePages(first, n); err != nil {
			return 0, err
		}
		if s.first, s.n = s.first+n, s.n-n; s.n == 0 {
			a.free = slices.Delete(a.free, i, i+1)
		}
		return first, nil
	}
	return a.file.AllocPages(n)
}

// give punches pages and keeps their numbers for the next tree.
func (a *arena) give(spans []span) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	var errs []error
	for _, s := range spans {
		errs = append(errs, a.file.PunchPages(s.first, s.n))
	}
	a.free = join(append(a.free, spans...))
	return errors.Join(errs...)
}

// join sorts spans and makes one of neighbours.
func join(spans []span) []span {
	slices.SortFunc(spans, func(x, y span) int { return int(x.first - y.first) })
	out := spans[:0]
	for _, s := range spans {
		if k := len(out) - 1; k >= 0 && out[k].first+out[k].n == s.first {
			out[k].n += s.n
			continue
		}
		out = append(out, s)
	}
	return out
}

// lot is the part of an arena that one tree has: the tree's
// [github.com/scrubd/scrubd/shadow/btree.Pages].
type lot struct {
	*arena
	spans []span // in the order they were taken
}

func (l *lot) Page(i int64) *xfile.Page { return l.file.Page(i) }

func (l *lot) AllocPages(n int64) (int64, error) {
	first, err := l.take(n)
	if err != nil {
		return 0, err
	}
	if k := len(l.spans) - 1; k >= 0 && l.spans[k].first+l.spans[k].n == first {
		l.spans[k].n += n
	} else {
		l.spans = append(l.spans, span{first, n})
	}
	return first, nil
}

func (l *lot) EnsurePages(first, n int64) error { return l.file.EnsurePages(first, n) }
func (l *lot) PunchPages(first, n int64) error  { return l.file.PunchPages(first, n) }

// WriteAt is how a tree that is being loaded writes many blocks in one call.
func (l *lot) WriteAt(b []byte, off int64) (int, error) { return l.file.WriteAt(b, off) }

// close gives everything back. Nobody may touch the tree's blocks any more.
func (l *lot) close() error {
	if l == nil {
		return nil
	}
	spans := l.spans
	l.spans = nil
	return l.give(spans)
}
