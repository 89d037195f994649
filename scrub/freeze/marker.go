package freeze

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/scrubd/scrubd/ioctl"
)

// Dir is where the markers are. It is in memory, so that a reboot, which ends
// every freeze, ends them too.
const Dir = "/run/scrubd"

const (
	markerPrefix = "freeze-"
	markerSuffix = ".json"
	// maxMarker is more than a marker has.
	maxMarker = 2 * markerSize
)

// Marker says on which filesystem a freeze is ours, and which freeze. Its file
// exists from just before the freeze until just after the thaw, locked by the
// supervisor.
type Marker struct {
	Dir string `json:"-"`
	// Device is the data device's number, MountPoint where it is mounted.
	Device     uint64 `json:"-"`
	DeviceName string `json:"device"` // MAJOR:MINOR
	UUID       string `json:"uuid"`
	MountPoint string `json:"mount_point"`
	// Frozen is set once the freeze is there. Until then the marker says only
	// that one may come.
	Frozen bool `json:"frozen"`
	// LogHead was the log's just before the freeze, and with Frozen it is the
	// freeze's own: any other freeze has another one. "" where it cannot be read.
	LogHead ioctl.LogHead `json:"log_head,omitempty"`
	// Uptime is how long the machine had been up when the freeze was begun.
	Uptime time.Duration `json:"uptime_ns"`
	// PID is the supervisor's, for a person to look at: the lock tells whether
	// it is alive, whatever process id namespace it is in.
	PID    int    `json:"supervisor_pid"`
	BootID string `json:"boot_id"`
	// Deadline is when the supervisor thaws at the latest.
	Deadline time.Time `json:"deadline"`
}

// NewMarker returns the marker of this process for a filesystem, below dir.
// Errors: those of reading the boot's id.
func NewMarker(dir, mountPoint, uuid string, device uint64) (Marker, error) {
	boot, err := bootID()
	if err != nil {
		return Marker{}, err
	}
	return Marker{
		Dir: dir, Device: device, DeviceName: fmt.Sprintf("%d:%d", unix.Major(device), unix.Minor(device)),
		UUID: uuid, MountPoint: mountPoint, PID: os.Getpid(), BootID: boot,
	}, nil
}

// SameFilesystem tells whether both markers are of one filesystem.
func (m *Marker) SameFilesystem(other *Marker) bool {
	return m.DeviceName == other.DeviceName && m.UUID == other.UUID
}

func bootID() (string, error) {
	id, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return "", fmt.Errorf("read the boot's id: %w", err)
	}
	return strings.TrimSpace(string(id)), nil
}

func (m *Marker) path() string {
	return filepath.Join(m.Dir, markerPrefix+m.DeviceName+markerSuffix)
}

// uptime is how long the machine has been up, time asleep included.
func uptime() time.Duration {
	var now unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &now); err != nil {
		return 0 // there is no kernel without it that has all the rest
	}
	return time.Duration(now.Nano())
}

// heldMarker is a marker's file, open and locked.
type heldMarker struct{ file *os.File }

// set writes the marker's file and locks it; head is the log's. A file that is
// locked already is another supervisor's; one that lies on the filesystem itself
// would be written when it is frozen, and is refused.
func (m *Marker) set(limit time.Duration, head ioctl.LogHead) (*heldMarker, error) {
	if err := os.MkdirAll(m.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("mark the freeze: %w", err)
	}
	var st unix.Stat_t
	if err := unix.Stat(m.Dir, &st); err != nil {
		return nil, fmt.Errorf("mark the freeze: look at %s: %w", m.Dir, err)
	}
	if st.Dev == m.Device {
		return nil, fmt.Errorf("mark the freeze: %s lies on the filesystem that is to be frozen", m.Dir)
	}
	file, err := os.OpenFile(m.path(), os.O_RDWR|os.O_CREATE|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return nil, fmt.Errorf("mark the freeze: %w", err)
	}
	held := &heldMarker{file}
	if err := held.lock(); err != nil {
		_ = file.Close()
		return nil, fmt.Errorf("mark the freeze: %s: %w", m.path(), err)
	}
	m.Frozen, m.LogHead, m.Uptime, m.Deadline = false, head, uptime(), time.Now().Add(limit)
	err = file.Truncate(0)
	if err == nil {
		err = held.write(m)
	}
	if err != nil {
		held.remove()
		return nil, fmt.Errorf("mark the freeze: %w", err)
	}
	return held, nil
}

// claim notes that the freeze is there; head is the log's.
func (m *Marker) claim(held *heldMarker, head ioctl.LogHead) error {
	m.Frozen, m.LogHead = true, head
	if err := held.write(m); err != nil {
		return fmt.Errorf("mark the freeze: %w", err)
	}
	return nil
}

// markerSize is the size of the whole file: what was written before it is
// overwritten in one call, without need for space.
const markerSize = 4096

// write writes what the marker says.
func (h *heldMarker) write(m *Marker) error {
	text, err := json.Marshal(m)
	if err != nil {
		return err
	}
	if len(text) >= markerSize {
		return fmt.Errorf("%d bytes are too many", len(text))
	}
	page := bytes.Repeat([]byte{' '}, markerSize)
	copy(page, text)
	page[markerSize-1] = '\n'
	_, err = h.file.WriteAt(page, 0)
	return err
}

// errHeld is a marker whose supervisor is alive.
var errHeld = errors.New("its supervisor is alive")

// errReplaced is a marker that was removed while it was being opened.
var errReplaced = errors.New("removed in the meantime")

// lock takes the lock without waiting.
func (h *heldMarker) lock() error {
	err := unix.Flock(int(h.file.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	if errors.Is(err, unix.EWOULDBLOCK) {
		return errHeld
	}
	if err != nil {
		return fmt.Errorf("lock: %w", err)
	}
	var st unix.Stat_t
	if err := unix.Fstat(int(h.file.Fd()), &st); err != nil {
		return fmt.Errorf("look at what was locked: %w", err)
	}
	if st.Nlink == 0 {
		return errReplaced
	}
	return nil
}

// remove removes the file and with it the lock, in this order.
func (h *heldMarker) remove() {
	_ = os.Remove(h.file.Name()) // in memory, and in a directory of our own: it does not fail
	_ = h.file.Close()
}

// read reads what the marker says; false if it was never written to its end, and
// so nothing was frozen.
func (h *heldMarker) read() (m Marker, ok bool) {
	text, err := io.ReadAll(io.NewSectionReader(h.file, 0, maxMarker))
	if err != nil || !strings.HasSuffix(string(text), "\n") {
		return m, false
	}
	return m, json.Unmarshal(text, &m) == nil && m.BootID != ""
}
