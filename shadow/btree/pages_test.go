package btree

import (
	"errors"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/scrubd/scrubd/xfile"
	"github.com/scrubd/scrubd/xfile/xfiletest"
)

var errNoSpace = errors.New("no space")

// memPages are pages on the Go heap, which the race detector watches. Punched
// pages cannot be reached at all.
type memPages struct {
	pages   []*xfile.Page // nil: punched
	left    int           // calls until the first one fails, if fail is set
	fail    bool
	punches int
	noPunch bool
}

func (m *memPages) Page(i int64) *xfile.Page {
	if i < 0 || i >= int64(len(m.pages)) {
		return nil
	}
	return m.pages[i]
}

func (m *memPages) use() error {
	if !m.fail {
		return nil
	}
	m.left--
	if m.left < 0 {
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
		p := new(xfile.Page)
		for i := range p {
			p[i] = 0xa5 // nobody may count on zeros: free pages are used again
		}
		m.pages = append(m.pages, p)
	}
	return first, nil
}

func (m *memPages) EnsurePages(first, n int64) error {
	if err := m.use(); err != nil {
		return err
	}
	for i := first; i < first+n; i++ {
		if m.pages[i] == nil {
			m.pages[i] = new(xfile.Page)
		}
	}
	return nil
}

func (m *memPages) PunchPages(first, n int64) error {
	m.punches++
	if m.noPunch {
		return errNoSpace
	}
	for i := first; i < first+n; i++ {
		m.pages[i] = nil
	}
	return nil
}

func (m *memPages) inUse() int {
	n := 0
	for _, p := range m.pages {
		if p != nil {
			n++
		}
	}
	return n
}

func TestPoolPunchesAndTakesBack(t *testing.T) {
	m := &memPages{}
	p := pool{pages: m}
	const n = 10 * warmPages
	require.NoError(t, p.reserve(n))
	var all []uint32
	for range n {
		all = append(all, p.take())
	}
	for _, page := range all {
		p.give(page)
	}
	assert.LessOrEqual(t, m.inUse(), 2*warmPages)
	pages := len(m.pages)
	require.NoError(t, p.reserve(n))
	assert.Len(t, m.pages, pages, "free pages come first")
	got := map[uint32]bool{}
	for range n {
		page := p.take()
		assert.NotNil(t, m.Page(int64(page)))
		got[page] = true
	}
	assert.Len(t, got, n)
}

func TestPoolErrors(t *testing.T) {
	m := &memPages{fail: true}
	p := pool{pages: m}
	require.ErrorIs(t, p.reserve(1), errNoSpace)
	m.fail = false
	require.NoError(t, p.reserve(1))
	p.trim(0)
	m.fail = true
	require.ErrorIs(t, p.reserve(1), errNoSpace)
	m.fail = false
	require.NoError(t, p.reserve(1))

	// A page that the system does not take back is free all the same.
	m.noPunch = true
	p.trim(0)
	assert.Empty(t, p.warm)
	require.NoError(t, p.reserve(1))
}

type hugePages struct{ memPages }

func (*hugePages) AllocPages(int64) (int64, error) { return 1<<32 - 2, nil }

func TestPoolNumbers(t *testing.T) {
	p := pool{pages: &hugePages{}}
	require.ErrorIs(t, p.reserve(1), ErrTooLarge)
}

func TestMain(m *testing.M) { xfiletest.Main(m) }
