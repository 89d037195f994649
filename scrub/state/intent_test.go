package state

import (
	"bytes"
	"encoding/binary"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/scrubd/scrubd/internal/lab"
	"github.com/scrubd/scrubd/ioctl"
)

func anIntent(what string) *Intent {
	return &Intent{
		RunID: "r1", FindingID: "f1", What: what, Summary: "the rmapbt is wrong", ScrubType: "rmapbt", AGNo: 3, Forced: true,
	}
}

// newLog opens the log of a filesystem whose state directory is somewhere else.
func newLog(t *testing.T, base string) *IntentLog {
	t.Helper()
	d, err := Open(base, fakeFS(t))
	require.NoError(t, err)
	defer d.Close()
	l, err := d.Intents(nil)
	require.NoError(t, err)
	return l
}

func interrupted(t *testing.T, base string) *Interrupted {
	t.Helper()
	got, err := ReadInterrupted(base, fakeFS(t))
	require.NoError(t, err)
	return got
}

func TestIntentsOutliveTheirRun(t *testing.T) {
	base := filepath.Join(t.TempDir(), "state")
	assert.False(t, interrupted(t, base).Any())
	assert.NoDirExists(t, base, "to read creates nothing")

	l := newLog(t, base)
	assert.True(t, l.Durable())
	first, err := l.Begin(anIntent("rebuild rmapbt of AG 3"))
	require.NoError(t, err)
	got := interrupted(t, base)
	require.Len(t, got.Intents, 1)
	assert.Equal(t, "rebuild rmapbt of AG 3", got.Intents[0].What)
	assert.True(t, got.Intents[0].Ended.IsZero(), "the call has not come back")
	assert.Equal(t, got.Boot, got.Intents[0].Boot)
	assert.NotEmpty(t, got.Boot)

	require.NoError(t, first.Ended(errors.New("no space")))
	_, err = l.Begin(anIntent("repair fscounters"))
	require.NoError(t, err)
	require.NoError(t, l.Close()) // the process ends here

	got = interrupted(t, base)
	require.Len(t, got.Intents, 2)
	assert.Equal(t, "no space", got.Intents[0].Error)
	assert.WithinDuration(t, time.Now(), got.Intents[0].Ended, time.Minute)
	assert.True(t, got.Intents[1].Ended.IsZero())

	again := newLog(t, base)
	_, err = again.Begin(anIntent("rebuild bnobt of AG 0"))
	require.NoError(t, err)
	assert.Len(t, interrupted(t, base).Intents, 3, "old ones stay until they are explained")
	require.NoError(t, again.CloseAll())
	assert.False(t, interrupted(t, base).Any())
	require.NoError(t, again.Close())
}

// To read the log writes nothing, not even when it was read.
func TestReadingTheLogChangesNothing(t *testing.T) {
	base := t.TempDir()
	require.NoError(t, os.Chmod(base, 0o700))
	l := newLog(t, base)
	_, err := l.Begin(anIntent("repair fscounters"))
	require.NoError(t, err)
	path := l.paths[0]
	require.NoError(t, l.Close())
	long := time.Now().Add(-72 * time.Hour)
	require.NoError(t, os.Chtimes(path, long, time.Now()))
	require.True(t, interrupted(t, base).Any())
	var st unix.Stat_t
	require.NoError(t, unix.Stat(path, &st))
	assert.Equal(t, long.Unix(), time.Unix(st.Atim.Unix()).Unix())
}

func TestLogFileNeverGrows(t *testing.T) {
	base := t.TempDir()
	l := newLog(t, base)
	path := l.paths[0]
	before, err := os.Stat(path)
	require.NoError(t, err)
	assert.EqualValues(t, logSize, before.Size())
	for range 3 * slotCount {
		o, err := l.Begin(anIntent("rebuild"))
		require.NoError(t, err)
		require.NoError(t, o.Ended(nil))
	}
	after, err := os.Stat(path)
	require.NoError(t, err)
	assert.Equal(t, before.Size(), after.Size())
	assert.True(t, os.SameFile(before, after), "nothing is renamed over it")
	entries, err := os.ReadDir(filepath.Dir(path))
	require.NoError(t, err)
	assert.Len(t, entries, 1)
	assert.Len(t, interrupted(t, base).Intents, slotCount, "the oldest that came back make room")

	require.NoError(t, l.CloseAll())
	for range slotCount {
		_, err := l.Begin(anIntent("rebuild"))
		require.NoError(t, err)
	}
	_, err = l.Begin(anIntent("one too many"))
	require.ErrorIs(t, err, ErrLogFull)
	require.NoError(t, l.Close())
}

