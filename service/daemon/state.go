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

// loadSaved reads what was remembered. What cannot be read is forgotten, and
// said.
func loadSaved(dir string) (*saved, error) {
	s := &saved{}
	text, err := os.ReadFile(filepath.Join(dir, savedFile))
	if err == nil {
		err = json.Unmarshal(text, s)
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

// save writes it as a whole.
func (s *saved) save(dir string) error {
	text, err := json.Marshal(s)
	if err != nil {
		return fmt.Errorf("remember what is paused: %w", err)
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("remember what is paused: %w", err)
	}
	name := filepath.Join(dir, savedFile)
	f, err := os.OpenFile(name+".new", os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("remember what is paused: %w", err)
	}
	_, err = f.Write(text)
	if err = errors.Join(err, f.Sync(), f.Close()); err == nil {
		err = os.Rename(name+".new", name)
	}
	if err != nil {
		return fmt.Errorf("remember what is paused: %w", err)
	}
	return nil
}
