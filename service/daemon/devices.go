package daemon

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// Disks returns the devices at the bottom of the given ones ("8:1"), through
// partitions, device mapper and md: what two filesystems share when they are in
// each other's way. A device that sysfs does not know stands for itself.
//
// Source: Documentation/ABI/stable/sysfs-block (slaves, partition).
func Disks(sys string, devices ...string) ([]string, error) {
	found := map[string]bool{}
	seen := map[string]bool{}
	var visit func(dev string) error
	visit = func(dev string) error {
		if seen[dev] {
			return nil
		}
		seen[dev] = true
		dir, err := filepath.EvalSymlinks(filepath.Join(sys, "dev", "block", dev))
		if errors.Is(err, fs.ErrNotExist) {
			found[dev] = true
			return nil
		}
		if err != nil {
			return fmt.Errorf("look up device %s: %w", dev, err)
		}
		if _, err := os.Stat(filepath.Join(dir, "partition")); err == nil {
			whole, err := deviceNumber(filepath.Dir(dir))
			if err != nil {
				return err
			}
			return visit(whole)
		}
		below, err := os.ReadDir(filepath.Join(dir, "slaves"))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("look up what device %s is made of: %w", dev, err)
		}
		if len(below) == 0 {
			found[dev] = true
		}
		for _, e := range below {
			number, err := deviceNumber(filepath.Join(dir, "slaves", e.Name()))
			if err != nil {
				return err
			}
			if err := visit(number); err != nil {
				return err
			}
		}
		return nil
	}
	for _, dev := range devices {
		if err := visit(dev); err != nil {
			return nil, err
		}
	}
	disks := make([]string, 0, len(found))
	for dev := range found {
		disks = append(disks, dev)
	}
	slices.Sort(disks)
	return disks, nil
}

// deviceNumber reads the number ("8:0") of the device of a directory of sysfs.
func deviceNumber(dir string) (string, error) {
	text, err := os.ReadFile(filepath.Join(dir, "dev"))
	if err != nil {
		return "", fmt.Errorf("read the number of a device: %w", err)
	}
	return strings.TrimSpace(string(text)), nil
}

// NumberOf returns the number of the block device at a path.
func NumberOf(path string) (string, error) {
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil {
		return "", &fs.PathError{Op: "stat", Path: path, Err: err}
	}
	if st.Mode&unix.S_IFMT != unix.S_IFBLK {
		return "", &fs.PathError{Op: "stat", Path: path, Err: unix.ENOTBLK}
	}
	return fmt.Sprintf("%d:%d", unix.Major(uint64(st.Rdev)), unix.Minor(uint64(st.Rdev))), nil //nolint:unconvert // narrower on some architectures
}

// shares tells whether two sorted lists have an element in common.
func shares(a, b []string) bool {
	for _, x := range a {
		if _, ok := slices.BinarySearch(b, x); ok {
			return true
		}
	}
	return false
}
