package systemd

import (
	"context"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"

	"github.com/coreos/go-systemd/v22/dbus"
)

//go:embed files/units
var unitFiles embed.FS

// installedBy opens every file that is installed, and tells them from files of
// the same name that somebody else wrote.
const installedBy = "# Installed by `scrubd units install`; changes belong into `systemctl edit`.\n"

// A File is one file of the service.
type File struct {
	// Name is relative to the prefix: lib/systemd/system/scrubd@.service.
	Name string
	Text string
}

// Base is the file's own name.
func (f *File) Base() string { return path.Base(f.Name) }

// Files returns the units, with the program at that path, and the message
// catalog: what belongs below /usr or /usr/local.
func Files(program string) ([]File, error) {
	if !path.IsAbs(program) || strings.ContainsAny(program, "\n\"\\%$'") {
		return nil, fmt.Errorf("make units for %q: not a path that can stand in a unit", program)
	}
	if strings.ContainsAny(program, " \t") {
		program = `"` + program + `"`
	}
	const dir = "files/units"
	entries, err := unitFiles.ReadDir(dir)
	if err != nil {
		return nil, fmt.Errorf("read the embedded units: %w", err)
	}
	files := make([]File, 0, len(entries)+1)
	for _, e := range entries {
		text, err := unitFiles.ReadFile(path.Join(dir, e.Name()))
		if err != nil {
			return nil, fmt.Errorf("read the embedded units: %w", err)
		}
		files = append(files, File{
			Name: path.Join("lib/systemd/system", e.Name()),
			Text: installedBy + strings.ReplaceAll(string(text), "@SCRUBD@", program),
		})
	}
	return append(files, File{Name: "lib/systemd/catalog/scrubd.catalog", Text: installedBy + Catalog}), nil
}

// ErrForeign is a file that something else has put where one of ours goes.
var ErrForeign = errors.New("not installed by scrubd")

// Install writes the files below a directory (the prefix). A file of the same
// name that is not ours stays.
//
// Errors: [ErrForeign], before anything is written; those of the system calls.
func Install(prefix string, files []File) error {
	for i := range files {
		if _, err := ours(filepath.Join(prefix, files[i].Name)); err != nil {
			return fmt.Errorf("install units: %w", err)
		}
	}
	for i := range files {
		name := filepath.Join(prefix, files[i].Name)
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			return fmt.Errorf("install units: %w", err)
		}
		temporary := filepath.Join(filepath.Dir(name), "."+filepath.Base(name)+".new")
		if err := os.WriteFile(temporary, []byte(files[i].Text), 0o644); err != nil {
			return fmt.Errorf("install units: %w", err)
		}
		if err := os.Rename(temporary, name); err != nil {
			return fmt.Errorf("install units: %w", err)
		}
	}
	return nil
}

// Uninstall removes what [Install] wrote, and returns what it removed. Files
// that are not ours stay, and are an error once all others are gone.
func Uninstall(prefix string, files []File) (removed []string, err error) {
	for i := range files {
		name := filepath.Join(prefix, files[i].Name)
		there, e := ours(name)
		if e == nil && there {
			e = os.Remove(name)
			removed = append(removed, name)
		}
		err = errors.Join(err, e)
	}
	if err != nil {
		return removed, fmt.Errorf("uninstall units: %w", err)
	}
	return removed, nil
}

// ours tells whether there is a file that we installed.
func ours(name string) (bool, error) {
	text, err := os.ReadFile(name)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return false, nil
	case err != nil:
		return false, err
	case !strings.HasPrefix(string(text), installedBy):
		return false, fmt.Errorf("%s: %w", name, ErrForeign)
	default:
		return true, nil
	}
}

// Reload has systemd read its units anew.
//
// Errors: [ErrNoManager].
func Reload(ctx context.Context) error {
	conn, err := connect(ctx)
	if err != nil {
		return fmt.Errorf("reload units: %w", err)
	}
	defer conn.Close()
	if err := conn.ReloadContext(ctx); err != nil {
		return fmt.Errorf("reload units: %w", err)
	}
	return nil
}

// connect returns a connection to the system's manager.
func connect(ctx context.Context) (*dbus.Conn, error) {
	if _, err := os.Stat(booted); err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("%w: systemd is not running", ErrNoManager)
		}
		return nil, fmt.Errorf("%w: %w", ErrNoManager, err)
	}
	conn, err := dbus.NewWithContext(ctx)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrNoManager, err)
	}
	return conn, nil
}
