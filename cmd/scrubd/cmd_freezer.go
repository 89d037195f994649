package main

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"github.com/scrubd/scrubd/ioctl"
	"github.com/scrubd/scrubd/scrub/freeze"
	"github.com/scrubd/scrubd/scrub/state"
)

// freezerName is the hidden command of the process that freezes and thaws.
const freezerName = "freezer"

// freezerConn is its descriptor of the connection to who started it.
const freezerConn = 3

func newFreezerCommand() *cobra.Command {
	return &cobra.Command{
		Use:    freezerName + " PATH MAJOR:MINOR",
		Short:  "Freeze a filesystem for a moment, and thaw it in any event",
		Hidden: true,
		Args:   cobra.ExactArgs(2),
		RunE: func(_ *cobra.Command, args []string) error {
			if err := runFreezer(args[0], args[1]); err != nil {
				return &exitError{status: exitOperational, reported: true} // whoever started it was told
			}
			return nil
		},
	}
}

// runFreezer serves until whoever started it is done or gone.
func runFreezer(path, device string) error {
	file := os.NewFile(freezerConn, "connection")
	conn, err := net.FileConn(file)
	_ = file.Close() // conn has a descriptor of its own
	if err != nil {
		return fmt.Errorf("%s: it is started by scrubd run: %w", freezerName, err)
	}
	defer func() { _ = conn.Close() }()
	// Signals for a whole group are not for this process, which has to be the last.
	signal.Ignore(syscall.SIGHUP, syscall.SIGINT, syscall.SIGPIPE, syscall.SIGUSR1, syscall.SIGUSR2)
	stop := make(chan struct{})
	signals := make(chan os.Signal, 1)
	// SIGABRT is the watchdog's. Left to themselves these would end this process
	// before it could thaw.
	signal.Notify(signals, syscall.SIGTERM, syscall.SIGABRT, syscall.SIGQUIT, syscall.SIGXCPU)
	go func() {
		<-signals
		close(stop)
	}()
	leave := func() {}
	defer func() { leave() }()
	s := &freeze.Supervisor{Stop: stop}
	root := -1
	s.Sync = func() error { return unix.Syncfs(root) }
	s.Ready = func() error {
		leave = setApart(path)
		fs, err := ioctl.Open(path)
		if err != nil {
			return err
		}
		if s.Marker, err = freeze.NewMarker(freeze.Dir, path, state.UUID(fs), fs.Device()); err != nil {
			return err
		}
		if s.Marker.DeviceName != device {
			return fmt.Errorf("%s: another filesystem is mounted there now", path)
		}
		if root, err = unix.Open(path, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0); err != nil {
			return &os.PathError{Op: "open", Path: path, Err: err}
		}
		s.FS = fs
		return freeze.LockDown()
	}
	err = s.Serve(conn)
	if s.FS == nil {
		return errors.Join(err, errors.New("it was never ready"))
	}
	return err
}
