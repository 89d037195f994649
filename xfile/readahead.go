package xfile

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// The kernel reads ahead of every place that a program faults in order, by up
// to read_ahead_kb: megabytes for each. A partition works in hundreds of places
// at once, so on disk that would push out what it needs next. There the sorts
// switch it off and say themselves what they need, in blocks that fit together
// in streamMemory.
const (
	streamMemory   = 32 << 20
	streamBlockMin = 16 << 10
	streamBlockMax = 256 << 10
)

// reader tells the kernel what a sort is about to read. A nil reader, for data
// in memory, says nothing.
type reader struct {
	advise func(b []byte, advice int) error
}

// newReader returns the reader for all records of a mapping.
func newReader[T any](k *kernel, place Place, all []T) *reader {
	if place != Disk || len(all) == 0 {
		return nil
	}
	// A kernel that does not take advice reads too much, no more.
	_ = k.madvise(unsafe.Slice((*byte)(unsafe.Pointer(&all[0])), byteLen(all)), unix.MADV_RANDOM)
	return &reader{k.madvise}
}

// need says that s is about to be read.
func need[T any](r *reader, s []T) {
	if r == nil || len(s) == 0 {
		return
	}
	p := unsafe.Pointer(&s[0])
	head := uintptr(p) & uintptr(sysPage-1)
	_ = r.advise(unsafe.Slice((*byte)(unsafe.Add(p, -int(head))), byteLen(s)+int(head)), unix.MADV_WILLNEED)
}

// stream is one place that moves up through records.
type stream struct {
	mark  int // from here on more has to be asked for; maxInt: never
	asked int // the first record that was not asked for
}

const maxInt = int(^uint(0) >> 1)

// newStream returns a stream that has asked for nothing.
func newStream(r *reader) stream {
	if r == nil {
		return stream{mark: maxInt}
	}
	return stream{}
}

// blockFor returns how many records each of so many streams should ask for at
// a time.
func blockFor[T any](streams int) int {
	var zero T
	bytes := streamMemory / 2 / max(1, streams)
	return max(1, min(max(bytes, streamBlockMin), streamBlockMax)/int(unsafe.Sizeof(zero)))
}

// ask is called where a stream comes to i >= mark on its way to end. It keeps
// the block that i is in and the next one asked for.
func ask[T any](r *reader, s []T, st *stream, i, end, block int) {
	from := max(i, st.asked)
	st.asked = min(end, i+2*block)
	if from < st.asked {
		need(r, s[from:st.asked])
	}
	st.mark = st.asked - block
	if st.asked == end {
		st.mark = maxInt
	}
}
