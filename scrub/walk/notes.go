package walk

import (
	"sync"

	"github.com/scrubd/scrubd/ioctl"
)

// notes collects what is rare, from all workers, in the lists of the result.
type notes struct {
	mu  sync.Mutex
	res *Result
}

func (n *notes) unreadable(u Unreadable) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.res.UnreadableTotal++
	if len(n.res.Unreadable) < ListCap {
		n.res.Unreadable = append(n.res.Unreadable, u)
	}
}

func (n *notes) refused(r Refused) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.res.RefusedTotal++
	if len(n.res.Refused) < ListCap {
		n.res.Refused = append(n.res.Refused, r)
	}
}

func (n *notes) sick(rec *ioctl.BulkstatRecord, extents uint64) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.res.SickTotal++
	n.res.SickMask |= rec.Sick
	if len(n.res.Sick) < ListCap {
		n.res.Sick = append(n.res.Sick, SickInode{
			Ino: rec.Ino, Gen: rec.Gen, Mask: rec.Sick, Extents: extents, AExtents: rec.AExtents,
		})
	}
}
