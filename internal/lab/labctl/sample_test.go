package main

import (
	"bytes"
	"path/filepath"
	"testing"

	"github.com/spf13/cobra"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/scrubd/scrubd/internal/lab"
)

// runCommand runs a subcommand as main does and returns what it prints.
func runCommand(t *testing.T, cmd *cobra.Command, args ...string) (string, error) {
	t.Helper()
	var out bytes.Buffer
	cmd.SetOut(&out)
	cmd.SetErr(&out)
	cmd.SetArgs(args)
	cmd.SilenceUsage, cmd.SilenceErrors = true, true
	err := cmd.ExecuteContext(t.Context())
	return out.String(), err
}

func TestSampleFaultAndSnapshotCommands(t *testing.T) {
	lab.Require(t, lab.Root, lab.Loop)
	dir := t.TempDir()
	image, mount, saved := filepath.Join(dir, "xfs.img"), filepath.Join(dir, "mnt"), filepath.Join(dir, "saved.json")
	_, err := runCommand(t, newSampleCommand(), "--image", image, "--size", "320M", "--mkfs", "-d agcount=2", "--files", "50", "--mount", mount)
	require.NoError(t, err)
	fs, err := lab.AdoptLoopFS(image, mount)
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, fs.Close()) })
	_, err = runCommand(t, newSnapshotCommand(), mount, "--save", saved)
	require.NoError(t, err)

	victim := fs.Path("special", "large")
	out, err := runCommand(t, newFaultCommand(), "--image", image, "--live", mount, "--class", "fork-unwritten", "--path", victim)
	require.NoError(t, err)
	assert.Contains(t, out, "unwritten}")
	out, err = runCommand(t, newSnapshotCommand(), mount, "--compare", saved)
	require.ErrorIs(t, err, exitStatus(statusDiffers))
	assert.Regexp(t, `^special/large: data `, out)

	require.NoError(t, fs.Unmount())
	out, err = runCommand(t, newFaultCommand(), "--image", image, "--class", "agi-count", "--agno", "0", "--json")
	require.NoError(t, err)
	assert.Contains(t, out, `"where":"AGI of AG 0, count"`)
	_, err = runCommand(t, newFaultCommand(), "--image", image, "--class", "nonsense")
	require.ErrorIs(t, err, lab.ErrUnknownClass)

	_, err = runCommand(t, newSampleCommand(), "--image", image, "--size", "320M", "--files", "50", "--no-reflink")
	require.NoError(t, err)
	require.NoError(t, fs.Mount())
	assert.NoDirExists(t, fs.Path("clones"))
	assert.FileExists(t, victim)
}

func TestSampleAndFaultFlags(t *testing.T) {
	t.Parallel()
	_, err := runCommand(t, newSampleCommand())
	require.ErrorContains(t, err, "--image")
	_, err = runCommand(t, newSampleCommand(), "dir", "--image", "too")
	require.ErrorContains(t, err, "--image")
	_, err = runCommand(t, newFaultCommand(), "--class", "rmap-owner")
	require.ErrorContains(t, err, "--image")
	_, err = runCommand(t, newSnapshotCommand(), "dir")
	require.Error(t, err)
	out, err := runCommand(t, newFaultCommand(), "--list")
	require.NoError(t, err)
	for _, class := range lab.FaultClasses() {
		assert.Contains(t, out, string(class)+" ")
		assert.NotEmpty(t, class.Summary())
	}
}

func TestParseSize(t *testing.T) {
	t.Parallel()
	for s, want := range map[string]int64{"1G": 1 << 30, "320m": 320 << 20, "4096": 4096, "1GiB": 1 << 30, "1GB": 1e9} {
		got, err := parseSize(s)
		require.NoError(t, err, s)
		assert.Equal(t, want, got, s)
	}
	for _, s := range []string{"", "G", "-1", "much"} {
		_, err := parseSize(s)
		require.Error(t, err, s)
	}
}
