package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/scrubd/scrubd/internal/lab"
)

const (
	latencyPeriod = 5 * time.Second
	latencyRounds = 4
	// latencyBytes is the file that is read at random.
	latencyBytes = 128 << 20
	// latencyKeep is how many files the creator leaves standing.
	latencyKeep = 500
	// latencyEnv makes the test binary measure latencies: SCRUBD:MOUNT POINT.
	latencyEnv = "SCRUBD_BENCH_LATENCY"
)

// latencyMode is what runs beside the one whose calls are timed.
type latencyMode struct {
	name string
	argv []string // before the mount point; nil for nothing
	hogs bool     // tasks that want every CPU run as well
}

func latencyModes(scrubd string) []latencyMode {
	run := func(flags ...string) []string { return append([]string{scrubd, "run", "-n", "--now"}, flags...) }
	return []latencyMode{
		{name: "alone"},
		{name: "background", argv: run("--background")},
		{name: "foreground", argv: run("--foreground")},
		{name: "xfs_scrub-b", argv: []string{"xfs_scrub", "-n", "-b"}},
		{name: "hogs", hogs: true},
		{name: "hogs,background", argv: run("--background"), hogs: true},
		{name: "hogs,foreground", argv: run("--foreground"), hogs: true},
		{name: "hogs,idle", argv: append([]string{"chrt", "-i", "0"}, run("--foreground")...), hogs: true},
		{name: "hogs,nice19", argv: append([]string{"nice", "-n", "19"}, run("--foreground")...), hogs: true},
	}
}

// measureLatencies prints "latency WORKLOAD MODE CALLS P50 P99 MAX RUNS", times in
// microseconds.
func measureLatencies(scrubd, mountPoint string) error {
	loads := []struct {
		name string
		make func(dir string) (call func() error, err error)
	}{{"read", randomReads}, {"create", createAndSync}}
	modes := latencyModes(scrubd)
	for _, load := range loads {
		call, err := load.make(mountPoint)
		if err != nil {
			return err
		}
		for round := range latencyRounds {
			for i := range modes {
				mode := modes[(round+i)%len(modes)]
				stop := func() (int, error) { return 0, nil }
				if mode.argv != nil {
					stop = runWithoutPause(append(slices.Clone(mode.argv), mountPoint))
				}
				unhog := func() error { return nil }
				if mode.hogs {
					unhog = hog()
				}
				times, err := timeCalls(call)
				runs, stopErr := 0, unhog()
				if err == nil {
					runs, err = stop()
				}
				if err := errors.Join(err, stopErr); err != nil {
					return fmt.Errorf("%s: %w", mode.name, err)
				}
				slices.Sort(times)
				_, _ = fmt.Fprintf(os.Stdout, "latency %s %s %d %d %d %d %d\n", load.name, mode.name, len(times),
					times[len(times)/2].Microseconds(), times[len(times)*99/100].Microseconds(), times[len(times)-1].Microseconds(), runs)
			}
		}
	}
	return nil
}

// timeCalls makes calls for a while.
func timeCalls(call func() error) ([]time.Duration, error) {
	var times []time.Duration
	for end := time.Now().Add(latencyPeriod); time.Now().Before(end); {
		began := time.Now()
		if err := call(); err != nil {
			return nil, err
		}
		times = append(times, time.Since(began))
		time.Sleep(time.Millisecond) // a program that waits for requests, not one that eats a CPU
	}
	return times, nil
}

// randomReads reads 4 KiB from anywhere in a file, past the page cache.
func randomReads(dir string) (func() error, error) {
	f, err := os.Create(filepath.Join(dir, "read at random"))
	if err != nil {
		return nil, err
	}
	chunk := make([]byte, 1<<20)
	for range latencyBytes / len(chunk) {
		if _, err := f.Write(chunk); err != nil {
			return nil, err
		}
	}
	if err := errors.Join(f.Sync(), f.Close()); err != nil {
		return nil, err
	}
	fd, err := unix.Open(f.Name(), unix.O_RDONLY|unix.O_DIRECT, 0)
	if err != nil {
		return nil, err
	}
	raw := make([]byte, 8192)
	aligned := raw[4096-uintptr(unsafe.Pointer(&raw[0]))%4096:][:4096]
	return func() error {
		_, err := unix.Pread(fd, aligned, rand.Int64N(latencyBytes/4096)*4096)
		return err
	}, nil
}

// createAndSync makes a file with some space and has it on the disk.
func createAndSync(dir string) (func() error, error) {
	dir = filepath.Join(dir, "created")
	if err := os.Mkdir(dir, 0o755); err != nil {
		return nil, err
	}
	n := 0
	return func() error {
		fd, err := unix.Open(filepath.Join(dir, strconv.Itoa(n)), unix.O_CREAT|unix.O_WRONLY, 0o644)
		if err != nil {
			return err
		}
		err = errors.Join(unix.Fallocate(fd, 0, 0, 64<<10), unix.Fsync(fd), unix.Close(fd))
		if n >= latencyKeep {
			err = errors.Join(err, os.Remove(filepath.Join(dir, strconv.Itoa(n-latencyKeep))))
		}
		n++
		return err
	}, nil
}

