package xfile

import (
	"fmt"
	"io/fs"
	"os"
	"time"
)

// SystemBudget returns a budget of what this process can take without being
// killed for it: the least of what every memory cgroup above it and the
// machine itself still have, with swap as far as it may be used, and with
// headroom for the Go heap and for everybody else. Disk is not bounded.
//
// A cgroup over memory.max is killed and not told, so the budget refuses
// before: it reads the system again every second or 32 MiB, whichever comes
// first, and its limit follows. What is free now can be taken by others a
// moment later; headroom is all that stands between.
//
// Both versions of cgroups are read; limits above the root of a cgroup
// namespace cannot be seen.
//
// Source: Documentation/admin-guide/cgroup-v2.rst (memory.max, memory.high,
// memory.swap.max), cgroup-v1/memory.rst; man 5 proc_meminfo (MemAvailable).
func SystemBudget() (*Budget, error) { return systemBudget(os.DirFS("/")) }

func systemBudget(root fs.FS) (*Budget, error) {
	left, bound, err := systemLeft(root)
	if err != nil {
		return nil, fmt.Errorf("find out how much memory may be used: %w", err)
	}
	b := NewBudget(left)
	b.bound = bound
	b.source = &source{
		read: func() (int64, string, error) { return systemLeft(root) },
		last: time.Now(),
	}
	return b, nil
}

const (
	headroomMin = 24 << 20
	headroomMax = 1 << 30
)

// headroom returns what is to be left alone of n bytes: an eighth, at least
// what a small Go heap needs, and never more than half.
func headroom(n int64) int64 {
	return min(min(max(n/8, headroomMin), headroomMax), n/2)
}

// systemLeft returns how many bytes of memory may still be taken, and the
// name of what bounds them.
func systemLeft(root fs.FS) (left int64, bound string, err error) {
	mem, err := readTable(root, "proc/meminfo")
	if err != nil {
		return 0, "", err
	}
	groups, err := memoryGroups(root)
	if err != nil {
		return 0, "", err
	}
	left, bound = max(0, mem["MemAvailable"]-headroom(mem["MemTotal"])), "MemAvailable of /proc/meminfo"
	swap, both := mem["SwapFree"], int64(Unlimited)
	for _, g := range groups {
		r, err := g.read(root)
		if err != nil {
			return 0, "", err
		}
		if r.limit != Unlimited {
			if room := max(0, r.room-headroom(r.limit)); room < left {
				left, bound = room, r.bound
			}
		}
		swap = min(swap, r.swap)
		both = min(both, r.both)
	}
	// Swap is shared with everybody too.
	left += swap - swap/8
	if both != Unlimited {
		if both = max(0, both-headroom(both)); both < left {
			left, bound = both, "the limit of memory and swap together"
		}
	}
	return max(0, left), bound, nil
}
