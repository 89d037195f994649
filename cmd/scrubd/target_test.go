package main

import (
	"errors"
	"testing"

	"github.com/moby/sys/mountinfo"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// testMounts is a mount table with an XFS as /, one at /data with a second
// mount of a directory of it, and what else a machine has.
func testMounts(places map[string]place) mountTable {
	return mountTable{
		locate: func(path string) (place, error) {
			p, ok := places[path]
			if !ok {
				return place{}, errors.New("not in this test: " + path)
			}
			return p, nil
		},
		mounts: func() ([]*mountinfo.Info, error) {
			return []*mountinfo.Info{
				{ID: 1, Major: 8, Minor: 1, Root: "/", Mountpoint: "/", FSType: "xfs", Source: "/dev/sda1", Options: "rw", VFSOptions: "rw,attr2"},
				{ID: 2, Major: 8, Minor: 2, Root: "/vol/1", Mountpoint: "/vol", FSType: "xfs", Source: "/dev/sda2", Options: "rw", VFSOptions: "rw"},
				{ID: 3, Major: 8, Minor: 2, Root: "/", Mountpoint: "/data", FSType: "xfs", Source: "/dev/sda2", Options: "ro,noatime", VFSOptions: "rw"},
				{ID: 4, Major: 8, Minor: 3, Root: "/", Mountpoint: "/boot", FSType: "ext4", Source: "/dev/sda3", Options: "rw", VFSOptions: "rw"},
				{ID: 5, Major: 8, Minor: 4, Root: "/", Mountpoint: "/old", FSType: "xfs", Source: "/dev/sda4", Options: "rw", VFSOptions: "ro,norecovery"},
				{ID: 6, Major: 8, Minor: 5, Root: "/only", Mountpoint: "/part", FSType: "xfs", Source: "/dev/sda5", Options: "rw", VFSOptions: "rw"},
				{ID: 7, Major: 8, Minor: 6, Root: "/", Mountpoint: "/snap", FSType: "xfs", Source: "/dev/sda6", Options: "rw", VFSOptions: "ro"},
			}, nil
		},
	}
}

func TestFindTarget(t *testing.T) {
	table := testMounts(map[string]place{
		"/":         {Path: "/", MountID: 1},
		"data":      {Path: "/data", MountID: 3},
		"/link":     {Path: "/data", MountID: 3},
		"/snap":     {Path: "/snap", MountID: 7},
		"/home":     {Path: "/home", MountID: 1},
		"/data/f":   {Path: "/data/f", MountID: 3},
		"/boot":     {Path: "/boot", MountID: 4},
		"/vol":      {Path: "/vol", MountID: 2},
		"/part":     {Path: "/part", MountID: 6},
		"/old":      {Path: "/old", MountID: 5},
		"gone":      {Path: "/data", MountID: 99},
		"/dev/sda2": {Path: "/dev/sda2", MountID: 4, Device: true, Major: 8, Minor: 2},
		"/dev/sdz":  {Path: "/dev/sdz", MountID: 4, Device: true, Major: 65, Minor: 0},
	})
	for path, want := range map[string]target{
		"/":     {Path: "/", MountPoint: "/", Device: "/dev/sda1", MountID: 1, Major: 8, Minor: 1},
		"data":  {Path: "data", MountPoint: "/data", Device: "/dev/sda2", MountID: 3, Major: 8, Minor: 2, ReadOnly: true},
		"/link": {Path: "/link", MountPoint: "/data", Device: "/dev/sda2", MountID: 3, Major: 8, Minor: 2, ReadOnly: true},
		"/snap": {Path: "/snap", MountPoint: "/snap", Device: "/dev/sda6", MountID: 7, Major: 8, Minor: 6, ReadOnly: true},
	} {
		got, err := table.find(path)
		require.NoError(t, err, path)
		assert.Equal(t, want, *got, path)
	}
	for path, want := range map[string]error{
		"/home":     &notMountPointError{Path: "/home", MountPoint: "/"},
		"/data/f":   &notMountPointError{Path: "/data/f", MountPoint: "/data"},
		"/boot":     &notXFSError{Path: "/boot", FSType: "ext4", MountPoint: "/boot"},
		"/vol":      &partialMountError{Path: "/vol", Root: "/vol/1", MountPoint: "/data"},
		"/part":     &partialMountError{Path: "/part", Root: "/only"},
		"/old":      &noRecoveryError{Path: "/old"},
		"gone":      &unmountedError{Path: "gone"},
		"/dev/sda2": &deviceError{Path: "/dev/sda2", MountPoint: "/data"},
		"/dev/sdz":  &deviceError{Path: "/dev/sdz"},
	} {
		_, err := table.find(path)
		assert.Equal(t, want, err, path)
	}
}

// The real table of this machine, whatever it is: / is a mount, and what is in
// it is found there.
func TestLocateOnThisMachine(t *testing.T) {
	root, err := locate("/")
	require.NoError(t, err)
	assert.Equal(t, "/", root.Path)
	assert.NotZero(t, root.MountID)
	assert.False(t, root.Device)

	self, err := locate("/proc/self/status") // a link and a file
	require.NoError(t, err)
	assert.NotEqual(t, "/proc/self/status", self.Path, "links are resolved")
	assert.NotEqual(t, root.MountID, self.MountID)

	_, err = locate("/nope/nope")
	assert.True(t, isLookup(err), "%v", err)
}
