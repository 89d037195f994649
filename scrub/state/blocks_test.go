package state

import (
	"bytes"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
	"pgregory.net/rapid"

	"github.com/scrubd/scrubd/internal/lab"
	"github.com/scrubd/scrubd/ioctl"
)

// fakeDevice is a file of that many bytes, none of which is zero.
func fakeDevice(t *testing.T, size int) (path string, contents []byte) {
	t.Helper()
	contents = make([]byte, size)
	for i := range contents {
		contents[i] = byte(1 + i/512%255)
	}
	path = filepath.Join(t.TempDir(), "device")
	require.NoError(t, os.WriteFile(path, contents, 0o600))
	return path, contents
}

func newEvidence(t *testing.T, fs *ioctl.FS) *Evidence {
	t.Helper()
	d, err := Open(t.TempDir(), fs)
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, d.Close()) })
	e, err := d.Evidence("r", "f")
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, e.Close()) })
	return e
}

func TestRawBlocksAreAtTheirPlace(t *testing.T) {
	path, contents := fakeDevice(t, 16<<20+100)
	e := newEvidence(t, fakeFS(t))
	require.NoError(t, e.RawBlocks(path, []ByteRange{{8 << 20, 4096}, {4096, 4096}, {8192, 4096}}))
	require.NoError(t, e.RawBlocks("", []ByteRange{{1 << 20, 3 << 20}, {16 << 20, 1 << 30}}))
	require.NoError(t, e.Close())

	name := filepath.Join(e.Path(), BlocksFile)
	image, err := os.ReadFile(name)
	require.NoError(t, err)
	require.Len(t, image, len(contents))
	want := make([]byte, len(contents))
	for _, r := range [][2]int{{4096, 12288}, {1 << 20, 4 << 20}, {8 << 20, 8<<20 + 4096}, {16 << 20, 16<<20 + 100}} {
		copy(want[r[0]:r[1]], contents[r[0]:r[1]])
	}
	assert.True(t, bytes.Equal(want, image))
	var st unix.Stat_t
	require.NoError(t, unix.Stat(name, &st))
	assert.Less(t, st.Blocks*512, int64(8<<20), "the image is sparse")
	assert.Equal(t, os.FileMode(0o600), modeOf(t, name))
	assert.Equal(t, blocksManifest{
		Device: path, Note: blocksNote,
		Saved: []ByteRange{{4096, 8192}, {1 << 20, 3 << 20}, {8 << 20, 4096}, {16 << 20, 100}},
	}, manifest(t, e))
}

func TestRawBlocksOfReopenedEvidenceAddUp(t *testing.T) {
	path, _ := fakeDevice(t, 1<<20)
	d, err := Open(t.TempDir(), fakeFS(t))
	require.NoError(t, err)
	defer d.Close()
	for i := range ioctl.ByteOff(3) {
		e, err := d.Evidence("r", "f")
		require.NoError(t, err)
		require.NoError(t, e.RawBlocks(path, []ByteRange{{i * 65536, 4096}}))
		require.NoError(t, e.Close())
		assert.Len(t, manifest(t, e).Saved, int(i)+1)
	}
}

func TestRawBlocksWithoutDevice(t *testing.T) {
	e := newEvidence(t, fakeFS(t)) // whose device number nobody has
	err := e.RawBlocks("", []ByteRange{{0, 4096}})
	require.ErrorIs(t, err, ErrNoDevice)
	require.ErrorIs(t, err, fs.ErrNotExist)
	m := manifest(t, e)
	assert.Contains(t, m.Error, ErrNoDevice.Error())
	assert.Empty(t, m.Saved)
	_, err = os.Stat(filepath.Join(e.Path(), BlocksFile))
	require.ErrorIs(t, err, fs.ErrNotExist)

	err = e.RawBlocks(filepath.Join(t.TempDir(), "none"), nil)
	require.ErrorIs(t, err, ErrNoDevice)
	path, _ := fakeDevice(t, 8192)
	require.NoError(t, e.RawBlocks(path, []ByteRange{{0, 4096}}))
	assert.Empty(t, manifest(t, e).Error, "it can be read now")
}

func TestRawBlocksThatCannotBeRead(t *testing.T) {
	path, _ := fakeDevice(t, 1<<20)
	e := newEvidence(t, fakeFS(t))
	require.NoError(t, e.RawBlocks(path, []ByteRange{{0, 4096}}))
	// The device ends earlier than it said.
	require.NoError(t, os.Truncate(path, 512<<10))
	err := e.RawBlocks("", []ByteRange{{512<<10 - 4096, 12288}, {64 << 10, 4096}})
	require.ErrorIs(t, err, io.ErrUnexpectedEOF)
	require.NotErrorIs(t, err, ErrNoDevice)
	m := manifest(t, e)
	assert.Equal(t, []ByteRange{{0, 4096}, {64 << 10, 4096}, {512<<10 - 4096, 4096}}, m.Saved)
	require.Len(t, m.Unread, 2)
	assert.Equal(t, ByteRange{512 << 10, 4096}, m.Unread[0].ByteRange)
	assert.Equal(t, ByteRange{512<<10 + 4096, 4096}, m.Unread[1].ByteRange)
}

