package main

import (
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/scrubd/scrubd/internal/lab"
)

// A damaged filesystem stays byte for byte as it is, and keeps its finding,
// under all that may not repair it: -n, a veto, the autofsck property in all
// its values below repair, whatever the flags say.
func TestOnlyAllowedModesRepairInLab(t *testing.T) {
	image := labImage(t, lab.MkfsOptions{}, func(fs *lab.LoopFS) {
		require.NoError(t, lab.Sample(fs.Dir(), lab.SampleSpec{Files: 20}))
	})
	if !lab.Inside() {
		done, err := lab.InjectImage(image, lab.Fault{Class: lab.FaultRmapOffset, Seed: 5})
		require.NoError(t, err)
		t.Log(done.Describe())
	}
	lab.InKernel(t, func(t *testing.T) {
		scrubd := program(t)
		// To open a directory by its number the kernel may read those above it, and
		// that moves their atimes.
		fs := mountLab(t, image, "noatime")
		state := filepath.Join(t.TempDir(), "state")
		run := func(flags ...string) answer {
			return call(t, "/", append(append([]string{scrubd, "run", "--now", "--state-dir", state}, flags...), fs.Dir())...)
		}
		property := func(value string) {
			if value == "" {
				require.NoError(t, unix.Removexattr(fs.Dir(), "trusted.xfs:autofsck"))
				return
			}
			require.NoError(t, setAutofsck(fs.Dir(), value))
		}
		for _, c := range []struct {
			name, property string
			flags          []string
			mode           string // "" for a run that is refused
			bytes          bool   // hold the whole image against what it was
		}{
			{"check only", "repair", []string{"-n"}, "check", true},
			{"veto", "repair", []string{"--before-repair", "false"}, "repair", true},
			{"property check", "check", nil, "check", false},
			{"property check, asked to repair", "check", []string{"--repair"}, "check", true},
			{"property optimize", "optimize", nil, "optimize", false},
			{"property optimize, asked to repair", "optimize", []string{"--repair"}, "optimize", false},
			{"a property of the future", "rebuild", []string{"--repair"}, "check", false},
			{"property none, asked to check", "none", []string{"--check"}, "", false},
			{"beyond the property, but no more than asked", "none", []string{"--check", "--ignore-autofsck"}, "check", false},
		} {
			t.Run(c.name, func(t *testing.T) {
				property(c.property)
				var before blockSums
				if c.bytes {
					before = sumBlocks(t, fs)
				}
				a := run(c.flags...)
				if c.mode == "" {
					oneSentence(t, a, "its autofsck property forbids any check", "--ignore-autofsck")
				} else {
					assert.Equal(t, exitCorruption, a.status, a.out+a.log)
					assert.Contains(t, a.out, ", mode "+c.mode+" (autofsck property: ")
					assert.Contains(t, a.out, "\nREPAIRABLE corruption: ")
					assert.Contains(t, a.out, ": 1 finding: 1 repairable\n")
				}
				if c.bytes {
					assert.Empty(t, before.changed(sumBlocks(t, fs)), "blocks were written")
				}
				assertRecordsOnly(t, state)
			})
		}
		property("")
		a := run("--repair", "--before-repair", "echo no snapshot today >&2; exit 7")
		assert.Equal(t, exitCorruption, a.status)
		assert.Contains(t, a.out, "exit status 7")
		assert.Contains(t, a.log, "no snapshot today\n")

		property("none")
		a = run("--ignore-autofsck")
		assert.Zero(t, a.status, a.out+a.log)
		assert.Contains(t, a.out, ", mode repair (autofsck property: none)\n")
		assert.Contains(t, a.out, ": 1 finding: 1 repaired\n")
		assert.Contains(t, namesIn(t, state), "intents")
		property("check")
		a = run()
		assert.Zero(t, a.status, a.out+a.log)
		assert.Contains(t, a.out, fs.Dir()+": clean: ")
	}, lab.WithTimeout(8*time.Minute))
}

// assertRecordsOnly: a run that repairs nothing leaves records on another
// filesystem, and neither evidence nor intents.
func assertRecordsOnly(t *testing.T, state string) {
	t.Helper()
	assert.Subset(t, []string{"history.jsonl", "totals.json", "reports"}, namesIn(t, state))
}

// namesIn are the names that a state directory has of its filesystems.
func namesIn(t *testing.T, state string) []string {
	t.Helper()
	paths, err := filepath.Glob(filepath.Join(state, "*", "*"))
	require.NoError(t, err)
	for i, path := range paths {
		paths[i] = filepath.Base(path)
	}
	return paths
}
