package paths

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/scrubd/scrubd/ioctl"
)

// MaxNames bounds the paths of one inode: a file with more hard links than that
// is known by the first ones found.
const MaxNames = 16

// maxDepth bounds a path. A directory tree that is damaged can have loops.
const maxDepth = 1024

// ErrTooManyEntries is a directory walk that met many times the directories
// that the filesystem has inodes: it runs in circles.
var ErrTooManyEntries = errors.New("the directory tree is larger than the filesystem")

// Resolve finds the paths of inodes, which are given with their generations.
//
// Shape: paths are relative to the root directory of the filesystem, which is
// the mount point of a filesystem mounted as a whole; "." is that directory
// itself. Names are bytes, not necessarily UTF-8. At most [MaxNames] paths for
// each inode, in order. Inodes without a path are left out: freed or reused
// since, unlinked but open, private to the filesystem, or below damaged
// directories.
//
// Cost: without parent pointers, it reads directories until all names are found,
// in the worst case all there are.
//
// Errors: what ends a run ([ioctl.ErrShutdown], [ioctl.ErrPrivilege]), the
// context's, [ErrTooManyEntries]. What was found until then is returned too.
func Resolve(ctx context.Context, fs *ioctl.FS, inos map[ioctl.Ino]ioctl.Gen) (map[ioctl.Ino][]string, error) {
	found := make(map[ioctl.Ino][]string, len(inos))
	if len(inos) == 0 {
		return found, nil
	}
	var err error
	if fs.Geometry().Has(ioctl.FlagParent) {
		err = byParents(ctx, fs, inos, found)
	} else {
		err = byWalk(ctx, fs, inos, found)
	}
	for _, names := range found {
		slices.Sort(names)
	}
	if err != nil {
		return found, fmt.Errorf("find the paths of %d inodes of %s: %w", len(inos), fs.Path(), err)
	}
	return found, nil
}

// endsRun tells errors that are not about one inode.
func endsRun(err error) bool {
	return errors.Is(err, ioctl.ErrShutdown) || errors.Is(err, ioctl.ErrPrivilege) || errors.Is(err, ioctl.ErrClosed)
}