func TestWidenCoversEveryByteOnce(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		const sectors = 64
		sector := rapid.SampledFrom([]ioctl.ByteOff{512, 4096}).Draw(t, "sector")
		size := int64(sector) * sectors
		var ranges []ByteRange
		for range rapid.IntRange(0, 8).Draw(t, "ranges") {
			ranges = append(ranges, ByteRange{
				ioctl.ByteOff(rapid.OneOf(rapid.Uint64Range(0, uint64(size)+10), rapid.Uint64()).Draw(t, "offset")),
				ioctl.ByteOff(rapid.OneOf(rapid.Uint64Range(0, 3*uint64(sector)), rapid.Uint64()).Draw(t, "length")),
			})
		}
		var want [sectors]bool
		for i := range want {
			lo, hi := ioctl.ByteOff(i)*sector, ioctl.ByteOff(i+1)*sector
			for _, r := range ranges {
				end := r.end()
				if end < r.Offset {
					end = ioctl.ByteOff(size)
				}
				want[i] = want[i] || r.Offset < hi && end > lo && r.Length > 0
			}
		}
		var got [sectors]bool
		last := ioctl.ByteOff(0)
		for i, r := range widen(ranges, sector, size) {
			if i > 0 && r.Offset <= last {
				t.Fatalf("ranges touch: %v", r)
			}
			last = r.end()
			for at := r.Offset; at < r.end(); at += sector {
				got[at/sector] = true
			}
		}
		if got != want {
			t.Fatalf("covered %v, want %v", got, want)
		}
	})
}

func TestFindDevice(t *testing.T) {
	root := t.TempDir()
	number := unix.Mkdev(7, 300)
	uevent := filepath.Join(root, "sys/dev/block/7:300/uevent")
	require.NoError(t, os.MkdirAll(filepath.Dir(uevent), 0o755))
	require.NoError(t, os.MkdirAll(filepath.Join(root, "dev/block"), 0o755))

	_, err := findDevice(root, number)
	require.ErrorIs(t, err, fs.ErrNotExist)
	require.ErrorContains(t, err, "7:300")

	require.NoError(t, os.WriteFile(uevent, []byte("MAJOR=7\nMINOR=300\nDEVNAME=loop300\nDEVTYPE=disk\n"), 0o644))
	require.NoError(t, os.WriteFile(filepath.Join(root, "dev/loop300"), nil, 0o644))
	_, err = findDevice(root, number)
	require.ErrorIs(t, err, fs.ErrNotExist, "a plain file is no block device")
	require.NoError(t, os.WriteFile(uevent, []byte("DEVNAME=../../etc/passwd\n"), 0o644))
	_, err = findDevice(root, number)
	require.ErrorIs(t, err, fs.ErrNotExist)
}

func TestFindDeviceNode(t *testing.T) {
	lab.Require(t, lab.Root)
	root := t.TempDir()
	number := unix.Mkdev(7, 300)
	node := filepath.Join(root, "dev/block/7:300")
	require.NoError(t, os.MkdirAll(filepath.Dir(node), 0o755))
	require.NoError(t, unix.Mknod(node, unix.S_IFBLK|0o600, int(number)))
	path, err := findDevice(root, number)
	require.NoError(t, err)
	assert.Equal(t, node, path)
	_, err = findDevice(root, unix.Mkdev(7, 301))
	require.ErrorIs(t, err, fs.ErrNotExist)
}

func TestRawBlocksOfAMountedFilesystem(t *testing.T) {
	lab.Require(t, lab.Loop)
	loop := lab.NewLoopFS(t, lab.MkfsOptions{})
	require.NoError(t, os.WriteFile(loop.Path("file"), bytes.Repeat([]byte("x"), 100000), 0o644))
	fs, err := ioctl.Open(loop.Dir())
	require.NoError(t, err)
	defer fs.Close()
	e := newEvidence(t, fs)
	g := fs.Geometry()
	sector := ioctl.ByteOff(g.SectorSize)
	ranges := []ByteRange{{0, 4 * sector}, {g.AGByte(1, 0), 4 * sector}, {g.AGByte(1, 1), 4096}}
	require.NoError(t, loop.Freeze())
	defer loop.Thaw() //nolint:errcheck // thawed below
	require.NoError(t, e.RawBlocks("", ranges))
	require.NoError(t, e.Close())
	image, err := os.Open(filepath.Join(e.Path(), BlocksFile))
	require.NoError(t, err)
	defer image.Close()
	source, err := os.Open(loop.Image())
	require.NoError(t, err)
	defer source.Close()
	for _, r := range ranges {
		want, got := make([]byte, r.Length), make([]byte, r.Length)
		_, err := source.ReadAt(want, int64(r.Offset))
		require.NoError(t, err)
		_, err = image.ReadAt(got, int64(r.Offset))
		require.NoError(t, err)
		assert.True(t, bytes.Equal(want, got), "%v", r)
	}
	magic := make([]byte, 4)
	_, err = image.ReadAt(magic, int64(g.AGByte(1, 0)))
	require.NoError(t, err)
	assert.Equal(t, "XFSB", string(magic))
	require.NoError(t, loop.Thaw())
}

func TestStateOnTheFilesystemUnderRepair(t *testing.T) {
	lab.Require(t, lab.Loop)
	loop := lab.NewLoopFS(t, lab.MkfsOptions{})
	fs, err := ioctl.Open(loop.Dir())
	require.NoError(t, err)
	defer fs.Close()
	p := places{loop.Path("var", "lib", "scrubd"), t.TempDir()}
	d, err := p.open("", fs)
	require.NoError(t, err)
	defer d.Close()
	assert.Equal(t, filepath.Join(p.runtime, UUID(fs)), d.Path())
	assert.Equal(t, p.standard, d.Moved())
	entries, err := os.ReadDir(loop.Dir())
	require.NoError(t, err)
	assert.Empty(t, entries)
}
