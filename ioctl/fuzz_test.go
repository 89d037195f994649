package ioctl

import (
	"encoding/binary"
	"slices"
	"testing"
	"unsafe"

	"github.com/stretchr/testify/require"

	"github.com/scrubd/scrubd/ioctl/internal/abi"
)

// scribbler returns a filesystem whose kernel writes data over the whole argument of the requests in
// size, and a function to change the data.
func scribbler(t testing.TB, size map[uintptr]uintptr) (*FS, func([]byte)) {
	t.Helper()
	var data []byte
	k := nullKernel{}
	k.answer = func(req uintptr, arg unsafe.Pointer) {
		if n, ok := size[req]; ok && data != nil {
			copy(unsafe.Slice((*byte)(arg), n), data)
			return
		}
		_, _ = nullKernel{}.Ioctl(0, req, arg)
	}
	fs, err := New(k, "/srv")
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, fs.Close()) })
	return fs, func(b []byte) { data = b }
}

// fuzzRecords is how many records the buffers of the fuzz targets hold.
const fuzzRecords = 4

func FuzzFSMap(f *testing.F) {
	size := unsafe.Sizeof(abi.FSMapHead{}) + fuzzRecords*unsafe.Sizeof(FSMapRecord{})
	head := make([]byte, size)
	binary.NativeEndian.PutUint32(head[12:], fuzzRecords)
	f.Add(head)
	f.Add(slices.Repeat([]byte{0xff}, int(size)))
	f.Fuzz(func(t *testing.T, b []byte) {
		fs, scribble := scribbler(t, map[uintptr]uintptr{abi.ReqGetFSMap: size})
		buf := NewFSMapBuffer(fuzzRecords)
		scribble(b)
		low, high := fs.FSMapAGKeys(1)
		if err := fs.FSMap(low, high, buf); err != nil {
			require.ErrorIs(t, err, ErrMalformed)
			require.Empty(t, buf.Records())
			return
		}
		require.LessOrEqual(t, len(buf.Records()), fuzzRecords)
		for i := range buf.Records() {
			r := &buf.Records()[i]
			_, _ = r.Flags.String(), FSMapOwner(r.Owner).String()
			_, _, _ = r.Key(), r.Shareable(), r.Is(FSMapOwnerFree)
			fs.Geometry().BytesToAG(r.Physical)
		}
	})
}

func FuzzBmap(f *testing.F) {
	size := (1 + fuzzRecords) * unsafe.Sizeof(BmapRecord{})
	head := make([]byte, size)
	binary.NativeEndian.PutUint32(head[28:], fuzzRecords)
	f.Add(head)
	f.Add(slices.Repeat([]byte{0xff}, int(size)))
	f.Fuzz(func(t *testing.T, b []byte) {
		fs, scribble := scribbler(t, map[uintptr]uintptr{abi.ReqGetBmapx: size})
		scribble(b)
		// One call: the buffer would grow to its limit for a kernel that is never done.
		buf := NewBmapBuffer(fuzzRecords)
		require.NoError(t, fs.enter())
		defer fs.leave()
		if err := fs.bmap(5, DataFork, 0, bmapRangeMax, buf); err != nil {
			require.ErrorIs(t, err, ErrMalformed)
			require.Empty(t, buf.Records())
			return
		}
		require.LessOrEqual(t, len(buf.Records()), fuzzRecords)
		for i := range buf.Records() {
			r := &buf.Records()[i]
			_ = r.Flags.String()
			if r.HasBlocks() {
				fs.Geometry().DAddrToAG(r.Block)
			}
		}
	})
}

func FuzzBulkstat(f *testing.F) {
	size := unsafe.Sizeof(abi.BulkReq{}) + fuzzRecords*unsafe.Sizeof(BulkstatRecord{})
	head := make([]byte, size)
	binary.NativeEndian.PutUint32(head[16:], fuzzRecords)
	f.Add(head)
	f.Add(slices.Repeat([]byte{0xff}, int(size)))
	f.Fuzz(func(t *testing.T, b []byte) {
		fs, scribble := scribbler(t, map[uintptr]uintptr{abi.ReqBulkstat: size})
		scribble(b)
		buf := NewBulkstatBuffer(fuzzRecords)
		n, err := fs.Bulkstat(&BulkRequest{}, buf)
		if err != nil {
			require.ErrorIs(t, err, ErrMalformed)
			require.Zero(t, n)
		}
		require.Len(t, buf.Records(), n)
		for i := range buf.Records() {
			r := &buf.Records()[i]
			_, _, _ = r.Type(), r.Openable(), r.Sick.String()
			fs.Geometry().InoToAG(r.Ino)
		}
	})
}

func FuzzInumbers(f *testing.F) {
	size := unsafe.Sizeof(abi.BulkReq{}) + fuzzRecords*unsafe.Sizeof(InumbersRecord{})
	head := make([]byte, size)
	binary.NativeEndian.PutUint32(head[16:], fuzzRecords)
	f.Add(head)
	f.Add(slices.Repeat([]byte{0xff}, int(size)))
	f.Fuzz(func(t *testing.T, b []byte) {
		fs, scribble := scribbler(t, map[uintptr]uintptr{abi.ReqInumbers: size})
		scribble(b)
		buf := NewInumbersBuffer(fuzzRecords)
		n, err := fs.Inumbers(&BulkRequest{}, buf)
		if err != nil {
			require.ErrorIs(t, err, ErrMalformed)
			require.Zero(t, n)
		}
		require.Len(t, buf.Records(), n)
		for i := range buf.Records() {
			r := &buf.Records()[i]
			count := 0
			for ino := range r.AllocatedInodes {
				count++
				if r.StartIno <= ^Ino(0)-InodesPerChunk {
					require.True(t, r.Allocated(ino))
				}
			}
			require.LessOrEqual(t, count, InodesPerChunk)
		}
	})
}

