package state

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// FindDevice returns the path of a block device with that number, as stat(2)
// gives it (dev_t): the name that the kernel gives it in /sys, below /dev, or
// the link that udev makes in /dev/block.
//
// Errors: fs.ErrNotExist where there is no such node that can be seen.
func FindDevice(number uint64) (string, error) {
	return findDevice("/", number)
}

// findDevice looks below root, which is / but in tests.
func findDevice(root string, number uint64) (string, error) {
	id := fmt.Sprintf("%d:%d", unix.Major(number), unix.Minor(number))
	var candidates []string
	uevent, err := os.ReadFile(filepath.Join(root, "sys", "dev", "block", id, "uevent"))
	if err == nil {
		if name := devName(uevent); name != "" {
			candidates = append(candidates, filepath.Join(root, "dev", name))
		}
	}
	candidates = append(candidates, filepath.Join(root, "dev", "block", id))
	errs := []error{}
	for _, path := range candidates {
		var st unix.Stat_t
		err := unix.Stat(path, &st)
		switch {
		case err != nil:
			errs = append(errs, &fs.PathError{Op: "stat", Path: path, Err: err})
		case st.Mode&unix.S_IFMT != unix.S_IFBLK || uint64(st.Rdev) != number: //nolint:unconvert // uint32 on some architectures
			errs = append(errs, &fs.PathError{Op: "stat", Path: path, Err: fs.ErrNotExist})
		default:
			return path, nil
		}
	}
	return "", fmt.Errorf("find block device %s: %w", id, errors.Join(errs...))
}

// devName is the DEVNAME of a uevent, empty if it has none that stays below
// /dev.
func devName(uevent []byte) string {
	lines := bufio.NewScanner(bytes.NewReader(uevent))
	for lines.Scan() {
		name, ok := strings.CutPrefix(lines.Text(), "DEVNAME=")
		if ok && filepath.IsLocal(name) {
			return name
		}
	}
	return ""
}
