package freeze

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

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
	// Err is what kept it from being thawed; the marker stays then.
	Err error
}

// Opener opens the filesystem of a marker for [ThawStale].
type Opener func(m *Marker) (fs Filesystem, release func(), err error)

// ThawStale ends the freezes below dir that are ours, according to their
// markers, and whose supervisors are gone. A marker of another boot is removed.
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
			if s.Thawed || err != nil {
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
