package ioctltest_test

import (
	"errors"
	"fmt"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/scrubd/scrubd/ioctl"
	"github.com/scrubd/scrubd/ioctl/ioctltest"
)

// recorder is a test that keeps what it is told.
type recorder struct {
	testing.TB
	cleanups []func()
	errors   []string
}

func (r *recorder) Helper()                   {}
func (r *recorder) Cleanup(f func())          { r.cleanups = append(r.cleanups, f) }
func (r *recorder) Errorf(f string, a ...any) { r.errors = append(r.errors, fmt.Sprintf(f, a...)) }

// finish ends the recorded test.
func (r *recorder) finish() {
	for i := len(r.cleanups) - 1; i >= 0; i-- {
		r.cleanups[i]()
	}
}

func TestMistakesFailTheTest(t *testing.T) {
	r := &recorder{TB: t}
	fs, _ := ioctltest.New(r)
	fd, err := fs.OpenFD(128, 1)
	require.NoError(t, err)
	require.NoError(t, fs.Freeze())
	_, err = fs.Bulkstat(&ioctl.BulkRequest{}, ioctl.NewBulkstatBuffer(1))
	require.NoError(t, err)
	second, err := fs.OpenFD(128, 1)
	require.NoError(t, err)
	fs.CloseFD(second)
	fs.CloseFD(second)
	r.finish()
	assert.Equal(t, []string{
		"BULKSTAT while the filesystem is frozen: this can wait for the thaw for ever",
		"open of inode 128 while the filesystem is frozen: this can wait for the thaw for ever",
		fmt.Sprintf("close of descriptor %d, which is not open", second),
		"inode 128 is still open at the end of the test",
	}, r.errors)
	assert.NotEqual(t, fd, second)

	r = &recorder{TB: t}
	_, k := ioctltest.New(r)
	k.SendHealth(ioctl.HealthEvent{})
	r.finish()
	assert.Equal(t, []string{"no health monitor is open"}, r.errors)
}

func TestDerive(t *testing.T) {
	m := ioctltest.NewModel()
	m.Fixed = []ioctltest.Rmap{{AGNo: 3, AGBno: 700, Length: 10, Owner: uint64(ioctl.FSMapOwnerCoW), Flags: ioctl.FSMapSpecialOwner}}
	m.AddInode(&ioctltest.Inode{
		Ino: 131, Gen: 7,
		Data: []ioctltest.Extent{
			{Offset: 0, AGNo: 1, AGBno: 100, Length: 50},
			{Offset: 60, AGNo: 1, AGBno: 200, Length: 5, Unwritten: true},
			{Offset: 70, Length: 9, Delalloc: true},
		},
		Attr:     []ioctltest.Extent{{AGNo: 1, AGBno: 300, Length: 2}},
		DataBmbt: []ioctltest.Range{{AGNo: 2, AGBno: 40, Length: 1}},
		AttrBmbt: []ioctltest.Range{{AGNo: 2, AGBno: 41, Length: 1}},
	})
	m.AddInode(&ioctltest.Inode{Ino: 132, Gen: 7, Data: []ioctltest.Extent{
		{Offset: 0, AGNo: 1, AGBno: 110, Length: 5},
		{Offset: 5, AGNo: 1, AGBno: 115, Length: 5},
		{Offset: 20, AGNo: 1, AGBno: 148, Length: 10},
		{Offset: 40, AGNo: 1, AGBno: 200, Length: 5},
	}})
	m.Derive()
	assert.Equal(t, []ioctltest.Range{{AGNo: 1, AGBno: 110, Length: 10}, {AGNo: 1, AGBno: 148, Length: 2}}, m.Shared,
		"joined where they touch, and not where one is unwritten")
	free := make(map[ioctltest.Range]bool)
	for _, f := range m.Free {
		free[f] = true
	}
	for _, want := range []ioctltest.Range{
		{AGNo: 1, AGBno: 158, Length: 42},
		{AGNo: 1, AGBno: 205, Length: 95},
		{AGNo: 1, AGBno: 302, Length: 698},
		{AGNo: 2, AGBno: 42, Length: 458},
		{AGNo: 3, AGBno: 11, Length: 689},
		{AGNo: 3, AGBno: 710, Length: 190},
	} {
		assert.True(t, free[want], "%+v in %+v", want, m.Free)
	}
	assert.Contains(t, m.Rmaps, ioctltest.Rmap{AGNo: 1, AGBno: 300, Length: 2, Owner: 131, Flags: ioctl.FSMapAttrFork})
	assert.Contains(t, m.Rmaps, ioctltest.Rmap{AGNo: 2, AGBno: 41, Length: 1, Owner: 131, Flags: ioctl.FSMapAttrFork | ioctl.FSMapExtentMap})
	assert.Contains(t, m.Rmaps, ioctltest.Rmap{AGNo: 2, AGBno: 500, Length: 64, Owner: uint64(ioctl.FSMapOwnerLog), Flags: ioctl.FSMapSpecialOwner})
	assert.Contains(t, m.Rmaps, ioctltest.Rmap{AGNo: 0, AGBno: 16, Length: 8, Owner: uint64(ioctl.FSMapOwnerInodes), Flags: ioctl.FSMapSpecialOwner})

	m.Geometry.Flags &^= ioctl.FlagReflink
	m.Derive()
	assert.Empty(t, m.Shared)
}

