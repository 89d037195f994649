package main

import (
	"context"
	"slices"
	"time"

	"github.com/moby/sys/mountinfo"
	"golang.org/x/sys/unix"
)

// mountPoll is how often the end of the watch is looked for; a change of the
// mount table itself wakes the watch at once.
const mountPoll = 500 * time.Millisecond

// watch calls gone once the mount with this id has left the mount table:
// a lazy unmount, which an open descriptor survives and so does not notice. It
// returns when the context ends.
//
// Source: man 5 proc_pid_mountinfo (POLLPRI and POLLERR on a change).
func (t mountTable) watch(ctx context.Context, id int, gone func()) {
	// Not an os.File: the Go runtime would poll it too, and whoever polls first
	// is the only one to be told of a change.
	fd, err := unix.Open("/proc/self/mountinfo", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return // without /proc there is nothing to see, and the run goes on
	}
	defer func() { _ = unix.Close(fd) }()
	for ctx.Err() == nil {
		poll := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLPRI}}
		n, err := unix.Poll(poll, int(mountPoll/time.Millisecond))
		if err != nil || n == 0 {
			if err != nil && err != unix.EINTR { //nolint:errorlint // package unix returns it bare
				return
			}
			continue
		}
		mounts, err := t.mounts()
		if err != nil {
			return
		}
		if !slices.ContainsFunc(mounts, func(m *mountinfo.Info) bool { return m.ID == id }) {
			gone()
			return
		}
	}
}