func FuzzScrubVec(f *testing.F) {
	f.Add(make([]byte, 4*16))
	f.Add(slices.Repeat([]byte{0xff}, 4*16))
	f.Fuzz(func(t *testing.T, b []byte) {
		k := nullKernel{}
		k.answer = func(req uintptr, arg unsafe.Pointer) {
			if req == abi.ReqScrubvMetadata {
				copy(unsafe.Slice((*byte)((*abi.ScrubVecHead)(arg).Vectors.Pointer()), 4*16), b)
				return
			}
			_, _ = nullKernel{}.Ioctl(0, req, arg)
		}
		fs, err := New(k, "/srv")
		require.NoError(t, err)
		defer fs.Close()
		v := make([]ScrubVecEntry, 4)
		require.NoError(t, fs.ScrubVec(131, 7, 0, 0, v))
		for i := range v {
			if v[i].Err != nil {
				require.True(t, v[i].Ran)
				_ = v[i].Err.Error()
				_ = Classify(v[i].Err)
			}
		}
	})
}

func FuzzGeometry(f *testing.F) {
	good := make([]byte, unsafe.Sizeof(abi.FSGeometry{}))
	binary.NativeEndian.PutUint32(good[0:], 4096)
	binary.NativeEndian.PutUint32(good[8:], 1000)
	binary.NativeEndian.PutUint32(good[12:], 4)
	binary.NativeEndian.PutUint32(good[24:], 512)
	binary.NativeEndian.PutUint64(good[32:], 3900)
	f.Add(good, uint64(1)<<40)
	f.Fuzz(func(t *testing.T, b []byte, at uint64) {
		raw := new(abi.FSGeometry)
		copy(unsafe.Slice((*byte)(unsafe.Pointer(raw)), unsafe.Sizeof(*raw)), b)
		g := newGeometry(raw)
		if err := g.check(); err != nil {
			require.ErrorIs(t, err, ErrGeometry)
			return
		}
		last := AGNumber(g.AGCount - 1)
		require.Positive(t, g.AGLength(last))
		first, end := g.AGRange(last)
		require.LessOrEqual(t, first, end)
		agno, agbno := g.BytesToAG(end)
		require.Equal(t, last, agno)
		require.Equal(t, g.AGLength(last)-1, agbno)
		g.BytesToAG(ByteOff(at))
		g.DAddrToAG(DAddr(at))
		g.FSBToByte(FSBlock(at))
		g.InoToAG(Ino(at))
		g.InternalLog()
		_ = g.Flags.String()
	})
}

func FuzzDecodeParents(f *testing.F) {
	rec := make([]byte, 48)
	binary.NativeEndian.PutUint64(rec[16:], 128)
	binary.NativeEndian.PutUint32(rec[24:], 48)
	copy(rec[32:], "name")
	f.Add(rec)
	f.Add(append(slices.Clone(rec), rec...))
	f.Add(make([]byte, 64))
	f.Fuzz(func(t *testing.T, b []byte) {
		names := 0
		_, err := decodeParents(b, func(p Parent) bool {
			require.NotEmpty(t, p.Name)
			require.NotContains(t, p.Name, "\x00")
			names++
			return true
		})
		if err != nil {
			require.ErrorIs(t, err, ErrMalformed)
		}
		require.LessOrEqual(t, names, len(b)/int(parentNameOffset))
	})
}

func FuzzDecodeHealthEvents(f *testing.F) {
	f.Add(make([]byte, 64))
	f.Add(slices.Repeat([]byte{0xff}, 130))
	f.Fuzz(func(t *testing.T, b []byte) {
		events, err := DecodeHealthEvents(b)
		require.Len(t, events, len(b)/healthEventSize)
		require.Equal(t, len(b)%healthEventSize != 0, err != nil)
		for i := range events {
			_, _ = events[i].Domain.String(), events[i].Type.String()
			_ = events[i].Shutdown.String()
		}
	})
}

// A kernel that never says that it is done, or that repeats itself, does not keep us for ever.
func TestParentsOfAConfusedKernel(t *testing.T) {
	fs, scribble := scribbler(t, map[uintptr]uintptr{abi.ReqGetParentsByHandle: 0})
	scribble([]byte{})
	calls := 0
	for _, err := range fs.Parents(131, 7) {
		require.ErrorIs(t, err, ErrMalformed)
		calls++
	}
	require.Equal(t, 1, calls)
	k := nullKernel{}
	k.answer = func(req uintptr, arg unsafe.Pointer) {
		if req != abi.ReqGetParentsByHandle {
			_, _ = nullKernel{}.Ioctl(0, req, arg)
			return
		}
		gp := &(*abi.GetParentsByHandle)(arg).Request
		buf := unsafe.Slice((*byte)(gp.Buffer.Pointer()), gp.BufSize)
		binary.NativeEndian.PutUint32(buf[parentRecLenOffset:], gp.BufSize)
		copy(buf[parentNameOffset:], "again")
	}
	fs, err := New(k, "/srv")
	require.NoError(t, err)
	defer fs.Close()
	var names []string
	for p, err := range fs.Parents(131, 7) {
		if err != nil {
			require.ErrorIs(t, err, ErrMalformed)
			require.ErrorContains(t, err, "the cursor does not move")
			break
		}
		names = append(names, p.Name)
	}
	require.Equal(t, []string{"again"}, names)
}
