package freeze

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"github.com/scrubd/scrubd/ioctl"
)

// Stale is one marker that [ThawStale] met.
type Stale struct {
	Marker
	// Thawed: it was frozen, and is not any more.
	Thawed bool
	// Alive: its supervisor is, and will see to it.
	Alive bool
	// Left is why a freeze that may be there was left alone: [ErrBroken],
	// [ErrUnclear]. The marker is gone then.
	Left error
	// Err is what kept it from being thawed; the marker stays then.
	Err error
}

// Opener opens the filesystem of a marker for [ThawStale].
type Opener func(m *Marker) (fs Filesystem, release func(), err error)

// ErrUnclear is a supervisor that was killed in the midst of a freeze: what is
// frozen now may be its doing or somebody else's.
var ErrUnclear = errors.New("whose freeze it is cannot be told any more")

// claimTime is how long after its beginning a freeze is taken for ours although
// it cannot be told from others: who else would have frozen just then?
const claimTime = MaxLimit + time.Second

// errNever is a supervisor that was killed before it froze anything.
var errNever = errors.New("nothing was frozen")

// whose tells whether a freeze that is there now, with this log head and that
// long after the marker was written, is the marker's: nil if so, else
// [ErrBroken], [ErrUnclear] or errNever.
func (m *Marker) whose(head ioctl.LogHead, age time.Duration) error {
	known := head != "" && m.LogHead != ""
	switch {
	case m.Frozen && known && head == m.LogHead:
		return nil
	case m.Frozen && known:
		return ErrBroken
	case known && head == m.LogHead:
		return errNever // if it is frozen, it was so before
	case (m.Frozen || known) && age >= 0 && age < claimTime:
		// No head to go by; or killed within the freezing call, which goes on to
		// its end in a dying process.
		return nil
	default:
		return ErrUnclear
	}
}

// ThawStale ends the freezes below dir that are ours, according to their
// markers, and whose supervisors are gone. A marker of another boot is removed,
// and so is one whose freeze somebody else has ended: a later one is not ours.
// Whatever has no marker is somebody else's and is not touched.
// Errors: those of listing the directory; that there is none is no error.
func ThawStale(dir string, open Opener) ([]Stale, error) {
	files, err := filepath.Glob(filepath.Join(dir, markerPrefix+"*"+markerSuffix))
	if err != nil {
		return nil, fmt.Errorf("look for markers of freezes: %w", err)
	}
	boot, err := bootID()
	if err != nil {
		return nil, err
	}
	var out []Stale
	for _, path := range files {
		s, err := thawOne(path, boot, open)
		switch {
		case errors.Is(err, os.ErrNotExist), errors.Is(err, errReplaced):
		case errors.Is(err, errHeld):
			out = append(out, Stale{Marker: s.Marker, Alive: true})
		default:
			s.Err = err
			if s.Thawed || s.Left != nil || err != nil {
				out = append(out, s)
			}
		}
	}
	return out, nil
}

// thawOne settles one marker. It holds the marker's lock meanwhile, so that no
// supervisor freezes anew.
func thawOne(path, boot string, open Opener) (s Stale, err error) {
	file, err := os.OpenFile(path, os.O_RDWR|unix.O_NOFOLLOW, 0)
	if err != nil {
		return s, fmt.Errorf("open the marker of a freeze: %w", err)
	}
	held := &heldMarker{file}
	lockErr := held.lock()
	m, written := held.read()
	s.Marker = m
	if lockErr != nil {
		_ = file.Close() // opened for reading
		return s, fmt.Errorf("%s: %w", path, lockErr)
	}
	if !written || m.BootID != boot {
		held.remove()
		return s, nil
	}
	fs, release, err := open(&m)
	if errors.Is(err, os.ErrNotExist) {
		held.remove() // no longer mounted anywhere
		return s, nil
	}
	if err != nil {
		_ = file.Close()
		return s, fmt.Errorf("thaw %s: %w", m.MountPoint, err)
	}
	defer release()
	switch err := m.whose(logHead(fs), uptime()-m.Uptime); {
	case errors.Is(err, errNever):
		held.remove()
		return s, nil
	case err != nil:
		s.Left = err
		held.remove()
		return s, nil
	}
	switch err := fs.Thaw(); {
	case err == nil:
		s.Thawed = true
	case !errors.Is(err, ioctl.ErrNotFrozen):
		_ = file.Close()
		return s, err
	}
	held.remove()
	return s, nil
}
