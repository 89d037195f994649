package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/scrubd/scrubd/internal/lab"
)

const (
	benchFiles  = 10_000
	benchRounds = 5
)

// benchScript runs both programs by turns on one mounted filesystem, after one
// run of each that is not counted, and prints "NAME SECONDS STATUS".
const benchScript = `set -e
mkdir "$TMPDIR/mnt"
mount -o loop "$IMAGE" "$TMPDIR/mnt"
run() {
	local name=$1 status=0 began
	shift
	began=$EPOCHREALTIME
	"$@" > "$TMPDIR/said" 2>&1 < /dev/null || status=$?
	echo "$name $began $EPOCHREALTIME $status"
	if ((status != 0)); then cat "$TMPDIR/said"; fi
}
for ((round = 0; round <= ROUNDS; round++)); do
	run scrubd "$SCRUBD" run -n --now "$TMPDIR/mnt"
	run xfs_scrub xfs_scrub -n "$TMPDIR/mnt"
done
umount "$TMPDIR/mnt"
`

// BenchmarkLabWholeRun compares a whole read-only run with one of the newest
// xfs_scrub: one healthy filesystem, one boot of the lab kernel, by turns,
// medians. Times in the lab mean something only as this ratio: a system call
// costs much more there than elsewhere.
func BenchmarkLabWholeRun(b *testing.B) {
	lab.Require(b, lab.Root, lab.Loop, lab.Kernel, lab.SidTools)
	scrubd := filepath.Join(b.TempDir(), "scrubd")
	build := exec.CommandContext(b.Context(), "go", "build", "-trimpath", "-o", scrubd, ".")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	out, err := build.CombinedOutput()
	require.NoError(b, err, string(out))
	bin, err := lab.SidBin()
	require.NoError(b, err)
	fs := lab.NewLoopFS(b, lab.MkfsOptions{Size: 1 << 30})
	require.NoError(b, lab.Sample(fs.Dir(), lab.SampleSpec{Files: benchFiles, Workers: 4}))
	require.NoError(b, fs.Unmount())
	env := append(os.Environ(), "PATH="+bin+":"+os.Getenv("PATH"),
		"IMAGE="+fs.Image(), "SCRUBD="+scrubd, fmt.Sprintf("ROUNDS=%d", benchRounds))
	for b.Loop() {
		result, err := lab.Boot(b.Context(), lab.BootSpec{
			Argv: []string{"/bin/bash", "-c", benchScript}, Env: env, Timeout: 10 * time.Minute,
		})
		require.NoError(b, err)
		require.NoError(b, result.Err())
		require.Zero(b, result.ExitCode, result.Output)
		walls := benchWalls(b, result.Output)
		ours, theirs := median(walls["scrubd"]), median(walls["xfs_scrub"])
		b.ReportMetric(ours, "scrubd-s")
		b.ReportMetric(theirs, "xfs_scrub-s")
		b.ReportMetric(ours/theirs, "scrubd/xfs_scrub")
		b.ReportMetric(0, "ns/op")
	}
}

// benchWalls reads what benchScript printed: the counted walls in seconds of
// either program, each of which has to find the filesystem healthy.
func benchWalls(tb testing.TB, output string) map[string][]float64 {
	tb.Helper()
	walls := make(map[string][]float64)
	for line := range strings.Lines(strings.ReplaceAll(output, "\r", "")) {
		var name string
		var began, ended float64
		var status int
		_, err := fmt.Sscanf(line, "%s %f %f %d\n", &name, &began, &ended, &status)
		require.NoError(tb, err, output)
		require.Zero(tb, status, output)
		walls[name] = append(walls[name], ended-began)
	}
	for name, all := range walls {
		require.Len(tb, all, benchRounds+1, name)
		walls[name] = all[1:]
	}
	require.Len(tb, walls, 2, output)
	return walls
}

func median(values []float64) float64 {
	sorted := slices.Sorted(slices.Values(values))
	return sorted[len(sorted)/2]
}
