package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/scrubd/scrubd/service/config"
	"github.com/scrubd/scrubd/service/daemon"
	"github.com/scrubd/scrubd/service/metrics"
)

// daemonPatience bounds the question whether there is a daemon.
const daemonPatience = 5 * time.Second

// writeMetrics writes the file for node_exporter at the end of the runs, unless
// there is a daemon, which does and knows more.
func (o *runOptions) writeMetrics(ctx context.Context, term *terminal) {
	if !o.record {
		return
	}
	say := func(err error) { _, _ = fmt.Fprintf(term, "scrubd: %s\n", oneLine(err.Error())) }
	if o.unit != nil {
		say = func(err error) { o.unit.log.WithError(err).Warn(err.Error()) }
	}
	conf, err := config.Load(o.config)
	if err != nil {
		say(fmt.Errorf("read where metrics go: %w", err))
		return
	}
	if conf.TextfileDir == "" || hasDaemon(ctx, o.socket) {
		return
	}
	mounts, err := daemon.ReadMounts()
	if err != nil {
		say(fmt.Errorf("write metrics: %w", err))
		return
	}
	s, err := daemon.MetricsAlone(newStore(stateDirOf(o.stateDir)), conf, mounts, time.Now())
	s.Version = version()
	if err = errors.Join(err, metrics.WriteTextfile(conf.TextfileDir, &s)); err != nil {
		say(err)
	}
}

// hasDaemon tells whether a daemon listens at a socket.
func hasDaemon(ctx context.Context, socket string) bool {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), daemonPatience)
	defer cancel()
	client := daemon.NewClient(socket)
	defer client.Close()
	_, err := client.Status(ctx)
	return err == nil || errors.Is(err, daemon.ErrForbidden)
}
