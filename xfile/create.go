package xfile

import (
	"crypto/rand"
	"errors"
	"fmt"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// memfdNameMax is how much of a name memfd_create takes (man 2 memfd_create).
const memfdNameMax = 249

// createMemfd makes a memfd that can be neither executed nor inherited.
//
// MFD_NOEXEC_SEAL came with Linux 6.3; an older kernel says EINVAL to it, and
// then the mode is narrowed by hand, which is what the seal would have fixed.
func createMemfd(k *kernel, name string) (int, error) {
	if len(name) > memfdNameMax {
		name = name[:memfdNameMax]
	}
	fd, err := k.memfdCreate(name, unix.MFD_CLOEXEC|unix.MFD_NOEXEC_SEAL)
	if errors.Is(err, unix.EINVAL) {
		fd, err = k.memfdCreate(name, unix.MFD_CLOEXEC)
	}
	if err != nil {
		return -1, fmt.Errorf("create memfd for %s: %w", name, err)
	}
	if err := unix.Fchmod(fd, 0o600); err != nil {
		_ = unix.Close(fd)
		return -1, fmt.Errorf("narrow the mode of the memfd for %s: %w", name, err)
	}
	return fd, nil
}

// createUnnamed makes a file in dir that has no name, so that nothing is left
// behind whatever ends the process.
//
// A filesystem without O_TMPFILE (EOPNOTSUPP; EISDIR and ENOENT from kernels
// that do not know the flag, see man 2 open) gets a file with a random name
// that is removed at once.
func createUnnamed(k *kernel, dir, name string) (int, error) {
	const flags = unix.O_RDWR | unix.O_CLOEXEC | unix.O_NOATIME
	fd, err := k.open(dir, flags|unix.O_TMPFILE|unix.O_EXCL, 0o600)
	if err == nil {
		return fd, nil
	}
	if !errors.Is(err, unix.EOPNOTSUPP) && !errors.Is(err, unix.EISDIR) && !errors.Is(err, unix.ENOENT) {
		return -1, fmt.Errorf("create unnamed file for %s in %s: %w", name, dir, err)
	}
	path := filepath.Join(dir, ".xfile-"+rand.Text())
	fd, err = k.open(path, flags|unix.O_CREAT|unix.O_EXCL, 0o600)
	if err != nil {
		return -1, fmt.Errorf("create temporary file for %s in %s: %w", name, dir, err)
	}
	if err := k.unlink(path); err != nil {
		_ = unix.Close(fd)
		return -1, fmt.Errorf("unlink temporary file %s for %s: %w", path, name, err)
	}
	return fd, nil
}

// placeOf says whether the bytes of fd are memory or disk: an unnamed file on
// a tmpfs takes memory like a memfd does, only with a size limit of its own.
func placeOf(k *kernel, fd int) (Place, error) {
	var st unix.Statfs_t
	if err := k.fstatfs(fd, &st); err != nil {
		return Memory, fmt.Errorf("statfs: %w", err)
	}
	return placeOfType(int64(st.Type)), nil
}

// placeOfType reads statfs's f_type, which is a signed word on some machines.
func placeOfType(t int64) Place {
	switch t & 0xffffffff {
	case unix.TMPFS_MAGIC, unix.RAMFS_MAGIC, unix.HUGETLBFS_MAGIC:
		return Memory
	}
	return Disk
}
