package live

import (
	"encoding/binary"
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/scrubd/scrubd/ioctl"
	"github.com/scrubd/scrubd/shadow"
)

const intentHold = `ID: 600
	field:unsigned short common_type;	offset:2;	size:2;	signed:0;
	field:int common_pid;	offset:4;	size:4;	signed:1;
	field:dev_t dev;	offset:8;	size:4;	signed:0;
	field:enum xfs_group_type type;	offset:12;	size:4;	signed:0;
	field:uint32_t index;	offset:16;	size:4;	signed:0;
	field:long nr_intents;	offset:24;	size:8;	signed:1;
print fmt: "", __print_symbolic(REC->type, { 0, "ag" }, { 1, "rtg" })
`

const scrubStart = `ID: 700
	field:unsigned short common_type;	offset:2;	size:2;	signed:0;
	field:int common_pid;	offset:4;	size:4;	signed:1;
	field:dev_t dev;	offset:8;	size:4;	signed:0;
	field:unsigned int type;	offset:12;	size:4;	signed:0;
	field:xfs_agnumber_t agno;	offset:16;	size:4;	signed:0;
	field:xfs_ino_t inum;	offset:24;	size:8;	signed:0;
`

func renumber(text string, id int) string {
	first, rest, _ := strings.Cut(text, "ID: ")
	return first + "ID: " + strconv.Itoa(id) + rest[3:]
}

func testIntent(delta int8, agno uint32) []byte {
	b := make([]byte, 32)
	id := 600
	if delta < 0 {
		id++
	}
	binary.NativeEndian.PutUint16(b[2:], uint16(id))
	binary.NativeEndian.PutUint32(b[16:], agno)
	return b
}

func testScrub(which int, pid int32, typ ioctl.ScrubType, agno uint32) []byte {
	b := make([]byte, 32)
	binary.NativeEndian.PutUint16(b[2:], uint16(700+which))
	binary.NativeEndian.PutUint32(b[4:], uint32(pid))
	binary.NativeEndian.PutUint32(b[12:], uint32(typ))
	binary.NativeEndian.PutUint32(b[16:], agno)
	return b
}

// recorder is a Feed that writes down what it is told.
type recorder struct {
	told    []string
	changes []Change
	err     error
}

func (r *recorder) Add(changes []Change) error {
	for _, c := range changes {
		r.told = append(r.told, fmt.Sprintf("%s %v %d", groupName(Group{c.AGNo, c.Realtime}), c.Op, c.Rmap.StartBlock))
	}
	r.changes = append(r.changes, changes...)
	return r.err
}
func (r *recorder) Lost() { r.told = append(r.told, "lost") }
func (r *recorder) Invalidate(g Group) {
	r.told = append(r.told, fmt.Sprintf("%s repair", groupName(g)))
}

func groupName(g Group) string {
	if g.Realtime {
		return fmt.Sprintf("rt%d", g.AGNo)
	}
	return fmt.Sprint(g.AGNo)
}

// fakeBuffers is a stream over pipes that deliver pages as the kernel does, one
// a read, without a kernel.
type fakeBuffers struct {
	*Stream
	pipes []*os.File
	stats []*os.File
}

func newFakeBuffers(t *testing.T, cpus int, o Options) *fakeBuffers {
	t.Helper()
	f := &fakeBuffers{Stream: &Stream{
		pages: testPageFormat(t), dec: testDecoder(t), opts: o, groups: func() (uint32, uint32) { return 2, 2 },
		native: true, watches: make(map[*watch]bool), batch: make([]Change, 0, batchLen),
		intents: true, // there is nothing to switch on
	}}
	for range cpus {
		var fds [2]int
		require.NoError(t, unix.Pipe2(fds[:], unix.O_DIRECT|unix.O_NONBLOCK|unix.O_CLOEXEC))
		f.pipes = append(f.pipes, os.NewFile(uintptr(fds[1]), "pages"))
		stats, err := os.CreateTemp(t.TempDir(), "stats")
		require.NoError(t, err)
		f.stats = append(f.stats, stats)
		f.buffers = append(f.buffers, &cpuBuffer{fd: fds[0], stats: int(stats.Fd()), page: make([]byte, 4096)})
		f.lose(t, len(f.stats)-1, 0)
		t.Cleanup(func() {
			_ = unix.Close(fds[0])
			_ = f.pipes[len(f.pipes)-1].Close()
			_ = stats.Close()
		})
	}
	return f
}

