package daemon

import (
	"fmt"
	"slices"
)

// attendee is a run that is no unit: that of a person, or of a program, which has
// told of itself and stays connected as long as it lasts. So it is in the way of
// others on the same disks, can be stopped, and nobody has to say that it ended.
type attendee struct {
	pid  int
	stop chan string
}

// String is what the status shows.
func (a *attendee) String() string { return fmt.Sprintf("started by hand, process %d", a.pid) }

// end tells it why it is to end. Once is enough.
func (a *attendee) end(why string) {
	select {
	case a.stop <- why:
	default:
	}
}

// Attend takes note of a run of the filesystem mounted at a path until leave is
// called. stop gets the reason when somebody wants the run to end.
//
// Errors: [ErrUnknown], [*CopyError].
func (d *Daemon) Attend(path string, pid int) (stop <-chan string, leave func(), err error) {
	a := &attendee{pid, make(chan string, 1)}
	var t *target
	err = d.with(path, func(found *target) error {
		t = found
		t.hands = append(t.hands, a)
		if !t.running {
			t.running, t.status = true, a.String()
			t.atStart = t.stamp
		}
		return nil
	})
	if err != nil {
		return nil, nil, err
	}
	return a.stop, func() {
		d.mu.Lock()
		t.hands = slices.DeleteFunc(t.hands, func(other *attendee) bool { return other == a })
		d.mu.Unlock()
		d.Wake()
	}, nil
}
