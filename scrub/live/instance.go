package live

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"time"
)

// ErrNoTracing means that there is no tracefs, or not these tracepoints, or no right to
// use them. What depends on them has to be settled otherwise.
var ErrNoTracing = errors.New("the kernel's tracepoints cannot be used")

// tracefs is where tracefs is mounted, newest place first.
var tracefs = []string{"/sys/kernel/tracing", "/sys/kernel/debug/tracing"}

// Tracing instances of ours are called PREFIX-NAMESPACE-PID-START-NUMBER: the
// process id with the pid namespace that it counts in, and when that process
// was started, so that one that a crash left behind can be told from those of
// others and from those of a process that got the number later.
const instancePrefix = "scrubd"

// instances counts those of this process.
var instances atomic.Uint64

// instance is one tracing instance: a directory that is made and removed.
type instance struct {
	dir    string
	events string // its events directory
}

// findTracefs returns the directory of a tracefs that has an event.
func findTracefs(event string) (string, error) {
	for _, dir := range tracefs {
		if _, err := os.Stat(filepath.Join(dir, "events", event)); err == nil {
			return dir, nil
		}
	}
	return "", fmt.Errorf("look for the event %s: %w", event, ErrNoTracing)
}

// newInstance makes one. Stale ones are removed first.
func newInstance(root string) (*instance, error) {
	self, err := owner(os.Getpid())
	if err != nil {
		return nil, fmt.Errorf("name a tracing instance: %w: %w", ErrNoTracing, err)
	}
	removeStale(root)
	dir := filepath.Join(root, "instances", fmt.Sprintf("%s-%s-%d", instancePrefix, self, instances.Add(1)))
	if err := os.Mkdir(dir, 0o700); err != nil {
		return nil, fmt.Errorf("make a tracing instance: %w: %w", ErrNoTracing, err)
	}
	return &instance{dir: dir, events: filepath.Join(dir, "events")}, nil
}

// path is a file of the instance.
func (i *instance) path(elem ...string) string {
	return filepath.Join(append([]string{i.dir}, elem...)...)
}

// set writes a setting.
func (i *instance) set(file, value string) error {
	if err := os.WriteFile(i.path(file), []byte(value), 0); err != nil {
		return fmt.Errorf("set up tracing: %w: %w", ErrNoTracing, err)
	}
	return nil
}

// filter lets an event through for one device only. dev is in the kernel's own
// form, not that of stat(2).
func (i *instance) filter(s *source, dev uint64) error {
	return i.set(filepath.Join("events", s.path, "filter"), fmt.Sprintf("dev == %d%s", dev, s.also))
}

// enable switches an event on or off.
func (i *instance) enable(s *source, on bool) error {
	value := "0"
	if on {
		value = "1"
	}
	return i.set(filepath.Join("events", s.path, "enable"), value)
}

// removal of an instance is tried for that long: somebody may be reading in it.
const (
	removeTries = 20
	removePause = 5 * time.Millisecond
)

// remove ends the instance, with everything that was enabled in it.
func (i *instance) remove() error {
	for n := 1; ; n++ {
		err := os.Remove(i.dir)
		if err == nil || errors.Is(err, os.ErrNotExist) {
			return nil
		}
		if n == removeTries {
			return fmt.Errorf("remove a tracing instance: %w", err)
		}
		time.Sleep(removePause)
	}
}

// RemoveStale removes the tracing instances of processes of this program that
// are gone, and returns how many. Each costs every writer of its filesystem a
// little for as long as it is there. Where there is no tracefs there are none.
func RemoveStale() int {
	n := 0
	for _, root := range tracefs {
		n += removeStale(root)
	}
	return n
}

func removeStale(root string) int {
	all, err := os.ReadDir(filepath.Join(root, "instances"))
	if err != nil {
		return 0
	}
	n := 0
	for _, entry := range all {
		if isStale(entry.Name()) && os.Remove(filepath.Join(root, "instances", entry.Name())) == nil {
			n++ // the kernel refuses to remove one that is being read
		}
	}
	return n
}

// isStale tells whether an instance of that name is ours and without a process.
func isStale(name string) bool {
	part := strings.Split(name, "-")
	if len(part) != 5 || part[0] != instancePrefix {
		return false
	}
	pid, err := strconv.Atoi(part[2])
	if err != nil {
		return false
	}
	if part[1] != pidNamespace() {
		return false // its processes cannot be seen from here
	}
	now, err := owner(pid)
	if errors.Is(err, os.ErrNotExist) {
		return true
	}
	return err == nil && now != strings.Join(part[1:4], "-")
}

// owner names a process so that no other is ever called that, in this boot:
// NAMESPACE-PID-START.
func owner(pid int) (string, error) {
	stat, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "stat"))
	if err != nil {
		return "", fmt.Errorf("look for process %d: %w", pid, err)
	}
	start, ok := startTime(string(stat))
	ns := pidNamespace()
	if !ok || ns == "" {
		return "", fmt.Errorf("look for process %d: %w", pid, errFormat)
	}
	return fmt.Sprintf("%s-%d-%d", ns, pid, start), nil
}

// startTime reads when a process was started, in clock ticks since the boot.
//
// Source: proc_pid_stat(5), field 22; the name in field 2 may hold anything.
func startTime(stat string) (uint64, bool) {
	end := strings.LastIndexByte(stat, ')')
	if end < 0 {
		return 0, false
	}
	fields := strings.Fields(stat[end+1:])
	const start = 22 - 3 // fields begins with the third
	if len(fields) <= start {
		return 0, false
	}
	n, err := strconv.ParseUint(fields[start], 10, 64)
	return n, err == nil
}

// The pid namespace that trace events have process ids of, and what stands for
// it where the kernel knows no namespaces.
//
// Source: include/linux/proc_ns.h (PROC_PID_INIT_INO).
const (
	initialPIDNamespace = "4026531836"
	noPIDNamespaces     = "0"
)

// pidNamespace is the number of the namespace of our process ids, empty if it
// cannot be told.
func pidNamespace() string {
	link, err := os.Readlink("/proc/self/ns/pid")
	if errors.Is(err, os.ErrNotExist) {
		return noPIDNamespaces
	}
	if err != nil {
		return ""
	}
	return strings.TrimSuffix(strings.TrimPrefix(link, "pid:["), "]")
}

// seesTracedPIDs tells whether the process ids in events are those that we see.
func seesTracedPIDs() bool {
	ns := pidNamespace()
	return ns == initialPIDNamespace || ns == noPIDNamespaces
}
