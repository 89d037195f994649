package trees

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sort"
	"sync"

	"github.com/scrubd/scrubd/ioctl"
	"github.com/scrubd/scrubd/scrub/live"
	"github.com/scrubd/scrubd/scrub/walk"
	"github.com/scrubd/scrubd/shadow"
	"github.com/scrubd/scrubd/xfile"
)

// Log takes what a stream of changes delivers while inodes are read, and knows of
// each change whether what was read has it already. It is the [live.Feed] of the
// stream and the [walk.Watcher] of the walk; a [Set] applies its changes.
//
// # Which changes count
//
// The kernel holds an inode's ILOCK over a whole chain of transactions, and
// GETBMAPX takes it too: a fork is read as it was before a chain or after it. So
// a change of an inode's mappings that was made
//
//   - before the inode began to be read is in what was read,
//   - after it had been read is not, and is applied,
//   - in between may be either: the inode is read once more.
//
// An inode that is made behind the walk has no mappings when it is made, and all
// that it gets comes as changes. Blocks of the group itself and of forks' btrees
// have no claims, and their changes are left out.
//
// A change that does not fit the tree is no error: whatever is different from
// the kernel in the end is looked at by other means. Nothing rests on a change
// having come.
type Log struct {
	// Sync, if set, waits until every change made before has been delivered.
	Sync func(context.Context) error

	mu      sync.Mutex
	changes *xfile.Array[entry]
	groups  []chain
	ags     int // how many of them are allocation groups
	reads   *xfile.Array[walk.Read]
	sorted  int64                   // reads, if they are in order
	single  map[ioctl.Ino]walk.Read // of inodes that were read again
	checked int64                   // changes that were asked about by Again
	rounds  int
	ended   bool // events were lost, or there was no room: what comes is not taken
	stats   Stats
}

// entry is a change in the list of its group.
type entry struct {
	Time uint64
	Rmap shadow.Rmap
	Next int64 // number of the next one of the group plus 1; 0: none
	Op   live.Op
	_    uint32
}

// chain is the list of one group's changes: numbers plus 1.
type chain struct {
	first, last int64
	invalid     bool // by a kernel repair
}

// Bounds of a log. What does not fit is not followed, and confirmed instead.
const (
	maxChanges  = 16 << 20
	maxAgain    = 1 << 16 // inodes that are read again, all rounds together
	againRounds = 3
)

// Stats count what became of changes.
type Stats struct {
	Taken   uint64 // delivered, of blocks that inodes map
	Applied uint64
	Misfit  uint64 // did not fit the tree
	Ended   bool   // not all were taken: some were lost, or there was no room
}

var (
	_ live.Feed    = (*Log)(nil)
	_ walk.Watcher = (*Log)(nil)
)

// NewLog makes a log for a set of so many groups.
// Errors: those of [xfile.NewArray].
func NewLog(groups int, o Options) (*Log, error) {
	l := &Log{groups: make([]chain, groups), ags: o.ags(groups), single: make(map[ioctl.Ino]walk.Read)}
	opts := func(name string) xfile.Options {
		return xfile.Options{Name: name, Budget: o.Budget, Dir: o.Dir, AvoidDevice: o.AvoidDevice}
	}
	var err error
	if l.changes, err = xfile.NewArray[entry](opts("live changes")); err != nil {
		return nil, fmt.Errorf("make room for live changes: %w", err)
	}
	if l.reads, err = xfile.NewArray[walk.Read](opts("times of reading")); err != nil {
		return nil, errors.Join(fmt.Errorf("make room for live changes: %w", err), l.changes.Close())
	}
	return l, nil
}

// Close gives the log's memory back. It can be called twice, and on a nil log.
func (l *Log) Close() error {
	if l == nil {
		return nil
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.ended = true
	return errors.Join(l.changes.Close(), l.reads.Close())
}

// Stats returns what became of the changes so far.
func (l *Log) Stats() Stats {
	if l == nil {
		return Stats{}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	s := l.stats
	s.Ended = l.ended
	return s
}

// Add takes changes. It never fails: a log that has no room ends.
func (l *Log) Add(changes []live.Change) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	for i := range changes {
		c := &changes[i]
		if l.ended {
			return nil
		}
		g := l.chainOf(live.Group{AGNo: c.AGNo, Realtime: c.Realtime})
		if !c.Rmap.IsInode() || c.Rmap.Offset&shadow.OffsetBmbtBlock != 0 || g == nil || g.invalid {
			continue
		}
		if err := l.add(g, entry{Time: c.Time, Rmap: c.Rmap, Op: c.Op}); err != nil {
			l.ended = true
		}
	}
	return nil
}

// chainOf returns the list of a group, nil for one that the set does not have.
func (l *Log) chainOf(of live.Group) *chain {
	groups := l.groups[:l.ags]
	if of.Realtime {
		groups = l.groups[l.ags:]
	}
	if uint64(of.AGNo) >= uint64(len(groups)) {
		return nil
	}
	return &groups[of.AGNo]
}

func (l *Log) add(g *chain, e entry) error {
	n := l.changes.Len()
	if n == maxChanges {
		return xfile.ErrBudget
	}
	if err := l.changes.Append([]entry{e}); err != nil {
		return err
	}
	l.stats.Taken++
	if g.first == 0 {
		g.first, g.last = n+1, n+1
		return nil
	}
	last, err := l.changes.Get(g.last - 1)
	if err == nil {
		last.Next = n + 1
		err = l.changes.Set(g.last-1, last)
	}
	g.last = n + 1
	return err
}

// Lost ends the log: the changes until here are good, nothing is known of what
// comes after.
func (l *Log) Lost() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.ended = true
}

