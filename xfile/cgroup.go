package xfile

import (
	"errors"
	"fmt"
	"io/fs"
	"math"
	"path"
	"slices"
	"strconv"
	"strings"
)

// memoryGroup is one level of the memory cgroup hierarchy above this process,
// as a directory of an fs.FS whose root is "/".
type memoryGroup struct {
	dir string
	v1  bool
}

// memoryGroups returns every visible level from the process's own cgroup up to
// the root of the mount. A cgroup namespace hides what is above its root; those
// limits cannot be known.
//
// Source: man 7 cgroups (/proc/PID/cgroup), man 5 proc_pid_mountinfo.
func memoryGroups(root fs.FS) ([]memoryGroup, error) {
	lines, err := readLines(root, "proc/self/cgroup")
	if err != nil {
		return nil, err
	}
	mounts, err := readLines(root, "proc/self/mountinfo")
	if err != nil {
		return nil, err
	}
	var all []memoryGroup
	for _, line := range lines {
		// hierarchy-ID:controller-list:cgroup-path
		part := strings.SplitN(line, ":", 3)
		if len(part) != 3 {
			continue
		}
		v1 := part[0] != "0" || part[1] != ""
		if v1 && !slices.Contains(strings.Split(part[1], ","), "memory") {
			continue
		}
		for _, m := range mounts {
			point, below, ok := cgroupMount(m, v1)
			if !ok {
				continue
			}
			rel, ok := strings.CutPrefix(path.Clean(part[2]), path.Clean(below))
			if below == "/" {
				rel, ok = part[2], true
			}
			if !ok || rel != "" && rel[0] != '/' || strings.HasPrefix(rel, "/..") {
				continue
			}
			top := strings.TrimPrefix(path.Clean(point), "/")
			for dir := path.Join(top, rel); ; dir = path.Dir(dir) {
				all = append(all, memoryGroup{dir, v1})
				if dir == top || dir == "." {
					break
				}
			}
			break
		}
	}
	return all, nil
}

// cgroupMount returns the mount point and the root of a line of mountinfo that
// is a cgroup mount with a memory controller.
func cgroupMount(line string, v1 bool) (point, below string, ok bool) {
	before, after, found := strings.Cut(line, " - ")
	field, tail := strings.Fields(before), strings.Fields(after)
	if !found || len(field) < 5 || len(tail) < 1 {
		return "", "", false
	}
	switch {
	case v1 && tail[0] == "cgroup":
		if len(tail) < 3 || !slices.Contains(strings.Split(tail[2], ","), "memory") {
			return "", "", false
		}
	case !v1 && tail[0] == "cgroup2":
	default:
		return "", "", false
	}
	return unescapeMount(field[4]), unescapeMount(field[3]), true
}

// unescapeMount undoes the \ooo of mountinfo.
func unescapeMount(s string) string {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' && i+3 < len(s) {
			if c, err := strconv.ParseUint(s[i+1:i+4], 8, 8); err == nil {
				b.WriteByte(byte(c))
				i += 3
				continue
			}
		}
		b.WriteByte(s[i])
	}
	return b.String()
}

// groupRoom is what one cgroup lets its members take. All numbers are bytes,
// [Unlimited] where there is no bound.
type groupRoom struct {
	limit int64  // the lower of its hard and its throttling limit
	bound string // the file that says so
	room  int64  // until limit, counting cache that the kernel would drop
	swap  int64  // swap that its members may still use
	both  int64  // until a limit on memory and swap together (v1)
}

// read asks one level. A file that is not there (the root has no limits, a
// controller may be off) bounds nothing.
func (g memoryGroup) read(root fs.FS) (groupRoom, error) {
	if g.v1 {
		return g.readV1(root)
	}
	r := groupRoom{limit: Unlimited, room: Unlimited, swap: Unlimited, both: Unlimited}
	for _, name := range []string{"memory.max", "memory.high"} {
		limit, err := readBytes(root, path.Join(g.dir, name))
		if err != nil {
			return r, err
		}
		if limit < r.limit {
			r.limit, r.bound = limit, "/"+path.Join(g.dir, name)
		}
	}
	if r.limit != Unlimited {
		used, err := readUsed(root, path.Join(g.dir, "memory.current"))
		if err != nil {
			return r, err
		}
		cache, err := readCache(root, path.Join(g.dir, "memory.stat"), "")
		if err != nil {
			return r, err
		}
		r.room = max(0, r.limit-used+min(used, cache))
	}
	limit, err := readBytes(root, path.Join(g.dir, "memory.swap.max"))
	if err != nil {
		return r, err
	}
	if limit != Unlimited {
		used, err := readUsed(root, path.Join(g.dir, "memory.swap.current"))
		if err != nil {
			return r, err
		}
		r.swap = max(0, limit-used)
	}
	return r, nil
}