func TestTornRecords(t *testing.T) {
	base := t.TempDir()
	l := newLog(t, base)
	path := l.paths[0]
	for _, what := range []string{"first", "second"} {
		_, err := l.Begin(anIntent(what))
		require.NoError(t, err)
	}
	require.NoError(t, l.Close())
	whole, err := os.ReadFile(path)
	require.NoError(t, err)

	// A write that was cut off leaves the start of the new record and the end of
	// what was there.
	for _, kept := range []int{1, 100, 200} {
		torn := bytes.Clone(whole)
		copy(torn[slotSize+kept:2*slotSize], bytes.Repeat([]byte{0}, slotSize))
		require.NoError(t, os.WriteFile(path, torn, 0o600))
		got := interrupted(t, base)
		require.Len(t, got.Intents, 1)
		assert.Equal(t, "first", got.Intents[0].What)
		assert.Equal(t, 1, got.Torn)
	}
	l = newLog(t, base)
	o, err := l.Begin(anIntent("third"))
	require.NoError(t, err)
	assert.Equal(t, 2, o.slot, "what is torn stays until it is explained")
	require.NoError(t, l.CloseAll())
	assert.False(t, interrupted(t, base).Any())
	require.NoError(t, l.Close())
}

// Where both the log in /run and the one on the filesystem are there, each slot
// has its newest record; after a reboot /run is empty.
func TestLogsAreMerged(t *testing.T) {
	dir := t.TempDir()
	write := func(name string, records map[int]*record) *os.File {
		buf := make([]byte, logSize)
		for slot, r := range records {
			raw, err := r.encode()
			require.NoError(t, err)
			copy(buf[slot*slotSize:], raw)
		}
		path := filepath.Join(dir, name)
		require.NoError(t, os.WriteFile(path, buf, 0o600))
		file, err := openLog(path, os.O_RDWR)
		require.NoError(t, err)
		t.Cleanup(func() { _ = file.Close() })
		return file
	}
	rec := func(seq uint64, state, what string) *record {
		return &record{seq: seq, State: state, Intent: Intent{What: what}}
	}
	old := write("old", map[int]*record{0: rec(1, stateBegan, "a"), 1: rec(2, stateClosed, "b"), 2: rec(5, stateEnded, "c")})
	newer := write("new", map[int]*record{0: rec(4, stateClosed, "a"), 1: rec(6, stateBegan, "d")})
	for _, order := range [][]*os.File{{old, newer}, {newer, old}} {
		l := &IntentLog{}
		for _, f := range order {
			require.NoError(t, l.load(f))
		}
		assert.EqualValues(t, 6, l.seq)
		var open []string
		for _, in := range l.interrupted().Intents {
			open = append(open, in.What)
		}
		assert.Equal(t, []string{"c", "d"}, open)
	}
}

func TestLogThatIsNotOurs(t *testing.T) {
	for name, spoil := range map[string]func(path string) error{
		"a link": func(path string) error {
			return errors.Join(os.Rename(path, path+".x"), os.Symlink(path+".x", path))
		},
		"a second name":         func(path string) error { return os.Link(path, path+".x") },
		"others may write":      func(path string) error { return os.Chmod(path, 0o666) },
		"a pipe, without delay": func(path string) error { return errors.Join(os.Remove(path), unix.Mkfifo(path, 0o600)) },
	} {
		t.Run(name, func(t *testing.T) {
			base := t.TempDir()
			l := newLog(t, base)
			require.NoError(t, l.Close())
			require.NoError(t, spoil(l.paths[0]))
			_, err := ReadInterrupted(base, fakeFS(t))
			require.Error(t, err)
		})
	}
}

