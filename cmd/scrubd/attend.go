package main

import (
	"context"
	"os"
	"time"

	"github.com/scrubd/scrubd/service/daemon"
)

// attendAgain is the time between two tries to reach a daemon: it may be started
// while the run lasts, or started anew.
const attendAgain = 5 * time.Second

// attend tells the daemon of this run until ctx ends, which it does when the
// daemon wants it to. Without a daemon nothing is lost but that: the run leaves
// its record all the same.
func attend(ctx context.Context, socket, mountPoint string, cancel context.CancelCauseFunc) {
	if socket == "" {
		return
	}
	go func() {
		for ctx.Err() == nil {
			client := daemon.NewClient(socket)
			_ = client.Attend(ctx, mountPoint, os.Getpid(), func(why string) { cancel(&stopError{Why: why}) })
			client.Close()
			select {
			case <-ctx.Done():
			case <-time.After(attendAgain):
			}
		}
	}()
}
