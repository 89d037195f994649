package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/scrubd/scrubd/internal/lab"
)

// scrubbing starts a check and waits until it scrubs inodes; log is its report.
func scrubbing(t *testing.T, log, scrubd, stateDir, dir string, more ...string) *exec.Cmd {
	t.Helper()
	out, err := os.Create(log)
	require.NoError(t, err)
	defer func() { _ = out.Close() }()
	args := append([]string{"run", "--now", "--check", "--json", "--workers", "1", "--state-dir", stateDir}, more...)
	cmd := exec.Command(scrubd, append(args, dir)...)
	cmd.Env, cmd.Stdout, cmd.Stderr = append(commandEnv(), "SCRUBD_CONSISTENT_OUTPUT="), out, os.Stderr // with progress
	require.NoError(t, cmd.Start())
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	require.Eventually(t, func() bool {
		for _, m := range reportLines(t, log) {
			if done, ok := m["done_items"].(float64); ok && m["phase"] == "inodes" && done > 600 { // a turn is 512
				return true
			}
		}
		return false
	}, 2*time.Minute, 20*time.Millisecond)
	return cmd
}

// reportLines are the whole lines of a report that is being written.
func reportLines(t *testing.T, log string) []map[string]any {
	t.Helper()
	text, err := os.ReadFile(log)
	require.NoError(t, err)
	for len(text) > 0 && text[len(text)-1] != '\n' {
		text = text[:len(text)-1]
	}
	return jsonLines(t, text)
}

// A check that SIGTERM ends, as systemctl stop does, has written down how far it is by
// then; one that is killed takes nothing away from that; and the next one leaves out
// what was done, and says so.
func TestResumeInLab(t *testing.T) {
	image := labImage(t, lab.MkfsOptions{Args: []string{"-d", "agcount=2", "-m", "rmapbt=1,reflink=1"}}, func(fs *lab.LoopFS) {
		require.NoError(t, lab.Sample(fs.Dir(), lab.SampleSpec{Files: 4000}))
	})
	lab.InKernel(t, func(t *testing.T) {
		fs := mountLab(t, image)
		scrubd, dir := program(t), t.TempDir()
		stateDir, log := filepath.Join(dir, "state"), filepath.Join(dir, "log")

		cmd := scrubbing(t, log, scrubd, stateDir, fs.Dir())
		require.NoError(t, cmd.Process.Signal(syscall.SIGTERM))
		require.Error(t, cmd.Wait())
		lines := reportLines(t, log)
		stopped := lines[len(lines)-1]
		assert.Equal(t, true, stopped["checkpoint"], stopped)
		assert.Equal(t, false, stopped["complete"])
		found, err := filepath.Glob(filepath.Join(stateDir, "*", "checkpoint"))
		require.NoError(t, err)
		require.Len(t, found, 1)

		require.NoError(t, fs.Remount())
		cmd = scrubbing(t, log, scrubd, stateDir, fs.Dir(), "--resume")
		require.NoError(t, cmd.Process.Kill())
		require.Error(t, cmd.Wait())
		assert.FileExists(t, found[0])

		a := call(t, "/", scrubd, "run", "--now", "--check", "--json", "--resume", "--state-dir", stateDir, fs.Dir())
		require.Zero(t, a.status, a.out+a.log)
		lines = jsonLines(t, []byte(a.out))
		sum := lines[len(lines)-1]
		require.IsType(t, map[string]any{}, sum["resumed"], a.out)
		resumed := sum["resumed"].(map[string]any)
		t.Logf("stopped at %v; resumed %v; %v kernel calls for %v inodes", stopped["incomplete"], resumed, sum["kernel_calls"], sum["inodes"])
		assert.Positive(t, resumed["ags"])
		assert.Greater(t, resumed["inodes"], 400.0)
		assert.Nil(t, resumed["anew"])
		assert.NoFileExists(t, found[0], "a run that got through leaves none")
	}, lab.WithTimeout(7*time.Minute), lab.WithMem(1500))
}