func TestFullStateDirectoryIsAnError(t *testing.T) {
	lab.Require(t, lab.Root)
	base := t.TempDir()
	require.NoError(t, unix.Mount("none", base, "tmpfs", 0, "size=64k"))
	t.Cleanup(func() { assert.NoError(t, unix.Unmount(base, unix.MNT_DETACH)) })
	d, err := Open(base, fakeFS(t))
	require.NoError(t, err)
	defer d.Close()
	_, err = d.Intents(nil)
	require.ErrorIs(t, err, unix.ENOSPC)
	_, err = os.Stat(filepath.Join(d.Path(), IntentsFile))
	require.ErrorIs(t, err, os.ErrNotExist, "half a log is none")
	require.NoError(t, unix.Mount("none", base, "", unix.MS_REMOUNT|unix.MS_RDONLY, "size=64k"))
	_, err = d.Intents(nil)
	require.ErrorIs(t, err, unix.EROFS)
}

// The log on the filesystem under repair is made beforehand; afterwards neither
// its blocks nor anything else of that filesystem's metadata moves.
func TestLogOnTheFilesystemUnderRepair(t *testing.T) {
	lab.Require(t, lab.Loop)
	loop := lab.NewLoopFS(t, lab.MkfsOptions{})
	fs, err := ioctl.Open(loop.Dir())
	require.NoError(t, err)
	defer fs.Close()
	p := places{loop.Path("var", "lib", "scrubd"), t.TempDir()}
	find := func() *OwnLog {
		t.Helper()
		own, err := p.findOwnLog("", fs)
		require.NoError(t, err)
		return own
	}
	open := func(own *OwnLog) *IntentLog {
		t.Helper()
		d, err := p.open("", fs)
		require.NoError(t, err)
		defer d.Close()
		l, err := d.Intents(own)
		require.NoError(t, err)
		return l
	}
	assert.Nil(t, find())
	l := open(nil)
	assert.False(t, l.Durable(), "nothing is created on a filesystem that is to be repaired")
	require.NoError(t, l.Close())
	assert.NoDirExists(t, p.standard)

	require.NoError(t, p.prepareOwn("", fs))
	found := find()
	require.NotNil(t, found)
	l = open(found)
	require.Len(t, l.paths, 2)
	assert.True(t, l.Durable())
	own := l.paths[1]
	var st unix.Stat_t
	require.NoError(t, unix.Stat(own, &st))
	assert.EqualValues(t, st.Ino, found.Ino)
	blocks := bmapOf(t, fs, own)
	o, err := l.Begin(anIntent("rebuild rmapbt of AG 0"))
	require.NoError(t, err)
	require.NoError(t, o.Ended(nil))
	require.NoError(t, l.Close())
	assert.Equal(t, blocks, bmapOf(t, fs, own))
	require.NoError(t, p.prepareOwn("", fs))
	assert.Equal(t, blocks, bmapOf(t, fs, own), "what is fit is left alone")

	// A reboot: /run is empty.
	require.NoError(t, os.RemoveAll(filepath.Join(p.runtime, UUID(fs))))
	got, err := p.readInterrupted("", fs)
	require.NoError(t, err)
	require.Len(t, got.Intents, 1)

	before, err := os.ReadFile(own)
	require.NoError(t, err)
	moved := *found
	moved.Extents = slices.Clone(found.Extents)
	moved.Extents[0].Block += 8
	for name, of := range map[string]*OwnLog{"nobody vouches for it": nil, "it is not what was vouched for": &moved} {
		l = open(of)
		assert.False(t, l.Durable(), name)
		_, err = l.Begin(anIntent("rebuild rmapbt of AG 1"))
		require.NoError(t, err)
		require.NoError(t, l.Close())
	}
	after, err := os.ReadFile(own)
	require.NoError(t, err)
	assert.Equal(t, before, after, "a log that is itself in question is not written")

	l = open(found)
	assert.True(t, l.Durable())
	require.NoError(t, l.LeaveOwn())
	assert.False(t, l.Durable())
	require.NoError(t, l.LeaveOwn(), "once is enough")
	_, err = l.Begin(anIntent("rebuild rmapbt of AG 1"))
	require.NoError(t, err)
	require.NoError(t, l.Close())
	after, err = os.ReadFile(own)
	require.NoError(t, err)
	assert.Equal(t, before, after, "and not once it has come into question")

	// A snapshot shares the blocks: to write would move them.
	in, err := os.Open(own)
	require.NoError(t, err)
	out, err := os.Create(loop.Path("snapshot"))
	require.NoError(t, err)
	require.NoError(t, unix.IoctlFileClone(int(out.Fd()), int(in.Fd())))
	require.NoError(t, errors.Join(in.Close(), out.Close()))
	assert.Nil(t, find())
	l = open(found)
	assert.False(t, l.Durable())
	require.NoError(t, l.Close())
	require.NoError(t, p.prepareOwn("", fs))
	l = open(find())
	assert.True(t, l.Durable(), "it got blocks of its own")
	require.NoError(t, l.Close())
}

