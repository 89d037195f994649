package live

import (
	"encoding/binary"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/scrubd/scrubd/ioctl"
	"github.com/scrubd/scrubd/shadow"
)

// pageWriter makes a page as the kernel does (kernel/trace/ring_buffer.c).
type pageWriter struct {
	start, now uint64
	data       []byte
}

func newPageWriter(now uint64) *pageWriter { return &pageWriter{start: now, now: now} }

func (w *pageWriter) word(v uint32) { w.data = binary.NativeEndian.AppendUint32(w.data, v) }

func head(kind, delta uint32) uint32 {
	if isBigEndian {
		return kind<<deltaBits | delta
	}
	return kind | delta<<typeBits
}

// event adds a record at a time, with a time extend where the step needs it.
func (w *pageWriter) event(time uint64, rec []byte) {
	step := time - w.now
	if step >= 1<<deltaBits {
		w.word(head(typeTimeExtend, uint32(step&(1<<deltaBits-1))))
		w.word(uint32(step >> deltaBits))
		step = 0
	}
	w.now = time
	for len(rec)%4 != 0 {
		rec = append(rec, 0)
	}
	if n := len(rec) / 4; n > 0 && n < typePadding {
		w.word(head(uint32(n), uint32(step)))
	} else {
		w.word(head(0, uint32(step)))
		w.word(uint32(len(rec) + 4))
	}
	w.data = append(w.data, rec...)
}

// absolute sets the time, less its highest bits.
func (w *pageWriter) absolute(time uint64) {
	w.now = time
	time &^= absoluteMSB
	w.word(head(typeTimeStamp, uint32(time&(1<<deltaBits-1))))
	w.word(uint32(time >> deltaBits))
}

// takenBack adds an event that was discarded; its time does not count.
func (w *pageWriter) takenBack(size int) {
	w.word(head(typePadding, 1))
	w.word(uint32(size + 4))
	w.data = append(w.data, make([]byte, size)...)
}

func (w *pageWriter) page(missed bool) []byte {
	commit := uint64(len(w.data))
	if missed {
		commit |= missedEvents
	}
	p := binary.NativeEndian.AppendUint64(nil, w.start)
	p = binary.NativeEndian.AppendUint64(p, commit)
	p = append(p, w.data...)
	return append(p, make([]byte, max(0, 4096-len(p)))...)
}

func testPageFormat(t require.TestingT) *pageFormat {
	f, err := parsePageFormat(pageHeader)
	require.NoError(t, err)
	require.Equal(t, 4096, f.size)
	return f
}

// TestPageTwin: what was written is read, with its times, whatever lies between.
func TestPageTwin(t *testing.T) {
	f := testPageFormat(t)
	rapid.Check(t, func(t *rapid.T) {
		type written struct {
			time uint64
			rec  []byte
		}
		w := newPageWriter(rapid.Uint64Range(0, 1<<62).Draw(t, "start"))
		var want []written
		for range rapid.IntRange(0, 20).Draw(t, "events") {
			now := w.now + rapid.OneOf(rapid.Uint64Range(0, 1000), rapid.Uint64Range(0, 1<<40)).Draw(t, "step")
			switch rapid.IntRange(0, 4).Draw(t, "kind") {
			case 0:
				w.takenBack(4 * rapid.IntRange(0, 10).Draw(t, "size"))
			case 1:
				if now&absoluteMSB == w.now&absoluteMSB {
					w.absolute(now)
				}
			default:
				rec := rapid.SliceOfN(rapid.Byte(), 1, 150).Draw(t, "record")
				for len(rec)%4 != 0 {
					rec = append(rec, 0)
				}
				w.event(now, rec)
				want = append(want, written{now, rec})
			}
		}
		missed := rapid.Bool().Draw(t, "missed")
		r, err := f.open(w.page(missed))
		require.NoError(t, err)
		assert.Equal(t, missed, r.missed)
		for _, e := range want {
			rec, time, err := r.next()
			require.NoError(t, err)
			assert.Equal(t, e.time, time)
			assert.Equal(t, e.rec, rec)
		}
		rec, _, err := r.next()
		require.NoError(t, err)
		assert.Nil(t, rec)
	})
}

func TestPageEndsAtPadding(t *testing.T) {
	w := newPageWriter(5)
	w.event(6, []byte("abcd"))
	w.word(head(typePadding, 0))
	w.word(0x12345678)
	r, err := testPageFormat(t).open(w.page(false))
	require.NoError(t, err)
	rec, _, err := r.next()
	require.NoError(t, err)
	assert.Equal(t, "abcd", string(rec))
	rec, _, err = r.next()
	require.NoError(t, err)
	assert.Nil(t, rec)
}

func TestPageRefuses(t *testing.T) {
	f := testPageFormat(t)
	for name, page := range map[string][]byte{
		"short":       make([]byte, 15),
		"commit":      binary.NativeEndian.AppendUint64(make([]byte, 8), 4081)[:16],
		"long commit": append(binary.NativeEndian.AppendUint64(make([]byte, 8), 4081), make([]byte, 4080)...),
	} {
		_, err := f.open(page)
		require.ErrorIs(t, err, errFormat, name)
	}
	for name, words := range map[string][]uint32{
		"longer than the page": {head(5, 0), 1},
		"no length":            {head(0, 0)},
		"huge length":          {head(0, 0), 1 << 31},
		"no room for itself":   {head(0, 0), 3},
		"half an extend":       {head(typeTimeExtend, 1)},
	} {
		w := newPageWriter(0)
		for _, v := range words {
			w.word(v)
		}
		r, err := f.open(w.page(false))
		require.NoError(t, err)
		_, _, err = r.next()
		require.ErrorIs(t, err, errFormat, name)
	}
}

