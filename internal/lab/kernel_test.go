package lab_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/scrubd/scrubd/internal/lab"
)

func TestLostOptions(t *testing.T) {
	const fragment = `# a comment with CONFIG_X=y in it
CONFIG_A=y
CONFIG_N=2
CONFIG_GONE=y
CONFIG_OTHER=y
# CONFIG_OFF is not set
# CONFIG_BACK is not set
`
	const config = `CONFIG_A=y
CONFIG_N=2
CONFIG_OTHER=m
# CONFIG_GONE is not set
CONFIG_BACK=y
`
	assert.Equal(t, []string{"# CONFIG_BACK is not set", "CONFIG_GONE=y", "CONFIG_OTHER=y"},
		lab.LostOptions(fragment, config))
	assert.Empty(t, lab.LostOptions("CONFIG_A=y\n", config))
}

func TestLabKernelHasItsFragment(t *testing.T) {
	lab.Require(t, lab.Kernel)
	root, err := lab.RepoRoot()
	require.NoError(t, err)
	fragment, err := os.ReadFile(filepath.Join(root, "testdata", "lab", "kernel.config"))
	require.NoError(t, err)
	result := boot(t, lab.BootSpec{Script: "zcat /proc/config.gz"})
	require.NoError(t, result.Err())
	assert.Empty(t, lab.LostOptions(string(fragment), result.Output))
}

func TestChooseSource(t *testing.T) {
	for want, names := range map[string][]string{
		"linux-source-7.2":  {"linux-source-6.12", "linux-source-7.2", "linux-source-7.10"},
		"linux-source-7.10": {"linux-source-7.9", "linux-source-7.10", "linux-source-6.18"},
		"":                  {"linux-source-6.12", "linux-source-rt"},
	} {
		assert.Equal(t, want, lab.ChooseSource(names))
	}
}

func TestCompareVersions(t *testing.T) {
	sorted := []string{"7.2.9-1", "7.2.13-1", "7.2.13-2", "7.10-1", "a", "a1"}
	mixed := slices.Clone(sorted)
	slices.Reverse(mixed)
	slices.SortFunc(mixed, lab.CompareVersions)
	assert.Equal(t, sorted, mixed)
}

func TestKernelPathOfTheEnvironment(t *testing.T) {
	t.Setenv("XDG_CACHE_HOME", t.TempDir())
	t.Setenv(lab.EnvKernel, "")
	_, err := lab.KernelPath()
	require.ErrorIs(t, err, lab.ErrNotBuilt)
	require.ErrorContains(t, err, "labctl kernel")

	mine := filepath.Join(t.TempDir(), "linux")
	t.Setenv(lab.EnvKernel, mine)
	_, err = lab.KernelPath()
	require.ErrorIs(t, err, os.ErrNotExist)
	require.NotErrorIs(t, err, lab.ErrNotBuilt, "a wrong path must not start a build")
	require.NoError(t, os.WriteFile(mine, nil, 0o755))
	path, err := lab.KernelPath()
	require.NoError(t, err)
	assert.Equal(t, mine, path)
}

func TestShellQuote(t *testing.T) {
	for _, word := range []string{"", "plain", "it's", `a\b"c$d`, "line\nbreak", "-n", "*"} {
		out, err := exec.CommandContext(t.Context(), "/bin/sh", "-c", "printf %s "+lab.ShellQuote(word)).Output()
		require.NoError(t, err)
		assert.Equal(t, word, string(out))
	}
}
