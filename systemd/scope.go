package systemd

import (
	"context"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"time"

	"github.com/coreos/go-systemd/v22/dbus"
	godbus "github.com/godbus/dbus/v5"
)

// OwnScope has systemd move this process into a transient scope of its own,
// which ends with the process, and returns when it is there: what ends the unit
// that the process was started in, the kernel's OOM killer included, leaves it
// alone from then on. It is scheduled before other units. name ends in ".scope".
//
// Errors: [ErrNoManager], what systemd says, ctx's; the process is where it was then.
//
// Source: org.freedesktop.systemd1(5) (StartTransientUnit; process 0 is who asks,
// whatever its number in another namespace is).
func OwnScope(ctx context.Context, name, description string) error {
	conn, err := connect(ctx)
	if err != nil {
		return fmt.Errorf("start %s: %w", name, err)
	}
	defer conn.Close()
	properties := []dbus.Property{
		dbus.PropDescription(description),
		dbus.PropSlice("system.slice"),
		dbus.PropPids(0),
		{Name: "CollectMode", Value: godbus.MakeVariant("inactive-or-failed")},
		{Name: "CPUWeight", Value: godbus.MakeVariant(uint64(10000))},
		{Name: "IOWeight", Value: godbus.MakeVariant(uint64(10000))},
	}
	if _, err := conn.StartTransientUnitContext(ctx, name, "fail", properties, nil); err != nil {
		return fmt.Errorf("start %s: %w", name, err)
	}
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		group, err := Cgroup()
		if err != nil {
			return fmt.Errorf("start %s: %w", name, err)
		}
		if strings.HasSuffix(group, "/"+name) {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("start %s: this process is in %s still: %w", name, group, context.Cause(ctx))
		case <-tick.C:
		}
	}
}

// Cgroup is the control group (version 2) of this process, as seen from the root
// of the hierarchy.
//
// Source: man 7 cgroups (/proc/PID/cgroup).
func Cgroup() (string, error) {
	text, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		return "", fmt.Errorf("find the control group: %w", err)
	}
	for line := range strings.Lines(string(text)) {
		if path, ok := strings.CutPrefix(strings.TrimSpace(line), "0::"); ok {
			return path, nil
		}
	}
	return "", fmt.Errorf("find the control group: %w", fs.ErrNotExist)
}
