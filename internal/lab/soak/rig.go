package soak

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/scrubd/scrubd/internal/lab"
)

// rig is a filesystem on one, two or three loop devices.
type rig struct {
	geometry          Geometry
	dir, mnt          string
	data, log, rt     *os.File // the devices; log and rt may be nil
	mounted           bool
	tools             tools
	grownTo, growStep int64
}

// newRig makes the filesystem in dir and mounts it.
func newRig(ctx context.Context, g Geometry, dir string) (*rig, error) {
	r := &rig{geometry: g, dir: dir, mnt: filepath.Join(dir, "mnt"), grownTo: g.Begin, growStep: 16 * mib}
	if err := r.open(ctx); err != nil {
		return nil, errors.Join(err, r.close())
	}
	return r, nil
}

func (r *rig) open(ctx context.Context) (err error) {
	g := &r.geometry
	if err := os.Mkdir(r.mnt, 0o755); err != nil {
		return err
	}
	for _, d := range []struct {
		to   **os.File
		name string
		size int64
	}{{&r.data, "data.img", g.Size}, {&r.log, "log.img", g.LogSize}, {&r.rt, "rt.img", g.RTSize}} {
		if d.size == 0 {
			continue
		}
		image := filepath.Join(r.dir, d.name)
		if err := errors.Join(os.WriteFile(image, nil, 0o600), os.Truncate(image, d.size)); err != nil {
			return err
		}
		if *d.to, err = lab.AttachLoop(image); err != nil {
			return err
		}
	}
	if err := r.mkfs(ctx); err != nil {
		return err
	}
	if err := r.mount(); err != nil {
		return err
	}
	r.tools = findTools(r.mnt)
	return nil
}

func (r *rig) mkfs(ctx context.Context) error {
	args := []string{"-q", "-f"}
	said := strings.Join(r.geometry.Mkfs, " ")
	if !strings.Contains(said, "rmapbt=") {
		args = append(args, "-m", "rmapbt=1")
	}
	args = append(args, "-d", fmt.Sprintf("size=%d", r.geometry.Begin))
	if r.log != nil {
		args = append(args, "-l", "logdev="+r.log.Name())
	}
	if r.rt != nil {
		args = append(args, "-r", "rtdev="+r.rt.Name())
	}
	return command(ctx, "mkfs.xfs", append(append(args, r.geometry.Mkfs...), r.data.Name())...)
}

func (r *rig) mount() error {
	options := append([]string(nil), r.geometry.Mount...)
	if r.log != nil {
		options = append(options, "logdev="+r.log.Name())
	}
	if r.rt != nil {
		options = append(options, "rtdev="+r.rt.Name())
	}
	if err := unix.Mount(r.data.Name(), r.mnt, "xfs", 0, strings.Join(options, ",")); err != nil {
		return fmt.Errorf("mount %s on %s with %v: %w", r.data.Name(), r.mnt, options, err)
	}
	r.mounted = true
	return nil
}

// unmountPatience is how long the last user of the mount may take to let go, and
// otherPatience those of copies of it.
const (
	unmountPatience = 10 * time.Second
	otherPatience   = time.Minute
)

func (r *rig) unmount() error {
	if !r.mounted {
		return nil
	}
	for began := time.Now(); ; time.Sleep(20 * time.Millisecond) {
		err := unix.Unmount(r.mnt, 0)
		if err == nil {
			r.mounted = false
			break
		}
		if !errors.Is(err, unix.EBUSY) || time.Since(began) > unmountPatience {
			return fmt.Errorf("unmount %s: %w", r.mnt, err)
		}
	}
	// Another mount namespace, of somebody's test, may have a copy of the mount.
	for began := time.Now(); ; time.Sleep(100 * time.Millisecond) {
		fd, err := unix.Open(r.data.Name(), unix.O_RDONLY|unix.O_EXCL|unix.O_CLOEXEC, 0)
		if err == nil {
			return unix.Close(fd)
		}
		if !errors.Is(err, unix.EBUSY) || time.Since(began) > otherPatience {
			return fmt.Errorf("wait for the last user of %s: %w", r.data.Name(), err)
		}
	}
}

