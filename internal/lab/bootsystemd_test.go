package lab_test

import (
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/scrubd/scrubd/internal/lab"
)

// The whole of systemd runs: units, journald, D-Bus; and the machine's files
// are where they are outside.
func TestLabWithSystemd(t *testing.T) {
	lab.Require(t, lab.SidTools)
	lab.InKernel(t, func(t *testing.T) {
		run := func(name string, args ...string) string {
			out, err := exec.CommandContext(t.Context(), name, args...).CombinedOutput()
			require.NoError(t, err, "%s", out)
			return strings.TrimSpace(string(out))
		}
		comm, err := os.ReadFile("/proc/1/comm")
		require.NoError(t, err)
		assert.Equal(t, "systemd\n", string(comm))
		t.Log(run("systemctl", "list-units", "--failed", "--no-legend"))
		assert.Equal(t, "in the sandbox", run("systemd-run", "--quiet", "--pipe", "--wait", "-p", "ProtectSystem=strict",
			"-p", "SystemCallFilter=@system-service", "echo", "in the sandbox"))
		assert.Contains(t, run("journalctl", "--no-pager", "-b"), "systemd")
		assert.Contains(t, run("busctl", "--no-pager", "list"), "org.freedesktop.systemd1")
		wd, err := os.Getwd()
		require.NoError(t, err)
		assert.FileExists(t, wd+"/bootsystemd_test.go")
	}, lab.WithSystemd())
}
