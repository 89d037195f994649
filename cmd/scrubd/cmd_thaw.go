package main

import (
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/moby/sys/mountinfo"
	"github.com/spf13/cobra"

	"github.com/scrubd/scrubd/ioctl"
	"github.com/scrubd/scrubd/scrub/freeze"
	"github.com/scrubd/scrubd/scrub/state"
)

// thawOptions are what a test of scrubd thaw replaces.
type thawOptions struct {
	stale bool
	dir   string
	open  freeze.Opener
}

func newThawCommand(std streams) *cobra.Command {
	o := &thawOptions{dir: freeze.Dir, open: openMarked}
	cmd := &cobra.Command{
		Use:   "thaw --stale",
		Short: "Thaw what a scrubd that is gone left frozen",
		Long: `thaw --stale ends the freezes of filesystems that scrubd run --freeze has
left behind, if it was killed together with the process that would have thawed
them. What somebody else has frozen is not touched, also where a freeze of scrubd's
was thawed by hand before; nor what is frozen by a scrubd that is still at work. It
is what the service does after each run.

` + exitStatusHelp,
		Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			return runThaw(o, std)
		},
	}
	cmd.Flags().BoolVar(&o.stale, "stale", false, "thaw only what is scrubd's own, and left behind")
	return cmd
}

func runThaw(o *thawOptions, std streams) error {
	if !o.stale {
		return usageErrorf("thaw: give --stale; what somebody else has frozen, xfs_freeze -u thaws")
	}
	stale, err := freeze.ThawStale(o.dir, o.open)
	if err != nil {
		return &exitError{status: exitOperational, err: err}
	}
	status := 0
	for i := range stale {
		if !sayStale(std, &stale[i]) {
			status = exitOperational
		}
	}
	if status != 0 {
		return &exitError{status: status, reported: true}
	}
	return nil
}

// sayStale reports one marker; false means that its filesystem may be frozen still.
func sayStale(std streams, s *freeze.Stale) bool {
	path := printable(s.MountPoint)
	switch {
	case s.Alive:
		// Its supervisor needs no help, unless somebody has stopped it.
		_, _ = fmt.Fprintf(std.err, "scrubd: %s: frozen until %s at the latest by process %d\n",
			path, s.Deadline.Format("15:04:05.000"), s.PID)
		return true
	case s.Err != nil:
		complain(std.err, s.Err)
		return false
	case s.Left != nil:
		_, _ = fmt.Fprintf(std.err, "scrubd: %s: if it is frozen, it is left so: %v\n", path, s.Left)
		return true
	}
	_, err := fmt.Fprintf(std.out, "%s: thawed\n", path)
	return err == nil || errors.Is(err, io.ErrClosedPipe) || errors.Is(err, os.ErrClosed)
}

// openMarked opens the filesystem of a marker, wherever it is mounted by now.
func openMarked(m *freeze.Marker) (freeze.Filesystem, func(), error) {
	mounts, err := mountinfo.GetMounts(mountinfo.FSTypeFilter("xfs"))
	if err != nil {
		return nil, nil, fmt.Errorf("look for the mount of device %s: %w", m.DeviceName, err)
	}
	err = fmt.Errorf("device %s: %w", m.DeviceName, os.ErrNotExist)
	for _, mount := range mounts {
		if fmt.Sprintf("%d:%d", mount.Major, mount.Minor) != m.DeviceName {
			continue
		}
		fs, openErr := ioctl.Open(mount.Mountpoint)
		if openErr != nil {
			err = openErr
			continue
		}
		now, markErr := freeze.NewMarker(m.Dir, m.MountPoint, state.UUID(fs), fs.Device())
		if markErr == nil && now.SameFilesystem(m) {
			return fs, func() { _ = fs.Close() }, nil // opened for reading
		}
		err = errors.Join(err, markErr, fs.Close()) // something is mounted above it
	}
	return nil, nil, err
}