// hog takes every CPU until the function that it returns is called.
func hog() (stop func() error) {
	var all []*exec.Cmd
	for range runtime.NumCPU() {
		cmd := exec.Command("sh", "-c", "while :; do :; done")
		if cmd.Start() == nil {
			all = append(all, cmd)
		}
	}
	return func() error {
		for _, cmd := range all {
			_ = cmd.Process.Kill()
			_ = cmd.Wait() // of course it was killed
		}
		return nil
	}
}

// runWithoutPause runs a check over and over, until the function that it
// returns is called; that says how many were begun.
func runWithoutPause(argv []string) (stop func() (int, error)) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	runs := 0
	go func() {
		for ctx.Err() == nil {
			runs++
			cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
			cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) } // nice and chrt become scrubd
			cmd.WaitDelay = 60 * time.Second
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

// helpMeasureLatency is the test binary's part in it: TestMain calls it.
func helpMeasureLatency() {
	scrubd, mountPoint, _ := strings.Cut(os.Getenv(latencyEnv), ":")
	measure := measureLatencies
	if fio := os.Getenv(fioEnv); fio != "" {
		measure = func(scrubd, mountPoint string) error { return measureFio(fio, scrubd, mountPoint) }
	}
	if err := measure(scrubd, mountPoint); err != nil {
		_, _ = fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(0)
}

// BenchmarkLabLatency is how long others wait for their calls beside a run: 4 KiB
// read at random, and a file made, given space and synced. xfs_scrub -b takes
// turns in the same boot. With hogs tasks of normal priority want every CPU:
// a run of the idle class then keeps the locks of an AG for as long as they do.
func BenchmarkLabLatency(b *testing.B) {
	reportLatencies(b, bootLatency(b), []string{"read", "create"}, latencyModes(""), latencyRounds)
}

// bootLatency has the test binary measure latencies in the lab kernel, and returns
// what it printed.
func bootLatency(b *testing.B, env ...string) string {
	b.Helper()
	lab.Require(b, lab.Root, lab.Loop, lab.Kernel, lab.SidTools)
	scrubd := buildForBench(b)
	bin, err := lab.SidBin()
	require.NoError(b, err)
	fs := writerFS(b)
	require.NoError(b, fs.Unmount())
	self, err := os.Executable()
	require.NoError(b, err)
	script := `set -e
mkdir "$TMPDIR/mnt"
mount -o loop "$IMAGE" "$TMPDIR/mnt"
` + latencyEnv + `="$SCRUBD:$TMPDIR/mnt" "$SELF"
umount "$TMPDIR/mnt"
`
	output := ""
	for b.Loop() {
		result, err := lab.Boot(b.Context(), lab.BootSpec{
			Script: script, Timeout: 12 * time.Minute, MemMiB: 1536, Output: os.Stderr,
			Env: append(append(os.Environ(), env...), "IMAGE="+fs.Image(), "SCRUBD="+scrubd, "SELF="+self, "PATH="+bin+":"+os.Getenv("PATH")),
		})
		require.NoError(b, err)
		require.NoError(b, result.Err())
		require.Zero(b, result.ExitCode, result.Output)
		output = result.Output
	}
	return output
}

// reportLatencies reads what measureLatencies printed: of each mode the median over
// the rounds of its p99, as a ratio to that without a run in the same round.
func reportLatencies(b *testing.B, output string, loads []string, modes []latencyMode, rounds int) {
	b.Helper()
	p99, most, runs := make(map[string][]float64), make(map[string]float64), make(map[string]int)
	for line := range strings.Lines(strings.ReplaceAll(output, "\r", "")) {
		var load, mode string
		var calls, n int
		var half, high, longest float64
		if _, err := fmt.Sscanf(line, "latency %s %s %d %f %f %f %d\n", &load, &mode, &calls, &half, &high, &longest, &n); err == nil {
			key := load + ":" + mode
			p99[key] = append(p99[key], high)
			most[key] = max(most[key], longest)
			runs[key] += n
		}
	}
	for _, load := range loads {
		for _, mode := range modes {
			key, base := load+":"+mode.name, load+":alone"
			if mode.hogs {
				base = load + ":hogs"
			}
			require.Len(b, p99[key], rounds, output)
			ratios := make([]float64, rounds)
			for i := range ratios {
				ratios[i] = p99[key][i] / p99[base][i]
			}
			b.Logf("%s: p99 %.0f µs, %.2f of without; longest %.0f µs; %d runs begun", key, p99[key], ratios, most[key], runs[key])
			if mode.argv != nil {
				b.ReportMetric(median(ratios), key+"/p99")
			}
		}
	}
	b.ReportMetric(0, "ns/op")
}