func (f *fakeBuffers) lose(t *testing.T, cpu, n int) {
	t.Helper()
	_, err := f.stats[cpu].WriteAt(fmt.Appendf(nil, "entries: 7\noverrun: 0\ncommit overrun: 0\nbytes: 9\ndropped events: %d\nread events: 7\n", n), 0)
	require.NoError(t, err)
}

func (f *fakeBuffers) write(t *testing.T, cpu int, page []byte) {
	t.Helper()
	_, err := f.pipes[cpu].Write(page)
	require.NoError(t, err)
}

// step is a mapping of one block of a group.
func step(t *testing.T, w *pageWriter, time uint64, agno, block uint32) {
	t.Helper()
	w.event(time, testChange(t, agno, OpMap, shadow.Rmap{StartBlock: block, BlockCount: 1, Owner: 131}))
}

// TestRoundOrder: three CPUs take turns; everything comes in the order of time,
// across pages and rounds.
func TestRoundOrder(t *testing.T) {
	var r recorder
	f := newFakeBuffers(t, 3, Options{Feed: &r})
	base := Now() - 1e9
	var want []string
	for round := range 3 {
		writers := []*pageWriter{newPageWriter(base), newPageWriter(base), newPageWriter(base)}
		for i := range 60 {
			cpu := (i / 7) % 3
			block := uint32(round*60 + i)
			step(t, writers[cpu], base+uint64(block), block%2, block)
			want = append(want, fmt.Sprintf("%d map %d", block%2, block))
			if i%20 == 19 {
				f.write(t, cpu, writers[cpu].page(false))
				writers[cpu] = newPageWriter(base + uint64(block))
			}
		}
		for cpu, w := range writers {
			f.write(t, cpu, w.page(false))
		}
		require.NoError(t, f.Sync(t.Context()))
	}
	assert.Equal(t, want, r.told)
	assert.Equal(t, Stats{Changes: 180}, f.Stats())
}

// TestRoundHorizon: what is younger than the round waits, also for one that a
// CPU was still writing down.
func TestRoundHorizon(t *testing.T) {
	var r recorder
	f := newFakeBuffers(t, 2, Options{Feed: &r})
	now := Now()
	w := newPageWriter(now)
	step(t, w, now, 1, 10)
	step(t, w, now+1e9, 1, 30)
	f.write(t, 0, w.page(false))
	_, err := f.round()
	require.NoError(t, err)
	assert.Equal(t, []string{"1 map 10"}, r.told)

	w = newPageWriter(now)
	step(t, w, now+5e8, 1, 20) // came late
	f.write(t, 1, w.page(false))
	require.Eventually(t, func() bool {
		_, err := f.round()
		return err == nil && len(r.told) == 3
	}, 10e9, 1e7)
	assert.Equal(t, []string{"1 map 10", "1 map 20", "1 map 30"}, r.told)
}

func TestRoundLoss(t *testing.T) {
	var r recorder
	f := newFakeBuffers(t, 2, Options{Feed: &r})
	at := Now() - 1e6
	w := newPageWriter(at)
	step(t, w, at, 0, 1)
	f.lose(t, 0, 5)
	f.write(t, 0, w.page(false))
	require.NoError(t, f.Sync(t.Context()))
	assert.Equal(t, []string{"0 map 1", "lost"}, r.told, "the buffer was full")

	r.told = nil
	require.NoError(t, f.Sync(t.Context()))
	assert.Empty(t, r.told, "said once")

	step(t, w, at+1, 0, 2)
	f.write(t, 1, w.page(true))
	require.NoError(t, f.Sync(t.Context()))
	assert.Contains(t, r.told, "lost", "the page says that events are missing")
	assert.Equal(t, uint64(2), f.Stats().Losses)
}

