package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// foreignPrograms scrub or repair whole filesystems.
var foreignPrograms = []string{"xfs_scrub", "xfs_repair"}

// others returns what names the other programs that scrub or repair a
// filesystem now, as far as they can be seen: processes of this pid namespace
// that have it open. Units of systemd that are about to start one are asked
// for by unitPeers.
func others(t *target) func(context.Context) []string {
	dev := unix.Mkdev(uint32(t.Major), uint32(t.Minor))
	return func(ctx context.Context) []string {
		who := foreignProcesses("/proc", dev)
		if len(who) == 0 {
			who = unitPeers(ctx, t.MountPoint)
		}
		return who
	}
}

// foreignProcesses looks through a /proc for programs that have a file of the
// filesystem on device dev open, or the device itself.
func foreignProcesses(proc string, dev uint64) []string {
	names, err := filepath.Glob(filepath.Join(proc, "[0-9]*", "comm"))
	if err != nil {
		return nil
	}
	var who []string
	for _, name := range names {
		comm, err := os.ReadFile(name)
		if err != nil {
			continue // it ended
		}
		program := strings.TrimSpace(string(comm))
		dir := filepath.Dir(name)
		for _, foreign := range foreignPrograms {
			if program == foreign && hasOpen(dir, dev) {
				who = append(who, fmt.Sprintf("%s, process %s", program, filepath.Base(dir)))
			}
		}
	}
	return who
}

// hasOpen tells whether a process has a file of a device open, or that device.
func hasOpen(dir string, dev uint64) bool {
	fds, err := filepath.Glob(filepath.Join(dir, "fd", "*"))
	if err != nil {
		return false
	}
	for _, fd := range fds {
		info, err := os.Stat(fd)
		if err != nil {
			continue
		}
		st, ok := info.Sys().(*syscall.Stat_t)
		if !ok {
			continue
		}
		device := info.Mode()&os.ModeDevice != 0 && info.Mode()&os.ModeCharDevice == 0
		if uint64(st.Dev) == dev || device && uint64(st.Rdev) == dev { //nolint:unconvert // uint32 on some architectures
			return true
		}
	}
	return false
}
