package ioctl_test

import (
	"context"
	"io"
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/scrubd/scrubd/ioctl"
	"github.com/scrubd/scrubd/ioctl/ioctltest"
)

func TestHealthMonitor(t *testing.T) {
	fs, k := ioctltest.New(t)
	m, err := fs.HealthMonitor(true)
	require.NoError(t, err)
	defer m.Close()
	_, err = fs.HealthMonitor(false)
	require.ErrorIs(t, err, ioctl.ErrMonitored)
	require.EqualError(t, err, "health monitor of /srv: filesystem is already monitored")

	at := time.Unix(1_700_000_000, 5).UTC()
	events := []ioctl.HealthEvent{
		{Domain: ioctl.HealthMount, Type: ioctl.HealthRunning, Time: at},
		{Domain: ioctl.HealthMount, Type: ioctl.HealthLost, Time: at, Lost: 9},
		{Domain: ioctl.HealthMount, Type: ioctl.HealthShutdown, Time: at, Shutdown: ioctl.ShutdownCorruptOndisk},
		{Domain: ioctl.HealthFS, Type: ioctl.HealthSick, Time: at, Mask: uint32(ioctl.FSHealthCounters)},
		{Domain: ioctl.HealthAG, Type: ioctl.HealthCorrupt, Time: at, Mask: uint32(ioctl.AGHealthRmapbt), AGNo: 3},
		{Domain: ioctl.HealthRTGroup, Type: ioctl.HealthHealthy, Time: at, Mask: 1, RGNo: 2},
		{Domain: ioctl.HealthInode, Type: ioctl.HealthSick, Time: at, Mask: 2, Ino: 1 << 40, Gen: 7},
		{Domain: ioctl.HealthDataDev, Type: ioctl.HealthMediaError, Time: at, DAddr: 1 << 40, Length: 8},
		{Domain: ioctl.HealthFileRange, Type: ioctl.HealthDataLost, Time: at, Ino: 131, Gen: 7, Pos: 1 << 40, Len: 4096, Errno: unix.EIO},
	}
	k.SendHealth(events...)
	got, err := m.Next(t.Context())
	require.NoError(t, err)
	assert.Equal(t, events, got)

	// Events that arrive in pieces are put together.
	whole := make([]byte, 128)
	whole[0], whole[64] = byte(ioctl.HealthFS), byte(ioctl.HealthAG)
	k.SendHealthBytes(whole[:100])
	got, err = m.Next(t.Context())
	require.NoError(t, err)
	require.Len(t, got, 1)
	assert.Equal(t, ioctl.HealthFS, got[0].Domain)
	k.SendHealthBytes(whole[100:])
	got, err = m.Next(t.Context())
	require.NoError(t, err)
	require.Len(t, got, 1)
	assert.Equal(t, ioctl.HealthAG, got[0].Domain)

	// A context that ends does not end the monitor.
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	_, err = m.Next(ctx)
	require.ErrorIs(t, err, context.DeadlineExceeded)
	_, err = m.Next(ctx)
	require.ErrorIs(t, err, context.DeadlineExceeded)
	k.SendHealth(events[0])
	got, err = m.Next(t.Context())
	require.NoError(t, err)
	assert.Equal(t, events[:1], got)

	covers, err := m.Covers(mustOpen(t, fs, 128))
	require.NoError(t, err)
	assert.True(t, covers)
	elsewhere, err := os.Open("/dev/null")
	require.NoError(t, err)
	defer elsewhere.Close()
	covers, err = m.Covers(int(elsewhere.Fd()))
	require.NoError(t, err)
	assert.False(t, covers)

	k.EndHealth()
	_, err = m.Next(t.Context())
	require.ErrorIs(t, err, io.EOF)
	require.NoError(t, m.Close())
	require.NoError(t, m.Close())
	_, err = m.Next(t.Context())
	require.ErrorIs(t, err, ioctl.ErrClosed)
	_, err = m.Covers(0)
	require.ErrorIs(t, err, ioctl.ErrClosed)
}

func TestHealthMonitorCloseEndsNext(t *testing.T) {
	fs, _ := ioctltest.New(t)
	m, err := fs.HealthMonitor(false)
	require.NoError(t, err)
	done := make(chan error)
	go func() {
		_, err := m.Next(t.Context())
		done <- err
	}()
	time.Sleep(10 * time.Millisecond)
	require.NoError(t, m.Close())
	require.ErrorIs(t, <-done, ioctl.ErrClosed)
}

func TestDecodeHealthEvents(t *testing.T) {
	events, err := ioctl.DecodeHealthEvents(nil)
	require.NoError(t, err)
	assert.Empty(t, events)
	events, err = ioctl.DecodeHealthEvents(make([]byte, 100))
	require.ErrorIs(t, err, ioctl.ErrMalformed)
	assert.Len(t, events, 1)
}

func TestVerifyMedia(t *testing.T) {
	fs, k := ioctltest.New(t)
	size := ioctl.DAddr(3900 * 8)
	r, err := fs.VerifyMedia(ioctl.MediaRequest{Device: ioctl.MediaData, End: ^ioctl.DAddr(0)})
	require.NoError(t, err)
	assert.Equal(t, ioctl.MediaResult{Verified: size, End: size}, r)
	assert.True(t, r.Complete())

	req := ioctl.MediaRequest{Device: ioctl.MediaData, Start: 8, End: 800, Report: true, MaxIO: 1 << 20, Rest: 3 * time.Millisecond}
	k.OnVerifyMedia = func(got ioctl.MediaRequest) (ioctl.MediaResult, unix.Errno) {
		assert.Equal(t, req, got)
		return ioctl.MediaResult{Verified: 80, End: 800, IOError: unix.ENODATA}, 0
	}
	r, err = fs.VerifyMedia(req)
	require.NoError(t, err)
	assert.Equal(t, unix.ENODATA, r.IOError)
	assert.False(t, r.Complete())
	k.OnVerifyMedia = nil
	_, err = fs.VerifyMedia(ioctl.MediaRequest{Device: ioctl.MediaLog})
	require.ErrorIs(t, err, unix.ENODEV)
}
