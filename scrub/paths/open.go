package paths

import (
	"context"
	"fmt"

	"golang.org/x/sys/unix"

	"github.com/scrubd/scrubd/ioctl"
)

// maxDirs bounds the directories that OpenDirs opens: each takes a descriptor.
const maxDirs = 64

// OpenDirs opens directories by their paths, as far as they have one that leads
// through this filesystem alone. Opening a directory by handle means to look up its
// "..", and that of those above it; once it was opened by its path, the kernel
// knows the way as long as it is open.
//
// Shape: descriptors by inode number, to be closed with [ioctl.FS.CloseFD]; 64 at
// most. What cannot be opened is left out. Errors: those of [Resolve].
func OpenDirs(ctx context.Context, fs *ioctl.FS, dirs map[ioctl.Ino]ioctl.Gen) (map[ioctl.Ino]int, error) {
	opened := make(map[ioctl.Ino]int)
	names, err := Resolve(ctx, fs, dirs)
	if err != nil || len(names) == 0 {
		return opened, err
	}
	root, err := (&walker{fs: fs, stat: ioctl.NewBulkstatBuffer(1)}).openRoot()
	if err != nil {
		return opened, fmt.Errorf("open directories by path: %w", err)
	}
	defer fs.CloseFD(root)
	for ino, paths := range names {
		if len(opened) == maxDirs {
			break
		}
		fd, err := unix.Openat2(root, paths[0], &unix.OpenHow{
			Flags:   unix.O_RDONLY | unix.O_DIRECTORY | unix.O_NOFOLLOW | unix.O_NOATIME | unix.O_NONBLOCK | unix.O_CLOEXEC,
			Resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_XDEV | unix.RESOLVE_NO_SYMLINKS,
		})
		if err != nil {
			continue // mounted on, damaged above it, renamed since
		}
		var st unix.Stat_t
		if err := unix.Fstat(fd, &st); err != nil || ioctl.Ino(st.Ino) != ino {
			fs.CloseFD(fd)
			continue
		}
		opened[ino] = fd
	}
	return opened, nil
}
