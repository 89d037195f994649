package kernel_test

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/scrubd/scrubd/ioctl"
	"github.com/scrubd/scrubd/ioctl/ioctltest"
	"github.com/scrubd/scrubd/scrub/kernel"
)

func absent(results []kernel.Result) bool {
	for i := range results {
		if !results[i].Absent {
			return false
		}
	}
	return true
}

func TestNumber(t *testing.T) {
	m := ioctltest.NewModel()
	file := ioctltest.Inode{Ino: 131, Gen: 7, Mode: unix.S_IFREG | 0o644}
	m.Inodes[file.Ino] = &file
	s, k, _ := newFakeWith(t, m)

	results, err := s.Number(t.Context(), file.Ino, 0)
	require.NoError(t, err)
	assert.Contains(t, types(results), ioctl.ScrubTypeBMBTD)
	assert.False(t, absent(results))
	assert.Equal(t, file.Gen, results[0].Gen)

	find(k, kernel.Object{Type: ioctl.ScrubTypeBMBTD, Ino: file.Ino, Gen: file.Gen}, ioctl.ScrubCorrupt)
	results, err = s.Number(t.Context(), file.Ino, file.Gen)
	require.NoError(t, err)
	assert.True(t, byType(t, results, ioctl.ScrubTypeBMBTD).Bad())

	results, err = s.Number(t.Context(), file.Ino, file.Gen+1)
	require.NoError(t, err)
	assert.True(t, absent(results), "another file has its number by now: %v", results)

	results, err = s.Number(t.Context(), file.Ino+1<<20, 0)
	require.NoError(t, err)
	assert.True(t, absent(results), "%v", results)

	// One that cannot be loaded is not listed, and its scrub says why.
	k.OnBulkstat = func(ioctltest.BulkRequest) ([]ioctl.BulkstatRecord, ioctl.Ino, unix.Errno) { return nil, 0, 0 }
	k.OnScrub = func(req ioctl.ScrubRequest) (ioctl.ScrubFlags, unix.Errno) {
		if req.Type == ioctl.ScrubTypeINODE && req.Ino == file.Ino && req.Gen == 0 {
			return ioctl.ScrubCorrupt, 0
		}
		return k.DefaultScrub(req)
	}
	results, err = s.Number(t.Context(), file.Ino, file.Gen)
	require.NoError(t, err)
	require.Len(t, results, 1)
	assert.True(t, results[0].Bad())

	k.OnBulkstat = func(ioctltest.BulkRequest) ([]ioctl.BulkstatRecord, ioctl.Ino, unix.Errno) {
		return nil, 0, unix.ENODEV
	}
	_, err = s.Number(t.Context(), file.Ino, 0)
	require.ErrorIs(t, err, unix.ENODEV)
}
