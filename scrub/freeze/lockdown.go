package freeze

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime/debug"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// LockDown prepares this process for the time in which a thaw depends on it: it
// touches no disk any more, is not chosen when memory runs out, and is scheduled
// before others, where the system allows that. The process is no good for anything
// else afterwards: its heap only grows.
// Errors: of locking its memory; the rest is done as far as possible.
func LockDown() error {
	debug.SetGCPercent(-1)
	// What is mapped later is locked as it is touched; all at once would be the
	// whole of the heap's reserve.
	if err := unix.Mlockall(unix.MCL_CURRENT | unix.MCL_FUTURE | unix.MCL_ONFAULT); err != nil {
		return fmt.Errorf("lock memory: %w", err)
	}
	maps, err := os.ReadFile("/proc/self/maps")
	if err != nil {
		return fmt.Errorf("lock memory: %w", err)
	}
	for _, r := range fileMappings(maps) {
		// Reads the program in, and holds it.
		if _, _, errno := unix.Syscall(unix.SYS_MLOCK, r[0], r[1], 0); errno != 0 {
			return fmt.Errorf("lock the program in memory: %w", errno)
		}
	}
	_ = os.WriteFile("/proc/self/oom_score_adj", []byte("-1000"), 0)
	first()
	return nil
}

// fileMappings are the start and length of what is mapped of files: the program.
//
// Source: man 5 proc_pid_maps.
func fileMappings(maps []byte) [][2]uintptr {
	var out [][2]uintptr
	for lines := bufio.NewScanner(bytes.NewReader(maps)); lines.Scan(); {
		words := strings.Fields(lines.Text())
		if len(words) < 6 || !strings.HasPrefix(words[5], "/") || !strings.HasPrefix(words[1], "r") {
			continue
		}
		low, high, _ := strings.Cut(words[0], "-")
		start, err := strconv.ParseUint(low, 16, 64)
		if err != nil {
			continue
		}
		end, err := strconv.ParseUint(high, 16, 64)
		if err != nil || end <= start {
			continue
		}
		out = append(out, [2]uintptr{uintptr(start), uintptr(end - start)})
	}
	return out
}

// highestNice is the best of the ordinary priorities.
const highestNice = -20

// first has every thread scheduled before others: in real time if that is allowed,
// else with the highest of the ordinary priorities. A run in the background is
// started with the lowest, which a busy machine starves for seconds.
func first() {
	threads, err := filepath.Glob("/proc/self/task/*")
	if err != nil {
		return
	}
	for _, dir := range threads {
		tid, err := strconv.Atoi(filepath.Base(dir))
		if err != nil {
			continue
		}
		attr := unix.SchedAttr{Size: unix.SizeofSchedAttr, Policy: unix.SCHED_FIFO, Priority: 1}
		if err := unix.SchedSetAttr(tid, &attr, 0); err == nil {
			continue
		}
		attr = unix.SchedAttr{Size: unix.SizeofSchedAttr, Policy: unix.SCHED_NORMAL, Nice: highestNice}
		if err := unix.SchedSetAttr(tid, &attr, 0); errors.Is(err, unix.EPERM) || errors.Is(err, unix.EACCES) {
			attr.Nice = 0
			_ = unix.SchedSetAttr(tid, &attr, 0)
		}
	}
}