func TestRoundTie(t *testing.T) {
	for name, c := range map[string]struct {
		cpus  [2]int
		agnos [2]uint32
		tie   bool
	}{
		"two CPUs, one group":  {[2]int{0, 1}, [2]uint32{1, 1}, true},
		"two CPUs, two groups": {[2]int{0, 1}, [2]uint32{0, 1}, false},
		"one CPU, one group":   {[2]int{0, 0}, [2]uint32{1, 1}, false},
	} {
		t.Run(name, func(t *testing.T) {
			var r recorder
			f := newFakeBuffers(t, 2, Options{Feed: &r})
			at := Now() - 1e6
			for i := range c.cpus {
				w := newPageWriter(at)
				step(t, w, at, c.agnos[i], uint32(i))
				f.write(t, c.cpus[i], w.page(false))
			}
			require.NoError(t, f.Sync(t.Context()))
			if c.tie {
				assert.Contains(t, r.told, "1 repair")
			} else {
				assert.Len(t, r.told, 2)
			}
		})
	}
}

// TestRoundRepairs: a repair of a group invalidates it, one of an inode all; a
// foreign one is told of, ours is not.
func TestRoundRepairs(t *testing.T) {
	var r recorder
	var told []Foreign
	f := newFakeBuffers(t, 1, Options{Feed: &r, Foreign: func(x Foreign) { told = append(told, x) }})
	at := Now() - 1e6
	w := newPageWriter(at)
	step(t, w, at, 1, 1)
	own := int32(unix.Gettid())
	const other = int32(1 << 30) // more than any kernel's pid_max
	w.event(at+1, testScrub(0, own, ioctl.ScrubTypeRMAPBT, 1))
	step(t, w, at+2, 1, 2)
	w.event(at+3, testScrub(0, other, ioctl.ScrubTypeBMBTD, 0))
	w.event(at+4, testScrub(1, other, ioctl.ScrubTypeAGF, 1))
	w.event(at+5, testScrub(1, own, ioctl.ScrubTypeAGF, 1))
	f.write(t, 0, w.page(false))
	require.NoError(t, f.Sync(t.Context()))
	assert.Equal(t, []string{"1 map 1", "1 repair", "1 map 2", "0 repair", "1 repair", "rt0 repair", "rt1 repair"}, r.told)
	want := []Foreign{
		{Time: at + 3, PID: other, Type: ioctl.ScrubTypeBMBTD, Repair: true},
		{Time: at + 4, PID: other, Type: ioctl.ScrubTypeAGF, AGNo: 1},
	}
	assert.Equal(t, want, told)
	assert.Equal(t, want, f.Foreign())
	assert.Equal(t, uint64(2), f.Stats().Repairs)
}

// TestRoundRealtime: changes of realtime groups come as such, mixed with those
// of the AGs of the same number, and a repair of one invalidates it, and the AGs
// that its metadata lies in.
func TestRoundRealtime(t *testing.T) {
	var r recorder
	f := newFakeBuffers(t, 2, Options{Feed: &r})
	at := Now() - 1e6
	w, other := newPageWriter(at), newPageWriter(at)
	step(t, w, at, 1, 1)
	rec := testChange(t, 1, OpUnmap, shadow.Rmap{StartBlock: 2, BlockCount: 1, Owner: 131})
	binary.NativeEndian.PutUint32(rec[12:], testRTG)
	other.event(at, rec) // no tie: another group
	w.event(at+1, testScrub(0, int32(unix.Gettid()), ioctl.ScrubTypeRTRMAPBT, 1))
	f.write(t, 0, w.page(false))
	f.write(t, 1, other.page(false))
	require.NoError(t, f.Sync(t.Context()))
	assert.ElementsMatch(t, []string{"1 map 1", "rt1 unmap 2", "0 repair", "1 repair", "rt1 repair"}, r.told)
}

// TestFeedFails: its error ends the stream, and everybody who waits hears it.
func TestFeedFails(t *testing.T) {
	r := recorder{err: os.ErrPermission}
	f := newFakeBuffers(t, 1, Options{Feed: &r})
	at := Now() - 1e6
	w := newPageWriter(at)
	step(t, w, at, 1, 1)
	f.write(t, 0, w.page(false))
	require.ErrorIs(t, f.Sync(t.Context()), os.ErrPermission)
	require.ErrorIs(t, f.Sync(t.Context()), os.ErrPermission)
}

// TestBadPage: what is not as described ends the stream too.
func TestBadPage(t *testing.T) {
	f := newFakeBuffers(t, 1, Options{Feed: &recorder{}})
	f.write(t, 0, []byte("no page"))
	require.ErrorIs(t, f.Sync(t.Context()), errFormat)
}
