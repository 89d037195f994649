package lab

import (
	"context"
	"fmt"
	"os"
	"regexp"
	"strconv"
)

// SpoilDirectory overwrites the first block of a directory with zeros in an image
// that is not mounted: whoever reads it makes the kernel meet the damage. Its entries
// are not in its inode: some dozens of files.
func SpoilDirectory(ctx context.Context, image string, ino uint64) error {
	out, err := SidCommand(ctx, "xfs_db", "-r", "-c", fmt.Sprintf("inode %d", ino), "-c", "dblock 0", "-c", "daddr", image).CombinedOutput()
	if err != nil {
		return fmt.Errorf("find the first block of directory %d of %s: %w: %s", ino, image, err, out)
	}
	m := regexp.MustCompile(`daddr is ([0-9]+)`).FindSubmatch(out)
	if m == nil {
		return fmt.Errorf("find the first block of directory %d of %s: xfs_db says %q", ino, image, out)
	}
	daddr, err := strconv.ParseInt(string(m[1]), 10, 64)
	if err != nil {
		return fmt.Errorf("find the first block of directory %d of %s: %w", ino, image, err)
	}
	f, err := os.OpenFile(image, os.O_WRONLY, 0)
	if err != nil {
		return fmt.Errorf("spoil directory %d: %w", ino, err)
	}
	_, err = f.WriteAt(make([]byte, 4096), daddr*512)
	if closeErr := f.Close(); err == nil {
		err = closeErr
	}
	if err != nil {
		return fmt.Errorf("spoil directory %d: %w", ino, err)
	}
	return nil
}