// Invalidate drops the changes of a group: the kernel's own scratch trees make
// the same events while it repairs.
func (l *Log) Invalidate(of live.Group) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if g := l.chainOf(of); g != nil {
		*g = chain{invalid: true}
	}
}

// Now is the clock of the changes.
func (l *Log) Now() uint64 { return live.Now() }

// Read notes when inodes were read.
func (l *Log) Read(r walk.Read) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.rounds > 0 {
		l.single[r.First] = r
		return nil
	}
	if l.reads.Append([]walk.Read{r}) != nil {
		l.ended = true // nobody knows any more which changes count
	}
	return nil
}

// Again returns the inodes that changed while they were read. After a few rounds
// it returns none: who changes all the time is left to be confirmed.
func (l *Log) Again(ctx context.Context) ([]ioctl.Ino, error) {
	if err := l.sync(ctx); err != nil {
		return nil, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if err := l.sortReads(ctx); err != nil {
		return nil, err
	}
	if l.rounds++; l.rounds > againRounds {
		return nil, nil
	}
	again := make(map[ioctl.Ino]struct{})
	for ; l.checked < l.changes.Len(); l.checked++ {
		e, err := l.changes.Get(l.checked)
		if err != nil {
			return nil, fmt.Errorf("read live changes: %w", err)
		}
		ino := ioctl.Ino(e.Rmap.Owner)
		r, ok, err := l.readOf(ino)
		if err != nil {
			return nil, err
		}
		if ok && r.Began <= e.Time && e.Time <= r.Done && len(again)+len(l.single) < maxAgain {
			again[ino] = struct{}{}
		}
	}
	out := make([]ioctl.Ino, 0, len(again))
	for ino := range again {
		out = append(out, ino)
	}
	slices.Sort(out)
	return out, nil
}

// sync waits for what has been made before. A stream that fails ends the log.
func (l *Log) sync(ctx context.Context) error {
	if l.Sync == nil {
		return nil
	}
	if err := l.Sync(ctx); err != nil {
		l.Lost()
	}
	return ctx.Err()
}

func (l *Log) sortReads(ctx context.Context) error {
	if l.sorted == l.reads.Len() {
		return nil
	}
	first := func(r *walk.Read) uint64 { return uint64(r.First) }
	if err := l.reads.SortKeyed(ctx, first, func(_, _ *walk.Read) int { return 0 }); err != nil {
		return fmt.Errorf("sort the times of reading: %w", err)
	}
	l.sorted = l.reads.Len()
	return nil
}

// readOf returns when an inode was read, if it ever was.
func (l *Log) readOf(ino ioctl.Ino) (walk.Read, bool, error) {
	if r, ok := l.single[ino]; ok {
		return r, true, nil
	}
	var failed error
	i := sort.Search(int(l.sorted), func(i int) bool {
		r, err := l.reads.Get(int64(i))
		if err != nil {
			failed = err
		}
		return r.First > ino
	})
	if failed != nil || i == 0 {
		return walk.Read{}, false, failed
	}
	r, err := l.reads.Get(int64(i - 1))
	return r, err == nil && ino < r.End, err
}

// apply applies a group's changes behind the one with number after to a tree, and
// returns the number of the last one and how many were applied.
func (l *Log) apply(ctx context.Context, agno ioctl.AGNumber, after int64, tree *shadow.RmapTree) (last int64, applied int, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if err := l.sortReads(ctx); err != nil {
		return after, 0, err
	}
	if l.groups[agno].invalid {
		return after, 0, nil
	}
	next := l.groups[agno].first
	for {
		if after > 0 {
			e, err := l.changes.Get(after - 1)
			if err != nil {
				return after, applied, fmt.Errorf("read live changes: %w", err)
			}
			next = e.Next
		}
		if next == 0 {
			return after, applied, ctx.Err()
		}
		if err := ctx.Err(); err != nil {
			return after, applied, err
		}
		e, err := l.changes.Get(next - 1)
		if err != nil {
			return after, applied, fmt.Errorf("read live changes: %w", err)
		}
		done, err := l.applyOne(&e, tree)
		if err != nil {
			return after, applied, err
		}
		if done {
			applied++
		}
		after = next
	}
}

// applyOne applies a change if what was read does not have it.
func (l *Log) applyOne(c *entry, tree *shadow.RmapTree) (bool, error) {
	r, ok, err := l.readOf(ioctl.Ino(c.Rmap.Owner))
	if err != nil || !ok || c.Time <= r.Done {
		return false, err
	}
	switch c.Op {
	case live.OpMap:
		err = tree.Map(c.Rmap)
	case live.OpUnmap:
		err = tree.Unmap(c.Rmap)
	case live.OpConvert:
		err = tree.Convert(c.Rmap)
	default:
		return false, nil
	}
	var space *xfile.SpaceError
	switch {
	case errors.Is(err, shadow.ErrMapped), errors.Is(err, shadow.ErrNotMapped), errors.Is(err, shadow.ErrBadRecord),
		errors.Is(err, xfile.ErrBudget), errors.As(err, &space):
		l.stats.Misfit++
		return false, nil
	case err != nil:
		return false, fmt.Errorf("follow a change of blocks %d+%d: %w", c.Rmap.StartBlock, c.Rmap.BlockCount, err)
	}
	l.stats.Applied++
	return true, nil
}
