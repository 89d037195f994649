package walk_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"
)

// fillPlan says what fill makes.
type fillPlan struct {
	dirs, files int // files in each directory
	// extents of most files: one block each, a hole between any two.
	extents int
	workers int
}

// fill makes many small fragmented files: most with plan.extents extents, one
// in a hundred with so many that its fork becomes a btree, one in ten with an
// attribute fork in a block of its own, and some symbolic links, short and
// long, with and without attributes. The extents are unwritten: that costs no
// data and changes nothing for a walk.
func fill(tb testing.TB, root string, plan fillPlan) {
	tb.Helper()
	var g errgroup.Group
	g.SetLimit(max(plan.workers, 1))
	for d := range plan.dirs {
		g.Go(func() error {
			dir := filepath.Join(root, fmt.Sprintf("d%05d", d))
			if err := os.Mkdir(dir, 0o755); err != nil {
				return err
			}
			for i := range plan.files {
				if err := fillOne(dir, i, plan.extents); err != nil {
					return err
				}
			}
			return nil
		})
	}
	require.NoError(tb, g.Wait())
}

var (
	smallAttr  = []byte(strings.Repeat("s", 20))
	bigAttr    = []byte(strings.Repeat("a", 2500))
	longTarget = sync.OnceValue(func() string { return strings.Repeat("longtarget/", 80) })
)

func fillOne(dir string, i, extents int) error {
	name := filepath.Join(dir, fmt.Sprintf("file-with-a-name-%06d", i))
	switch {
	case i%50 == 3:
		return os.Symlink("short", name)
	case i%50 == 4:
		return os.Symlink(longTarget(), name)
	case i%200 == 5:
		// trusted.*: only these may be set on a symbolic link.
		if err := os.Symlink("short", name); err != nil {
			return err
		}
		return unix.Lsetxattr(name, "trusted.big", bigAttr, 0)
	case i%200 == 6:
		return unix.Mknod(name, unix.S_IFIFO|0o600, 0)
	case i%100 == 0:
		extents *= 12
	}
	fd, err := unix.Open(name, unix.O_CREAT|unix.O_EXCL|unix.O_WRONLY|unix.O_CLOEXEC, 0o644)
	if err != nil {
		return fmt.Errorf("create %s: %w", name, err)
	}
	defer unix.Close(fd)
	const block = 4096
	for e := range extents {
		if err := unix.Fallocate(fd, 0, int64(e)*2*block, block); err != nil {
			return fmt.Errorf("fallocate %s: %w", name, err)
		}
	}
	switch i % 10 {
	case 1:
		return unix.Fsetxattr(fd, "user.big", bigAttr, 0)
	case 2:
		return unix.Fsetxattr(fd, "user.small", smallAttr, 0)
	}
	return nil
}
