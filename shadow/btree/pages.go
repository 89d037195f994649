package btree

import (
	"errors"
	"fmt"

	"github.com/scrubd/scrubd/xfile"
)

// Pages is where a tree's blocks live. [xfile.File] is one.
//
// Page numbers start at 0. A page that was punched must be ensured before it is
// touched again.
type Pages interface {
	// Page returns page i in place, or nil if there is none. The pointer stays
	// valid as long as the pages exist.
	Page(i int64) *xfile.Page
	// AllocPages adds n pages with space and returns the number of the first.
	AllocPages(n int64) (first int64, err error)
	// EnsurePages gives space to pages that were punched.
	EnsurePages(first, n int64) error
	// PunchPages gives the space of pages back to the system.
	PunchPages(first, n int64) error
}

const (
	// null is the number of no page.
	null = ^uint32(0)
	// growPages is how many pages are taken at a time.
	growPages = 8
	// warmPages is how many free pages keep their space, to be used next.
	warmPages = 32
)

// ErrTooLarge means that a tree needs more pages than it can number: 16 TiB.
var ErrTooLarge = errors.New("too many pages for a tree")

// pool holds the pages that no block uses.
type pool struct {
	pages Pages
	warm  []uint32 // with space, in no particular state
	cold  []uint32 // punched
}

// reserve makes sure that the next n calls of take succeed.
func (p *pool) reserve(n int) error {
	for len(p.warm) < n {
		if k := len(p.cold); k > 0 {
			if err := p.pages.EnsurePages(int64(p.cold[k-1]), 1); err != nil {
				return fmt.Errorf("take back a page: %w", err)
			}
			p.warm = append(p.warm, p.cold[k-1])
			p.cold = p.cold[:k-1]
			continue
		}
		want := int64(max(n-len(p.warm), growPages))
		first, err := p.pages.AllocPages(want)
		if err != nil {
			return fmt.Errorf("add %d pages: %w", want, err)
		}
		if first+want > int64(null) {
			return ErrTooLarge
		}
		for i := want - 1; i >= 0; i-- {
			p.warm = append(p.warm, uint32(first+i))
		}
	}
	return nil
}

// take returns a page that reserve has promised.
func (p *pool) take() uint32 {
	k := len(p.warm) - 1
	n := p.warm[k]
	p.warm = p.warm[:k]
	return n
}

// give returns a page. Beyond a few, free pages go back to the system; one that
// the system does not take stays what it is, a free page.
func (p *pool) give(n uint32) {
	if page := p.pages.Page(int64(n)); page != nil {
		blockOf(page).magic = 0 // what points here by mistake finds no block
	}
	p.warm = append(p.warm, n)
	if len(p.warm) > 2*warmPages {
		p.trim(warmPages)
	}
}

// trim punches all free pages but keep.
func (p *pool) trim(keep int) {
	for _, n := range p.warm[:len(p.warm)-keep] {
		_ = p.pages.PunchPages(int64(n), 1)
		p.cold = append(p.cold, n)
	}
	p.warm = append(p.warm[:0], p.warm[len(p.warm)-keep:]...)
}
