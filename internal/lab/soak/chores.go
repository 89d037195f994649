package soak

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"time"

	"golang.org/x/sys/unix"
)

// chores does to the whole filesystem what its administrator does, until ctx
// ends: it grows the filesystem, discards free space, flushes everything, and
// makes the kernel forget inodes where that is nobody else's.
func (r *rig) chores(ctx context.Context, rng *rand.Rand, length time.Duration, ownKernel bool) error {
	steps := max((r.geometry.Size-r.geometry.Begin)/r.growStep, 1)
	pause := length / time.Duration(steps+1)
	grow := time.NewTicker(max(pause, time.Second))
	defer grow.Stop()
	for {
		nap := time.NewTimer(time.Duration(200+rng.IntN(1500)) * time.Millisecond)
		var err error
		select {
		case <-ctx.Done():
			nap.Stop()
			return nil
		case <-grow.C:
			nap.Stop()
			err = r.grow(ctx)
		case <-nap.C:
			switch rng.IntN(4) {
			case 0:
				err = r.trim(ctx)
			case 1:
				if ownKernel {
					err = os.WriteFile("/proc/sys/vm/drop_caches", []byte("2\n"), 0)
				}
			default:
				err = r.sync()
			}
		}
		if err != nil && ctx.Err() == nil && !noSpace(err) {
			return err
		}
	}
}

// grow adds a piece to the data device.
func (r *rig) grow(ctx context.Context) error {
	if r.grownTo >= r.geometry.Size {
		return nil
	}
	var st unix.Statfs_t
	if err := unix.Statfs(r.mnt, &st); err != nil {
		return err
	}
	r.grownTo = min(r.grownTo+r.growStep, r.geometry.Size)
	err := command(ctx, "xfs_growfs", "-D", fmt.Sprint(r.grownTo/int64(st.Bsize)), r.mnt) //nolint:unconvert // Bsize is 32 bits wide on 386
	if errors.Is(err, unix.EWOULDBLOCK) {
		return nil
	}
	return err
}

func (r *rig) trim(ctx context.Context) error {
	out, err := exec.CommandContext(ctx, "fstrim", r.mnt).CombinedOutput()
	if err != nil {
		return fmt.Errorf("fstrim %s: %w: %s", r.mnt, err, out)
	}
	return nil
}

func (r *rig) sync() error {
	d, err := os.Open(r.mnt)
	if err != nil {
		return err
	}
	defer d.Close()
	return unix.Syncfs(int(d.Fd()))
}
