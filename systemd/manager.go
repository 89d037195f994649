package systemd

import (
	"context"
	"errors"
	"fmt"
	"slices"
)

// ErrNoManager says that no systemd runs here, or none that can be asked.
var ErrNoManager = errors.New("the service manager cannot be asked")

// Unit is a unit that systemd has loaded.
type Unit struct {
	Name string
	// Load is "loaded", "not-found", "masked", …; Active is "active",
	// "activating", "deactivating", "inactive", "failed", …; Sub is finer.
	Load, Active, Sub string
}

// Running tells whether the unit is at work: active, or on its way there or back.
func (u *Unit) Running() bool {
	switch u.Active {
	case "active", "activating", "deactivating", "reloading", "refreshing":
		return true
	default:
		return false
	}
}

// booted is what sd_booted(3) looks at.
const booted = "/run/systemd/system"

// Units asks systemd for the loaded units whose names match any of the
// patterns, as shells match. A unit that is not loaded is not running, and is
// left out.
//
// Errors: [ErrNoManager].
func Units(ctx context.Context, patterns ...string) ([]Unit, error) {
	conn, err := connect(ctx)
	if err != nil {
		return nil, fmt.Errorf("list units: %w", err)
	}
	defer conn.Close()
	list, err := conn.ListUnitsByPatternsContext(ctx, nil, patterns)
	if err != nil {
		return nil, fmt.Errorf("list units %v: %w", patterns, err)
	}
	units := make([]Unit, len(list))
	for i := range list {
		units[i] = Unit{list[i].Name, list[i].LoadState, list[i].ActiveState, list[i].SubState}
	}
	return units, nil
}

// RunningUnits returns the names of the units that match and are running,
// sorted.
//
// Errors: [ErrNoManager].
func RunningUnits(ctx context.Context, patterns ...string) ([]string, error) {
	units, err := Units(ctx, patterns...)
	if err != nil {
		return nil, err
	}
	var names []string
	for i := range units {
		if units[i].Running() {
			names = append(names, units[i].Name)
		}
	}
	slices.Sort(names)
	return names, nil
}

// globbed are the characters that fnmatch(3) gives a meaning to.
const globbed = `\*?[`

// Pattern is the pattern that matches exactly this name: an instance's name may
// hold backslashes.
func Pattern(unit string) string {
	out := make([]byte, 0, len(unit))
	for _, c := range []byte(unit) {
		for _, g := range []byte(globbed) {
			if c == g {
				out = append(out, '\\')
			}
		}
		out = append(out, c)
	}
	return string(out)
}

// Peers returns the running units of xfsprogs that scrub or repair the
// filesystem mounted at a path: two of them at once would judge each other's
// work.
//
// Errors: [ErrNoManager], [ErrUnitName].
func Peers(ctx context.Context, mountPoint string) ([]string, error) {
	patterns := make([]string, 0, len(peerTemplates))
	for _, template := range peerTemplates {
		unit, err := InstanceUnit(template, mountPoint)
		if err != nil {
			return nil, err
		}
		patterns = append(patterns, Pattern(unit))
	}
	return RunningUnits(ctx, patterns...)
}

// Rivals is [Peers], and what is about to start one of them: for who plans, and
// can do something else first.
//
// Errors: as of Peers.
func Rivals(ctx context.Context, mountPoint string) ([]string, error) {
	units, err := Peers(ctx, mountPoint)
	if err != nil || len(units) > 0 {
		return units, err
	}
	return RunningUnits(ctx, "xfs_scrub_all.service")
}

// peerTemplates are the units of xfsprogs 7.2 that work on one filesystem.
// xfs_healer@ is not among them: it runs all the time and repairs only what is
// found sick outside of a scrub.
var peerTemplates = []string{"xfs_scrub@.service", "xfs_scrub_media@.service"}
