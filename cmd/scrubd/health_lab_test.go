package main

import (
	"fmt"
	"os"
	"os/exec"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/scrubd/scrubd/internal/lab"
	"github.com/scrubd/scrubd/systemd"
)

// What somebody's reading runs into is checked by itself, at once, and once; if it is
// corrupt, all of the filesystem is, unless that was done today.
func TestServiceHealthInLab(t *testing.T) {
	serviceInLab(t, func(t *testing.T, s *serviceRig) {
		s.configure(t, "")
		met := func() []map[string]any {
			return entries(t, "MESSAGE_ID="+systemd.KindReported.ID, "XFS_MOUNT=/one")
		}
		found := func() []map[string]any {
			return entries(t, "MESSAGE_ID="+systemd.KindSuspect.ID, "XFS_MOUNT=/one")
		}

		info, err := os.Stat("/one/many")
		require.NoError(t, err)
		st, ok := info.Sys().(*syscall.Stat_t)
		require.True(t, ok)
		var done lab.Injected
		s.remount(t, func() error {
			done, err = lab.InjectImage(s.fs.Image(), lab.Fault{Class: lab.FaultRmapCRC, Seed: 1})
			return err
		})
		until(t, "a finding about the AG", func() bool {
			require.Error(t, exec.CommandContext(t.Context(), "xfs_io", "-r", "-c", "fsmap", "/one").Run(), "the rmapbt cannot be read")
			return len(found()) > 0
		})
		assert.Equal(t, fmt.Sprint(done.AGNo), met()[0]["XFS_AGNO"])
		assert.Equal(t, fmt.Sprint(done.AGNo), found()[0]["XFS_AGNO"])
		until(t, "a run over all of it", func() bool { return finished(t, "/one") == 1 && s.state(t, "/one")["state"] == "idle" })

		before, runs := len(met()), finished(t, "/one")
		s.remount(t, func() error { return lab.SpoilDirectory(t.Context(), s.fs.Image(), st.Ino) })
		ino := fmt.Sprint(st.Ino)
		read := func() {
			_, err := os.ReadDir("/one/many")
			require.Error(t, err)
		}
		until(t, "a finding about the inode", func() bool {
			read()
			return len(found()) > 1
		})
		assert.Equal(t, ino, met()[before]["XFS_INO"])
		assert.Equal(t, ino, found()[len(found())-1]["XFS_INO"])
		until(t, "the end of the check", func() bool { return s.state(t, "/one")["state"] == "idle" })
		read()
		assert.Len(t, entries(t, "MESSAGE_ID="+systemd.KindReported.ID, "XFS_INO="+ino), 1, "once")
		assert.Equal(t, runs, finished(t, "/one")-len(entries(t, "MESSAGE_ID="+systemd.KindRunFinished.ID, "_SYSTEMD_UNIT=scrubd-reported@one.service")),
			"all of it was checked today")
		require.NoError(t, s.fs.Unmount(), "who listens holds nothing")
	})
}

// remount does something to the image while it is not mounted.
func (s *serviceRig) remount(t *testing.T, do func() error) {
	t.Helper()
	require.NoError(t, s.fs.Unmount())
	require.NoError(t, do())
	require.NoError(t, s.fs.Mount())
}
