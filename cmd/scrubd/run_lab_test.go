package main

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/scrubd/scrubd/internal/lab"
)

// What the flags do about one damaged rmap record, where repairs are possible:
// only looking, a veto, a read-only mount, the property of the filesystem, and
// at last the repair.
func TestFlagsInLab(t *testing.T) {
	lab.InKernel(t, func(t *testing.T) {
		scrubd := program(t)
		dir := t.TempDir()
		fs := lab.NewLoopFS(t, lab.MkfsOptions{})
		require.NoError(t, lab.Sample(fs.Dir(), lab.SampleSpec{Files: 50}))
		require.NoError(t, fs.Unmount())
		_, err := lab.InjectImage(fs.Image(), lab.Fault{Class: lab.FaultRmapOffset, Seed: 1})
		require.NoError(t, err)
		require.NoError(t, fs.Mount())
		run := func(flags ...string) answer {
			argv := append([]string{scrubd, "run", "--now", "--state-dir", filepath.Join(dir, "state")}, flags...)
			return call(t, "/", append(argv, fs.Dir())...)
		}
		left := func(t *testing.T, a answer, todo string) {
			t.Helper()
			assert.Equal(t, exitCorruption, a.status, a.out+a.log)
			assert.Contains(t, a.out, "\nREPAIRABLE corruption: ")
			assert.Contains(t, a.out, "  what to do: scrubd run --now "+todo+"\n")
			assertRecordsOnly(t, filepath.Join(dir, "state"))
		}

		left(t, run("--check"), "--repair "+fs.Dir())
		left(t, run("--before-repair", "echo not now >&2; exit 1"), "--repair "+fs.Dir()+" once what refused the repair agrees")

		// The property is a ceiling for the flags too.
		require.NoError(t, setAutofsck(fs.Dir(), "optimize"))
		left(t, run("--repair"), "--repair --ignore-autofsck "+fs.Dir())
		require.NoError(t, setAutofsck(fs.Dir(), "none"))
		refused(t, run(), "its autofsck property forbids any check", "--ignore-autofsck")
		require.NoError(t, setAutofsck(fs.Dir(), "repair"))

		require.NoError(t, fs.Remount("ro"))
		a := run("--repair")
		assert.Equal(t, exitCorruption, a.status, a.out+a.log)
		assert.Contains(t, a.out, " corruption: ")
		assert.Contains(t, a.log, gapReadOnly.String())
		require.NoError(t, fs.Remount("rw"))

		plan := filepath.Join(dir, "plan")
		a = run("--require", "kernel-scrub,repair,rmapbt", "--before-repair", fmt.Sprintf("cat > '%s'", plan))
		assert.Zero(t, a.status, a.out+a.log)
		assert.Contains(t, a.out, "\nREPAIRED corruption: ")
		assert.Contains(t, a.out, fs.Dir()+": 1 finding: 1 repaired\n")
		steps, err := os.ReadFile(plan)
		require.NoError(t, err)
		assert.Contains(t, string(steps), "rebuild rmapbt of AG ")
		assert.Contains(t, namesIn(t, filepath.Join(dir, "state")), "intents", "the evidence was saved first")

		a = run()
		assert.Zero(t, a.status, a.out+a.log)
		assert.Contains(t, a.out, fs.Dir()+": clean")

		// A freeze is met before anything can get stuck in it.
		require.NoError(t, fs.Freeze())
		refused(t, run(), "filesystem is already frozen", "xfs_freeze -u")
		require.NoError(t, fs.Thaw())
	})
}

// setAutofsck sets the property as xfs_property does.
func setAutofsck(dir, value string) error {
	return unix.Setxattr(dir, "trusted.xfs:autofsck", []byte(value), 0)
}
