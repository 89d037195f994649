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

// What somebody's reading runs into is told once and checked by itself, inside the
// daemon's sandbox; it is corrupt, and so a run over all of the filesystem follows.
func TestServiceHealthInLab(t *testing.T) {
	serviceInLab(t, func(t *testing.T, s *serviceRig) {
		s.configure(t, "")
		of := func(k *systemd.Kind, matches ...string) []map[string]any {
			return entries(t, append(matches, "MESSAGE_ID="+k.ID, "XFS_MOUNT=/one")...)
		}
		whole := func() int { return len(of(systemd.KindRunFinished, "_SYSTEMD_UNIT=scrubd@one.service")) }
		info, err := os.Stat("/one/many")
		require.NoError(t, err)
		st, ok := info.Sys().(*syscall.Stat_t)
		require.True(t, ok)
		var done lab.Injected
		s.remount(t, func() error {
			done, err = lab.InjectImage(s.fs.Image(), lab.Fault{Class: lab.FaultRmapCRC, Seed: 1})
			return err
		})
		agno := "XFS_AGNO=" + fmt.Sprint(done.AGNo)
		until(t, "a finding about the AG", func() bool {
			if len(of(systemd.KindReported, agno)) == 0 { // it may not be listened to yet
				_ = exec.CommandContext(t.Context(), "xfs_io", "-r", "-c", "fsmap", "/one").Run()
			}
			return len(of(systemd.KindSuspect, agno)) > 0
		})
		until(t, "a run over all of it", func() bool { return whole() == 1 && s.state(t, "/one")["state"] == "idle" })
		assert.NotEmpty(t, of(systemd.KindRepairDone, agno))

		s.remount(t, func() error { return lab.SpoilDirectory(t.Context(), s.fs.Image(), st.Ino) })
		ino := "XFS_INO=" + fmt.Sprint(st.Ino)
		until(t, "a finding about the inode", func() bool {
			_, err := os.ReadDir("/one/many")
			require.Error(t, err)
			return len(of(systemd.KindSuspect, ino)) > 0
		})
		until(t, "a run over all of it", func() bool { return whole() == 2 && s.state(t, "/one")["state"] == "idle" })
		assert.Len(t, of(systemd.KindReported, ino), 1, "once, however often it is read")
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
