package daemon

import (
	"errors"
	"time"
)

// ErrForbids is a filesystem whose owner wants no check.
var ErrForbids = errors.New("its autofsck property forbids any check")

// propertyAge is how long a property that forbids is taken to stay as it is:
// looking at it opens the filesystem.
const propertyAge = 10 * time.Minute

// lookAtProperty learns whether a filesystem may be checked at all. What else
// the property says is for the run to heed.
func (d *Daemon) lookAtProperty(t *target, now time.Time) {
	if d.o.Forbidden == nil {
		return
	}
	forbidden, err := d.o.Forbidden(t.Point)
	d.complain(d.log(t), "property "+t.Point, err, t.Point+": its autofsck property is not known")
	t.forbidden, t.looked = err == nil && forbidden, now // the run asks once more
}

// forbids tells whether a filesystem that is due may not be checked.
func (d *Daemon) forbids(t *target, now time.Time) bool {
	if age := now.Sub(t.looked); age < 0 || age >= propertyAge {
		d.lookAtProperty(t, now)
	}
	if t.forbidden {
		t.waits = ErrForbids.Error()
	}
	return t.forbidden
}
