package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// A process is known by its name and by what it has open: a copy of sleep that
// is called xfs_scrub, with and without a file of this filesystem.
func TestForeignProcesses(t *testing.T) {
	dir := t.TempDir()
	sleep, err := exec.LookPath("sleep")
	require.NoError(t, err)
	text, err := os.ReadFile(sleep)
	require.NoError(t, err)
	program := filepath.Join(dir, "xfs_scrub")
	require.NoError(t, os.WriteFile(program, text, 0o755))
	var st unix.Stat_t
	require.NoError(t, unix.Stat(dir, &st))

	// coreutils may be one program that goes by the name it is called by.
	cmd := &exec.Cmd{Path: program, Args: []string{"sleep", "600"}, Dir: "/proc"}
	require.NoError(t, cmd.Start())
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	assert.Empty(t, foreignProcesses("/proc", 1), "another filesystem is its own business")

	open, err := os.Open(dir)
	require.NoError(t, err)
	defer open.Close()
	busy := &exec.Cmd{Path: program, Args: []string{"sleep", "600"}, Dir: "/proc", ExtraFiles: []*os.File{open}}
	require.NoError(t, busy.Start())
	t.Cleanup(func() { _ = busy.Process.Kill(); _ = busy.Wait() })
	assert.Contains(t, foreignProcesses("/proc", uint64(st.Dev)), "xfs_scrub, process "+strconv.Itoa(busy.Process.Pid))

	assert.Empty(t, foreignProcesses(dir, uint64(st.Dev)), "no /proc, nobody seen")
}
