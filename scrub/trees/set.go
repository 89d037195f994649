package trees

import (
	"context"
	"errors"
	"fmt"

	"github.com/scrubd/scrubd/ioctl"
	"github.com/scrubd/scrubd/shadow"
	"github.com/scrubd/scrubd/xfile"
)

// Options say where a set's trees live.
type Options struct {
	// Budget bounds the trees together with everything else of a run.
	Budget *xfile.Budget
	// Dir is empty for memory, else a directory for an unnamed file, not on
	// AvoidDevice.
	Dir         string
	AvoidDevice uint64
	// Log, if set, has the changes that the trees are to follow; the set closes it.
	Log *Log
	// AGs is how many of the groups are allocation groups; those behind them are
	// realtime groups. 0 means all.
	AGs int
}

func (o *Options) ags(groups int) int {
	if o.AGs == 0 {
		return groups
	}
	return min(o.AGs, groups)
}

// Set is the trees of all groups of a filesystem, allocation groups first and
// then those of the realtime device, in one row of numbers. It is for one
// goroutine at a time; the log may be fed by another.
type Set struct {
	opts   Options
	arena  *arena
	groups []group
	keep   bool   // memory is short: arrays stay, trees come and go
	clock  uint64 // counts uses
}

// group is what a set has of one group.
type group struct {
	claims     *xfile.Array[shadow.Rmap] // nil once the tree alone has them
	rmaps      *shadow.RmapTree          // nil while it is not loaded
	lot        *lot
	refs       *shadow.RefcountTree // nil until it is asked for
	refLot     *lot
	duplicates []shadow.Rmap
	followed   int64 // the last change of the log that the tree has, plus 1
	lastUse    uint64
}

// maxDuplicates bounds what is kept of claims that are there twice in one
// group. No healthy fork makes any.
const maxDuplicates = 1024

// treeShare is how many bytes a tree takes at most for three of its array:
// leaves are filled to three quarters, and the levels above them are small.
const treeShare = 5

// New makes a set of the claims of every group, by number, each array sorted by
// [shadow.Compare]. It takes the arrays over, also when it fails.
// Errors: those of [xfile.New].
func New(claims []*xfile.Array[shadow.Rmap], o Options) (*Set, error) {
	s := &Set{opts: o, groups: make([]group, len(claims))}
	var bytes int64
	for i, a := range claims {
		s.groups[i].claims = a
		bytes += a.Allocated()
	}
	file, err := xfile.New(xfile.Options{Name: "shadow trees", Budget: o.Budget, Dir: o.Dir, AvoidDevice: o.AvoidDevice})
	if err != nil {
		err = fmt.Errorf("make room for trees: %w", err)
		return nil, errors.Join(err, s.Close())
	}
	s.arena = &arena{file: file}
	s.keep = o.Budget != nil && o.Budget.Left(file.Place()) < bytes/3*treeShare
	return s, nil
}

// Len returns the number of groups.
func (s *Set) Len() int {
	if s == nil {
		return 0
	}
	return len(s.groups)
}

// AGs returns how many of the groups are allocation groups.
func (s *Set) AGs() int {
	if s == nil {
		return 0
	}
	return s.opts.ags(len(s.groups))
}

// RT is the number in the set of a realtime group.
func (s *Set) RT(rgno ioctl.RGNumber) ioctl.AGNumber {
	return ioctl.AGNumber(s.AGs()) + ioctl.AGNumber(rgno)
}

// name is how a group of the set is called.
func (s *Set) name(number ioctl.AGNumber) string {
	if ags := s.AGs(); int(number) >= ags {
		return fmt.Sprintf("rtgroup %d", int(number)-ags)
	}
	return fmt.Sprintf("AG %d", number)
}

// Rmaps returns the reverse mappings that the forks and the geometry claim in a
// group. The tree is valid until the next call for another group.
// Errors: ctx's; [xfile.ErrBudget] and [xfile.SpaceError] where there is no room
// even for this one tree; [shadow.ErrUnsorted], [shadow.ErrBadRecord].
func (s *Set) Rmaps(ctx context.Context, agno ioctl.AGNumber) (*shadow.RmapTree, error) {
	g := &s.groups[agno]
	s.clock++
	g.lastUse = s.clock
	if g.rmaps != nil {
		return g.rmaps, nil
	}
	for {
		err := s.load(ctx, agno)
		if err == nil {
			return g.rmaps, nil
		}
		if !s.short(err) || !s.evict(g) {
			return nil, fmt.Errorf("load the shadow of %s: %w", s.name(agno), err)
		}
	}
}

