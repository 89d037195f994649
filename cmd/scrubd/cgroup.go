package main

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/moby/sys/mountinfo"

	"github.com/scrubd/scrubd/systemd"
)

// freezerGroup begins the names of the control groups of supervisors.
const freezerGroup = "scrubd-freezer-"

// scopePatience bounds how long systemd may take to start a scope; nothing is
// frozen meanwhile.
const scopePatience = 5 * time.Second

// setApart takes this process out of the control group that it was started in,
// so that what ends the whole group leaves it alone: into a scope of its own
// where systemd runs, else into a group of its own where that may be made. Where
// neither is allowed it stays; it has a session of its own in any case. The
// function returned cleans up, when the process is about to end.
func setApart(path string) (leave func()) {
	name := freezerGroup + strconv.Itoa(os.Getpid())
	ctx, cancel := context.WithTimeout(context.Background(), scopePatience)
	defer cancel()
	if systemd.OwnScope(ctx, name+".scope", "End of scrubd's freeze of "+path) == nil {
		return func() {}
	}
	root, err := cgroupRoot()
	if err != nil {
		return func() {}
	}
	dir := filepath.Join(root, name)
	if os.Mkdir(dir, 0o755) != nil {
		return func() {}
	}
	if joinGroup(dir) != nil {
		_ = os.Remove(dir)
	}
	return func() { leaveOwnGroup(root) }
}

// joinGroup moves this process into a control group.
//
// Source: Documentation/admin-guide/cgroup-v2.rst.
func joinGroup(dir string) error {
	return os.WriteFile(filepath.Join(dir, "cgroup.procs"), []byte(strconv.Itoa(os.Getpid())), 0)
}

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

// leaveOwnGroup removes the group that setApart made.
func leaveOwnGroup(root string) {
	group, err := systemd.Cgroup()
	if err != nil || filepath.Dir(group) != "/" || !strings.HasPrefix(filepath.Base(group), freezerGroup) {
		return
	}
	if joinGroup(root) == nil {
		_ = os.Remove(filepath.Join(root, group))
	}
}
