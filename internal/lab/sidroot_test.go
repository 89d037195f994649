package lab_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/scrubd/scrubd/internal/lab"
)

func TestSidToolsRunOnTheHost(t *testing.T) {
	lab.Require(t, lab.SidTools)
	image := filepath.Join(t.TempDir(), "image")
	out, err := lab.SidCommand(t.Context(), "mkfs.xfs", "-q", "-d", "file,size=320m,name="+image).CombinedOutput()
	require.NoError(t, err, "%s", out)
	out, err = lab.SidCommand(t.Context(), "xfs_db", "-r", "-c", "sb 0", "-c", "print magicnum", image).CombinedOutput()
	require.NoError(t, err, "%s", out)
	assert.Equal(t, "magicnum = 0x58465342\n", string(out))

	bin, err := lab.SidBin()
	require.NoError(t, err)
	t.Setenv("PATH", bin+":"+os.Getenv("PATH"))
	// xfs_info is a script that calls xfs_db.
	for _, name := range []string{"xfs_repair", "xfs_info"} {
		args := []string{"-n", image}
		if name == "xfs_info" {
			args = args[1:]
		}
		out, err = exec.CommandContext(t.Context(), name, args...).CombinedOutput()
		require.NoError(t, err, "%s: %s", name, out)
		assert.NotEmpty(t, out)
	}
	out, err = lab.SidCommand(t.Context(), "xfs_info", image).CombinedOutput()
	require.NoError(t, err, "%s", out)
	assert.Contains(t, string(out), "rmapbt=1", "the newest mkfs has the reverse mapping btree on")

	require.ErrorIs(t, lab.SidCommand(t.Context(), "no-such-program").Run(), os.ErrNotExist)
}

func TestLabScrubsAFreshFilesystem(t *testing.T) {
	lab.Require(t, lab.SidTools)
	lab.InKernel(t, func(t *testing.T) {
		dir := t.TempDir()
		image, mnt := filepath.Join(dir, "image"), filepath.Join(dir, "mnt")
		require.NoError(t, os.Mkdir(mnt, 0o755))
		run := func(cmd *exec.Cmd) string {
			t.Helper()
			out, err := cmd.CombinedOutput()
			require.NoError(t, err, "%s", out)
			return string(out)
		}
		run(lab.SidCommand(t.Context(), "mkfs.xfs", "-q", "-d", "file,size=320m,name="+image))
		run(exec.CommandContext(t.Context(), "mount", "-o", "loop", image, mnt))
		require.NoError(t, os.WriteFile(filepath.Join(mnt, "file"), make([]byte, 1<<20), 0o600))
		out := run(lab.SidCommand(t.Context(), "xfs_scrub", "-V"))
		t.Logf("%s", out)
		// Exit status 0 says that the kernel could check every structure.
		run(lab.SidCommand(t.Context(), "xfs_scrub", "-n", "-v", mnt))
		// Rebuilding a healthy btree shows that repair is compiled in.
		run(lab.SidCommand(t.Context(), "xfs_io", "-x", "-c", "repair -R rmapbt 0", mnt))
		run(exec.CommandContext(t.Context(), "umount", mnt))
		run(lab.SidCommand(t.Context(), "xfs_repair", "-n", image))
	})
}
