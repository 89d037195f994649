package soak

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// fake writes a program that answers as scrubd might.
func fake(t *testing.T, script string) program {
	t.Helper()
	path := filepath.Join(t.TempDir(), "scrubd")
	require.NoError(t, os.WriteFile(path, []byte("#!/bin/sh\n"+script), 0o755))
	p, err := newProgram(t.Context(), path)
	require.NoError(t, err)
	return p
}

// What is not said in so many words is no proof that all is well.
func TestRunsThatAreNotWell(t *testing.T) {
	summary := func(s string) string { return `echo '{"message_type":"summary",` + s + `}'` + "\n" }
	for _, c := range []struct {
		name, script string
		well         bool
		lost         string
	}{
		{"clean", summary(`"exit_status":0,"complete":true,"findings":{}`), true, ""},
		{"unsettled", summary(`"exit_status":4,"complete":true,"findings":{"unsettled":2}`) + "exit 4", true, ""},
		{"not finished", summary(`"exit_status":4,"complete":false,"findings":{"unsettled":2}`) + "exit 4", false, ""},
		{"four for nothing", summary(`"exit_status":4,"complete":true,"findings":{}`) + "exit 4", false, ""},
		{"held", summary(`"exit_status":1,"complete":true,"findings":{"held":1}`) + "exit 1", false, ""},
		{"repaired", summary(`"exit_status":0,"complete":true,"findings":{"repaired":1},"repairs":1`), false, ""},
		{"repairs without a finding", summary(`"exit_status":0,"complete":true,"findings":{},"repairs":1`), false, ""},
		{
			"optimizable without repair",
			summary(`"exit_status":2,"complete":true,"findings":{},"optimizations_possible":1,"coverage":{"repair":false}`) + "exit 2", true, "",
		},
		{
			"left as it is although it could be better",
			summary(`"exit_status":2,"complete":true,"findings":{},"optimizations_possible":1,"coverage":{"repair":true}`) + "exit 2", false, "",
		},
		{"optimizable", summary(`"exit_status":2,"complete":true,"findings":{}`) + "exit 2", false, ""},
		{"another status", summary(`"exit_status":0,"complete":true,"findings":{}`) + "exit 1", false, "exit status 1, but the summary says 0"},
		{"no summary", "true", false, "no summary"},
		{"no JSON", "echo hello", false, `not JSON: "hello\n"`},
		{"killed", summary(`"exit_status":0,"complete":true,"findings":{}`) + "kill -9 $$", false, "signal: killed"},
		{"hangs", summary(`"exit_status":0,"complete":true,"findings":{}`) + "exec sleep 60", false, "did not end within 200ms"},
	} {
		t.Run(c.name, func(t *testing.T) {
			limit := time.Minute
			if c.name == "hangs" {
				limit = 200 * time.Millisecond
			}
			p := fake(t, "if [ \"$2\" = --help ]; then exit; fi\n"+c.script)
			s := p.once(t.Context(), "/mnt", t.TempDir(), true, limit)
			assert.Equal(t, c.well, s.Well(), "%+v", s)
			assert.Equal(t, c.lost, s.Lost)
			assert.Nil(t, s.Live)
		})
	}
}

// Live updates are switched off only where scrubd knows them, and what a run
// that is not well said is kept.
func TestRunKeepsWhatWasSaid(t *testing.T) {
	p := fake(t, `if [ "$2" = --help ]; then echo "  --no-live  no tracepoints"; exit; fi
echo "$@" >&2
echo '{"message_type":"finding","finding_id":"x"}'
echo '{"message_type":"summary","exit_status":1,"complete":true,"findings":{"held":1},"coverage":{"live_updates":true},"candidates":7,"extents":100}'
exit 1
`)
	s := p.once(t.Context(), "/mnt", "/state", false, time.Minute)
	assert.Equal(t, "run --now --json --no-progress --state-dir /state --no-live /mnt\n", s.Log)
	require.Len(t, s.Alarms, 1)
	assert.JSONEq(t, `{"message_type":"finding","finding_id":"x"}`, string(s.Alarms[0]))
	require.NotNil(t, s.Live)
	assert.False(t, *s.Live)
	assert.EqualValues(t, 7, s.Candidates)
	s = p.once(t.Context(), "/mnt", "/state", true, time.Minute)
	assert.NotContains(t, s.Log, "--no-live")

	s.Geometry, s.Number = "4k", 3
	var out strings.Builder
	require.NoError(t, PrintTable(&out, []Report{{Geometry: "4k", Scrubs: []Scrub{s}, Wrong: []string{"a false alarm"}}}))
	assert.Contains(t, out.String(), "4k        on    1     1      1         0        0          7               7           7.00 %")
	assert.Contains(t, out.String(), "4k: a false alarm\n")
	assert.False(t, Well([]Report{{Scrubs: []Scrub{s}, Wrong: []string{"a false alarm"}}}))
	assert.False(t, Well([]Report{{}}), "nothing ran")
}

func TestComplaints(t *testing.T) {
	lines := []string{
		"XFS (loop0): Mounting V5 Filesystem 0b3c",
		"XFS (loop0): Ending clean mount",
		"XFS (loop0): EXPERIMENTAL online scrub feature in use. Use at your own risk!",
		"XFS (loop0): Unmounting Filesystem 0b3c",
		"XFS (loop0): Metadata corruption detected at xfs_agf_verify+0x1, xfs_agf block 0x1",
		"XFS (loop1): Internal error i != 1 at line 1",
		"XFS (loop1): Corruption of in-memory data (0x8) detected at xfs_defer_finish. Shutting down filesystem.",
		"WARNING: CPU: 0 PID: 1 at fs/xfs/xfs_trans.c:1",
		"loop0: detected capacity change from 0 to 1",
	}
	assert.Equal(t, [][]string{
		{"the kernel: " + lines[4], "the kernel: " + lines[7]},
		{"the kernel: " + lines[5], "the kernel: " + lines[6], "the kernel: " + lines[7]},
	}, attribute(lines, [][]string{{"loop0"}, {"loop1"}}, true))
	assert.Equal(t, [][]string{{"the kernel: " + lines[4]}}, attribute(lines, [][]string{{"loop0"}}, false),
		"the machine's other filesystems are not ours")
}

func TestGeometries(t *testing.T) {
	all, err := Geometries("all")
	require.NoError(t, err)
	assert.Len(t, all, len(geometries))
	list, err := Geometries("rt", "telling")
	require.NoError(t, err)
	require.Len(t, list, 5)
	assert.Equal(t, "rt", list[0].Name)
	assert.Equal(t, 16384, list[0].Block)
	for _, g := range list {
		assert.NotZero(t, g.Begin, g.Name)
		assert.GreaterOrEqual(t, g.Size, g.Begin, g.Name)
	}
	_, err = Geometries("5k")
	assert.ErrorContains(t, err, `geometry "5k" is none of`)
}
