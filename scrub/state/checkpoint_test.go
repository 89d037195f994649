package state

import (
	"encoding/json"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/scrubd/scrubd/ioctl"
)

func someCheckpoint() *Checkpoint {
	at := time.Date(2026, 11, 1, 2, 3, 4, 0, time.UTC)
	return &Checkpoint{
		RunID: "r1", Release: "7.2.13", Began: at, Written: at.Add(time.Hour),
		Shape:   Shape{BlockSize: 4096, AGBlocks: 1 << 18, InodeSize: 512, SectorSize: 512, Features: ioctl.FlagRmapbt},
		Lacking: []ioctl.ScrubType{ioctl.ScrubTypeRTREFCBT},
		Groups: []CheckedGroups{
			{First: 0, Last: 6, Length: 1 << 18, Types: []ioctl.ScrubType{ioctl.ScrubTypeAGF}, AllInodes: true, Inodes: 9},
			{First: 7, Last: 7, Length: 100, Next: 1 << 40, Inodes: 3, Again: []ioctl.Ino{131}},
		},
		Found: []FoundBefore{{ID: "a", Outcome: "held", Summary: "x"}},
	}
}

func TestCheckpoint(t *testing.T) {
	p := places{filepath.Join(t.TempDir(), "lib"), filepath.Join(t.TempDir(), "run")}
	f := fakeFS(t)
	got, err := p.readCheckpoint("", f)
	require.NoError(t, err)
	assert.Nil(t, got)
	require.NoError(t, p.dropCheckpoint("", f), "there need not be one")

	d, err := p.open("", f)
	require.NoError(t, err)
	c := someCheckpoint()
	require.NoError(t, d.WriteCheckpoint(c))
	got, err = p.readCheckpoint("", f)
	require.NoError(t, err)
	assert.Equal(t, c, got)
	assert.Equal(t, os.FileMode(0o600), modeOf(t, filepath.Join(d.Path(), checkpointFile)))

	c.RunID, c.Written = "r2", c.Written.Add(time.Hour)
	require.NoError(t, d.WriteCheckpoint(c))
	got, err = p.readCheckpoint("", f)
	require.NoError(t, err)
	assert.Equal(t, "r2", got.RunID)
	left, err := os.ReadDir(d.Path())
	require.NoError(t, err)
	assert.Len(t, left, 1, "no unfinished files")

	require.NoError(t, p.dropCheckpoint("", f))
	got, err = p.readCheckpoint("", f)
	require.NoError(t, err)
	assert.Nil(t, got)
	require.NoError(t, d.Close())
}

// Where the state directory lies on the filesystem itself, the checkpoint is in
// the runtime directory; of two the newer one counts, and both are dropped.
func TestCheckpointElsewhere(t *testing.T) {
	lib, run := t.TempDir(), "/dev/shm"
	var a, b unix.Stat_t
	require.NoError(t, unix.Stat(lib, &a))
	require.NoError(t, unix.Stat(run, &b))
	require.NotEqual(t, a.Dev, b.Dev, "/dev/shm has to be another filesystem")
	run, err := os.MkdirTemp(run, "scrubd-test-")
	require.NoError(t, err)
	t.Cleanup(func() { _ = os.RemoveAll(run) })
	p := places{lib, run}
	f := fakeFSAt(t, lib)
	d, err := p.open("", f)
	require.NoError(t, err)
	assert.Equal(t, lib, d.Moved())
	c := someCheckpoint()
	require.NoError(t, d.WriteCheckpoint(c))
	require.NoError(t, d.Close())
	require.NoError(t, os.MkdirAll(filepath.Join(lib, UUID(f)), 0o700))
	text, err := os.ReadFile(filepath.Join(run, UUID(f), checkpointFile))
	require.NoError(t, err)
	c.RunID, c.Written = "older", c.Written.Add(-time.Minute)
	old := fakeFS(t)
	require.Equal(t, UUID(f), UUID(old))
	d, err = p.open("", old) // not on this one
	require.NoError(t, err)
	require.NoError(t, d.WriteCheckpoint(c))
	require.NoError(t, d.Close())
	require.NotEmpty(t, text)

	got, err := p.readCheckpoint("", f)
	require.NoError(t, err)
	assert.Equal(t, "r1", got.RunID)
	require.NoError(t, p.dropCheckpoint("", f))
	got, err = p.readCheckpoint("", f)
	require.NoError(t, err)
	assert.Nil(t, got)
}

// Nothing that is not what was written is believed, and nothing panics.
func TestDamagedCheckpoints(t *testing.T) {
	dir := t.TempDir()
	p := places{dir, filepath.Join(dir, "run")}
	f := fakeFS(t)
	d, err := p.open("", f)
	require.NoError(t, err)
	require.NoError(t, d.WriteCheckpoint(someCheckpoint()))
	require.NoError(t, d.Close())
	path := filepath.Join(dir, uuid, checkpointFile)
	whole, err := os.ReadFile(path)
	require.NoError(t, err)
	for name, text := range map[string]string{
		"empty":         "",
		"cut off":       string(whole[:len(whole)/2]),
		"one line":      string(whole[:strings.IndexByte(string(whole), '\n')]),
		"one bit":       strings.Replace(string(whole), `"r1"`, `"r3"`, 1),
		"another kind":  "scrubd checkpoint 2 crc32c=00000000\n{}\n",
		"too long":      string(whole) + strings.Repeat(" ", maxCheckpoint),
		"no JSON":       checked("]"),
		"wrong types":   checked(`{"groups": 7}`),
		"turned around": checked(`{"groups": [{"first_agno": 4, "last_agno": 3}]}`),
	} {
		require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
		_, err := p.readCheckpoint("", f)
		require.ErrorIs(t, err, ErrDamaged, name)
		require.ErrorContains(t, err, path)
	}
	require.NoError(t, os.Chmod(path, 0o622))
	_, err = p.readCheckpoint("", f)
	require.ErrorIs(t, err, ErrUnsafe)
	require.NoError(t, os.Remove(path))
	require.NoError(t, os.Symlink("/etc/passwd", path))
	_, err = p.readCheckpoint("", f)
	require.Error(t, err)
	require.NoError(t, p.dropCheckpoint("", f))
	_, err = os.Lstat(path)
	require.ErrorIs(t, err, fs.ErrNotExist)
}

// checked is a text with a good checksum.
func checked(body string) string {
	return string(checkpointText([]byte(body)))
}

// What does not fit is not written, and the old one stays.
func TestCheckpointIsBounded(t *testing.T) {
	p := places{t.TempDir(), t.TempDir()}
	f := fakeFS(t)
	d, err := p.open("", f)
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, d.Close()) })
	require.NoError(t, d.WriteCheckpoint(someCheckpoint()))
	c := someCheckpoint()
	c.RunID = strings.Repeat("x", maxCheckpoint)
	require.Error(t, d.WriteCheckpoint(c))
	got, err := p.readCheckpoint("", f)
	require.NoError(t, err)
	assert.Equal(t, "r1", got.RunID)
}

func FuzzCheckpoint(f *testing.F) {
	body, err := json.Marshal(someCheckpoint())
	require.NoError(f, err)
	f.Add(string(body), true)
	f.Add(string(checkpointText(body)), false)
	f.Fuzz(func(_ *testing.T, text string, sum bool) {
		if sum {
			text = checked(text)
		}
		_, _ = parseCheckpoint([]byte(text)) // no panic is all that there is to want
	})
}
