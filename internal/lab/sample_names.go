package lab

import (
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// attrs makes attribute forks of every format: inside the inode, in one block,
// in several, with values in blocks of their own; on every type of inode.
func (s *sampler) attrs(sub string) error {
	for _, name := range []string{"few", "many", "large", "acl"} {
		if err := s.write(sub+"/"+name, 9000); err != nil {
			return err
		}
	}
	if err := s.mkdirs(sub+"/directory", sub+"/acl-directory"); err != nil {
		return err
	}
	// user.* attributes are for files and directories only (man 7 xattr).
	if err := os.Symlink(strings.Repeat("t", 20), s.path(sub+"/symlink")); err != nil {
		return err
	}
	if err := unix.Mkfifo(s.path(sub+"/fifo"), 0o640); err != nil {
		return fmt.Errorf("make a fifo: %w", err)
	}
	sets := []struct {
		name, prefix string
		count, size  int
	}{
		{"few", "user.few", 3, 10},
		{"few", "security.scrubd", 1, 24},
		{"many", "user.many", 60, 700},
		{"many", "trusted.many", 30, 300},
		{"large", "user.large", 12, 20000},
		{"directory", "user.directory", 40, 250},
		{"symlink", "trusted.symlink", 30, 300},
		{"fifo", "trusted.fifo", 30, 300},
	}
	for _, set := range sets {
		if err := s.setAttrs(sub+"/"+set.name, set.prefix, set.count, set.size); err != nil {
			return err
		}
	}
	for attr, name := range map[string]string{"system.posix_acl_access": "acl", "system.posix_acl_default": "acl-directory"} {
		if err := unix.Setxattr(s.path(sub+"/"+name), attr, sampleACL(1000), 0); err != nil {
			return fmt.Errorf("set %s: %w", attr, err)
		}
	}
	return s.write(sub+"/acl-directory/inherits", 100)
}

// symlinks makes targets that fit the inode, that just do not, and the longest.
func (s *sampler) symlinks(sub string) error {
	for i, n := range []int{1, 60, 300, 400, 1000, 1023} {
		target := strings.Repeat(fmt.Sprintf("%d/", i), n/2+1)[:n]
		if err := os.Symlink(target, s.path(fmt.Sprintf("%s/target%04d", sub, n))); err != nil {
			return err
		}
	}
	return nil
}

// links gives one file many names, some of them in another directory.
func (s *sampler) links(sub string) error {
	first := sub + "/name00"
	if err := s.write(first, 20000); err != nil {
		return err
	}
	if err := s.mkdirs(sub + "/other"); err != nil {
		return err
	}
	for i := 1; i < 40; i++ {
		name := fmt.Sprintf("%s/name%02d", sub, i)
		if i%3 == 0 {
			name = fmt.Sprintf("%s/other/name%02d", sub, i)
		}
		if err := os.Link(s.path(first), s.path(name)); err != nil {
			return err
		}
	}
	return nil
}

// dirs makes directories in short, block, leaf and node format, one with long
// names, one with holes, and a deep chain.
func (s *sampler) dirs(sub string) error {
	shapes := []struct {
		name          string
		entries, size int // size: length of a name
	}{{"short", 3, 8}, {"block", 60, 8}, {"leaf", 300, 8}, {"node", 2500, 8}, {"long-names", 300, 220}, {"holes", 600, 40}}
	for _, shape := range shapes {
		dir := sub + "/" + shape.name
		if err := s.mkdirs(dir); err != nil {
			return err
		}
		// A hundred inodes with many names each: entries without the cost of inodes.
		for i := range shape.entries {
			name := s.path(fmt.Sprintf("%s/%0*d", dir, shape.size, i))
			if i < 100 {
				if err := s.write(fmt.Sprintf("%s/%0*d", dir, shape.size, i), int64(i)); err != nil {
					return err
				}
			} else if err := os.Link(s.path(fmt.Sprintf("%s/%0*d", dir, shape.size, i%100)), name); err != nil {
				return err
			}
		}
	}
	for i := 100; i < 600; i++ {
		if i%50 != 0 {
			if err := os.Remove(s.path(fmt.Sprintf("%s/holes/%040d", sub, i))); err != nil {
				return err
			}
		}
	}
	deep := sub + "/deep"
	for range 30 {
		if err := s.mkdirs(deep); err != nil {
			return err
		}
		deep += "/d"
	}
	return s.write(deep, 500)
}

// special makes fifos, sockets and device nodes, and files with unusual
// owners, modes and sizes.
func (s *sampler) special(sub string) error {
	nodes := []struct {
		name string
		mode uint32
		dev  uint64
	}{
		{"fifo", unix.S_IFIFO | 0o600, 0},
		{"socket", unix.S_IFSOCK | 0o755, 0},
		{"character", unix.S_IFCHR | 0o620, unix.Mkdev(1, 3)},
		{"block", unix.S_IFBLK | 0o660, unix.Mkdev(259, 70000)},
	}
	for _, n := range nodes {
		if err := unix.Mknod(s.path(sub+"/"+n.name), n.mode, int(n.dev)); err != nil {
			return fmt.Errorf("make node %s: %w", n.name, err)
		}
	}
	for name, size := range map[string]int64{"empty": 0, "byte": 1, "odd": 4097, "owned": 300, "large": 4 << 20} {
		if err := s.write(sub+"/"+name, size); err != nil {
			return err
		}
	}
	if err := os.Chown(s.path(sub+"/owned"), 1234, 5678); err != nil {
		return err
	}
	return os.Chmod(s.path(sub+"/owned"), 0o751|os.ModeSetuid)
}
