package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"github.com/sirupsen/logrus"
	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"github.com/scrubd/scrubd/scrub/state"
	"github.com/scrubd/scrubd/service/config"
	"github.com/scrubd/scrubd/service/daemon"
	"github.com/scrubd/scrubd/service/schedule"
	"github.com/scrubd/scrubd/systemd"
)

// dueOptions are the flags of scrubd due, and what a test replaces.
type dueOptions struct {
	daemonOptions
	runner daemon.Runner
	lock   string // the file that keeps two from starting runs at once
	every  time.Duration
}

func newDueCommand(std streams) *cobra.Command {
	o := &dueOptions{runner: systemd.Templates{Template: runTemplate}, lock: filepath.Join(state.RuntimeDir, "due.lock"), every: 2 * time.Second}
	cmd := &cobra.Command{
		Use:   "due [PATH...]",
		Short: "Have filesystems checked that are due (for the timers)",
		Long: `due asks the daemon for a check of the filesystems mounted at the paths, or of all
XFS filesystems. What was checked in this period, or is planned, is not checked
once more: timers and the daemon together make one check a period.

Where there is no daemon, due starts the checks by itself, as scrubd@.service, one
after the other where they share a disk, and ends when they have; what was checked
within half a period is left out.`,
		Args: cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			return operational(runDue(cmd.Context(), o, args, std))
		},
	}
	o.addFlags(cmd)
	cmd.ValidArgsFunction = completeMounts(0)
	return cmd
}

func runDue(ctx context.Context, o *dueOptions, paths []string, std streams) error {
	if len(paths) == 0 {
		paths = []string{""} // all
	}
	for i, path := range paths {
		if path != "" {
			abs, err := filepath.Abs(path)
			if err != nil {
				return err
			}
			paths[i] = abs
		}
	}
	err := o.askDaemon(ctx, paths, std)
	if errors.Is(err, daemon.ErrNoDaemon) {
		return o.alone(ctx, paths, std)
	}
	return err
}

func (o *dueOptions) askDaemon(ctx context.Context, paths []string, std streams) error {
	client := daemon.NewClient(o.socket)
	defer client.Close()
	return dueEach(paths, func(path string) ([]daemon.Answer, error) { return client.Due(ctx, path) }, std)
}

// dueEach asks for one path after the other and says what came of each.
func dueEach(paths []string, ask func(path string) ([]daemon.Answer, error), std streams) error {
	var failed error
	for _, path := range paths {
		answers, err := ask(path)
		failed = errors.Join(failed, err)
		for i := range answers {
			a := &answers[i]
			text := a.State
			if a.Text != "" {
				text = a.Text
			}
			if _, err := fmt.Fprintf(std.out, "%s: %s\n", printable(a.Mount), oneLine(text)); err != nil {
				return errors.Join(failed, &outputError{Err: err})
			}
		}
	}
	return failed
}

// counted is a runner that remembers what could not be started.
type counted struct {
	daemon.Runner
	failed error
}

func (c *counted) Start(ctx context.Context, mountPoint string) error {
	err := c.Runner.Start(ctx, mountPoint)
	c.failed = errors.Join(c.failed, err)
	return err
}

// alone is the daemon for as long as it takes to make the checks. Should a real
// one come up meanwhile, the rest is its business.
func (o *dueOptions) alone(ctx context.Context, paths []string, std streams) error {
	conf, err := config.Load(o.config)
	if err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(ctx, os.Interrupt, syscall.SIGTERM)
	defer stop()
	log, flush := newServiceLogger(std)
	defer flush()
	unlock, err := waitForLock(ctx, o.lock, o.every)
	if err != nil {
		return err
	}
	defer unlock()
	runner := &counted{Runner: o.runner}
	d := o.daemon(conf.WithoutPlans(), runner, log, true, daemon.HealthOptions{})
	d.Step(ctx, time.Now())
	policy := func(uuid, mount string) schedule.Policy { return conf.For(uuid, mount).Policy }
	err = dueEach(paths, func(path string) ([]daemon.Answer, error) { return d.DueAlone(path, policy, time.Now()) }, std)
	for d.Busy() {
		d.Step(ctx, time.Now())
		select {
		case <-ctx.Done():
			return errors.Join(err, context.Cause(ctx)) // the runs go on
		case <-time.After(o.every):
		}
		if hasDaemon(ctx, o.socket) {
			return o.askDaemon(ctx, paths, std)
		}
	}
	return errors.Join(err, runner.failed)
}

// waitForLock takes the lock of a file, which goes with the process.
func waitForLock(ctx context.Context, name string, every time.Duration) (unlock func(), err error) {
	if err := os.MkdirAll(filepath.Dir(name), 0o700); err != nil {
		return nil, fmt.Errorf("wait for others that start checks: %w", err)
	}
	f, err := os.OpenFile(name, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("wait for others that start checks: %w", err)
	}
	for {
		err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if err == nil {
			return func() { _ = f.Close() }, nil
		}
		if !errors.Is(err, unix.EWOULDBLOCK) && !errors.Is(err, unix.EINTR) {
			return nil, errors.Join(fmt.Errorf("wait for others that start checks: lock %s: %w", name, err), f.Close())
		}
		select {
		case <-ctx.Done():
			return nil, errors.Join(context.Cause(ctx), f.Close())
		case <-time.After(every):
		}
	}
}

// newServiceLogger logs to the journal where standard error is connected to it.
func newServiceLogger(std streams) (*logrus.Logger, func()) {
	log := newLogger(std.err, true)
	flush, _ := systemd.Attach(log, 0)
	return log, flush
}
