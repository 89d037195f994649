package trees

import (
	"context"
	"errors"
	"fmt"

	"github.com/scrubd/scrubd/ioctl"
	"github.com/scrubd/scrubd/shadow"
)

// Refcounts returns how many owners the blocks of a group have, as the forks
// claim them: derived from the tree of [Set.Rmaps] by a sweep, once. It is valid
// as long as that tree is.
// Errors: as for Rmaps.
func (s *Set) Refcounts(ctx context.Context, agno ioctl.AGNumber) (*shadow.RefcountTree, error) {
	rmaps, err := s.Rmaps(ctx, agno)
	if err != nil {
		return nil, err
	}
	g := &s.groups[agno]
	if g.refs != nil {
		return g.refs, nil
	}
	for {
		if err = s.derive(g, rmaps, uint64(agno)); err == nil {
			return g.refs, nil
		}
		// g was used last: another one goes, if there is one.
		if !s.short(err) || !s.evict(g) {
			return nil, fmt.Errorf("count the owners of blocks of %s: %w", s.name(agno), err)
		}
	}
}

func (s *Set) derive(g *group, rmaps *shadow.RmapTree, tag uint64) (err error) {
	pages, bag := &lot{arena: s.arena}, &lot{arena: s.arena}
	defer func() { err = errors.Join(err, bag.close()) }()
	tree, err := shadow.NewRefcountTree(pages, tag)
	if err == nil {
		err = tree.Load(shadow.Refcounts(rmaps.Batches(), bag, nil))
	}
	if err != nil {
		return errors.Join(err, pages.close())
	}
	tree.Trim()
	g.refs, g.refLot = tree, pages
	return nil
}
