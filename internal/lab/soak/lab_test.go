package soak_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/scrubd/scrubd/internal/lab"
	"github.com/scrubd/scrubd/internal/lab/soak"
)

const (
	// envTime is how long each filesystem is soaked.
	envTime = "SCRUBD_SOAK_TIME"
	// defaultTime is for those who run the tests by hand.
	defaultTime = 30 * time.Second
	// envScrubd is the program, built outside of the lab.
	envScrubd = "SCRUBD_SOAK_SCRUBD"
	// endTime is for making filesystems, the last run of scrubd, and checking.
	endTime = 10 * time.Minute
)

// Healthy filesystems of the four most telling geometries under writers of
// every kind: no finding, no repair, exit status 0. Two share a kernel, so that
// all of it takes no longer than one of them with two processors.
func TestLabSoak(t *testing.T) {
	lab.Require(t, lab.Kernel, lab.SidTools)
	length := defaultTime
	if text := os.Getenv(envTime); text != "" {
		var err error
		length, err = time.ParseDuration(text)
		require.NoError(t, err, "$%s", envTime)
	}
	if !lab.Inside() {
		scrubd := filepath.Join(t.TempDir(), "scrubd")
		out, err := exec.Command("go", "build", "-o", scrubd, "github.com/scrubd/scrubd/cmd/scrubd").CombinedOutput()
		require.NoError(t, err, string(out))
		t.Setenv(envScrubd, scrubd)
	}
	for _, names := range [][]string{{"4k", "full"}, {"1k", "rtgroups"}} {
		t.Run(strings.Join(names, "+"), func(t *testing.T) {
			t.Parallel()
			lab.InKernel(t, func(t *testing.T) {
				list, err := soak.Geometries(names...)
				require.NoError(t, err)
				reports, err := soak.Run(t.Context(), soak.Config{
					Scrubd: os.Getenv(envScrubd), Geometries: list, Time: length, Seed: 1, OwnKernel: true,
				})
				require.NoError(t, err)
				var table strings.Builder
				require.NoError(t, soak.PrintTable(&table, reports))
				t.Log("\n" + table.String())
				require.True(t, soak.Well(reports))
				for _, r := range reports {
					require.NotEmpty(t, r.Scrubs)
				}
			}, lab.WithMem(3072), lab.WithTimeout(length+endTime))
		})
	}
}
