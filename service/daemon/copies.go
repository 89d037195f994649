package daemon

import (
	"errors"
	"fmt"
)

// copied is a mounted filesystem that has the UUID of another one: a snapshot or
// an image of it, mounted with nouuid. Records, slots and pauses go by UUID, so
// the two cannot be told apart, and the second is left alone.
type copied struct {
	Mount
	uuid  string
	first string // where the one is mounted that is looked after
}

// CopyError is a request for a filesystem that is a copy.
type CopyError struct{ Path, First string }

// Error says what the copy is a copy of, and what becomes of it.
func (e *CopyError) Error() string {
	return fmt.Sprintf("%s: it has the same UUID as %s, which alone is looked after", e.Path, e.First)
}

var errCopy = errors.New("it has the UUID of another mounted filesystem")

// copyOf notes a copy, and says so once.
func (d *Daemon) copyOf(first *target, m Mount) copied {
	c := copied{m, first.uuid, first.Point}
	d.complain(d.log(first), "copy "+m.key(), errCopy,
		fmt.Sprintf("%s: only %s is checked, not %s, as long as both have one UUID", m.Point, first.Point, m.Point))
	return c
}

func (c *copied) status() Status {
	return Status{
		UUID: c.uuid, Mount: c.Point, Device: c.Source, State: StateSkipped,
		Waits: "it has the same UUID as " + c.first,
	}
}
