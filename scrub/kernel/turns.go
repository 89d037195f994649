package kernel

import (
	"sync"

	"github.com/scrubd/scrubd/ioctl"
)

// cursor is where the listing of an AG's inodes goes on.
type cursor struct {
	agno ioctl.AGNumber
	ino  ioctl.Ino // 0 at its start
}

// turns hands out the AGs. A worker keeps one only while it lists the next
// chunks and puts it back before it checks them, so that a single large AG
// keeps all workers busy.
type turns struct {
	mu      sync.Mutex
	changed sync.Cond
	next    ioctl.AGNumber // the first AG not begun
	count   ioctl.AGNumber
	spread  int      // how many AGs to have open at most
	ready   []cursor // begun, and nobody is listing it
	open    int      // begun, not finished
	stopped bool
}

func (t *turns) init(agcount uint32, workers int) {
	t.count, t.spread = ioctl.AGNumber(agcount), workers
	t.changed.L = &t.mu
}

// take waits for an AG to list; false means that there is none left, or that
// the scan was stopped. As many AGs are begun as there are workers, so that
// these do not queue for the locks of one.
func (t *turns) take() (cursor, bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for !t.stopped {
		switch {
		case t.next < t.count && t.open < t.spread:
			c := cursor{agno: t.next}
			t.next++
			t.open++
			return c, true
		case len(t.ready) > 0:
			c := t.ready[0]
			t.ready = append(t.ready[:0], t.ready[1:]...)
			return c, true
		case t.open == 0:
			return cursor{}, false
		}
		t.changed.Wait()
	}
	return cursor{}, false
}

// put gives an AG back with the place where its listing goes on.
func (t *turns) put(c cursor) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.ready = append(t.ready, c)
	t.changed.Signal()
}

// finish says that an AG has been listed to its end.
func (t *turns) finish() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.open--
	t.changed.Broadcast()
}

// stop makes every take return.
func (t *turns) stop() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.stopped = true
	t.changed.Broadcast()
}
