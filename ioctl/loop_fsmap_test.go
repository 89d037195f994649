package ioctl_test

import (
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/scrubd/scrubd/ioctl"
)

// readAll reads the whole data device with continuation, one buffer after the other, by next.
func readAll(t *testing.T, fs *ioctl.FS, n int, next func(last ioctl.FSMapRecord) ioctl.FSMapKey) []ioctl.FSMapRecord {
	t.Helper()
	var all []ioctl.FSMapRecord
	seen := make(map[ioctl.FSMapRecord]bool)
	buf := ioctl.NewFSMapBuffer(n)
	low, high := fs.FSMapKeys(0, fs.Geometry().BlocksToBytes(fs.Geometry().DataBlocks)-1)
	for {
		require.NoError(t, fs.FSMap(low, high, buf))
		fresh := 0
		for _, r := range buf.Records() {
			r.Flags &^= ioctl.FSMapLast
			if !seen[r] {
				seen[r] = true
				fresh++
				all = append(all, r)
			}
		}
		if !buf.Full() || fresh == 0 {
			return all
		}
		low = next(buf.Records()[len(buf.Records())-1])
	}
}

// The trap of continuing after a shareable record: what the same inode maps at the same block with
// a higher offset is left out. A fresh key, or one of the owner before, leaves nothing out.
func TestLoopFSMapContinuationLosesSelfClones(t *testing.T) {
	loop, fs := openLoop(t)
	f := writeFile(t, loop.Path("self"), 1)
	for block := uint64(2); block < 40; block += 2 {
		clone(t, f, f, 0, 1, block)
	}
	require.NoError(t, loop.Sync())
	want := readAll(t, fs, ioctl.MaxFSMapRecords, lastKey)
	shared := func(records []ioctl.FSMapRecord) (n int) {
		for _, r := range records {
			if r.Flags.Has(ioctl.FSMapShared) {
				n++
			}
		}
		return n
	}
	require.Equal(t, 20, shared(want))

	lossy := readAll(t, fs, 5, lastKey)
	assert.Less(t, shared(lossy), 20)

	fresh := readAll(t, fs, 24, func(last ioctl.FSMapRecord) ioctl.FSMapKey {
		return ioctl.FSMapKey{Device: last.Device, Physical: last.Physical}
	})
	assert.Equal(t, 20, shared(fresh))

	i := slices.IndexFunc(want, func(r ioctl.FSMapRecord) bool { return r.Flags.Has(ioctl.FSMapShared) })
	_, high := fs.FSMapKeys(0, fs.Geometry().BlocksToBytes(fs.Geometry().DataBlocks)-1)
	buf := ioctl.NewFSMapBuffer(20)
	low := ioctl.FSMapKey{Device: want[i].Device, Physical: want[i].Physical, Owner: want[i].Owner - 1, Length: 4096}
	require.NoError(t, fs.FSMap(low, high, buf))
	assert.Equal(t, 20, shared(buf.Records()))
}

func lastKey(last ioctl.FSMapRecord) ioctl.FSMapKey {
	return last.Key()
}

// Keys with device 0 or ^0 return everything, whatever their address.
func TestLoopFSMapWildcardDevice(t *testing.T) {
	_, fs := openLoop(t)
	buf := ioctl.NewFSMapBuffer(ioctl.MaxFSMapRecords)
	low, high := fs.FSMapKeys(1<<24, 1<<24+4095)
	require.NoError(t, fs.FSMap(low, high, buf))
	narrow := len(buf.Records())
	assert.True(t, buf.RealDevices())
	assert.False(t, buf.Full())
	low.Device, high.Device = 0, ^uint32(0)
	require.NoError(t, fs.FSMap(low, high, buf))
	assert.Greater(t, len(buf.Records()), narrow)
	assert.Zero(t, buf.Records()[0].Physical)

	low, high = fs.FSMapKeys(8192, 4096)
	err := fs.FSMap(low, high, buf)
	require.ErrorIs(t, err, unix.EINVAL)
	assert.Empty(t, buf.Records())
	require.ErrorContains(t, err, "fsmap AG 0 of ")
	n, err := fs.FSMapCount(fs.FSMapAGKeys(0))
	require.NoError(t, err)
	assert.Positive(t, n)
}

// Without CAP_SYS_ADMIN, the free space btree answers; nobody else loses the capability.
func TestLoopBnobtView(t *testing.T) {
	loop, fs := openLoop(t)
	populate(t, loop)
	view, err := fs.OpenBnobtView()
	require.NoError(t, err)
	defer view.Close()

	privileged, unprivileged := ioctl.NewFSMapBuffer(2048), ioctl.NewFSMapBuffer(2048)
	for agno := range ioctl.AGNumber(fs.Geometry().AGCount) {
		low, high := fs.FSMapAGKeys(agno)
		require.NoError(t, fs.FSMap(low, high, privileged))
		require.NoError(t, view.FSMap(low, high, unprivileged))
		var owned bool
		for i := range privileged.Records() {
			owned = owned || privileged.Records()[i].Is(ioctl.FSMapOwnerFS)
		}
		assert.True(t, owned)
		var free [2]ioctl.ByteOff
		for i, buf := range []*ioctl.FSMapBuffer{privileged, unprivileged} {
			for j := range buf.Records() {
				r := &buf.Records()[j]
				if r.Is(ioctl.FSMapOwnerFree) {
					free[i] += r.Length
				} else if i == 1 {
					assert.True(t, r.Is(ioctl.FSMapOwnerUnknown))
				}
			}
		}
		assert.Equal(t, free[0], free[1], "both btrees agree about the free space of AG %d", agno)
	}

	// Threads made while the view runs are privileged, and the view's thread is gone after Close.
	for range 50 {
		done := make(chan error)
		go func() {
			runtime.LockOSThread()
			low, high := fs.FSMapKeys(0, 0)
			buf := ioctl.NewFSMapBuffer(4)
			err := fs.FSMap(low, high, buf)
			if err == nil && !buf.Records()[0].Is(ioctl.FSMapOwnerFS) {
				err = errors.New("a thread lost CAP_SYS_ADMIN")
			}
			done <- err
		}()
		require.NoError(t, <-done)
	}
	assert.Equal(t, 1, threadsWithout(t, unix.CAP_SYS_ADMIN))
	require.NoError(t, view.Close())
	require.NoError(t, view.Close())
	assert.Eventually(t, func() bool { return threadsWithout(t, unix.CAP_SYS_ADMIN) == 0 }, 5*time.Second, 10*time.Millisecond)
	low, high := fs.FSMapAGKeys(0)
	require.ErrorIs(t, view.FSMap(low, high, unprivileged), ioctl.ErrClosed)
}

// threadsWithout counts this process's threads that lack an effective capability.
func threadsWithout(t *testing.T, capability uint) int {
	t.Helper()
	dirs, err := filepath.Glob("/proc/self/task/*")
	require.NoError(t, err)
	n := 0
	for _, dir := range dirs {
		b, err := os.ReadFile(filepath.Join(dir, "status"))
		if err != nil {
			continue // the thread has ended
		}
		_, rest, _ := strings.Cut(string(b), "CapEff:\t")
		var mask uint64
		for _, c := range rest[:16] {
			mask = mask<<4 | uint64(strings.IndexRune("0123456789abcdef", c))
		}
		if mask>>capability&1 == 0 {
			n++
		}
	}
	return n
}
