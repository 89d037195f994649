package kernel

import (
	"sync"

	"github.com/scrubd/scrubd/ioctl"
)

// Resume says what a scan of all inodes leaves out, and hears how far it comes.
// Either may be nil, and both are called by several goroutines.
type Resume struct {
	// Earlier tells of an inode that BULKSTAT knows whether an earlier scan has
	// checked it.
	Earlier func(*ioctl.BulkstatRecord) bool
	// Reached is told that all inodes of an AG below next are done, or all that it
	// has, and how many these are; one call at a time, after the sink has had the
	// results. Of an AG in which an inode could not be listed it hears nothing more.
	Reached func(agno ioctl.AGNumber, next ioctl.Ino, inodes uint64, all bool)
}

// reached follows how far the scan of each AG is. Turns of one AG end in any
// order; it is as far as the first one that has not.
type reached struct {
	tell func(ioctl.AGNumber, ioctl.Ino, uint64, bool) // nil: nobody wants to know

	mu     sync.Mutex
	groups map[ioctl.AGNumber]*groupReached
}

type groupReached struct {
	turns  []turnReached // from the first that has not ended on, in their order
	next   ioctl.Ino     // start of the turn after all of them
	told   ioctl.Ino
	inodes uint64 // below told
	listed bool   // to its end
	broken bool   // something could not be listed
}

type turnReached struct {
	start  ioctl.Ino
	inodes uint64
	ended  bool
}

// change does something to the state of an AG, and tells what has come of it.
func (r *reached) change(agno ioctl.AGNumber, do func(*groupReached)) {
	if r.tell == nil {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.groups == nil {
		r.groups = make(map[ioctl.AGNumber]*groupReached)
	}
	g := r.groups[agno]
	if g == nil {
		g = &groupReached{}
		r.groups[agno] = g
	}
	do(g)
	for len(g.turns) > 0 && g.turns[0].ended {
		g.inodes += g.turns[0].inodes
		g.turns = g.turns[1:]
	}
	at, all := g.next, g.listed && len(g.turns) == 0
	if len(g.turns) > 0 {
		at = g.turns[0].start
	}
	if g.broken || at <= g.told && !all {
		return
	}
	r.tell(agno, at, g.inodes, all)
	g.told = at
}

// began notes a turn over the inodes [start, next). Turns of an AG begin in
// their order.
func (r *reached) began(agno ioctl.AGNumber, start, next ioctl.Ino) {
	r.change(agno, func(g *groupReached) {
		g.turns, g.next = append(g.turns, turnReached{start: start}), next
	})
}

// ended notes that all inodes of a turn are done, so many.
func (r *reached) ended(agno ioctl.AGNumber, start ioctl.Ino, inodes uint64) {
	r.change(agno, func(g *groupReached) {
		for i := range g.turns {
			if g.turns[i].start == start {
				g.turns[i].ended, g.turns[i].inodes = true, inodes
			}
		}
	})
}

// listed notes that an AG has no more inodes.
func (r *reached) listed(agno ioctl.AGNumber) {
	r.change(agno, func(g *groupReached) { g.listed = true })
}

// broke notes that something in an AG could not be listed.
func (r *reached) broke(agno ioctl.AGNumber) {
	r.change(agno, func(g *groupReached) { g.broken = true })
}
