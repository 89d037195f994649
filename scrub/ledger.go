package scrub

import (
	"maps"
	"math"
	"slices"
	"sync"
	"time"

	"github.com/scrubd/scrubd/ioctl"
	"github.com/scrubd/scrubd/scrub/state"
)

// ledger is what the kernel has checked of a filesystem and found well: what a
// later run can leave out. Its methods may be called by several goroutines.
type ledger struct {
	mu      sync.Mutex
	groups  map[ioctl.AGNumber]*checked
	began   time.Time // before the oldest check
	changes uint64
}

// checked is what was checked of one AG.
type checked struct {
	length uint32
	types  typeSet   // found well
	next   ioctl.Ino // the first inode that was not checked
	all    bool      // there is none
	inodes uint64    // below next
	// again are inodes that something was found in; spoiled says that they were too
	// many to remember.
	again   []ioctl.Ino
	spoiled bool
}

// typeSet is a set of scrub types: bit t is type t.
type typeSet uint64

func (s typeSet) has(t ioctl.ScrubType) bool { return s>>t&1 != 0 }

func (s typeSet) list() (out []ioctl.ScrubType) {
	for t := range ioctl.ScrubTypeCount {
		if s.has(t) {
			out = append(out, t)
		}
	}
	return out
}

func typesOf(list []ioctl.ScrubType) (s typeSet) {
	for _, t := range list {
		if t < ioctl.ScrubTypeCount {
			s |= 1 << t
		}
	}
	return s
}

// maxAgain bounds the inodes of an AG that are remembered because something was
// found in them. With more, none of its inodes is left out.
const maxAgain = 1024

func newLedger() *ledger {
	return &ledger{groups: make(map[ioctl.AGNumber]*checked), began: time.Now()}
}

// clone is a ledger with the same contents.
func (l *ledger) clone() *ledger {
	l.mu.Lock()
	defer l.mu.Unlock()
	c := newLedger()
	c.began, c.changes = l.began, l.changes
	for agno, g := range l.groups {
		copied := *g
		copied.again = slices.Clone(g.again)
		c.groups[agno] = &copied
	}
	return c
}

// reset forgets everything.
func (l *ledger) reset() {
	l.mu.Lock()
	defer l.mu.Unlock()
	clear(l.groups)
	l.began = time.Now()
	l.changes++
}

// group is that of an AG. The caller holds mu.
func (l *ledger) group(agno ioctl.AGNumber, length uint32) *checked {
	g := l.groups[agno]
	if g == nil || g.length != length {
		g = &checked{length: length}
		l.groups[agno] = g
	}
	l.changes++
	return g
}

// note takes down whether a type of metadata of an AG is well.
func (l *ledger) note(agno ioctl.AGNumber, length uint32, t ioctl.ScrubType, well bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	g := l.group(agno, length)
	g.types &^= 1 << t
	if well {
		g.types |= 1 << t
	}
}

// reached notes how far the inodes of an AG have been checked, and how many that
// are.
func (l *ledger) reached(agno ioctl.AGNumber, length uint32, next ioctl.Ino, inodes uint64, all bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	g := l.group(agno, length)
	if g.spoiled || g.all || next <= g.next && !all {
		return // a scan that goes on, or a second one, is not that far yet
	}
	g.next, g.all, g.inodes = next, all, inodes
}

// lookAgain notes an inode that something was found in.
func (l *ledger) lookAgain(agno ioctl.AGNumber, length uint32, ino ioctl.Ino) {
	l.mu.Lock()
	defer l.mu.Unlock()
	g := l.group(agno, length)
	switch {
	case g.spoiled || slices.Contains(g.again, ino):
	case len(g.again) == maxAgain:
		g.again, g.spoiled = nil, true
		g.next, g.all, g.inodes = 0, false, 0
	default:
		g.again = append(g.again, ino)
	}
}

// counts are how many AGs something is known of, and how many inodes.
func (l *ledger) counts() (groups int, inodes uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, g := range l.groups {
		if g.types == 0 && g.next == 0 && !g.all {
			continue
		}
		groups++
		inodes += g.inodes
	}
	return groups, inodes
}

// checkpoint writes the ledger into c: AGs of which the same is known as one
// range.
func (l *ledger) checkpoint(c *state.Checkpoint) {
	l.mu.Lock()
	defer l.mu.Unlock()
	c.Began = l.began
	var last *checked
	for _, agno := range slices.Sorted(maps.Keys(l.groups)) {
		g := l.groups[agno]
		n := len(c.Groups)
		if n > 0 && c.Groups[n-1].Last+1 == agno && g.like(last) {
			c.Groups[n-1].Last = agno
			c.Groups[n-1].Inodes += g.inodes
			continue
		}
		last = g
		out := state.CheckedGroups{
			First: agno, Last: agno, Length: g.length, Types: g.types.list(), AllInodes: g.all, Inodes: g.inodes, Again: slices.Clone(g.again),
		}
		if !g.all {
			out.Next = g.next
		}
		c.Groups = append(c.Groups, out)
	}
}

// like tells whether one range can stand for both AGs.
func (g *checked) like(o *checked) bool {
	return g.length == o.length && g.types == o.types && g.all == o.all && (g.all || g.next == 0 && o.next == 0) &&
		len(g.again) == 0 && len(o.again) == 0
}

// ledgerOf is what a checkpoint says of the AGs up to agcount, whose lengths are
// those that length gives; what was of another length has grown since.
func ledgerOf(c *state.Checkpoint, agcount uint32, length func(ioctl.AGNumber) uint32) *ledger {
	l := newLedger()
	l.began = c.Began
	for i := range c.Groups {
		r := &c.Groups[i]
		last := min(uint64(r.Last), uint64(agcount)-1)
		for n := uint64(r.First); n <= last && n <= math.MaxUint32; n++ {
			agno := ioctl.AGNumber(n)
			if r.Length != length(agno) {
				continue
			}
			g := &checked{length: r.Length, types: typesOf(r.Types), next: r.Next, all: r.AllInodes}
			if n == uint64(r.First) {
				g.inodes, g.again = r.Inodes, slices.Clone(r.Again)
			}
			l.groups[agno] = g
		}
	}
	return l
}
