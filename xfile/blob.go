package xfile

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"sync"
)

// ErrCookie means that a cookie does not name a value of this blob: it comes
// from elsewhere, was freed, or the bytes behind it changed.
var ErrCookie = errors.New("no value behind this cookie")

// Cookie names one value of a [Blob]. Zero is never one.
type Cookie uint64

// Blob holds values of any length in pageable memory. Its methods may be
// called from several goroutines.
//
// Each value lies behind a header of blobHeader bytes that says where it is and
// what it must be, so that a wrong cookie is an error and not wrong data:
//
//	0 magic u32 | 4 crc32c of the value u32 | 8 cookie u64 | 16 length u64 | 24 value
type Blob struct {
	f    *File
	mu   sync.Mutex
	next int64 // offset of the next header, a multiple of blobAlign
}

const (
	blobMagic  = 0x78626c62 // "xblb"
	blobHeader = 24
	blobAlign  = 8
	blobSmall  = 1024 // values up to here go out in one write with their header
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// NewBlob makes an empty blob.
func NewBlob(o Options) (*Blob, error) {
	f, err := New(o)
	if err != nil {
		return nil, err
	}
	return &Blob{f: f}, nil
}

// Put stores a copy of b, which may be empty, and returns its cookie.
//
// Errors: [*BudgetError], [*SpaceError], [ErrClosed].
func (b *Blob) Put(value []byte) (Cookie, error) {
	at, err := b.reserve(int64(len(value)))
	if err != nil {
		return 0, err
	}
	c := Cookie(at + blobHeader)
	var buf [blobHeader + blobSmall]byte
	binary.LittleEndian.PutUint32(buf[0:], blobMagic)
	binary.LittleEndian.PutUint32(buf[4:], crc32.Checksum(value, castagnoli))
	binary.LittleEndian.PutUint64(buf[8:], uint64(c))
	binary.LittleEndian.PutUint64(buf[16:], uint64(len(value)))
	// The value goes first when it does not fit with its header: a header is
	// never there without what it speaks of.
	n := copy(buf[blobHeader:], value)
	if n < len(value) {
		if _, err := b.f.WriteAt(value, int64(c)); err != nil {
			return 0, err
		}
		n = 0
	}
	if _, err := b.f.WriteAt(buf[:blobHeader+n], at); err != nil {
		return 0, err
	}
	return c, nil
}

// reserve gives a value of n bytes space, and returns where its header goes.
func (b *Blob) reserve(n int64) (int64, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	at := b.next
	end := at + (blobHeader+n+blobAlign-1)&^(blobAlign-1)
	if err := b.f.extend(at, end); err != nil {
		return 0, err
	}
	b.next = end
	return at, nil
}

// length reads the header of c.
func (b *Blob) length(c Cookie) (n int64, crc uint32, err error) {
	size := b.f.Size()
	if c < blobHeader || c%blobAlign != 0 || int64(c) < 0 || int64(c) > size {
		if err := b.f.acquire(); err != nil {
			return 0, 0, err
		}
		b.f.release()
		return 0, 0, b.errCookie(c)
	}
	var h [blobHeader]byte
	if _, err := b.f.ReadAt(h[:], int64(c)-blobHeader); err != nil {
		return 0, 0, err
	}
	length := binary.LittleEndian.Uint64(h[16:])
	if binary.LittleEndian.Uint32(h[0:]) != blobMagic || binary.LittleEndian.Uint64(h[8:]) != uint64(c) || length > uint64(size-int64(c)) {
		return 0, 0, b.errCookie(c)
	}
	return int64(length), binary.LittleEndian.Uint32(h[4:]), nil
}

// Get returns a copy of the value behind a cookie.
//
// Errors: [ErrCookie], [ErrClosed].
func (b *Blob) Get(c Cookie) ([]byte, error) {
	n, crc, err := b.length(c)
	if err != nil {
		return nil, err
	}
	value := make([]byte, n)
	if _, err := b.f.ReadAt(value, int64(c)); err != nil {
		return nil, err
	}
	if crc32.Checksum(value, castagnoli) != crc {
		return nil, b.errCookie(c)
	}
	return value, nil
}

// Free drops the value behind a cookie; whole pages in it go back to the system.
//
// Errors: [ErrCookie], [ErrClosed].
func (b *Blob) Free(c Cookie) error {
	n, _, err := b.length(c)
	if err != nil {
		return err
	}
	return b.f.Punch(int64(c)-blobHeader, blobHeader+n)
}

// Allocated returns the bytes that the blob holds, counted in its budget.
func (b *Blob) Allocated() int64 { return b.f.Allocated() }

// Close gives everything back. A second Close is a no-op.
func (b *Blob) Close() error { return b.f.Close() }

func (b *Blob) errCookie(c Cookie) error {
	return fmt.Errorf("cookie %#x of %s: %w", uint64(c), b.f.name, ErrCookie)
}
