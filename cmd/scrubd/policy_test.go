package main

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"

	"github.com/sirupsen/logrus"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/scrubd/scrubd/internal/lab"
	"github.com/scrubd/scrubd/ioctl/ioctltest"
	"github.com/scrubd/scrubd/scrub"
	"github.com/scrubd/scrubd/service/config"
)

// Who decides how polite a run is.
func TestPolicy(t *testing.T) {
	fs, _ := ioctltest.New(t)
	write := func(text string) string {
		path := filepath.Join(t.TempDir(), "scrubd.toml")
		require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
		return path
	}
	fast := write("[run]\npolicy = \"foreground\"\n")
	one := write("[[filesystem]]\nmount = \"/data\"\npolicy = \"foreground\"\n")
	for name, c := range map[string]struct {
		o    runOptions
		unit bool
		want config.RunPolicy
		logs string
	}{
		"a person waits":           {want: config.Foreground},
		"a person does not":        {o: runOptions{background: true}, want: config.Background},
		"no configuration of ours": {o: runOptions{config: fast}, want: config.Foreground},
		"a unit":                   {o: runOptions{config: filepath.Join(t.TempDir(), "none")}, unit: true, want: config.Background},
		"a unit, configured":       {o: runOptions{config: fast}, unit: true, want: config.Foreground},
		"this one, configured":     {o: runOptions{config: one}, unit: true, want: config.Foreground},
		"a unit with a flag":       {o: runOptions{config: fast, background: true}, unit: true, want: config.Background},
		"a unit with the other":    {o: runOptions{config: write(""), foreground: true}, unit: true, want: config.Foreground},
		"a wrong configuration":    {o: runOptions{config: write("[run]\npolicy = 7\n")}, unit: true, want: config.Background, logs: "the configuration is wrong"},
	} {
		t.Run(name, func(t *testing.T) {
			var log bytes.Buffer
			if c.unit {
				c.o.unit = &unitRun{log: logrus.New()}
				c.o.unit.log.SetOutput(&log)
			}
			target := &target{Path: "/data", MountPoint: "/data"}
			assert.Equal(t, c.want, c.o.policy(target, fs))
			assert.Contains(t, log.String(), c.logs)
			assert.Equal(t, c.want == config.Background, c.o.pace(target, fs, func(string) {}) != nil)
			c.o.choice = &scrub.Choice{}
			assert.Nil(t, c.o.pace(target, fs, nil), "a person's decision is carried out at once")
		})
	}
}

// A background run comes to the same, and says how long it rested.
func TestBackgroundRun(t *testing.T) {
	lab.Require(t, lab.Root, lab.Loop)
	scrubd := program(t)
	fs := sampleFS(t)
	run := func(flags ...string) (summary map[string]any) {
		t.Helper()
		args := append([]string{"env", "-u", "SCRUBD_CONSISTENT_OUTPUT", scrubd, "run", "--now", "--check"}, flags...)
		a := call(t, "/", append(args, "--json", fs.Dir())...)
		lines := jsonLines(t, []byte(a.out))
		require.NotEmpty(t, lines, a.log)
		return lines[len(lines)-1]
	}
	fast := run()
	assert.Equal(t, "foreground", fast["policy"])
	assert.NotContains(t, fast, "throttled_seconds")
	slow := run("--background")
	assert.Equal(t, "background", slow["policy"])
	assert.Positive(t, slow["throttled_seconds"])
	assert.Less(t, slow["throttled_seconds"], slow["elapsed_seconds"])
	for _, same := range []string{"inodes", "extents", "exit_status", "complete"} {
		assert.Equal(t, fast[same], slow[same], same)
	}
	text := call(t, "/", "env", "-u", "SCRUBD_CONSISTENT_OUTPUT", scrubd, "run", "--now", "--check", "--background", fs.Dir())
	assert.Contains(t, text.out, " at rest\n")
}
