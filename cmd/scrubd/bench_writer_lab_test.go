package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/scrubd/scrubd/internal/lab"
)

const (
	writerPeriod = 4 * time.Second
	writerRounds = 6
	// writerKeep is how many files the writer leaves standing; it removes the
	// oldest.
	writerKeep = 20_000
	// writerSync is how many files it writes between two calls of syncfs: until
	// then their blocks are only promised.
	writerSync = 500
	// writerEnv makes the test binary measure writers: SCRUBD:MOUNT POINT.
	writerEnv = "SCRUBD_BENCH_WRITER"
)

// writerModes are what runs beside the writer, with the flags of scrubd.
var writerModes = []struct {
	name  string
	flags []string // nil for nothing at all
}{
	{"alone", nil},
	{"live", []string{"run", "-n", "--now"}},
	{"no-live", []string{"run", "-n", "--now", "--no-live"}},
}

// measureWriters prints "MODE FILES SECONDS CPUSECONDS RUNS" for every mode by
// turns; the processor time is the writer's own.
func measureWriters(scrubd, mountPoint string) error {
	dir := filepath.Join(mountPoint, "writer")
	w := &smallFiles{dir: dir, data: make([]byte, 4096)}
	if err := os.Mkdir(dir, 0o755); err != nil {
		return err
	}
	if err := w.write(time.Second); err != nil { // not counted
		return err
	}
	for round := range writerRounds {
		for i := range writerModes {
			mode := writerModes[(round+i)%len(writerModes)] // none is always behind the same other
			stop := func() (int, error) { return 0, nil }
			if mode.flags != nil {
				stop = scrubWithoutPause(scrubd, append(slices.Clone(mode.flags), mountPoint))
			}
			before, began, used := w.n, time.Now(), cpuSeconds()
			err := w.write(writerPeriod)
			files, took := w.n-before, time.Since(began)
			used = cpuSeconds() - used
			runs, stopErr := stop()
			if err := errors.Join(err, stopErr); err != nil {
				return fmt.Errorf("%s: %w", mode.name, err)
			}
			_, _ = fmt.Fprintf(os.Stdout, "writer %s %d %.3f %.3f %d\n", mode.name, files, took.Seconds(), used, runs)
		}
	}
	return nil
}

// cpuSeconds is the processor time of this process.
func cpuSeconds() float64 {
	var ru unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &ru); err != nil {
		return 0
	}
	return time.Duration(ru.Utime.Nano() + ru.Stime.Nano()).Seconds()
}

// scrubWithoutPause runs scrubd over and over with the policy of a background
// service, until the function that it returns is called; that says how many
// runs were begun.
func scrubWithoutPause(scrubd string, args []string) (stop func() (int, error)) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	runs := 0
	go func() {
		for ctx.Err() == nil {
			runs++
			cmd := exec.CommandContext(ctx, "nice", append([]string{"-n", "19", "chrt", "-i", "0", scrubd}, args...)...)
			cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) } // nice and chrt become scrubd
			cmd.WaitDelay = 20 * time.Second
			out, err := cmd.CombinedOutput()
			if err != nil && ctx.Err() == nil {
				done <- fmt.Errorf("%w: %s", err, out)
				return
			}
		}
		done <- nil
	}()
	return func() (int, error) {
		cancel()
		return runs, <-done
	}
}

// smallFiles writes files of 4 KiB.
type smallFiles struct {
	dir  string
	data []byte
	n    int // written so far
}

func (w *smallFiles) path(n int) string {
	return filepath.Join(w.dir, strconv.Itoa(n/1000), strconv.Itoa(n))
}

// write writes files for a while and has them on the disk in the end.
func (w *smallFiles) write(length time.Duration) error {
	top, err := os.Open(w.dir)
	if err != nil {
		return err
	}
	defer top.Close()
	for end := time.Now().Add(length); time.Now().Before(end); w.n++ {
		if w.n%1000 == 0 {
			if err := os.Mkdir(filepath.Dir(w.path(w.n)), 0o755); err != nil {
				return err
			}
		}
		if err := os.WriteFile(w.path(w.n), w.data, 0o644); err != nil {
			return err
		}
		if w.n >= writerKeep {
			if err := os.Remove(w.path(w.n - writerKeep)); err != nil {
				return err
			}
		}
		if w.n%writerSync == 0 {
			if err := unix.Syncfs(int(top.Fd())); err != nil {
				return err
			}
		}
	}
	return unix.Syncfs(int(top.Fd()))
}

