package live

import (
	"encoding/binary"
	"fmt"
)

// pageFormat is where the parts of a ring buffer's page are.
//
// Source: events/header_page; kernel/trace/ring_buffer.c
// (ring_buffer_print_page_header).
type pageFormat struct {
	timestamp, commit field
	data, size        int // where the events begin, and how many bytes a page is in all
}

func parsePageFormat(text string) (*pageFormat, error) {
	f, err := parseFormat(text)
	if err != nil {
		return nil, err
	}
	p := &pageFormat{}
	if p.timestamp, err = f.number("timestamp"); err != nil {
		return nil, err
	}
	if p.commit, err = f.number("commit"); err != nil {
		return nil, err
	}
	data, ok := f.fields["data"]
	if !ok || data.size == 0 || data.offset < p.commit.offset+p.commit.size {
		return nil, fmt.Errorf("data of a page: %w", errFormat)
	}
	p.data, p.size = data.offset, data.offset+data.size
	return p, nil
}

// The bits that the kernel adds to the commit field: events are missing before
// this page, and how many is stored behind its data.
//
// Source: kernel/trace/ring_buffer.c (RB_MISSED_EVENTS, RB_MISSED_STORED).
const (
	missedEvents = 1 << 31
	missedBits   = 3 << 30
)

// The type_len of an event's header that are no lengths.
//
// Source: include/linux/ring_buffer.h (enum ring_buffer_type).
const (
	typePadding    = 29
	typeTimeExtend = 30
	typeTimeStamp  = 31
)

// The header of an event is one word: 5 bits type or length, 27 bits time.
const (
	typeBits   = 5
	deltaBits  = 27
	headerSize = 4
	// absoluteMSB are the bits of a time that an absolute time stamp has no room
	// for; they are those of the time before it.
	absoluteMSB = uint64(0xf8) << 56
)

// pageReader reads the events of one page.
type pageReader struct {
	rest   []byte
	time   uint64
	missed bool // events are missing before this page
}

// open begins to read a page.
func (f *pageFormat) open(page []byte) (pageReader, error) {
	time, ok1 := f.timestamp.get(page)
	commit, ok2 := f.commit.get(page)
	n := int(uint32(commit) &^ uint32(missedBits)) //nolint:gosec // 30 bits
	if !ok1 || !ok2 || f.data > len(page) || n > len(page)-f.data {
		return pageReader{}, fmt.Errorf("page of %d bytes with %d of events: %w", len(page), n, errFormat)
	}
	return pageReader{rest: page[f.data : f.data+n], time: time, missed: commit&missedEvents != 0}, nil
}

// next returns the next event and its time, nil behind the last. The bytes are
// the page's.
func (r *pageReader) next() ([]byte, uint64, error) {
	for len(r.rest) >= headerSize {
		head := binary.NativeEndian.Uint32(r.rest)
		kind, delta := head&(1<<typeBits-1), uint64(head>>typeBits)
		if isBigEndian {
			kind, delta = head>>deltaBits, uint64(head&(1<<deltaBits-1))
		}
		if kind == typePadding && delta == 0 {
			break // nothing more in this page
		}
		length, from := int(kind)*4, headerSize
		if kind == 0 || kind >= typePadding {
			if len(r.rest) < 2*headerSize {
				return nil, 0, fmt.Errorf("event header at the end of a page: %w", errFormat)
			}
			word := binary.NativeEndian.Uint32(r.rest[headerSize:])
			switch kind {
			case typeTimeExtend:
				r.time += delta | uint64(word)<<deltaBits
				r.rest = r.rest[2*headerSize:]
				continue
			case typeTimeStamp:
				r.time = (delta|uint64(word)<<deltaBits)&^absoluteMSB | r.time&absoluteMSB
				r.rest = r.rest[2*headerSize:]
				continue
			}
			// The length counts its own word.
			if uint64(word) > uint64(len(r.rest)-headerSize) || word < headerSize {
				return nil, 0, fmt.Errorf("event of %d bytes where %d are left: %w", word, len(r.rest), errFormat)
			}
			length, from = int(word), 2*headerSize
		}
		if length > len(r.rest)-headerSize {
			return nil, 0, fmt.Errorf("event of %d bytes where %d are left: %w", length, len(r.rest), errFormat)
		}
		event := r.rest[from : headerSize+length]
		r.rest = r.rest[headerSize+length:]
		if kind == typePadding {
			continue // an event that was taken back; it has no time either
		}
		r.time += delta
		return event, r.time, nil
	}
	r.rest = nil
	return nil, 0, nil
}

// isBigEndian: bit fields begin at the other end there.
var isBigEndian = binary.NativeEndian.Uint16([]byte{0, 1}) == 1
