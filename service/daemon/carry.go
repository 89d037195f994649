package daemon

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"time"
)

// carried is what a daemon leaves to the one that is started after it in the same
// boot: what was asked for and has not begun, and which of the runs that are there
// it has started. Without it a run that is there would be nobody's, and no window
// would end it.
type carried struct {
	// Asked is when somebody asked for a run that waits, by UUID.
	Asked map[string]time.Time `json:"asked,omitempty"`
	// Started are the runs that the daemon has started, by UUID.
	Started map[string]startedRun `json:"started,omitempty"`
}

// startedRun is a run that the daemon has started.
type startedRun struct {
	At     time.Time `json:"at"`
	ByHand bool      `json:"by_hand,omitempty"` // somebody asked for it: no window ends it
}

const carriedFile = "daemon-now.json"

// loadCarried reads what the daemon before has left. There is none after a boot.
func (d *Daemon) loadCarried() {
	if d.o.Forgetful || d.o.AsideDir == "" {
		return
	}
	text, err := os.ReadFile(filepath.Join(d.o.AsideDir, carriedFile))
	if err == nil {
		err = json.Unmarshal(text, &d.before)
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		d.o.Log.WithError(fmt.Errorf("read what was queued: %w", err)).Warn("what was queued is forgotten")
	}
}

// takeCarried takes over what the daemon before has left, once the runs that are
// there are known.
func (d *Daemon) takeCarried() {
	for uuid, t := range d.targets {
		if s, ours := d.before.Started[uuid]; ours && t.unit && t.started.IsZero() {
			t.started, t.byHand = s.At, s.ByHand
		}
		if at, waits := d.before.Asked[uuid]; waits && !t.running && t.asked.IsZero() {
			t.asked = at
		}
	}
	d.before = carried{}
}

// carry writes what the next daemon is to know, if it has changed.
func (d *Daemon) carry() {
	if d.o.Forgetful || d.o.AsideDir == "" {
		return
	}
	now := carried{map[string]time.Time{}, map[string]startedRun{}}
	for uuid, t := range d.targets {
		switch {
		case t.running && !t.started.IsZero():
			now.Started[uuid] = startedRun{t.started.Round(0), t.byHand}
		case !t.running && !t.asked.IsZero():
			now.Asked[uuid] = t.asked.Round(0)
		}
	}
	if maps.Equal(now.Asked, d.carries.Asked) && maps.Equal(now.Started, d.carries.Started) {
		return
	}
	err := writeState(d.o.AsideDir, carriedFile, &now)
	if d.complain(d.o.Log, "carry", err, "a restart of the daemon forgets what is queued"); err == nil {
		d.carries = now
	}
}