// helpMeasure is the test binary's part in it: TestMain calls it.
func helpMeasure() {
	// In a mount namespace of our own this adds tracefs where it is missing.
	if entries, err := os.ReadDir("/sys/kernel/tracing"); err == nil && len(entries) == 0 {
		_ = unix.Mount("tracefs", "/sys/kernel/tracing", "tracefs", 0, "")
	}
	scrubd, mountPoint, _ := strings.Cut(os.Getenv(writerEnv), ":")
	if err := measureWriters(scrubd, mountPoint); err != nil {
		_, _ = fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(0)
}

// buildForBench builds the program as it is shipped.
func buildForBench(b *testing.B) string {
	b.Helper()
	scrubd := filepath.Join(b.TempDir(), "scrubd")
	build := exec.CommandContext(b.Context(), "go", "build", "-trimpath", "-o", scrubd, ".")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	out, err := build.CombinedOutput()
	require.NoError(b, err, string(out))
	return scrubd
}

// BenchmarkLabWriter is what a run costs a writer of small files, with and
// without live updates: its files a second, as a ratio to what it writes alone.
// scrubd runs without pause, as a background service does.
func BenchmarkLabWriter(b *testing.B) {
	lab.Require(b, lab.Root, lab.Loop, lab.Kernel)
	scrubd := buildForBench(b)
	fs := writerFS(b)
	require.NoError(b, fs.Unmount())
	self, err := os.Executable()
	require.NoError(b, err)
	script := `set -e
mkdir "$TMPDIR/mnt"
mount -o loop "$IMAGE" "$TMPDIR/mnt"
` + writerEnv + `="$SCRUBD:$TMPDIR/mnt" "$SELF"
umount "$TMPDIR/mnt"
`
	for b.Loop() {
		result, err := lab.Boot(b.Context(), lab.BootSpec{
			Script: script, Timeout: 8 * time.Minute, MemMiB: 1536,
			Env: append(os.Environ(), "IMAGE="+fs.Image(), "SCRUBD="+scrubd, "SELF="+self),
		})
		require.NoError(b, err)
		require.NoError(b, result.Err())
		require.Zero(b, result.ExitCode, result.Output)
		reportWriters(b, result.Output)
	}
}

// BenchmarkLoopWriter is the same on the machine's own kernel. It may have
// neither scrub nor tracepoints to offer; where it has the latter and only
// tracefs is not mounted, it is, for the benchmark alone.
func BenchmarkLoopWriter(b *testing.B) {
	lab.Require(b, lab.Root, lab.Loop)
	scrubd := buildForBench(b)
	fs := writerFS(b)
	self, err := os.Executable()
	require.NoError(b, err)
	for b.Loop() {
		cmd := exec.CommandContext(b.Context(), self)
		cmd.Env = append(os.Environ(), writerEnv+"="+scrubd+":"+fs.Dir())
		cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: unix.CLONE_NEWNS} // with mounts private
		out, err := cmd.CombinedOutput()
		require.NoError(b, err, string(out))
		reportWriters(b, string(out))
		require.NoError(b, os.RemoveAll(fs.Path("writer")))
	}
}

func writerFS(b *testing.B) *lab.LoopFS {
	b.Helper()
	fs := lab.NewLoopFS(b, lab.MkfsOptions{Size: 1 << 30})
	require.NoError(b, lab.Sample(fs.Dir(), lab.SampleSpec{Files: benchFiles, SmallFiles: true, Workers: 4}))
	return fs
}

// reportWriters reads what measureWriters printed. A rate counts with that of
// the same round without scrubd, so that a change of the machine's own load
// between rounds does not matter.
func reportWriters(b *testing.B, output string) {
	b.Helper()
	rates, costs, runs := make(map[string][]float64), make(map[string][]float64), make(map[string]int)
	for line := range strings.Lines(strings.ReplaceAll(output, "\r", "")) {
		var name string
		var files, n int
		var seconds, cpu float64
		if _, err := fmt.Sscanf(line, "writer %s %d %f %f %d\n", &name, &files, &seconds, &cpu, &n); err == nil {
			rates[name] = append(rates[name], float64(files)/seconds)
			costs[name] = append(costs[name], cpu/float64(files))
			runs[name] += n
		}
	}
	alone := rates["alone"]
	require.Len(b, alone, writerRounds, output)
	b.ReportMetric(median(alone), "files/s-alone")
	for _, mode := range writerModes[1:] {
		beside := rates[mode.name]
		require.Len(b, beside, writerRounds, output)
		ratios := make([]float64, writerRounds)
		cpu := make([]float64, writerRounds)
		for i := range ratios {
			ratios[i] = beside[i] / alone[i]
			cpu[i] = costs[mode.name][i] / costs["alone"][i]
		}
		b.Logf("beside scrubd (%s, %d runs begun): files a second %.2f, processor time a file %.2f of those alone",
			mode.name, runs[mode.name], ratios, cpu)
		b.ReportMetric(median(ratios), mode.name+"/alone")
		b.ReportMetric(median(cpu), "cpu-"+mode.name+"/alone")
	}
	b.ReportMetric(0, "ns/op")
}
