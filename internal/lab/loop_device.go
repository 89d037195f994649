package lab

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Numbers of linux/fs.h that x/sys does not carry: _IOWR('X', 119, int) and
// _IOWR('X', 120, int).
const (
	fiFreeze = 0xc0045877
	fiThaw   = 0xc0045878
)

// loopMajor is the block major of loop devices (Documentation/admin-guide/devices.txt).
const loopMajor = 7

// attachTries bounds the race for a free device: LOOP_CTL_GET_FREE reserves
// nothing, so another process may take the device first.
const attachTries = 100

// AttachLoop binds image to a free loop device and returns it opened, under the
// device's name. The kernel detaches the device when its last user is gone.
func AttachLoop(image string) (*os.File, error) { return attachLoop(image, false) }

// attachLoop binds image to a free loop device and returns it opened. The
// device detaches itself when its last user closes it (autoclear).
func attachLoop(image string, readOnly bool) (*os.File, error) {
	mode := os.O_RDWR
	var flags uint32 = unix.LO_FLAGS_AUTOCLEAR
	if readOnly {
		mode = os.O_RDONLY
		flags |= unix.LO_FLAGS_READ_ONLY
	}
	back, err := os.OpenFile(image, mode, 0)
	if err != nil {
		return nil, fmt.Errorf("attach loop device: %w", err)
	}
	defer back.Close()
	ctl, err := os.OpenFile("/dev/loop-control", os.O_RDWR, 0)
	if err != nil {
		return nil, fmt.Errorf("attach loop device: %w", err)
	}
	defer ctl.Close()

	for try := 0; ; try++ {
		dev, err := attachFree(ctl, back, image, flags)
		if err == nil {
			return dev, nil
		}
		if !errors.Is(err, unix.EBUSY) || try == attachTries {
			return nil, fmt.Errorf("attach loop device to %s: %w", image, err)
		}
		time.Sleep(time.Duration(try) * time.Millisecond)
	}
}

func attachFree(ctl, back *os.File, image string, flags uint32) (*os.File, error) {
	n, err := unix.IoctlRetInt(int(ctl.Fd()), unix.LOOP_CTL_GET_FREE)
	if err != nil {
		return nil, fmt.Errorf("find a free one: %w", err)
	}
	node := fmt.Sprintf("/dev/loop%d", n)
	dev, err := os.OpenFile(node, os.O_RDWR, 0)
	if errors.Is(err, os.ErrNotExist) {
		// A static /dev has nodes for the first few only.
		if err := unix.Mknod(node, unix.S_IFBLK|0o660, int(unix.Mkdev(loopMajor, uint32(n)))); err != nil && !errors.Is(err, unix.EEXIST) {
			return nil, fmt.Errorf("make %s: %w", node, err)
		}
		dev, err = os.OpenFile(node, os.O_RDWR, 0)
	}
	if err != nil {
		return nil, err
	}
	conf := unix.LoopConfig{Fd: uint32(back.Fd()), Info: unix.LoopInfo64{Flags: flags}}
	copy(conf.Info.File_name[:len(conf.Info.File_name)-1], image)
	if err := unix.IoctlLoopConfigure(int(dev.Fd()), &conf); err != nil {
		_ = dev.Close()
		return nil, fmt.Errorf("configure %s: %w", node, err)
	}
	return dev, nil
}

// waitReleased waits for the last mount of image on a loop device to be gone: a
// process in a mount namespace of its own has copies of all mounts, which
// keep the filesystem's UUID taken and may write to the image.
func waitReleased(device, image string, deadline time.Time) error {
	for {
		backing, err := os.ReadFile(filepath.Join("/sys/block", filepath.Base(device), "loop/backing_file"))
		if err != nil || strings.TrimSpace(string(backing)) != image {
			return nil //nolint:nilerr // detached, by the last unmount
		}
		// Nobody can have a device for himself that is mounted anywhere.
		fd, err := unix.Open(device, unix.O_RDONLY|unix.O_EXCL|unix.O_CLOEXEC, 0)
		if err == nil {
			return unix.Close(fd)
		}
		if !errors.Is(err, unix.EBUSY) || time.Now().After(deadline) {
			return fmt.Errorf("wait for %s (%s) to be unmounted everywhere: %w", device, image, err)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// mountFlags are the options that mount(2) takes as bits.
var mountFlags = map[string]uintptr{
	"ro": unix.MS_RDONLY, "noatime": unix.MS_NOATIME, "nodiratime": unix.MS_NODIRATIME, "relatime": unix.MS_RELATIME,
	"strictatime": unix.MS_STRICTATIME, "lazytime": unix.MS_LAZYTIME, "nosuid": unix.MS_NOSUID, "nodev": unix.MS_NODEV,
	"noexec": unix.MS_NOEXEC, "sync": unix.MS_SYNCHRONOUS, "dirsync": unix.MS_DIRSYNC,
}

// parseMountOpts splits options into the flag bits and the data string of mount(2).
func parseMountOpts(opts []string) (flags uintptr, data string) {
	var rest []string
	for _, list := range opts {
		for o := range strings.SplitSeq(list, ",") {
			if bit, ok := mountFlags[o]; ok {
				flags |= bit
			} else if o != "" && o != "rw" && o != "loop" {
				rest = append(rest, o)
			}
		}
	}
	return flags, strings.Join(rest, ",")
}

// dropPasses is how often the slab caches are shrunk: an XFS buffer carries a
// count of up to 4 that each pass lowers by one before it lets the buffer go
// (fs/xfs/xfs_buf.h, b_lru_ref), and inodes must go before the buffers that
// back them.
const dropPasses = 8

func dropCaches() error {
	const path = "/proc/sys/vm/drop_caches"
	// Page cache first: cached data pages keep their inodes alive.
	for pass := range dropPasses {
		what := "2\n"
		if pass == 0 {
			what = "3\n"
		}
		if err := os.WriteFile(path, []byte(what), 0); err != nil {
			return fmt.Errorf("drop caches: %w", err)
		}
	}
	return nil
}