// readV1 is read for the first version of cgroups, whose "no limit" is the
// largest page-aligned number.
func (g memoryGroup) readV1(root fs.FS) (groupRoom, error) {
	r := groupRoom{limit: Unlimited, room: Unlimited, swap: Unlimited, both: Unlimited}
	limit, err := readBytes(root, path.Join(g.dir, "memory.limit_in_bytes"))
	if err != nil {
		return r, err
	}
	memsw, err := readBytes(root, path.Join(g.dir, "memory.memsw.limit_in_bytes"))
	if err != nil || limit == Unlimited && memsw == Unlimited {
		return r, err
	}
	cache, err := readCache(root, path.Join(g.dir, "memory.stat"), "total_")
	if err != nil {
		return r, err
	}
	if limit != Unlimited {
		used, err := readUsed(root, path.Join(g.dir, "memory.usage_in_bytes"))
		if err != nil {
			return r, err
		}
		r.limit, r.bound = limit, "/"+path.Join(g.dir, "memory.limit_in_bytes")
		r.room = max(0, limit-used+min(used, cache))
	}
	if memsw != Unlimited {
		used, err := readUsed(root, path.Join(g.dir, "memory.memsw.usage_in_bytes"))
		if err != nil {
			return r, err
		}
		r.both = max(0, memsw-used+min(used, cache))
	}
	// With a swappiness of 0 a v1 group at its limit is killed and not swapped.
	switch swappiness, err := readBytes(root, path.Join(g.dir, "memory.swappiness")); {
	case err != nil:
		return r, err
	case swappiness == 0:
		r.swap = 0
	}
	return r, nil
}

// readCache returns the page cache and slab of a group that the kernel would
// drop before it kills: all inactive file pages, and half of what is in use.
// tmpfs and memfd pages are not among them.
func readCache(root fs.FS, name, prefix string) (int64, error) {
	stat, err := readTable(root, name)
	if errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	}
	return stat[prefix+"inactive_file"] + stat[prefix+"active_file"]/2 + stat[prefix+"slab_reclaimable"]/2, err
}

// readUsed reads a usage file; one that is not there counts as nothing used.
func readUsed(root fs.FS, name string) (int64, error) {
	n, err := readBytes(root, name)
	if n == Unlimited {
		n = 0
	}
	return n, err
}

// readBytes reads a file that holds one number of bytes or "max". A file that
// is not there, and a number that no machine reaches, is [Unlimited].
func readBytes(root fs.FS, name string) (int64, error) {
	b, err := fs.ReadFile(root, name)
	if errors.Is(err, fs.ErrNotExist) {
		return Unlimited, nil
	}
	if err != nil {
		return Unlimited, fmt.Errorf("read cgroup limit: %w", err)
	}
	s := strings.TrimSpace(string(b))
	if s == "max" {
		return Unlimited, nil
	}
	n, err := strconv.ParseUint(s, 10, 64)
	if err != nil {
		return Unlimited, fmt.Errorf("parse /%s: %w", name, err)
	}
	if n >= math.MaxInt64>>16<<16 {
		return Unlimited, nil
	}
	return int64(n), nil
}

// readTable reads a file of lines "name number", with or without a colon and
// a unit of kB.
func readTable(root fs.FS, name string) (map[string]int64, error) {
	lines, err := readLines(root, name)
	if err != nil {
		return nil, err
	}
	table := make(map[string]int64, len(lines))
	for _, line := range lines {
		field := strings.Fields(line)
		if len(field) < 2 {
			continue
		}
		n, err := strconv.ParseInt(field[1], 10, 64)
		if err != nil {
			continue
		}
		if len(field) > 2 && field[2] == "kB" {
			n <<= 10
		}
		table[strings.TrimSuffix(field[0], ":")] = n
	}
	return table, nil
}

func readLines(root fs.FS, name string) ([]string, error) {
	b, err := fs.ReadFile(root, name)
	if err != nil {
		return nil, fmt.Errorf("read system state: %w", err)
	}
	return strings.Split(strings.TrimSuffix(string(b), "\n"), "\n"), nil
}
