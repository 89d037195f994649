package lab

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// DefaultLoopSize is the size in bytes of an image made without a Size: the
// smallest that every mkfs.xfs since 5.19 accepts, rounded up to 320 MiB.
const DefaultLoopSize = 320 << 20

// unmountPatience is how long Unmount waits for the last user of the mount.
// A helper process that has just exited may still hold a file for a moment.
const unmountPatience = 3 * time.Second

// releasePatience is how long it then waits for copies of the mount in other
// mount namespaces, whose processes know nothing of it.
const releasePatience = 30 * time.Second

// MkfsOptions says how an image is made and mounted. The zero value gives a
// 320 MiB filesystem with rmapbt and reflink.
type MkfsOptions struct {
	Size      int64    // bytes; 0 means DefaultLoopSize; the file is sparse
	RTSize    int64    // bytes of a realtime device in an image of its own; 0 means none
	Args      []string // mkfs.xfs arguments, such as "-d", "agcount=2"
	Binary    string   // mkfs.xfs to run; "" means the one in PATH
	Dir       string   // where image and mount point are made; "" means a new temporary directory
	MountOpts []string // mount options, such as "noatime", "nouuid", "ro"
}

// LoopFS is an XFS image with a mount point of its own. Its methods may be
// called from several goroutines; each of Mount, Unmount and Close is
// idempotent.
type LoopFS struct {
	image string
	dir   string
	own   string // temporary directory to remove on Close, or ""

	mu        sync.Mutex
	mountOpts []string
	mounted   bool
	device    string // the loop device of the mount, or ""
	rtDevice  string // of its realtime device
}

// RTImage is where the realtime device of the filesystem in an image lies. One that
// is there is mounted with it.
func RTImage(image string) string { return image + ".rt" }

// NewLoopFS makes an image, mounts it, and unmounts it when the test ends.
// Any failure ends the test.
func NewLoopFS(t testing.TB, opts MkfsOptions) *LoopFS {
	t.Helper()
	if opts.Dir == "" {
		opts.Dir = t.TempDir()
	}
	fs, err := CreateLoopFS(t.Context(), opts)
	if err != nil {
		t.Fatalf("make a loop filesystem: %v", err)
	}
	t.Cleanup(func() {
		if err := fs.Close(); err != nil {
			t.Errorf("clean up the loop filesystem: %v", err)
		}
	})
	return fs
}

// CreateLoopFS makes a sparse image, runs mkfs.xfs on it and mounts it. The
// caller must Close the result.
func CreateLoopFS(ctx context.Context, opts MkfsOptions) (*LoopFS, error) {
	dir, own := opts.Dir, ""
	if dir == "" {
		tmp, err := os.MkdirTemp("", "scrubd-lab-")
		if err != nil {
			return nil, fmt.Errorf("make a directory for the image: %w", err)
		}
		dir, own = tmp, tmp
	}
	fs := &LoopFS{
		image:     filepath.Join(dir, "xfs.img"),
		dir:       filepath.Join(dir, "mnt"),
		own:       own,
		mountOpts: opts.MountOpts,
	}
	if err := MakeImage(ctx, fs.image, opts); err != nil {
		return nil, errors.Join(err, fs.Close())
	}
	if err := fs.Mount(); err != nil {
		return nil, errors.Join(err, fs.Close())
	}
	return fs, nil
}

// OpenLoopFS gives an image that exists already a mount point (made if it is
// not there) and does not mount it yet. Close unmounts and leaves both.
func OpenLoopFS(image, dir string, mountOpts ...string) (*LoopFS, error) {
	for _, p := range []*string{&image, &dir} {
		abs, err := filepath.Abs(*p)
		if err != nil {
			return nil, fmt.Errorf("resolve %s: %w", *p, err)
		}
		*p = abs
	}
	if st, err := os.Stat(image); err != nil {
		return nil, fmt.Errorf("open image: %w", err)
	} else if !st.Mode().IsRegular() {
		return nil, fmt.Errorf("open image %s: not a regular file", image)
	}
	return &LoopFS{image: image, dir: dir, mountOpts: mountOpts}, nil
}

// AdoptLoopFS takes over an image that is mounted on dir already. Close
// unmounts it.
func AdoptLoopFS(image, dir string) (*LoopFS, error) {
	fs, err := OpenLoopFS(image, dir)
	if err != nil {
		return nil, err
	}
	var st unix.Statfs_t
	if err := unix.Statfs(fs.dir, &st); err != nil {
		return nil, fmt.Errorf("adopt the mount on %s: %w", fs.dir, err)
	}
	if st.Type != unix.XFS_SUPER_MAGIC {
		return nil, fmt.Errorf("adopt the mount on %s: %w", fs.dir, unix.ENODEV)
	}
	fs.mounted = true
	return fs, nil
}

// Image returns the path of the backing file.
func (fs *LoopFS) Image() string { return fs.image }

// Dir returns the mount point, whether anything is mounted there or not.
func (fs *LoopFS) Dir() string { return fs.dir }

// Path joins names to the mount point.
func (fs *LoopFS) Path(names ...string) string {
	return filepath.Join(append([]string{fs.dir}, names...)...)
}

// Mounted tells whether this LoopFS holds a mount.
func (fs *LoopFS) Mounted() bool {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	return fs.mounted
}

// Mount attaches the image to a free loop device and mounts it. The device is
// detached by the kernel on the last unmount, so nothing is left behind even
// when this process is killed.
func (fs *LoopFS) Mount() error {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	return fs.mount()
}

