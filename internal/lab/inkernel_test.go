package lab_test

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/scrubd/scrubd/internal/lab"
)

// envOutcome is set for the child process of TestInKernelGivesTheVerdict, in
// which the test of a body that must fail runs as an ordinary test would.
const envOutcome = "SCRUBD_TEST_LAB_OUTCOME"

func TestLabBoots(t *testing.T) {
	lab.InKernel(t, func(t *testing.T) {
		require.True(t, lab.Inside())
		assert.Zero(t, os.Geteuid())
		version, err := os.ReadFile("/proc/version")
		require.NoError(t, err)
		t.Logf("%s", version)
		filesystems, err := os.ReadFile("/proc/filesystems")
		require.NoError(t, err)
		assert.Contains(t, string(filesystems), "\txfs\n")
		// What the project's rooms count on in the lab.
		for _, path := range []string{
			"/sys/kernel/tracing/events/xfs", "/sys/kernel/debug/xfs", "/sys/fs/cgroup/cgroup.controllers",
			"/proc/pressure/memory", "/dev/loop-control", "/dev/mapper/control", "/dev/shm",
		} {
			assert.DirExists(t, filepath.Dir(path))
			_, err := os.Stat(path)
			require.NoError(t, err)
		}
		dir, err := os.Getwd()
		require.NoError(t, err)
		assert.FileExists(t, filepath.Join(dir, "inkernel_test.go"), "the working directory is the package's")
	})
}

func TestInKernelSelectsOneSubtest(t *testing.T) {
	ran := filepath.Join(t.TempDir(), "ran")
	for _, name := range []string{"a", "a b", "a.b", "a|b", "x/y", "[x]", "a"} {
		t.Run(name, func(t *testing.T) {
			if lab.Inside() {
				file, err := os.OpenFile(ran, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
				require.NoError(t, err)
				_, err = file.WriteString(t.Name() + "\n")
				require.NoError(t, err)
				require.NoError(t, file.Close())
			}
			lab.InKernel(t, func(t *testing.T) {
				names, err := os.ReadFile(ran)
				require.NoError(t, err)
				assert.Equal(t, t.Name()+"\n", string(names), "no other subtest was begun inside")
				t.Run("nested", func(t *testing.T) { assert.True(t, lab.Inside()) })
			})
		})
	}
}

// TestInKernelGivesTheVerdict runs each case as a test of its own in a child
// process, as go test would, and looks at how that ends.
func TestInKernelGivesTheVerdict(t *testing.T) {
	lab.Require(t, lab.Kernel)
	for _, c := range []struct {
		name  string
		limit time.Duration
		body  func(t *testing.T)
		ok    bool
		says  []string
	}{
		{
			name: "passes", ok: true,
			body: func(t *testing.T) { t.Log("a word from inside") },
			says: []string{"a word from inside"},
		},
		{
			name: "fails",
			body: func(t *testing.T) { t.Error("a reason from inside") },
			says: []string{"a reason from inside", "in the lab: failed, exit status 1"},
		},
		{
			name: "fails in a cleanup",
			body: func(t *testing.T) { t.Cleanup(func() { t.Error("a late reason") }) },
			says: []string{"a late reason", "in the lab: failed, exit status 1"},
		},
		{
			name: "panics",
			body: func(*testing.T) { panic("at a loss") },
			says: []string{"at a loss", "exit status 2"},
		},
		{
			name: "exits",
			body: func(*testing.T) { os.Exit(0) },
			says: []string{"body did not run to its end"},
		},
		{
			name: "sleeps", limit: 20 * time.Second,
			body: func(*testing.T) { time.Sleep(time.Hour) },
			says: []string{"did not finish within its time limit", "Show Blocked State", "all goroutines", "time.Sleep"},
		},
		{
			name: "spins", limit: 20 * time.Second,
			body: func(*testing.T) {
				for n := new(atomic.Int64); ; {
					n.Add(1)
				}
			},
			says: []string{"did not finish within its time limit", "all goroutines"},
		},
		{
			name: "crashes the kernel",
			body: func(t *testing.T) {
				t.Log("the last word")
				require.NoError(t, os.WriteFile("/proc/sysrq-trigger", []byte("c"), 0o600))
				time.Sleep(time.Hour)
			},
			says: []string{"the kernel stopped before the job's end", "sysrq triggered crash"},
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			if lab.Inside() || os.Getenv(envOutcome) == t.Name() {
				options := []lab.Option{lab.WithMem(512)}
				if c.limit > 0 {
					options = append(options, lab.WithTimeout(c.limit))
				}
				lab.InKernel(t, c.body, options...)
				return
			}
			ctx, cancel := context.WithTimeout(t.Context(), 90*time.Second)
			defer cancel()
			pattern := "^" + strings.ReplaceAll(regexp.QuoteMeta(t.Name()), "/", "$/^") + "$"
			child := exec.CommandContext(ctx, os.Args[0], "-test.run="+pattern, "-test.v")
			child.Env = append(os.Environ(), envOutcome+"="+t.Name())
			out, err := child.CombinedOutput()
			require.NoError(t, ctx.Err(), "the child ends by itself:\n%s", out)
			if c.ok {
				require.NoError(t, err, "%s", out)
			} else {
				var exit *exec.ExitError
				require.ErrorAs(t, err, &exit, "the child fails:\n%s", out)
				assert.Contains(t, string(out), "--- FAIL: "+t.Name())
			}
			for _, says := range c.says {
				assert.Contains(t, string(out), says)
			}
		})
	}
}