func FuzzPage(f *testing.F) {
	w := newPageWriter(1 << 40)
	w.event(1<<40+7, testChange(t0(f), 1, OpMap, shadow.Rmap{StartBlock: 3, BlockCount: 4, Owner: 5}))
	w.absolute(1 << 41)
	w.takenBack(8)
	w.event(1<<50, make([]byte, 200))
	f.Add(w.page(false))
	f.Add(w.page(true))
	pages := testPageFormat(f)
	dec := testDecoder(f)
	f.Fuzz(func(t *testing.T, page []byte) {
		r, err := pages.open(page)
		if err != nil {
			require.ErrorIs(t, err, errFormat)
			return
		}
		for range page {
			var e event
			rec, _, err := r.next()
			if rec == nil {
				return
			}
			require.NoError(t, err)
			_, _ = dec.decode(rec, &e)
		}
		t.Fatal("more events than bytes")
	})
}

func t0(f *testing.F) require.TestingT { return f }

// testDecoder knows mapDone under three numbers, one for each operation, and
// the others with fields of their own.
func testDecoder(t require.TestingT) *decoder {
	d := newDecoder()
	for i, s := range changeSources {
		require.NoError(t, d.add(s, renumber(mapDone, 517+i)))
	}
	for i, s := range intentSources {
		require.NoError(t, d.add(s, renumber(intentHold, 600+i)))
	}
	for i, s := range scrubSources {
		require.NoError(t, d.add(s, renumber(scrubStart, 700+i)))
	}
	return d
}

// testChange is a record of mapDone.
func testChange(_ require.TestingT, agno uint32, op Op, r shadow.Rmap) []byte {
	b := make([]byte, 56)
	binary.NativeEndian.PutUint16(b[2:], uint16(517+int(op)-1))
	binary.NativeEndian.PutUint32(b[12:], 3) // an allocation group
	binary.NativeEndian.PutUint32(b[16:], agno)
	binary.NativeEndian.PutUint32(b[24:], r.StartBlock)
	binary.NativeEndian.PutUint32(b[20:], r.BlockCount)
	binary.NativeEndian.PutUint64(b[32:], r.Owner)
	binary.NativeEndian.PutUint64(b[48:], r.FileOffset())
	var flags uint64
	for bit, flag := range map[uint64]uint64{
		shadow.OffsetAttrFork: rmapAttr, shadow.OffsetBmbtBlock: rmapBmbt, shadow.OffsetUnwritten: rmapUnwritten,
	} {
		if r.Offset&bit != 0 {
			flags |= flag
		}
	}
	binary.NativeEndian.PutUint64(b[40:], flags)
	return b
}

// testRTG is the type of realtime groups in the descriptions of the tests.
const testRTG = 4

func TestDecode(t *testing.T) {
	d := testDecoder(t)
	for _, r := range []shadow.Rmap{
		{StartBlock: 7, BlockCount: 9, Owner: 131, Offset: 1 << 40},
		{StartBlock: 7, BlockCount: 9, Owner: 131, Offset: shadow.OffsetUnwritten | 5},
		{StartBlock: 7, BlockCount: 9, Owner: 131, Offset: shadow.OffsetAttrFork | 5},
		{StartBlock: 7, BlockCount: 1, Owner: 131, Offset: shadow.OffsetBmbtBlock},
		{StartBlock: 7, BlockCount: 1, Owner: shadow.OwnerAG},
	} {
		var e event
		ok, err := d.decode(testChange(t, 2, OpUnmap, r), &e)
		require.NoError(t, err)
		require.True(t, ok)
		assert.Equal(t, event{kind: kindChange, op: OpUnmap, agno: 2, group: true, rmap: r}, e)
	}

	rec := testChange(t, 2, OpMap, shadow.Rmap{StartBlock: 1, BlockCount: 1, Owner: 9})
	binary.NativeEndian.PutUint32(rec[12:], testRTG)
	var e event
	ok, err := d.decode(rec, &e)
	require.NoError(t, err)
	assert.True(t, ok)
	assert.False(t, e.group, "a realtime group's")
	assert.True(t, e.rt)
	binary.NativeEndian.PutUint32(rec[12:], 9)
	ok, err = d.decode(rec, &e)
	require.NoError(t, err)
	assert.True(t, ok)
	assert.False(t, e.group || e.rt, "of a kind of groups that is not known")

	_, err = d.decode(rec[:40], &e)
	require.ErrorIs(t, err, errFormat, "an event that is shorter than described")
	binary.NativeEndian.PutUint16(rec[2:], 9)
	ok, err = d.decode(rec, &e)
	require.NoError(t, err)
	assert.False(t, ok, "an event of others")

	ok, err = d.decode(testScrub(0, 77, ioctl.ScrubTypeBNOBT, 3), &e)
	require.NoError(t, err)
	require.True(t, ok)
	assert.Equal(t, event{kind: kindRepair, pid: 77, agno: 3, group: true, typ: ioctl.ScrubTypeBNOBT}, e)
	ok, err = d.decode(testIntent(-1, 4), &e)
	require.NoError(t, err)
	require.True(t, ok)
	assert.Equal(t, event{kind: kindIntent, delta: -1, agno: 4, group: true}, e)
}
