package daemon

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/moby/sys/mountinfo"
	"golang.org/x/sys/unix"
)

// Mount is a mounted XFS filesystem.
type Mount struct {
	// Point is where its root is mounted; the shortest path where there are several.
	Point string
	// Source is the device as the mount table has it, Number its number.
	Source, Number string
	// Others are the devices of an external log and of the realtime section.
	Others []string
	// ReadOnly and NoRecovery are options.
	ReadOnly, NoRecovery bool
}

// key tells mounts apart.
func (m *Mount) key() string { return m.Number + " " + m.Point }

// mountsOf picks the XFS filesystems of a mount table that can be checked: each
// once, by a mount of its root.
func mountsOf(table []*mountinfo.Info) []Mount {
	var list []Mount
	byNumber := map[string]int{}
	for _, m := range table {
		if m.FSType != "xfs" || m.Root != "/" {
			continue
		}
		number := fmt.Sprintf("%d:%d", m.Major, m.Minor)
		if i, again := byNumber[number]; again {
			if better(m.Mountpoint, list[i].Point) {
				list[i].Point = m.Mountpoint
			}
			continue
		}
		byNumber[number] = len(list)
		mount := Mount{Point: m.Mountpoint, Source: m.Source, Number: number}
		for _, option := range append(strings.Split(m.VFSOptions, ","), strings.Split(m.Options, ",")...) {
			name, value, _ := strings.Cut(option, "=")
			switch name {
			case "logdev", "rtdev":
				mount.Others = append(mount.Others, value)
			case "ro":
				mount.ReadOnly = true
			case "norecovery":
				mount.NoRecovery = true
			}
		}
		list = append(list, mount)
	}
	slices.SortFunc(list, func(a, b Mount) int { return strings.Compare(a.Point, b.Point) })
	return list
}

func better(a, b string) bool { return len(a) < len(b) || len(a) == len(b) && a < b }

// ReadMounts reads the mount table of the whole system: that of the first
// process, since our own may hide mounts.
func ReadMounts() ([]Mount, error) {
	f, err := os.Open("/proc/1/mountinfo")
	if err != nil {
		f, err = os.Open("/proc/self/mountinfo")
	}
	if err != nil {
		return nil, fmt.Errorf("read the mount table: %w", err)
	}
	defer func() { _ = f.Close() }()
	table, err := mountinfo.GetMountsFromReader(f, nil)
	if err != nil {
		return nil, fmt.Errorf("read the mount table: %w", err)
	}
	return mountsOf(table), nil
}

// watchMounts calls changed when the mount table has changed, until ctx ends.
//
// Source: man 5 proc_pid_mountinfo (POLLPRI and POLLERR on a change).
func watchMounts(ctx context.Context, changed func()) {
	fd, err := unix.Open("/proc/1/mountinfo", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		fd, err = unix.Open("/proc/self/mountinfo", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	}
	if err != nil {
		return // the daemon looks at the table now and then in any case
	}
	defer func() { _ = unix.Close(fd) }()
	for ctx.Err() == nil {
		poll := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLPRI}}
		n, err := unix.Poll(poll, int(time.Second/time.Millisecond))
		switch {
		case err == unix.EINTR:
		case err != nil:
			return
		case n > 0:
			changed()
		}
	}
}