func bmapOf(t *testing.T, fs *ioctl.FS, path string) []ioctl.BmapRecord {
	t.Helper()
	file, err := os.Open(path)
	require.NoError(t, err)
	defer file.Close()
	buf := ioctl.NewBmapBuffer(16)
	require.NoError(t, fs.Bmap(int(file.Fd()), ioctl.DataFork, buf))
	require.NotEmpty(t, buf.Records())
	return append([]ioctl.BmapRecord(nil), buf.Records()...)
}

func TestEncodeKeepsToItsSlot(t *testing.T) {
	long := strings.Repeat("\x01", 3*slotSize)
	r := &record{seq: 7, State: stateBegan, Intent: Intent{What: long, Summary: long, Error: long, EvidencePath: long, RunID: "r"}}
	raw, err := r.encode()
	require.NoError(t, err)
	assert.Len(t, raw, slotSize)
	got, err := decode(raw)
	require.NoError(t, err)
	assert.EqualValues(t, 7, got.seq)
	assert.Equal(t, "r", got.Intent.RunID)
	assert.Equal(t, long[:maxTextBytes], got.Intent.What)
}

func FuzzDecodeIntent(f *testing.F) {
	r := &record{seq: 9, State: stateEnded, Intent: *anIntent("rebuild rmapbt of AG 3")}
	raw, err := r.encode()
	require.NoError(f, err)
	f.Add(raw)
	f.Add(raw[:slotSize/2])
	f.Add(make([]byte, slotSize))
	f.Add([]byte(slotMagic))
	huge := bytes.Clone(raw)
	binary.LittleEndian.PutUint32(huge[offLength:], 1<<31)
	f.Add(huge)
	f.Fuzz(func(t *testing.T, slot []byte) {
		got, err := decode(slot)
		if err != nil {
			if !errors.Is(err, errTorn) || got != nil {
				t.Fatalf("%v, %v", got, err)
			}
			return
		}
		if got == nil {
			if len(bytes.Trim(slot, "\x00")) != 0 {
				t.Fatal("something was taken for an empty slot")
			}
			return
		}
		raw, err := got.encode()
		if err != nil {
			t.Fatal(err)
		}
		again, err := decode(raw)
		if err != nil || again.seq != got.seq || again.State != got.State || again.Intent.Forced != got.Intent.Forced {
			t.Fatalf("%+v became %+v: %v", got, again, err)
		}
	})
}

// No single bit that is wrong goes unnoticed.
func TestEveryBitCounts(t *testing.T) {
	raw, err := (&record{seq: 1, State: stateBegan, Intent: *anIntent("x")}).encode()
	require.NoError(t, err)
	length := int(binary.LittleEndian.Uint32(raw[offLength:]))
	for bit := range 8 * (offPayload + length) {
		raw[bit/8] ^= 1 << (bit % 8)
		_, err := decode(raw)
		require.ErrorIs(t, err, errTorn, "bit %d", bit)
		raw[bit/8] ^= 1 << (bit % 8)
	}
}
