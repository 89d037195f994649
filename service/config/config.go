// Package config reads what an administrator has decided about the service:
// /etc/scrubd/scrubd.toml and the drop-ins beside it.
package config

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/pelletier/go-toml/v2"

	"github.com/scrubd/scrubd/service/schedule"
)

// Path is the configuration file; Path with ".d" holds the drop-ins.
const Path = "/etc/scrubd/scrubd.toml"

// Config is the whole configuration.
type Config struct {
	// Policy is for filesystems that have none of their own.
	Policy schedule.Policy
	// MaxRuns bounds the runs at once. Filesystems that share a device never run
	// at once, whatever it is.
	MaxRuns int
	// Run is how runs go about it.
	Run RunPolicy
	// Health is what is done about reports of the kernel.
	Health Health
	// StatusGroup is the group whose members may ask how things are; "" for root
	// alone.
	StatusGroup string
	// TextfileDir is where node_exporter looks for metrics; "" for nowhere.
	TextfileDir string
	// Filesystems are what is different for some, in order; the last that names
	// a value decides.
	Filesystems []Filesystem
}

// Filesystem is what is different for one filesystem.
type Filesystem struct {
	// Mount or UUID says which; exactly one is set.
	Mount, UUID string
	Skip        *bool
	Period      *time.Duration
	Overdue     *time.Duration
	Windows     []schedule.Window // nil: not named
	Run         *RunPolicy
}

// Effective is what is decided for one filesystem.
type Effective struct {
	Skip   bool
	Policy schedule.Policy
	Run    RunPolicy
}

// RunPolicy is how a run goes about it.
type RunPolicy string

// The policies.
const (
	Background RunPolicy = "background" // it rests where others wait
	Foreground RunPolicy = "foreground" // as fast as it can
)

// Health is what is done about what the kernel finds corrupt by itself.
type Health struct {
	// Listen: it is heard, and looked at.
	Listen bool
	// Quiet is for how long the same place is not looked at again.
	Quiet time.Duration
}

const day = 24 * time.Hour

// Default is the configuration without a file.
func Default() *Config {
	return &Config{Policy: schedule.Policy{Period: 7 * day, Overdue: 21 * day}, MaxRuns: 1, Run: Background, Health: Health{Listen: true, Quiet: time.Hour}}
}

// For returns what is decided for a filesystem.
func (c *Config) For(uuid, mount string) Effective {
	e := Effective{Policy: c.Policy, Run: c.Run}
	for i := range c.Filesystems {
		f := &c.Filesystems[i]
		if f.UUID != "" && !strings.EqualFold(f.UUID, uuid) || f.Mount != "" && f.Mount != mount {
			continue
		}
		take(&e.Skip, f.Skip)
		take(&e.Policy.Period, f.Period)
		take(&e.Policy.Overdue, f.Overdue)
		take(&e.Run, f.Run)
		if f.Windows != nil {
			e.Policy.Windows = f.Windows
		}
	}
	return e
}

// WithoutPlans is the configuration without periods and windows: for somebody
// who starts now what is to be started.
func (c *Config) WithoutPlans() *Config {
	n := *c
	n.Policy.Period, n.Policy.Windows = 0, nil
	n.Filesystems = make([]Filesystem, len(c.Filesystems))
	for i, f := range c.Filesystems {
		f.Period, f.Windows = nil, nil
		n.Filesystems[i] = f
	}
	return &n
}

func take[T any](to, from *T) {
	if from != nil {
		*to = *from
	}
}

// Error is what is wrong with a file, and where.
type Error struct {
	File string
	Line int // from 1; 0 when it is about the whole
	Err  error
}

// Error is "FILE:LINE: what is wrong".
func (e *Error) Error() string {
	if e.Line == 0 {
		return fmt.Sprintf("%s: %v", e.File, e.Err)
	}
	return fmt.Sprintf("%s:%d: %v", e.File, e.Line, e.Err)
}

func (e *Error) Unwrap() error { return e.Err }

// Load reads a configuration file and its drop-ins (PATH.d/*.toml, by name). A
// file that is not there leaves the defaults.
//
// Errors: those of every file, joined; each is an [*Error].
func Load(path string) (*Config, error) {
	c := Default()
	files, err := filesOf(path)
	if err != nil {
		return nil, &Error{File: path, Err: err}
	}
	var failed error
	for _, name := range files {
		text, err := os.ReadFile(name)
		if err != nil {
			failed = errors.Join(failed, &Error{File: name, Err: err})
			continue
		}
		failed = errors.Join(failed, c.add(name, text))
	}
	if failed != nil {
		return nil, failed
	}
	return c, nil
}

// filesOf lists the files that are there.
func filesOf(path string) ([]string, error) {
	var files []string
	if _, err := os.Stat(path); err == nil {
		files = append(files, path)
	} else if !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	entries, err := os.ReadDir(path + ".d")
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	for _, e := range entries { // sorted by name
		if strings.HasSuffix(e.Name(), ".toml") && !strings.HasPrefix(e.Name(), ".") {
			files = append(files, filepath.Join(path+".d", e.Name()))
		}
	}
	return files, nil
}

