package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/coreos/go-systemd/v22/activation"
	"github.com/sirupsen/logrus"
	"github.com/spf13/cobra"

	"github.com/scrubd/scrubd/ioctl"
	"github.com/scrubd/scrubd/scrub/state"
	"github.com/scrubd/scrubd/service/config"
	"github.com/scrubd/scrubd/service/daemon"
	"github.com/scrubd/scrubd/service/health"
	"github.com/scrubd/scrubd/systemd"
)

// daemonOptions are the flags of scrubd daemon.
type daemonOptions struct {
	config, stateDir, socket string
}

func newDaemonCommand(std streams) *cobra.Command {
	o := &daemonOptions{}
	cmd := &cobra.Command{
		Use:   "daemon",
		Short: "Start the checks that are due, as scrubd@.service (for the unit scrubd.service)",
		Long: `daemon follows which XFS filesystems are mounted and starts scrubd@.service for
each when it is due: once a period, at a moment of its own, in its windows, and
never two at once that share a disk. It answers on a socket what scrubd status,
run, pause, resume, cancel, wait and history ask.

SIGHUP has it read its configuration anew. Runs go on without it.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return operational(runDaemon(cmd.Context(), o, std))
		},
	}
	o.addFlags(cmd)
	return cmd
}

func (o *daemonOptions) addFlags(cmd *cobra.Command) {
	configFlag(cmd, &o.config)
	cmd.Flags().StringVar(&o.stateDir, "state-dir", "", "keep history and pauses in `DIR` (default "+state.DefaultDir+")")
	cmd.Flags().StringVar(&o.socket, "socket", daemon.Socket, "the daemon's socket is at `PATH`")
}

// runTemplate is the unit of one run.
const runTemplate = "scrubd@.service"

// daemon makes a daemon. A forgetful one leaves no trace of itself.
func (o *daemonOptions) daemon(conf *config.Config, runs daemon.Runner, log logrus.FieldLogger, forgetful bool, hears daemon.HealthOptions) *daemon.Daemon {
	return daemon.New(daemon.Options{
		Config: conf, StateDir: stateDirOf(o.stateDir), AsideDir: state.RuntimeDir, Runner: runs, Log: log, Now: time.Now,
		Mounts: daemon.ReadMounts, Identify: identify, Forbidden: forbidden, Peers: systemd.Rivals,
		Disks:   func(devices ...string) ([]string, error) { return daemon.Disks("/sys", devices...) },
		Version: version(), Forgetful: forgetful, Health: hears,
	})
}

func runDaemon(ctx context.Context, o *daemonOptions, std streams) error {
	conf, err := config.Load(o.config)
	if err != nil {
		return err
	}
	log := newLogger(std.err, true)
	flush, attached := systemd.Attach(log, 0)
	defer flush()
	notify := systemd.NewNotifier()
	if !attached && notify.Active() {
		log.SetFormatter(systemd.PrefixFormatter{})
	}
	listener, err := o.listen()
	if err != nil {
		return err
	}
	d := o.daemon(conf, systemd.Templates{Template: runTemplate}, log, false, daemon.HealthOptions{
		Watch: health.Watch,
		Look: func(ctx context.Context, mountPoint string, places []health.Place) (bool, error) {
			return lookAtPlaces(ctx, log, mountPoint, places)
		},
	})

	ctx, stop := signal.NotifyContext(ctx, os.Interrupt, syscall.SIGTERM)
	defer stop()
	hup := make(chan os.Signal, 1)
	signal.Notify(hup, syscall.SIGHUP)
	defer signal.Stop(hup)
	server := &http.Server{
		Handler: d.Handler(), ConnContext: daemon.ConnContext, ReadHeaderTimeout: 10 * time.Second,
		BaseContext: func(net.Listener) context.Context { return ctx }, // who waits is let go at the end
	}
	failed := make(chan error, 1)
	go func() { failed <- server.Serve(listener) }()
	defer func() { _ = server.Close() }()
	go notify.Watch(ctx, 5*time.Minute, d.Pulse, nil)
	go reloads(ctx, hup, o.config, d, notify, log)
	tell := func(err error) {
		if err != nil {
			log.WithError(err).Warn("the service manager does not know how the daemon is")
		}
	}
	tell(notify.Ready("following XFS filesystems"))
	done := make(chan struct{})
	go func() { d.Run(ctx); close(done) }()
	select {
	case err := <-failed:
		return fmt.Errorf("listen for requests: %w", err)
	case <-done:
		tell(notify.Stopping("stopping; runs go on"))
		return nil
	}
}

// reloads reads the configuration anew with each SIGHUP. One that is wrong
// changes nothing.
func reloads(ctx context.Context, hup <-chan os.Signal, path string, d *daemon.Daemon, notify *systemd.Notifier, log *logrus.Logger) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-hup:
		}
		err := notify.Reloading()
		conf, bad := config.Load(path)
		if bad != nil {
			log.WithError(bad).Error("the configuration is wrong; the old one stays")
		} else {
			d.Reload(conf)
			log.Info("the configuration was read anew")
		}
		if err = errors.Join(err, notify.Ready("following XFS filesystems")); err != nil {
			log.WithError(err).Warn("the service manager does not know of the reload")
		}
	}
}

// listen returns the socket that systemd passed, or makes one.
func (o *daemonOptions) listen() (net.Listener, error) {
	passed, err := activation.Listeners()
	if err != nil {
		return nil, fmt.Errorf("take the socket from systemd: %w", err)
	}
	for _, l := range passed {
		if l != nil {
			return l, nil
		}
	}
	if info, err := os.Lstat(o.socket); err == nil && info.Mode()&fs.ModeSocket != 0 {
		if conn, err := net.Dial("unix", o.socket); err == nil {
			_ = conn.Close()
			return nil, fmt.Errorf("listen at %s: another daemon is there", o.socket)
		}
		if err := os.Remove(o.socket); err != nil {
			return nil, fmt.Errorf("listen at %s: %w", o.socket, err)
		}
	}
	l, err := net.Listen("unix", o.socket)
	if err != nil {
		return nil, fmt.Errorf("listen at %s: %w", o.socket, err)
	}
	// Who may ask what is decided by who asks.
	if err := os.Chmod(o.socket, 0o666); err != nil {
		return nil, errors.Join(fmt.Errorf("listen at %s: %w", o.socket, err), l.Close())
	}
	return l, nil
}

// identify learns the UUID of a filesystem, and lets go of it.
func identify(mountPoint string) (string, error) {
	f, err := ioctl.Open(mountPoint)
	if err != nil {
		return "", err
	}
	defer func() { _ = f.Close() }()
	return state.UUID(f), nil
}

// forbidden tells whether a filesystem's autofsck property allows no check.
func forbidden(mountPoint string) (bool, error) {
	f, err := ioctl.Open(mountPoint)
	if err != nil {
		return false, err
	}
	defer func() { _ = f.Close() }()
	value, err := f.Autofsck()
	return err == nil && value == ioctl.AutofsckNone, err
}
