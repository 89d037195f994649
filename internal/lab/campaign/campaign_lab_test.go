package campaign

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/scrubd/scrubd/internal/lab"
)

// insideWord makes the test binary do what labctl does inside the kernel.
const insideWord = "campaign-inside"

func TestMain(m *testing.M) {
	if len(os.Args) > 2 && os.Args[1] == insideWord {
		if err := Inside(os.Args[2:]...); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// labCases are the cases that are tried every day, before the mount and under
// it, on every geometry.
var labCases = []string{
	"single-1-3", "single-1-4", "single-1-5", "single-1-6", "single-1-7", "single-1-8", "single-1-9", "single-1-10",
	"double-1-3", "double-1-5", "lost-1-2", "lost-1-3", "lost-1-4", "clean-1-1",
	// Two faults in one AG: each repair needs less than all the rest to be clean.
	"double-5-3", "double-5-12", "double-5-19", "double-5-41", "double-5-58",
	// A bnobt that has a block of the AGFL free.
	"single-31337-2",
	// An AGF with a wrong root; one of the refcountbt.
	"single-2029-11", "double-2027-15",
	// A directory that opens by no handle; an inode that is free and in the inobt; an old
	// inode with a fork that cannot be read.
	// An AGFL beside a fork that is out of order; lost space beside a counter; a fork
	// that is too long; AGs each of which keeps the forks of the other from a verdict.
	"double-2027-2", "double-2027-26", "double-2027-57", "double-2027-36",
	"double-1-1", "lost-9-38", "lost-9-58",
}

// TestCampaignInLab is a small campaign of all kinds of fixed cases. Nothing
// is harmed or missed or held without a reason of docs/campaign.md, and nothing
// is found where nothing was damaged.
func TestCampaignInLab(t *testing.T) {
	lab.Require(t, lab.Kernel, lab.SidTools)
	self, err := os.Executable()
	require.NoError(t, err)
	dir := t.TempDir()
	root, err := lab.RepoRoot()
	require.NoError(t, err)
	scrubd := filepath.Join(dir, "scrubd")
	build := exec.CommandContext(t.Context(), "go", "build", "-o", scrubd, "./cmd/scrubd")
	build.Dir, build.Env = root, append(os.Environ(), "CGO_ENABLED=0")
	out, err := build.CombinedOutput()
	require.NoError(t, err, string(out))

	cases := make([]Case, len(labCases))
	for i, name := range labCases {
		cases[i], err = ParseCase(name)
		require.NoError(t, err)
	}
	c := &Campaign{Scrubd: scrubd, Inside: []string{self, insideWord}, Dir: dir, Slots: 2, Batch: 4, Log: t.Output()}
	results, err := c.Run(t.Context(), cases)
	require.NoError(t, err)
	for _, r := range results {
		assert.True(t, r.Good(), "%s", r.Line())
	}
}
