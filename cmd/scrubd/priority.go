package main

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

// The priority of a run in the background that no unit gives one.
const (
	// politeNice leaves it a tenth of a CPU that others want: it may hold the lock
	// of an AG, and whoever waits for that waits for it to get on.
	politeNice = 10
	// politeSlice is the longest that a task may ask for. One with a shorter slice
	// that wakes up gets its CPU at once.
	politeSlice = 100 * time.Millisecond
	// politeIO is the lowest priority within the class of best effort.
	politeIO = 2<<13 | 7
)

// lowerPriority gives this process a low priority for CPUs and disks, unless it has
// a lower one already. Both belong to threads, and new ones have those of the
// thread that starts them.
//
// Source: man 2 sched_setattr, man 2 ioprio_set; kernel/sched/syscalls.c.
func lowerPriority() error {
	for done := make(map[int]bool); ; {
		tasks, err := os.ReadDir("/proc/self/task")
		if err != nil {
			return fmt.Errorf("list the threads of this process: %w", err)
		}
		news := false
		for _, task := range tasks {
			tid, err := strconv.Atoi(task.Name())
			if err != nil || done[tid] {
				continue
			}
			done[tid], news = true, true
			if err := lowerThread(tid); err != nil && !errors.Is(err, unix.ESRCH) {
				return fmt.Errorf("lower the priority of thread %d: %w", tid, err)
			}
		}
		if !news {
			return nil
		}
	}
}

func lowerThread(tid int) error {
	is, err := unix.SchedGetAttr(tid, 0)
	if err != nil {
		return err
	}
	if is.Policy != unix.SCHED_NORMAL && is.Policy != unix.SCHED_BATCH || is.Nice > politeNice {
		return nil
	}
	err = unix.SchedSetAttr(tid, &unix.SchedAttr{
		Size: unix.SizeofSchedAttr, Policy: unix.SCHED_BATCH, Nice: politeNice, Runtime: uint64(politeSlice),
	}, 0)
	if err != nil {
		return err
	}
	const whoProcess = 1
	if _, _, errno := unix.Syscall(unix.SYS_IOPRIO_SET, whoProcess, uintptr(tid), politeIO); errno != 0 {
		return errno
	}
	return nil
}
