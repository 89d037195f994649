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

// labSeed is the seed of the cases that are tried every day.
const labSeed = 5

// TestCampaignInLab is a small campaign of all kinds with a fixed seed. Nothing
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

	cases := []Case{{Kind: Clean, Seed: labSeed, Index: 1}}
	for kind, n := range map[Kind]int{Single: 8, Double: 3, Lost: 3} {
		for i := range n {
			cases = append(cases, Case{Kind: kind, Seed: labSeed, Index: i + 1})
		}
	}
	c := &Campaign{Scrubd: scrubd, Inside: []string{self, insideWord}, Dir: dir, Slots: 2, Log: t.Output()}
	results, err := c.Run(t.Context(), cases)
	require.NoError(t, err)
	for _, r := range results {
		assert.True(t, r.Good(), "%s", r.Line())
	}
}
