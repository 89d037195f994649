package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/scrubd/scrubd/internal/lab"
)

const (
	fioRounds  = 3
	fioSeconds = 10
	// fioEnv is the path of fio for the test binary's part in it; see latencyEnv.
	fioEnv = "SCRUBD_BENCH_FIO"
)

// fioLoads are what fio does. Of reads and writes the completion is timed, of syncs
// what fio calls their latency.
func fioLoads(dir string) []fioLoad {
	common := []string{
		"--output-format=json", "--ioengine=psync", "--thinktime=1000", "--time_based", fmt.Sprintf("--runtime=%d", fioSeconds),
		"--directory=" + dir, "--group_reporting", "--percentile_list=50:99", "--lat_percentiles=0",
	}
	return []fioLoad{
		{
			"read", append(slices.Clone(common), "--name=read", "--filename=random", "--size=128m", "--rw=randread", "--bs=4k", "--direct=1"),
			func(j *fioJob) fioTimes { return j.Read.Clat },
		},
		// Each file is made, given its space, written and synced, over and over.
		{
			"create", append(slices.Clone(common), "--name=create", "--rw=write", "--bs=64k", "--filesize=64k", "--nrfiles=200", "--openfiles=1",
				"--file_service_type=sequential", "--create_on_open=1", "--fallocate=posix", "--fsync=1", "--unlink_each_loop=1"),
			func(j *fioJob) fioTimes { return j.Sync.Lat },
		},
	}
}

type fioLoad struct {
	name string
	args []string
	pick func(*fioJob) fioTimes
}

// fioTimes are latencies in nanoseconds.
type fioTimes struct {
	N          int                `json:"N"`
	Max        float64            `json:"max"`
	Percentile map[string]float64 `json:"percentile"`
}

type fioJob struct {
	Read struct {
		Clat fioTimes `json:"clat_ns"`
	} `json:"read"`
	Sync struct {
		Lat fioTimes `json:"lat_ns"`
	} `json:"sync"`
}

// fioModes are what runs beside fio.
func fioModes(scrubd string) []latencyMode {
	return slices.DeleteFunc(latencyModes(scrubd), func(m latencyMode) bool { return m.hogs || m.name == "foreground" })
}

// measureFio prints lines as measureLatencies does.
func measureFio(fio, scrubd, mountPoint string) error {
	dir := filepath.Join(mountPoint, "fio")
	if err := os.Mkdir(dir, 0o755); err != nil {
		return err
	}
	modes := fioModes(scrubd)
	for _, load := range fioLoads(dir) {
		if _, err := load.run(fio, "--runtime=1"); err != nil { // lays out the file that is read
			return err
		}
		for round := range fioRounds {
			for i := range modes {
				mode := modes[(round+i)%len(modes)]
				stop := func() (int, error) { return 0, nil }
				if mode.argv != nil {
					stop = runWithoutPause(append(slices.Clone(mode.argv), mountPoint))
				}
				times, err := load.run(fio)
				runs, stopErr := stop()
				if err := errors.Join(err, stopErr); err != nil {
					return fmt.Errorf("%s: %w", mode.name, err)
				}
				micro := func(ns float64) int64 { return time.Duration(ns).Microseconds() }
				_, _ = fmt.Fprintf(os.Stdout, "latency %s %s %d %d %d %d %d\n", load.name, mode.name, times.N,
					micro(times.Percentile["50.000000"]), micro(times.Percentile["99.000000"]), micro(times.Max), runs)
			}
		}
	}
	return nil
}

func (l *fioLoad) run(fio string, more ...string) (fioTimes, error) {
	cmd := exec.Command(fio, append(slices.Clone(l.args), more...)...)
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		return fioTimes{}, fmt.Errorf("fio: %w", err)
	}
	var result struct {
		Jobs []fioJob `json:"jobs"`
	}
	if err := json.Unmarshal(out, &result); err != nil {
		return fioTimes{}, fmt.Errorf("fio: %w", err)
	}
	if len(result.Jobs) != 1 {
		return fioTimes{}, fmt.Errorf("fio: %d jobs", len(result.Jobs))
	}
	times := l.pick(&result.Jobs[0])
	if times.N == 0 || times.Percentile["99.000000"] == 0 {
		return fioTimes{}, fmt.Errorf("fio timed nothing: %s", out)
	}
	return times, nil
}

// BenchmarkLabFio is the p99 latency of fio's random reads, and of its syncs of new
// files, beside the policy of the background and beside xfs_scrub -b, as ratios to
// that without either in the same round of one boot. Times from the lab mean
// something only as such ratios, and these only on a machine that does nothing else.
func BenchmarkLabFio(b *testing.B) {
	lab.Require(b, lab.Root, lab.Loop, lab.Kernel, lab.SidTools, lab.Fio)
	fio, err := lab.FioPath()
	require.NoError(b, err)
	output := bootLatency(b, fioEnv+"="+fio)
	reportLatencies(b, output, []string{"read", "create"}, fioModes(""), fioRounds)
}