// An external log is a device of its own, with one record; synthetic devices have the kernel's numbers.
func TestFSMapDevices(t *testing.T) {
	m := ioctltest.NewModel()
	m.Geometry.LogStart = 0
	m.Derive()
	fs, k := ioctltest.NewWithModel(t, m)
	buf := ioctl.NewFSMapBuffer(2048)
	low, high := fs.FSMapKeys(0, ^ioctl.ByteOff(0))
	low.Device, high.Device = 0, ^uint32(0)
	require.NoError(t, fs.FSMap(low, high, buf))
	last := buf.Records()[len(buf.Records())-1]
	assert.True(t, last.Is(ioctl.FSMapOwnerLog))
	assert.Equal(t, fs.FSMapDevice()+1, last.Device)
	assert.Equal(t, ioctl.ByteOff(64*4096), last.Length)
	n, err := fs.FSMapCount(low, high)
	require.NoError(t, err)
	assert.Len(t, buf.Records(), n)
	low.Device, high.Device = last.Device, last.Device
	require.NoError(t, fs.FSMap(low, high, buf))
	assert.Len(t, buf.Records(), 1)
	low.Device, high.Device = 12345, 12345
	require.ErrorIs(t, fs.FSMap(low, high, buf), unix.EINVAL)

	k.Update(func(m *ioctltest.Model) { m.Geometry.RTStart, m.Geometry.RGCount = 4096, 2 })
	_, err = fs.RefreshGeometry(t.Context())
	require.NoError(t, err)
	low, high = fs.FSMapAGKeys(1)
	require.NoError(t, fs.FSMap(low, high, buf))
	assert.False(t, buf.RealDevices())
	assert.Equal(t, uint32(ioctl.MediaData), buf.Records()[0].Device)
}

// The model is looked at by many at once while it changes.
func TestConcurrentUse(t *testing.T) {
	fs, k := ioctltest.New(t)
	view, err := fs.OpenBnobtView()
	require.NoError(t, err)
	defer view.Close()
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for range 50 {
				if err := useAll(fs, view); err != nil {
					t.Error(err)
				}
				k.Update(func(m *ioctltest.Model) {
					m.AddInode(&ioctltest.Inode{Ino: 150, Gen: 1})
					m.Touch(128)
					m.Derive()
				})
			}
		})
	}
	wg.Wait()
	assert.Len(t, k.Calls(ioctltest.OpScrub), 200)
	unprivileged := 0
	for _, c := range k.Calls(ioctltest.OpFSMap) {
		if c.Unprivileged {
			unprivileged++
		}
	}
	assert.Equal(t, 201, unprivileged, "one to verify the view")
}

// useAll makes one call of each kind.
func useAll(fs *ioctl.FS, view *ioctl.BnobtView) error {
	fsmap := ioctl.NewFSMapBuffer(64)
	low, high := fs.FSMapAGKeys(0)
	_, bulkErr := fs.Bulkstat(&ioctl.BulkRequest{}, ioctl.NewBulkstatBuffer(4))
	_, scrubErr := fs.Scrub(ioctl.ScrubRequest{Type: ioctl.ScrubTypeAGF})
	fd, err := fs.OpenFD(128, 1)
	if err != nil {
		return err
	}
	defer fs.CloseFD(fd)
	return errors.Join(fs.FSMap(low, high, fsmap), view.FSMap(low, high, fsmap), bulkErr, scrubErr,
		fs.Bmap(fd, ioctl.DataFork, ioctl.NewBmapBuffer(1)))
}