// file is a file as it is written: what is not there is nil.
type file struct {
	Schedule struct {
		Period  *duration          `toml:"period"`
		Overdue *duration          `toml:"overdue"`
		Windows *[]schedule.Window `toml:"windows"`
		MaxRuns *int               `toml:"max_runs"`
	} `toml:"schedule"`
	Run struct {
		Policy *runPolicy `toml:"policy"`
	} `toml:"run"`
	Health struct {
		Listen *bool     `toml:"listen"`
		Quiet  *duration `toml:"quiet"`
	} `toml:"health"`
	Control struct {
		StatusGroup *string `toml:"status_group"`
	} `toml:"control"`
	Metrics struct {
		TextfileDir *string `toml:"textfile_dir"`
	} `toml:"metrics"`
	Filesystem []struct {
		Mount   *string            `toml:"mount"`
		UUID    *string            `toml:"uuid"`
		Skip    *bool              `toml:"skip"`
		Period  *duration          `toml:"period"`
		Overdue *duration          `toml:"overdue"`
		Windows *[]schedule.Window `toml:"windows"`
		Policy  *runPolicy         `toml:"policy"`
	} `toml:"filesystem"`
}

// add lets a file change c. When it returns an error, c is of no use.
func (c *Config) add(name string, text []byte) error {
	var f file
	d := toml.NewDecoder(bytes.NewReader(text)).DisallowUnknownFields()
	if err := d.Decode(&f); err != nil {
		return located(name, err)
	}
	wrong := func(format string, args ...any) error {
		return &Error{File: name, Err: fmt.Errorf(format, args...)}
	}
	take(&c.Policy.Period, f.Schedule.Period.value())
	take(&c.Policy.Overdue, f.Schedule.Overdue.value())
	take(&c.Policy.Windows, f.Schedule.Windows)
	take(&c.MaxRuns, f.Schedule.MaxRuns)
	take(&c.Run, f.Run.Policy.value())
	take(&c.Health.Listen, f.Health.Listen)
	take(&c.Health.Quiet, f.Health.Quiet.value())
	take(&c.StatusGroup, f.Control.StatusGroup)
	take(&c.TextfileDir, f.Metrics.TextfileDir)
	if dir := c.TextfileDir; dir != "" && !cleanPath(dir) {
		return wrong("metrics.textfile_dir: %q is not a clean absolute path", dir)
	}
	if c.MaxRuns < 1 || c.MaxRuns > 64 {
		return wrong("schedule.max_runs: %d is not from 1 to 64", c.MaxRuns)
	}
	for i, s := range f.Filesystem {
		fsys := Filesystem{
			Skip: s.Skip, Period: s.Period.value(), Overdue: s.Overdue.value(), Run: s.Policy.value(),
		}
		take(&fsys.Mount, s.Mount)
		take(&fsys.UUID, s.UUID)
		if s.Windows != nil {
			fsys.Windows = append([]schedule.Window{}, *s.Windows...)
		}
		switch {
		case (fsys.Mount == "") == (fsys.UUID == ""):
			return wrong("filesystem %d: give either mount or uuid", i+1)
		case fsys.Mount != "" && !cleanPath(fsys.Mount):
			return wrong("filesystem %d: mount %q is not a clean absolute path", i+1, fsys.Mount)
		}
		c.Filesystems = append(c.Filesystems, fsys)
	}
	return nil
}

func cleanPath(name string) bool { return filepath.IsAbs(name) && filepath.Clean(name) == name }

// located gives an error of the decoder its place.
func located(name string, err error) error {
	var unknown *toml.StrictMissingError
	if errors.As(err, &unknown) {
		var all error
		for i := range unknown.Errors {
			e := &unknown.Errors[i]
			line, _ := e.Position()
			all = errors.Join(all, &Error{File: name, Line: line, Err: fmt.Errorf("there is no setting %q", strings.Join(e.Key(), "."))})
		}
		return all
	}
	var bad *toml.DecodeError
	if errors.As(err, &bad) {
		line, _ := bad.Position()
		return &Error{File: name, Line: line, Err: errors.New(strings.TrimPrefix(bad.Error(), "toml: "))}
	}
	return &Error{File: name, Err: err}
}

// duration is a time like "7d", "36h" or "2w". It is no number, so that a
// number without a unit is refused.
type duration struct{ d time.Duration }

// value is the duration, nil where there is none.
func (d *duration) value() *time.Duration {
	if d == nil {
		return nil
	}
	return &d.d
}

// UnmarshalText reads a duration.
func (d *duration) UnmarshalText(text []byte) error {
	s := string(text)
	for suffix, unit := range map[string]time.Duration{"d": day, "w": 7 * day} {
		if number, ok := strings.CutSuffix(s, suffix); ok {
			n, err := strconv.ParseUint(number, 10, 16)
			if err != nil || n > 3650 {
				return fmt.Errorf("%q is not a time like \"7d\", \"36h\" or \"2w\"", s)
			}
			d.d = time.Duration(n) * unit
			return nil
		}
	}
	if s == "0" || s == "never" {
		d.d = 0
		return nil
	}
	n, err := time.ParseDuration(s)
	if err != nil || n < time.Minute || n > 3650*day {
		return fmt.Errorf("%q is not a time like \"7d\", \"36h\" or \"2w\" (or \"never\")", s)
	}
	d.d = n
	return nil
}

// runPolicy is a policy as it is written. It is no string, so that what it is
// made of is checked.
type runPolicy struct{ p RunPolicy }

// value is the policy, nil where there is none.
func (p *runPolicy) value() *RunPolicy {
	if p == nil {
		return nil
	}
	return &p.p
}

// UnmarshalText reads a policy.
func (p *runPolicy) UnmarshalText(text []byte) error {
	switch v := RunPolicy(text); v {
	case Background, Foreground:
		p.p = v
		return nil
	}
	return fmt.Errorf("%q is neither %q nor %q", text, Background, Foreground)
}
