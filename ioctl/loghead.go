package ioctl

import (
	"fmt"
	"os"
	"path/filepath"
)

// LogHead is where the log writes next, as "CYCLE:BLOCK". While a filesystem is
// frozen it does not move; and each freeze of a writable one moves it, because
// it logs the superblock (with lazy counters, which every V5 filesystem has). So
// two freezes of one mount have different log heads.
type LogHead string

// sysfs is where the kernel's objects are; a test has its own.
var sysfs = "/sys"

// LogHead reads the head of the log. It does not block, and works while the
// filesystem is frozen or shut down.
//
// Errors: those of reading it, where sysfs is not mounted for instance.
//
// Source: Documentation/ABI/testing/sysfs-fs-xfs (log_head_lsn; Linux 3.17);
// fs/xfs/xfs_log.c (xfs_log_cover).
func (fs *FS) LogHead() (LogHead, error) {
	device := filepath.Join(sysfs, "dev/block", fmt.Sprintf("%d:%d", fs.st.DevMajor, fs.st.DevMinor))
	target, err := os.Readlink(device)
	if err != nil {
		return "", fmt.Errorf("log head of %s: %w", fs.path, err)
	}
	text, err := os.ReadFile(filepath.Join(sysfs, "fs/xfs", filepath.Base(target), "log/log_head_lsn"))
	if err != nil {
		return "", fmt.Errorf("log head of %s: %w", fs.path, err)
	}
	var cycle, block uint64
	if _, err := fmt.Sscanf(string(text), "%d:%d\n", &cycle, &block); err != nil {
		return "", fmt.Errorf("log head of %s: %w: %q", fs.path, ErrMalformed, text)
	}
	return LogHead(fmt.Sprintf("%d:%d", cycle, block)), nil
}