// Update brings a group's tree up to what the kernel has done so far, as far as
// its log knows, and tells whether that changed anything. What Refcounts gave before is no longer valid then.
// Errors: as for Rmaps.
func (s *Set) Update(ctx context.Context, agno ioctl.AGNumber) (bool, error) {
	if _, err := s.Rmaps(ctx, agno); err != nil || s.opts.Log == nil {
		return false, err
	}
	if err := s.opts.Log.sync(ctx); err != nil {
		return false, err
	}
	return s.follow(ctx, agno)
}

// follow applies the changes of the log that the tree does not have.
func (s *Set) follow(ctx context.Context, agno ioctl.AGNumber) (bool, error) {
	g := &s.groups[agno]
	if s.opts.Log == nil {
		return false, nil
	}
	last, n, err := s.opts.Log.apply(ctx, agno, g.followed, g.rmaps)
	g.followed = last
	if n == 0 || err != nil {
		return false, err
	}
	err = g.refLot.close()
	g.refs, g.refLot = nil, nil
	return true, err
}

// Duplicates returns claims of a group, loaded before, that repeat another one's
// blocks, owner and offset, and so are not in its tree; the longest of each is.
func (s *Set) Duplicates(agno ioctl.AGNumber) []shadow.Rmap { return s.groups[agno].duplicates }

func (s *Set) load(ctx context.Context, agno ioctl.AGNumber) error {
	g := &s.groups[agno]
	g.lot = &lot{arena: s.arena}
	tree, err := shadow.NewRmapTree(g.lot, uint64(agno))
	if err == nil {
		g.duplicates = nil
		err = tree.Load(g.claims.Chunks(ctx), func(r shadow.Rmap) {
			if len(g.duplicates) < maxDuplicates {
				g.duplicates = append(g.duplicates, r)
			}
		})
	}
	if err != nil {
		err = errors.Join(err, g.lot.close())
		g.lot = nil
		return err
	}
	tree.Trim()
	g.rmaps, g.followed = tree, 0
	if _, err := s.follow(ctx, agno); err != nil {
		err = errors.Join(err, g.lot.close())
		g.rmaps, g.lot = nil, nil
		return err
	}
	if s.keep {
		return nil
	}
	err = g.claims.Close()
	g.claims = nil
	return err
}

// short tells whether an error may be helped by an evict.
func (s *Set) short(err error) bool { return errors.Is(err, xfile.ErrBudget) }

// evict drops the trees of the group, other than keep, that was used longest ago
// of those whose array is still there, and tells whether there was one.
func (s *Set) evict(keep *group) bool {
	var oldest *group
	for i := range s.groups {
		g := &s.groups[i]
		if g != keep && g.rmaps != nil && g.claims != nil && (oldest == nil || g.lastUse < oldest.lastUse) {
			oldest = g
		}
	}
	if oldest == nil {
		return false
	}
	// What cannot be punched stays charged; the load fails then.
	_ = errors.Join(oldest.lot.close(), oldest.refLot.close())
	oldest.rmaps, oldest.lot, oldest.refs, oldest.refLot = nil, nil, nil, nil
	return true
}

// Bytes returns the size of all trees that are loaded.
func (s *Set) Bytes() int64 {
	var n int64
	for i := range s.groups {
		if t := s.groups[i].rmaps; t != nil {
			n += t.Bytes()
		}
		if t := s.groups[i].refs; t != nil {
			n += t.Bytes()
		}
	}
	return n
}

// Close gives everything back. It can be called twice, and on a nil set.
func (s *Set) Close() error {
	if s == nil {
		return nil
	}
	var errs []error
	for i := range s.groups {
		g := &s.groups[i]
		if g.claims != nil {
			errs = append(errs, g.claims.Close())
		}
		*g = group{}
	}
	errs = append(errs, s.opts.Log.Close())
	if s.arena != nil {
		errs = append(errs, s.arena.file.Close())
		s.arena = nil
	}
	return errors.Join(errs...)
}
