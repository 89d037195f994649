package throttle

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"strconv"
	"strings"
	"time"
)

// The resources that the kernel counts pressure of.
const (
	cpu = iota
	disk
	memory
	resources
)

var (
	systemFiles = [resources]string{"proc/pressure/cpu", "proc/pressure/io", "proc/pressure/memory"}
	groupFiles  = [resources]string{"cpu.pressure", "io.pressure", "memory.pressure"}
)

// stalls is how long some task has waited for each resource, since boot.
type stalls [resources]time.Duration

// parseStall reads the total of the line "some" of a pressure file:
//
//	some avg10=0.00 avg60=0.00 avg300=0.00 total=1234
//
// whose unit is microseconds. The averages are too slow to steer by.
//
// Source: Documentation/accounting/psi.rst.
func parseStall(r io.Reader) (time.Duration, error) {
	lines := bufio.NewScanner(r)
	for lines.Scan() {
		rest, ok := strings.CutPrefix(lines.Text(), "some ")
		if !ok {
			continue
		}
		_, total, ok := strings.Cut(rest, "total=")
		if !ok {
			break
		}
		n, err := strconv.ParseInt(strings.TrimSpace(total), 10, 64)
		if err != nil || n < 0 {
			return 0, fmt.Errorf("total %q is not a number of microseconds", total)
		}
		return time.Duration(n) * time.Microsecond, nil
	}
	if err := lines.Err(); err != nil {
		return 0, err
	}
	return 0, errors.New(`no line "some" with a total`)
}

func readStall(root fs.FS, name string) (time.Duration, error) {
	f, err := root.Open(name)
	if err != nil {
		return 0, err
	}
	defer func() { _ = f.Close() }() // opened for reading
	d, err := parseStall(f)
	if err != nil {
		return 0, fmt.Errorf("read /%s: %w", name, err)
	}
	return d, nil
}

// readStalls reads the three files, or those of them that are there.
func readStalls(root fs.FS, names [resources]string) (s stalls, ok bool) {
	for i, name := range names {
		if d, err := readStall(root, name); err == nil {
			s[i], ok = d, true
		}
	}
	return s, ok
}

// ownGroup returns the directory of this process's control group (version 2)
// below root, if nobody but this process is in it: what waits there is this run.
// In the root group, where everybody is, there are no files of one's own.
//
// Source: man 7 cgroups.
func ownGroup(root fs.FS, pid int) (dir string, alone bool) {
	text, err := fs.ReadFile(root, "proc/self/cgroup")
	if err != nil {
		return "", false
	}
	group := ""
	for line := range strings.Lines(string(text)) {
		if g, ok := strings.CutPrefix(strings.TrimSpace(line), "0::"); ok {
			group = g
		}
	}
	if group == "" || group == "/" || strings.HasPrefix(group, "/..") {
		return "", false
	}
	for _, mount := range []string{"sys/fs/cgroup", "sys/fs/cgroup/unified"} {
		dir = path.Join(mount, group)
		members, err := fs.ReadFile(root, path.Join(dir, "cgroup.procs"))
		if err != nil {
			continue
		}
		return dir, strings.TrimSpace(string(members)) == strconv.Itoa(pid)
	}
	return "", false
}
