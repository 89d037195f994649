package main

import (
	"context"
	"time"

	"github.com/scrubd/scrubd/systemd"
)

// peersPatience bounds the question to the service manager: it is asked again.
const peersPatience = 5 * time.Second

// unitPeers returns the running units of xfsprogs that work on a filesystem.
// Where no service manager can be asked there is nobody to name.
func unitPeers(ctx context.Context, mountPoint string) []string {
	ctx, cancel := context.WithTimeout(ctx, peersPatience)
	defer cancel()
	units, err := systemd.Peers(ctx, mountPoint)
	if err != nil {
		return nil
	}
	return units
}