func (fs *LoopFS) mount() error {
	if fs.mounted {
		return nil
	}
	if err := os.MkdirAll(fs.dir, 0o755); err != nil {
		return fmt.Errorf("make the mount point: %w", err)
	}
	flags, data := parseMountOpts(fs.mountOpts)
	dev, err := attachLoop(fs.image, flags&unix.MS_RDONLY != 0)
	if err != nil {
		return err
	}
	// The mount holds a reference of its own from here on.
	defer dev.Close()
	var rt string
	if _, err := os.Stat(RTImage(fs.image)); err == nil {
		rtdev, err := attachLoop(RTImage(fs.image), flags&unix.MS_RDONLY != 0)
		if err != nil {
			return err
		}
		defer rtdev.Close()
		rt = rtdev.Name()
		_, data = parseMountOpts(append(slices.Clone(fs.mountOpts), "rtdev="+rt))
	}
	if err := unix.Mount(dev.Name(), fs.dir, "xfs", flags, data); err != nil {
		return fmt.Errorf("mount %s (%s) on %s with %q: %w", dev.Name(), fs.image, fs.dir, data, err)
	}
	fs.mounted, fs.device, fs.rtDevice = true, dev.Name(), rt
	return nil
}

// Unmount unmounts the filesystem and waits a few seconds for it to become
// idle, here and in mount namespaces that were copied meanwhile. It is an error if
// it stays busy.
func (fs *LoopFS) Unmount() error {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	return fs.unmount()
}

func (fs *LoopFS) unmount() error {
	if !fs.mounted {
		return nil
	}
	deadline := time.Now().Add(unmountPatience)
	for {
		err := unix.Unmount(fs.dir, unix.UMOUNT_NOFOLLOW)
		switch {
		case err == nil, errors.Is(err, unix.EINVAL), errors.Is(err, unix.ENOENT):
			// EINVAL: somebody else has unmounted it.
			fs.mounted = false
			deadline := time.Now().Add(releasePatience)
			err := waitReleased(fs.device, fs.image, deadline)
			if fs.rtDevice != "" {
				err = errors.Join(err, waitReleased(fs.rtDevice, RTImage(fs.image), deadline))
			}
			return err
		case errors.Is(err, unix.EBUSY) && time.Now().Before(deadline):
			time.Sleep(20 * time.Millisecond)
		default:
			return fmt.Errorf("unmount %s: %w", fs.dir, err)
		}
	}
}

// Remount unmounts and mounts again, with other options if any are given.
// In-core state (perag counters, cached inodes and buffers) is gone after it.
func (fs *LoopFS) Remount(mountOpts ...string) error {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	if err := fs.unmount(); err != nil {
		return err
	}
	if len(mountOpts) > 0 {
		fs.mountOpts = mountOpts
	}
	return fs.mount()
}

// SetMountOpts replaces the options that the next Mount uses.
func (fs *LoopFS) SetMountOpts(mountOpts ...string) {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	fs.mountOpts = mountOpts
}

// Sync writes back everything dirty (syncfs).
func (fs *LoopFS) Sync() error {
	return fs.onRoot("sync", unix.Syncfs)
}

// Freeze stops all changes and writes every piece of metadata to the image
// (FIFREEZE). EBUSY: frozen already.
func (fs *LoopFS) Freeze() error {
	return fs.onRoot("freeze", func(fd int) error { return unix.IoctlSetInt(fd, fiFreeze, 0) })
}

// Thaw ends a freeze (FITHAW). EINVAL: not frozen.
func (fs *LoopFS) Thaw() error {
	return fs.onRoot("thaw", func(fd int) error { return unix.IoctlSetInt(fd, fiThaw, 0) })
}

// DropCaches makes the kernel forget clean inodes, buffers and pages, so that
// the next access reads the image. What somebody holds open stays cached.
func (fs *LoopFS) DropCaches() error {
	if fs.Mounted() {
		if err := fs.Sync(); err != nil {
			return err
		}
	}
	return dropCaches()
}

// onRoot runs f on the opened root directory of the mount.
func (fs *LoopFS) onRoot(what string, f func(fd int) error) error {
	fd, err := unix.Open(fs.dir, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("%s %s: open: %w", what, fs.dir, err)
	}
	defer unix.Close(fd)
	if err := f(fd); err != nil {
		return fmt.Errorf("%s %s: %w", what, fs.dir, err)
	}
	return nil
}

// Close thaws and unmounts, and removes the directory if CreateLoopFS made
// it. If the mount stays busy it is detached lazily and the error is returned:
// it goes away with its last user then.
func (fs *LoopFS) Close() error {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	var errs []error
	if fs.mounted {
		// A freeze would outlive the unmount and pin the device.
		if err := fs.Thaw(); err != nil && !errors.Is(err, unix.EINVAL) {
			errs = append(errs, err)
		}
		if err := fs.unmount(); err != nil {
			errs = append(errs, err)
			if err := unix.Unmount(fs.dir, unix.MNT_DETACH); err != nil {
				errs = append(errs, fmt.Errorf("detach %s: %w", fs.dir, err))
			} else {
				fs.mounted = false
			}
		}
	}
	// Never remove through a mount.
	if fs.own != "" && !fs.mounted {
		if err := os.RemoveAll(fs.own); err != nil {
			errs = append(errs, fmt.Errorf("remove the image: %w", err))
		}
	}
	return errors.Join(errs...)
}
