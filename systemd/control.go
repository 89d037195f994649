package systemd

import (
	"context"
	"fmt"
	"strings"

	"github.com/coreos/go-systemd/v22/dbus"
)

// Templates are the units that are instances of one template, one for each of
// some paths. It keeps no connection: systemd may be executed anew at any time.
type Templates struct {
	// Template is the name of the template: "scrubd@.service".
	Template string
}

// Start starts the unit of a path and returns once systemd has begun with it.
//
// Errors: [ErrNoManager], [ErrUnitName], what systemd says.
func (t Templates) Start(ctx context.Context, name string) error {
	return t.job(ctx, name, "start", (*dbus.Conn).StartUnitContext)
}

// Stop stops the unit of a path; it does not wait for its end.
//
// Errors: as of Start.
func (t Templates) Stop(ctx context.Context, name string) error {
	return t.job(ctx, name, "stop", (*dbus.Conn).StopUnitContext)
}

func (t Templates) job(ctx context.Context, name, what string,
	do func(*dbus.Conn, context.Context, string, string, chan<- string) (int, error),
) error {
	unit, err := InstanceUnit(t.Template, name)
	if err != nil {
		return err
	}
	conn, err := connect(ctx)
	if err != nil {
		return fmt.Errorf("%s %s: %w", what, unit, err)
	}
	defer conn.Close()
	if _, err := do(conn, ctx, unit, "replace", nil); err != nil {
		return fmt.Errorf("%s %s: %w", what, unit, err)
	}
	return nil
}

// Running returns the paths whose units are running, with the status line of
// each.
//
// Errors: [ErrNoManager], what systemd says.
func (t Templates) Running(ctx context.Context) (map[string]string, error) {
	before, after, _ := strings.Cut(t.Template, "@.")
	units, err := Units(ctx, before+"@*."+after)
	if err != nil {
		return nil, err
	}
	running := make(map[string]string)
	for i := range units {
		if !units[i].Running() {
			continue
		}
		instance := strings.TrimSuffix(strings.TrimPrefix(units[i].Name, before+"@"), "."+after)
		path, err := UnescapePath(instance)
		if err != nil {
			continue // no unit of a path
		}
		running[path] = ""
		if conn, err := connect(ctx); err == nil {
			if p, err := conn.GetServicePropertyContext(ctx, units[i].Name, "StatusText"); err == nil {
				running[path], _ = p.Value.Value().(string)
			}
			conn.Close()
		}
	}
	return running, nil
}
