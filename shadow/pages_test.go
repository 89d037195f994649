package shadow

import (
	"context"
	"errors"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/scrubd/scrubd/shadow/btree"
	"github.com/scrubd/scrubd/xfile"
	"github.com/scrubd/scrubd/xfile/xfiletest"
)

func TestMain(m *testing.M) { xfiletest.Main(m) }

var errNoSpace = errors.New("no space")

// memPages are pages on the Go heap that can run out.
type memPages struct {
	pages []*xfile.Page // nil: punched
	left  int           // calls until one fails, if limited
	limit bool
}

func (m *memPages) Page(i int64) *xfile.Page {
	if i < 0 || i >= int64(len(m.pages)) {
		return nil
	}
	return m.pages[i]
}

func (m *memPages) use() error {
	if m.left--; m.limit && m.left < 0 {
		return errNoSpace
	}
	return nil
}

func (m *memPages) AllocPages(n int64) (int64, error) {
	if err := m.use(); err != nil {
		return 0, err
	}
	first := int64(len(m.pages))
	for range n {
		m.pages = append(m.pages, new(xfile.Page))
	}
	return first, nil
}

func (m *memPages) EnsurePages(first, _ int64) error {
	if err := m.use(); err != nil {
		return err
	}
	m.pages[first] = new(xfile.Page)
	return nil
}

func (m *memPages) PunchPages(first, _ int64) error {
	m.pages[first] = nil
	return nil
}

// smash overwrites the headers of all blocks.
func (m *memPages) smash() {
	for _, p := range m.pages {
		if p != nil {
			clear(p[:8])
		}
	}
}

func ctx() context.Context { return context.Background() }

func newRmapTree(t require.TestingT) (*RmapTree, *memPages) {
	m := &memPages{}
	tree, err := NewRmapTree(m, 5)
	require.NoError(t, err)
	return tree, m
}

// copies collects batches.
func copies[T any](t require.TestingT, seq func(func([]T, error) bool)) []T {
	var all []T
	for batch, err := range seq {
		require.NoError(t, err)
		all = append(all, batch...)
	}
	return all
}

// only takes the first of what comes and stops.
func only[T any](t require.TestingT, seq func(func(T, error) bool)) (v T) {
	for v, err := range seq {
		require.NoError(t, err)
		return v
	}
	return v
}

var _ btree.Pages = (*memPages)(nil)
