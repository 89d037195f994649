package lab_test

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/scrubd/scrubd/internal/lab"
)

func boot(t *testing.T, spec lab.BootSpec) lab.Result {
	t.Helper()
	lab.Require(t, lab.Kernel)
	result, err := lab.Boot(t.Context(), spec)
	require.NoError(t, err)
	return result
}

func TestBootRunsAJobOnTheHostsTree(t *testing.T) {
	lab.Require(t, lab.Kernel)
	dir := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(dir, "in"), bytes.Repeat([]byte("data\n"), 100_000), 0o600))
	var streamed bytes.Buffer
	result := boot(t, lab.BootSpec{
		Script: `echo "$GREETING"; pwd; uname -r; id -u; nproc; cp in out; echo lost > "$TMPDIR/x"; printf 'no end of line'; exit 7`,
		Dir:    dir,
		Env:    append(os.Environ(), `GREETING=it's "me" \ $HOME`),
		Output: &streamed,
	})
	require.NoError(t, result.Err())
	assert.Equal(t, 7, result.ExitCode)
	lines := strings.Split(result.Output, "\n")
	require.Len(t, lines, 6)
	assert.Equal(t, `it's "me" \ $HOME`, lines[0])
	assert.Equal(t, dir, lines[1])
	assert.NotEmpty(t, lines[2])
	assert.Equal(t, []string{"0", "2", "no end of line"}, lines[3:])
	assert.Equal(t, result.Output, streamed.String(), "what was streamed is what is returned")
	out, err := os.ReadFile(filepath.Join(dir, "out"))
	require.NoError(t, err, "what the job writes to the host's tree stays there")
	assert.Len(t, out, 500_000)
}

func TestBootPassesEveryByte(t *testing.T) {
	// A serial line would turn \n into \r\n and stop at some control bytes.
	var want []byte
	for i := range 256 {
		want = append(want, byte(i))
	}
	want = bytes.Repeat(want, 4096)
	path := filepath.Join(t.TempDir(), "bytes")
	require.NoError(t, os.WriteFile(path, want, 0o600))
	result := boot(t, lab.BootSpec{Argv: []string{"cat", path}})
	require.NoError(t, result.Err())
	assert.Zero(t, result.ExitCode)
	assert.True(t, bytes.Equal(want, []byte(result.Output)), "%d bytes went in, %d came out", len(want), len(result.Output))
}

func TestBootSizesTheMachine(t *testing.T) {
	disk := filepath.Join(t.TempDir(), "disk")
	require.NoError(t, os.WriteFile(disk, bytes.Repeat([]byte{'x'}, 1<<20), 0o600))
	result := boot(t, lab.BootSpec{
		Script: `nproc; awk '/MemTotal/ {print int($2/1024/100)}' /proc/meminfo
			cat /sys/block/ubda/size; head -c 4 /dev/ubda`,
		MemMiB: 512, CPUs: 1, Disks: []string{disk},
	})
	require.NoError(t, result.Err())
	assert.Equal(t, "1\n4\n2048\nxxxx", result.Output)
}

func TestBootReportsASignal(t *testing.T) {
	result := boot(t, lab.BootSpec{Script: "kill -9 $$"})
	require.NoError(t, result.Err())
	assert.Equal(t, 128+9, result.ExitCode)
}

func TestBootReportsAHungJob(t *testing.T) {
	for name, script := range map[string]string{
		"spinning": "echo begun; while :; do :; done",
		"sleeping": "echo begun; sleep 1000",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			result := boot(t, lab.BootSpec{Script: script, Timeout: 5 * time.Second})
			require.ErrorIs(t, result.Err(), lab.ErrTimeLimit)
			assert.True(t, result.TimedOut)
			assert.False(t, result.Crashed)
			assert.False(t, result.Finished())
			assert.Equal(t, -1, result.ExitCode)
			assert.Equal(t, "begun\n", result.Output, "what came before the hang is kept")
			assert.Contains(t, result.ConsoleTail, "Show Blocked State", "the kernel was asked where it hangs")
			assert.Less(t, result.Elapsed, 15*time.Second)
		})
	}
}

func TestBootReportsACrash(t *testing.T) {
	result := boot(t, lab.BootSpec{Script: "echo begun; echo c > /proc/sysrq-trigger; sleep 1000"})
	require.ErrorIs(t, result.Err(), lab.ErrCrash)
	assert.True(t, result.Crashed)
	assert.False(t, result.TimedOut)
	assert.Equal(t, -1, result.ExitCode)
	assert.Equal(t, "begun\n", result.Output)
	assert.Contains(t, strings.Join(result.Complaints(), "\n"), "sysrq triggered crash")
	assert.Less(t, result.Elapsed, 60*time.Second)
}

func TestBootLeavesNothingBehind(t *testing.T) {
	lab.Require(t, lab.Kernel)
	temp := t.TempDir()
	t.Setenv("TMPDIR", temp)
	for _, script := range []string{"true", "sleep 1000 & sleep 1001 & wait", "echo c > /proc/sysrq-trigger"} {
		result := boot(t, lab.BootSpec{Script: script, Timeout: 4 * time.Second, Env: []string{"PATH=/usr/bin:/bin"}})
		assert.NotZero(t, result.Elapsed)
	}
	left, err := os.ReadDir(temp)
	require.NoError(t, err)
	assert.Empty(t, left, "files in the temporary directory")
	assert.Empty(t, processesNaming(t, temp), "processes of the killed kernels")
}

func TestBootEndsWithItsContext(t *testing.T) {
	lab.Require(t, lab.Kernel)
	temp := t.TempDir()
	t.Setenv("TMPDIR", temp)
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
	defer cancel()
	_, err := lab.Boot(ctx, lab.BootSpec{Script: "sleep 1000"})
	require.ErrorIs(t, err, context.DeadlineExceeded)
	assert.Empty(t, processesNaming(t, temp))
}

func TestBootsRunBesideEachOther(t *testing.T) {
	lab.Require(t, lab.Kernel)
	var wg sync.WaitGroup
	results := make([]lab.Result, 4)
	errs := make([]error, len(results))
	for i := range results {
		wg.Go(func() {
			results[i], errs[i] = lab.Boot(t.Context(), lab.BootSpec{
				Script: `echo $$ > "$TMPDIR/mine"; sleep 0.2; ls "$TMPDIR"; exit ` + string(rune('1'+i)),
			})
		})
	}
	wg.Wait()
	for i, result := range results {
		require.NoError(t, errs[i])
		require.NoError(t, result.Err())
		assert.Equal(t, i+1, result.ExitCode)
		assert.Equal(t, "mine\n", result.Output, "no kernel sees another's scratch directory")
	}
}

func TestBootRefusesWhatItCannotRun(t *testing.T) {
	lab.Require(t, lab.Kernel)
	for name, spec := range map[string]lab.BootSpec{
		"nothing to run":  {},
		"two jobs":        {Argv: []string{"true"}, Script: "true"},
		"disk with comma": {Argv: []string{"true"}, Disks: []string{"/tmp/a,b"}},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := lab.Boot(t.Context(), spec)
			require.ErrorContains(t, err, "boot the lab: ")
		})
	}
}

// processesNaming lists the command lines of processes that mention a path.
func processesNaming(t *testing.T, path string) []string {
	t.Helper()
	files, err := filepath.Glob("/proc/[0-9]*/cmdline")
	require.NoError(t, err)
	var found []string
	for _, file := range files {
		line, err := os.ReadFile(file)
		if err == nil && bytes.Contains(line, []byte(path)) {
			found = append(found, strings.ReplaceAll(string(line), "\x00", " "))
		}
	}
	return found
}