// repairFinds runs xfs_repair -n on the unmounted filesystem and returns what
// it says where it is not content.
func (r *rig) repairFinds(ctx context.Context) (string, error) {
	args := []string{"-n"}
	if r.log != nil {
		args = append(args, "-l", r.log.Name())
	}
	if r.rt != nil {
		args = append(args, "-r", r.rt.Name())
	}
	cmd := toolCommand(ctx, "xfs_repair", append(args, r.data.Name())...)
	out, err := cmd.CombinedOutput()
	var status *exec.ExitError
	switch {
	case err == nil:
		return "", nil
	case errors.As(err, &status):
		return string(out), nil
	}
	return "", fmt.Errorf("xfs_repair -n: %w", err)
}

// close unmounts, and lets the devices go. The images stay.
func (r *rig) close() error {
	err := r.unmount()
	if err != nil {
		err = errors.Join(err, unix.Unmount(r.mnt, unix.MNT_DETACH))
	}
	for _, d := range []*os.File{r.data, r.log, r.rt} {
		if d != nil {
			err = errors.Join(err, d.Close())
		}
	}
	return err
}

// fill leaves that many bytes free.
func (r *rig) fill(free int64) error {
	var st unix.Statfs_t
	if err := unix.Statfs(r.mnt, &st); err != nil {
		return err
	}
	take := int64(st.Bavail)*int64(st.Bsize) - free //nolint:unconvert // Bsize is 32 bits wide on 386
	f, err := os.Create(filepath.Join(r.mnt, "filler"))
	if err != nil {
		return err
	}
	defer f.Close()
	for at := int64(0); at < take; at += 8 * mib {
		if err := unix.Fallocate(int(f.Fd()), 0, at, min(8*mib, take-at)); err != nil {
			return fmt.Errorf("fill %s: %w", r.mnt, err)
		}
	}
	return nil
}

// tools are the programs that do what Go's libraries have no calls for.
type tools struct {
	exchange bool // xfs_io and the kernel know exchange-range here
}

// findTools tries on mnt what there is.
func findTools(mnt string) tools {
	a, b := filepath.Join(mnt, "try1"), filepath.Join(mnt, "try2")
	defer func() { _, _ = os.Remove(a), os.Remove(b) }()
	block := bytes.Repeat([]byte{1}, 64<<10)
	err := errors.Join(os.WriteFile(a, block, 0o600), os.WriteFile(b, block, 0o600))
	return tools{exchange: err == nil && tools{}.exchangeRange(a, b, 0, int64(len(block))) == nil}
}

// exchangeRange swaps a range of two files.
func (tools) exchangeRange(a, b string, at, n int64) error {
	return command(context.Background(), "xfs_io", "-c", fmt.Sprintf("exchangerange -s %d -d %d -l %d %s", at, at, n, b), a)
}

// toolCommand prepares a program of the newest xfsprogs, or of the machine's
// where that is not there.
func toolCommand(ctx context.Context, name string, args ...string) *exec.Cmd {
	if cmd := lab.SidCommand(ctx, name, args...); cmd.Err == nil {
		return cmd
	}
	return exec.CommandContext(ctx, name, args...)
}

// command runs such a program; what it says is part of the error.
func command(ctx context.Context, name string, args ...string) error {
	cmd := toolCommand(ctx, name, args...)
	out, err := cmd.CombinedOutput()
	text := strings.TrimSpace(string(out))
	switch {
	case err == nil && name == "xfs_io" && text != "":
		// Its status does not tell.
		err = errnoIn(text)
	case strings.Contains(text, unix.ENOSPC.Error()):
		err = unix.ENOSPC
	}
	if err != nil {
		return fmt.Errorf("%s %s: %w: %s", name, strings.Join(args, " "), err, text)
	}
	return nil
}

// errnoIn finds the error number of an error's text.
func errnoIn(text string) error {
	for _, errno := range []unix.Errno{unix.ENOSPC, unix.EDQUOT, unix.EOPNOTSUPP} {
		if strings.Contains(strings.ToLower(text), errno.Error()) {
			return errno
		}
	}
	return errors.New("failed")
}
