package main

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/scrubd/scrubd/internal/lab"
)

// The demo as make runs it: what each program does to the file, and nothing
// left behind.
func TestDemo(t *testing.T) {
	lab.Require(t, lab.Kernel, lab.SidTools)
	t.Parallel()
	bin, tmp := t.TempDir(), t.TempDir()
	for name, dir := range map[string]string{"labctl": ".", "scrubd": "../../../cmd/scrubd"} {
		cmd := exec.CommandContext(t.Context(), "go", "build", "-o", filepath.Join(bin, name), dir)
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
		out, err := cmd.CombinedOutput()
		require.NoError(t, err, string(out))
	}
	cmd := exec.CommandContext(t.Context(), filepath.Join(bin, "labctl"), "demo", "--scrubd", filepath.Join(bin, "scrubd"))
	cmd.Env = append(os.Environ(), "TMPDIR="+tmp)
	said, err := cmd.CombinedOutput()
	require.NoError(t, err, string(said))
	out := string(said)
	assert.Regexp(t, `Repairs successful`, out)
	assert.Regexp(t, `of its 600,000 bytes read as zeros now`, out)
	assert.Regexp(t, `(?s)REPAIRED corruption: the rmapbt is wrong about .*  after   [0-9a-f]{64}  the same\n`, out)
	assert.Regexp(t, `scrubd's copy: +exit status 0: finds nothing`, out)
	before := regexp.MustCompile(`before  ([0-9a-f]{64})`).FindAllStringSubmatch(out, -1)
	require.Len(t, before, 2, out)
	assert.Equal(t, before[0][1], before[1][1], "both copies began alike")
	left, err := os.ReadDir(tmp)
	require.NoError(t, err)
	assert.Empty(t, left)
}

func TestDemoNeedsScrubd(t *testing.T) {
	t.Parallel()
	_, err := runCommand(t, newDemoCommand(), "--scrubd", filepath.Join(t.TempDir(), "scrubd"))
	require.ErrorIs(t, err, os.ErrNotExist)
	require.ErrorContains(t, err, "make build")
}

func TestDemoSaysHowAFileChanged(t *testing.T) {
	t.Parallel()
	text := func(after, unreadable string, lost error) string {
		var out bytes.Buffer
		p := demoPrinter{w: &out}
		p.file("f", demoRepair{
			before: []byte("twelve bytes"), after: []byte(after), unreadable: unreadable, lost: lost,
			changed: []string{"f: data a -> b", "g: gone"},
		})
		require.NoError(t, p.err)
		assert.Contains(t, out.String(), "before  ")
		return out.String()
	}
	assert.Contains(t, text("twelve bytes", "", nil), "  the same\n")
	assert.Contains(t, text("twe\x00\x00\x00 bytes", "", nil), "3 of its 12 bytes read as zeros now")
	assert.Contains(t, text("twe\x00va bytes", "", nil), "2 of its 12 bytes are others now")
	assert.Contains(t, text("twelve", "", nil), "12 bytes are 6 now")
	assert.Contains(t, text("twe", "structure needs cleaning", nil), "DIFFERENT: structure needs cleaning")
	assert.Contains(t, text("twelve bytes", "", nil), "and 1 other name reads differently")
	assert.Contains(t, text("", "", errors.New("hang")), "after   unknown")
	assert.False(t, demoRepair{lost: errors.New("hang")}.sameFile())
}
