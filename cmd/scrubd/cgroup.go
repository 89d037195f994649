package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/moby/sys/mountinfo"
)

// freezerGroup begins the names of the control groups of supervisors.
const freezerGroup = "scrubd-freezer-"

// moveAway takes a process out of this one's control group, so that what ends the
// whole group leaves it alone: into a group of its own where that may be made.
// Where it may not it stays; it has a session of its own in any case.
func moveAway(pid int) {
	name := freezerGroup + strconv.Itoa(pid)
	root, err := cgroupRoot()
	if err != nil {
		return
	}
	dir := filepath.Join(root, name)
	if os.Mkdir(dir, 0o755) != nil {
		return
	}
	if os.WriteFile(filepath.Join(dir, procsFile), []byte(strconv.Itoa(pid)), 0) != nil {
		_ = os.Remove(dir)
	}
}

// procsFile has the processes of a control group, and takes new ones.
//
// Source: Documentation/admin-guide/cgroup-v2.rst.
const procsFile = "cgroup.procs"

// cgroupRoot is where the tree of control groups (version 2) is mounted.
func cgroupRoot() (string, error) {
	mounts, err := mountinfo.GetMounts(mountinfo.FSTypeFilter("cgroup2"))
	if err != nil {
		return "", err
	}
	if len(mounts) == 0 {
		return "", errors.New("no cgroup2 is mounted")
	}
	return mounts[0].Mountpoint, nil
}

// ownGroup is the control group of this process, as seen from the root.
func ownGroup() (string, error) {
	text, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		return "", err
	}
	for line := range strings.Lines(string(text)) {
		if path, ok := strings.CutPrefix(strings.TrimSpace(line), "0::"); ok {
			return path, nil
		}
	}
	return "", fmt.Errorf("find the control group: %w", os.ErrNotExist)
}

// leaveOwnGroup removes the group that moveAway made for this process.
func leaveOwnGroup() {
	group, err := ownGroup()
	if err != nil || filepath.Dir(group) != "/" || !strings.HasPrefix(filepath.Base(group), freezerGroup) {
		return
	}
	root, err := cgroupRoot()
	if err != nil {
		return
	}
	if os.WriteFile(filepath.Join(root, procsFile), []byte(strconv.Itoa(os.Getpid())), 0) == nil {
		_ = os.Remove(filepath.Join(root, group))
	}
}
