package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/moby/sys/mountinfo"
	"golang.org/x/sys/unix"
)

// target is one mounted XFS filesystem that the command line named.
type target struct {
	// Path is what was typed, MountPoint what it is the root of.
	Path, MountPoint string
	// Device is the source as the mount table has it.
	Device       string
	MountID      int
	Major, Minor int
	// ReadOnly tells whether this mount or its filesystem refuses writes.
	ReadOnly bool
}

// place is where a path leads: the kernel's own answer, not a guess from the
// path's text.
type place struct {
	// Path is absolute, with every symbolic link resolved.
	Path string
	// MountID is the mount that the path lies in.
	MountID int
	// Device tells whether Path is a block device, which Major and Minor name.
	Device       bool
	Major, Minor int
}

// mountTable is what a target is looked up and watched in.
type mountTable struct {
	locate func(path string) (place, error)
	mounts func() ([]*mountinfo.Info, error)
}

// systemMounts is the mount table of this process's mount namespace.
func systemMounts() mountTable {
	return mountTable{
		locate: locate,
		mounts: func() ([]*mountinfo.Info, error) { return mountinfo.GetMounts(nil) },
	}
}

// opLookup is what an error says was tried when a path cannot be resolved.
const opLookup = "look up"

// locate resolves path in the kernel. Opened with O_PATH, nothing is read or
// woken, and a path within a lazily unmounted tree still has an answer.
func locate(path string) (place, error) {
	// O_DIRECTORY makes an automount point mount; a file needs it left out.
	fd, err := unix.Open(path, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if errors.Is(err, unix.ENOTDIR) {
		fd, err = unix.Open(path, unix.O_PATH|unix.O_CLOEXEC, 0)
	}
	if err != nil {
		return place{}, &fs.PathError{Op: opLookup, Path: path, Err: err}
	}
	defer func() { _ = unix.Close(fd) }() // O_PATH: nothing to lose
	id, err := mountIDOf(fd)
	if err != nil {
		return place{}, fmt.Errorf("find the mount of %s: %w", path, err)
	}
	resolved, err := os.Readlink(fmt.Sprintf("/proc/self/fd/%d", fd))
	if err != nil {
		return place{}, fmt.Errorf("%s %s: %w", opLookup, path, err)
	}
	p := place{Path: resolved, MountID: id}
	var st unix.Statx_t
	// A filesystem that shut itself down answers no statx, and still has to be
	// found so that it can be named as what it is.
	err = unix.Statx(fd, "", unix.AT_EMPTY_PATH, unix.STATX_TYPE, &st)
	if err == nil && st.Mode&unix.S_IFMT == unix.S_IFBLK {
		p.Device = true
		p.Major, p.Minor = int(st.Rdev_major), int(st.Rdev_minor)
	}
	return p, nil
}

// mountIDOf returns the mount that an open file lies in.
//
// Source: man 5 proc_pid_fdinfo (mnt_id).
func mountIDOf(fd int) (int, error) {
	info, err := os.ReadFile(fmt.Sprintf("/proc/self/fdinfo/%d", fd))
	if errors.Is(err, fs.ErrNotExist) {
		return 0, &noProcError{Err: err}
	}
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(info)) {
		if value, ok := strings.CutPrefix(line, "mnt_id:"); ok {
			return strconv.Atoi(strings.TrimSpace(value))
		}
	}
	return 0, fmt.Errorf("no mnt_id in %q: %w", info, errors.ErrUnsupported)
}

// find returns the filesystem whose mount point path is.
//
// Errors: *notXFSError, *notMountPointError, *partialMountError,
// *deviceError, *unmountedError, *noRecoveryError; else what open(2) said.
func (t mountTable) find(path string) (*target, error) {
	at, err := t.locate(path)
	if err != nil {
		return nil, err
	}
	mounts, err := t.mounts()
	if err != nil {
		return nil, fmt.Errorf("read the mount table: %w", err)
	}
	if at.Device {
		return nil, &deviceError{Path: path, MountPoint: wholeMount(mounts, at.Major, at.Minor)}
	}
	i := slices.IndexFunc(mounts, func(m *mountinfo.Info) bool { return m.ID == at.MountID })
	if i < 0 {
		return nil, &unmountedError{Path: path}
	}
	m := mounts[i]
	switch {
	case m.FSType != "xfs":
		return nil, &notXFSError{Path: path, FSType: m.FSType, MountPoint: m.Mountpoint}
	case m.Root != "/":
		return nil, &partialMountError{
			Path: path, Root: m.Root, MountPoint: wholeMount(mounts, m.Major, m.Minor),
		}
	case at.Path != m.Mountpoint:
		return nil, &notMountPointError{Path: path, MountPoint: m.Mountpoint}
	case hasOption(m.VFSOptions, "norecovery"):
		return nil, &noRecoveryError{Path: path}
	}
	return &target{
		Path:       path,
		MountPoint: m.Mountpoint,
		Device:     m.Source,
		MountID:    m.ID,
		Major:      m.Major,
		Minor:      m.Minor,
		ReadOnly:   hasOption(m.Options, "ro") || hasOption(m.VFSOptions, "ro"),
	}, nil
}

// wholeMount returns where the root of the XFS filesystem on a device can be
// reached, "" when nowhere.
func wholeMount(mounts []*mountinfo.Info, major, minor int) string {
	for _, m := range mounts {
		if m.Major == major && m.Minor == minor && m.FSType == "xfs" && m.Root == "/" {
			return m.Mountpoint
		}
	}
	return ""
}

// hasOption tells whether a comma-separated list of mount options has name.
func hasOption(options, name string) bool {
	return slices.Contains(strings.Split(options, ","), name)
}
