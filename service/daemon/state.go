package daemon

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"
)

// saved is what the daemon remembers over a restart, beside the history.
type saved struct {
	// Known is when a filesystem was first seen, by UUID.
	Known map[string]time.Time `json:"known"`
	// Paused are the filesystems whose runs people have paused.
	Paused map[string]bool `json:"paused"`
	// Cancelled is when somebody cancelled a run: it is not made up for.
	Cancelled map[string]time.Time `json:"cancelled"`
	// Wanted is when a timer asked for a run that the period does not bring.
	Wanted map[string]time.Time `json:"wanted,omitempty"`
	// Suspect is when corruption was found that only a run can judge.
	Suspect map[string]time.Time `json:"suspect,omitempty"`
}

const savedFile = "daemon.json"

// loadSaved reads what was remembered in the first of these directories that has
// it. What cannot be read is forgotten, and said.
func loadSaved(dirs ...string) (*saved, error) {
	s := &saved{}
	var err error
	for _, dir := range dirs {
		var text []byte
		if text, err = os.ReadFile(filepath.Join(dir, savedFile)); err == nil {
			err = json.Unmarshal(text, s)
		}
		if !errors.Is(err, fs.ErrNotExist) {
			break
		}
	}
	if s.Known == nil {
		s.Known = map[string]time.Time{}
	}
	if s.Paused == nil {
		s.Paused = map[string]bool{}
	}
	if s.Cancelled == nil {
		s.Cancelled = map[string]time.Time{}
	}
	if s.Wanted == nil {
		s.Wanted = map[string]time.Time{}
	}
	if s.Suspect == nil {
		s.Suspect = map[string]time.Time{}
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return s, fmt.Errorf("read what is paused: %w", err)
	}
	return s, nil
}

// placesOfSaved are where what is remembered may be: aside only as long as the
// state directory takes nothing.
func (o *Options) placesOfSaved() []string {
	if o.AsideDir == "" {
		return []string{o.StateDir}
	}
	return []string{o.AsideDir, o.StateDir}
}

// remember writes what is to be known after a restart.
func (d *Daemon) remember() {
	if d.o.Forgetful {
		return
	}
	d.kept = true // where there is no other place there is nothing to bring home
	err := writeState(d.o.StateDir, savedFile, d.saved)
	if d.o.AsideDir == "" || d.o.AsideDir == d.o.StateDir {
		if err != nil {
			d.o.Log.WithError(err).Warn("a restart of the daemon forgets what people have paused")
		}
		return
	}
	if err == nil {
		err = gone(filepath.Join(d.o.AsideDir, savedFile))
		if d.complain(d.o.Log, "remember", err, "a restart of the daemon takes older pauses for what holds"); err != nil {
			d.kept = false
		}
		return
	}
	d.kept = false
	if aside := writeState(d.o.AsideDir, savedFile, d.saved); aside != nil {
		d.complain(d.o.Log, "remember", errors.Join(err, aside), "a restart of the daemon forgets what people have paused")
		return
	}
	d.complain(d.o.Log, "remember", err, "a reboot forgets what people have paused, unless there is room before: it is in "+d.o.AsideDir)
}

// keep tries now and then to write what is aside where it belongs.
func (d *Daemon) keep(now time.Time) {
	if age := now.Sub(d.tried); d.kept || age >= 0 && age < keepAgain {
		return
	}
	d.tried = now
	d.remember()
}

// keepAgain is how often it is tried.
const keepAgain = 5 * time.Minute

// writeState writes a file as a whole.
func writeState(dir, file string, contents any) error {
	text, err := json.Marshal(contents)
	if err != nil {
		return fmt.Errorf("remember what is paused and queued: %w", err)
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("remember what is paused and queued: %w", err)
	}
	name := filepath.Join(dir, file)
	f, err := os.OpenFile(name+".new", os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("remember what is paused and queued: %w", err)
	}
	_, err = f.Write(text)
	if err = errors.Join(err, f.Sync(), f.Close()); err == nil {
		err = os.Rename(name+".new", name)
	}
	if err != nil {
		return fmt.Errorf("remember what is paused and queued: %w", errors.Join(err, gone(name+".new")))
	}
	return nil
}

func gone(name string) error {
	if err := os.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}
