package config

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// write makes a configuration file and its drop-ins.
func write(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	path := filepath.Join(dir, "scrubd.toml")
	require.NoError(t, os.Mkdir(path+".d", 0o755))
	for name, text := range files {
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600))
	}
	return path
}

func TestLoad(t *testing.T) {
	path := write(t, map[string]string{
		"scrubd.toml": `
[schedule]
period = "2w"
overdue = "never"
windows = ["01:00-05:00", "Sat,Sun 00:00-24:00"]
max_runs = 3

[run]
policy = "foreground"

[control]
status_group = "adm"

[metrics]
textfile_dir = "/run/metrics"

[[filesystem]]
mount = "/srv/data"
period = "36h"
policy = "background"
`,
		"scrubd.toml.d/10-site.toml": "[schedule]\nwindows = []\n",
		"scrubd.toml.d/20-site.toml": "[schedule]\nmax_runs = 4\n[[filesystem]]\nuuid = \"0D0A5F11-5d5c-4a7e-9d0b-f0ddc0ffee00\"\nskip = true\nwindows = [\"Wed 01:00-02:00\"]\n",
		"scrubd.toml.d/.hidden.toml": "nonsense",
		"scrubd.toml.d/README":       "nonsense",
	})
	c, err := Load(path)
	require.NoError(t, err)
	assert.Equal(t, 14*day, c.Policy.Period)
	assert.Zero(t, c.Policy.Overdue)
	assert.Empty(t, c.Policy.Windows)
	assert.Equal(t, 4, c.MaxRuns, "a drop-in decides")
	assert.Equal(t, "adm", c.StatusGroup)
	assert.Equal(t, "/run/metrics", c.TextfileDir)

	e := c.For("other", "/srv/data")
	assert.Equal(t, 36*time.Hour, e.Policy.Period)
	assert.False(t, e.Skip)
	assert.Equal(t, Background, e.Run)
	e = c.For("0d0a5f11-5d5c-4a7e-9d0b-f0ddc0ffee00", "/srv/data")
	assert.True(t, e.Skip)
	assert.Equal(t, 36*time.Hour, e.Policy.Period, "both apply")
	require.Len(t, e.Policy.Windows, 1)
	assert.Equal(t, Effective{Policy: c.Policy, Run: Foreground}, c.For("other", "/srv"))
}

func TestLoadWithoutAFile(t *testing.T) {
	c, err := Load(filepath.Join(t.TempDir(), "scrubd.toml"))
	require.NoError(t, err)
	assert.Equal(t, Default(), c)
}

// Whatever is wrong is refused, with the file and the line.
func TestLoadRefuses(t *testing.T) {
	for _, c := range []struct {
		text string
		line int
		want string
	}{
		{"\n[schedule]\nperiod = \"7d\"\nwindow = [\"01:00-05:00\"]\n", 4, `there is no setting "schedule.window"`},
		{"[run]\n\npolicy = \"idle\"\n", 3, `"idle" is neither "background" nor "foreground"`},
		{"[shedule]\n", 1, `there is no setting "shedule"`},
		{"[[filesystem]]\nmount = \"/a\"\n\n[[filesystem]]\nmont = \"/b\"\n", 5, `there is no setting "filesystem.mont"`},
		{"[schedule]\n\nperiod = \"soon\"\n", 3, `"soon" is not a time like`},
		{"[schedule]\nperiod = \"99999d\"\n", 2, "is not a time like"},
		{"[schedule]\nperiod = 7\n", 0, `"7" is not a time like`},
		{"[schedule]\nwindows = [\"01:00-05:00\",\n\"1-5\"]\n", 3, "not a window like"},
		{"[schedule]\nmax_runs = 0\n", 0, "schedule.max_runs: 0 is not from 1 to 64"},
		{"[schedule]\nmax_runs = \"2\"\n", 2, ""},
		{"[[filesystem]]\nskip = true\n", 0, "filesystem 1: give either mount or uuid"},
		{"[[filesystem]]\nmount = \"/a\"\nuuid = \"b\"\n", 0, "filesystem 1: give either mount or uuid"},
		{"[[filesystem]]\nmount = \"/a/\"\n", 0, "not a clean absolute path"},
		{"[metrics]\ntextfile_dir = \"run\"\n", 0, "metrics.textfile_dir: \"run\" is not a clean absolute path"},
		{"a = 1\na = 2\n", 2, ""},
		{"\x00", 1, ""},
	} {
		path := write(t, map[string]string{"scrubd.toml.d/50-x.toml": c.text})
		_, err := Load(path)
		var e *Error
		require.ErrorAs(t, err, &e, c.text)
		assert.Equal(t, filepath.Join(path+".d", "50-x.toml"), e.File)
		assert.Equal(t, c.line, e.Line, "%s: %v", c.text, err)
		require.ErrorContains(t, err, c.want)
	}
}

// All files and all settings that are wrong are named at once.
func TestLoadNamesAll(t *testing.T) {
	path := write(t, map[string]string{
		"scrubd.toml":          "a = 1\nb = 2\n",
		"scrubd.toml.d/x.toml": "c = 3\n",
	})
	_, err := Load(path)
	require.Error(t, err)
	for _, want := range []string{"scrubd.toml:1: ", "scrubd.toml:2: ", "x.toml:1: "} {
		require.ErrorContains(t, err, want)
	}
	require.NoError(t, os.Chmod(path, 0o000))
	if _, err := os.ReadFile(path); err == nil {
		return // root reads everything
	}
	_, err = Load(path)
	require.ErrorIs(t, err, os.ErrPermission)
}

func FuzzAdd(f *testing.F) {
	f.Add("[schedule]\nperiod=\"7d\"\nwindows=[\"01:00-05:00\"]\n[[filesystem]]\nmount=\"/\"\n")
	f.Fuzz(func(t *testing.T, text string) {
		c := Default()
		err := c.add("x", []byte(text))
		var e *Error
		if err != nil && !errors.As(err, &e) {
			t.Fatalf("%v has no place", err)
		}
		if err == nil {
			c.For("u", "/")
		}
	})
}
