package lab

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"

	"github.com/scrubd/scrubd/ioctl"
)

// Errors of the on-disk editor.
var (
	ErrNotAnImage = errors.New("not a V5 XFS image")
	ErrBadMagic   = errors.New("wrong magic number")
	ErrBadCRC     = errors.New("wrong checksum")
	ErrLeafFull   = errors.New("the btree block is full")
	ErrLastRecord = errors.New("the btree block would become empty")
)

// Image reads and edits the metadata of an XFS V5 image that is unmounted or
// frozen. Every edited object gets a good CRC32C unless a fault asks for a bad
// one. It is for one goroutine.
//
// Source: the layouts of libxfs/xfs_format.h; the image is big-endian and the
// checksums are little-endian.
type Image struct {
	SB Superblock // as read on opening; edits through UpdateSB keep it up to date

	file   *os.File
	writes []write
}

// write is one change of the image, for undoing it and for Verify.
type write struct {
	off      int64
	old, new []byte
	crc      int // offset of the checksum inside the object
	badCRC   bool
}

// OpenImage opens an image for reading and writing.
func OpenImage(path string) (*Image, error) {
	file, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return nil, fmt.Errorf("open image: %w", err)
	}
	img := &Image{file: file}
	if err := img.readSuper(); err != nil {
		_ = file.Close()
		return nil, fmt.Errorf("open image %s: %w", path, err)
	}
	return img, nil
}

// Close closes the image. What was written stays.
func (img *Image) Close() error { return img.file.Close() }

// crcTable is CRC32C, which XFS V5 uses for all metadata.
var crcTable = crc32.MakeTable(crc32.Castagnoli)

// object is a checksummed piece of metadata: a header sector, a btree block or
// a dinode.
type object struct {
	off  int64 // bytes from the start of the image
	data []byte
	crc  int // offset of the checksum
}

func (img *Image) read(off int64, n, crc int) (*object, error) {
	o := &object{off: off, data: make([]byte, n), crc: crc}
	if _, err := img.file.ReadAt(o.data, off); err != nil {
		return nil, fmt.Errorf("read %d bytes at %d of %s: %w", n, off, img.file.Name(), err)
	}
	return o, nil
}

// checksum computes the CRC over the object with its own field zeroed.
func (o *object) checksum() uint32 {
	crc := crc32.Update(0, crcTable, o.data[:o.crc])
	crc = crc32.Update(crc, crcTable, make([]byte, 4))
	return crc32.Update(crc, crcTable, o.data[o.crc+4:])
}

func (o *object) good() bool {
	return binary.LittleEndian.Uint32(o.data[o.crc:]) == o.checksum()
}

// write stores an object. With badCRC the checksum stays as it was, as after
// bits have rotted; otherwise it becomes right. Nothing is written when nothing
// has changed.
func (img *Image) write(o *object, badCRC bool) error {
	old, err := img.read(o.off, len(o.data), o.crc)
	if err != nil {
		return err
	}
	if bytes.Equal(old.data, o.data) {
		return nil
	}
	if !badCRC {
		binary.LittleEndian.PutUint32(o.data[o.crc:], o.checksum())
	}
	return img.store(write{off: o.off, old: old.data, new: bytes.Clone(o.data), crc: o.crc, badCRC: badCRC})
}

// store writes the new bytes and remembers that it did.
func (img *Image) store(w write) error {
	if _, err := img.file.WriteAt(w.new, w.off); err != nil {
		return fmt.Errorf("write %d bytes at %d of %s: %w", len(w.new), w.off, img.file.Name(), err)
	}
	img.writes = append(img.writes, w)
	return nil
}

// Verify reads everything again that was written through this Image and
// checks that it is there with the checksum it should have.
func (img *Image) Verify() error {
	last := make(map[int64]write)
	for _, w := range img.writes {
		last[w.off] = w
	}
	for off, w := range last {
		o, err := img.read(off, len(w.new), w.crc)
		if err != nil {
			return fmt.Errorf("verify: %w", err)
		}
		if !bytes.Equal(o.data, w.new) {
			return fmt.Errorf("verify: bytes at %d of %s are not what was written", off, img.file.Name())
		}
		if o.good() == w.badCRC {
			return fmt.Errorf("verify: object at %d of %s: %w", off, img.file.Name(), ErrBadCRC)
		}
	}
	return nil
}

// header reads one of the four header sectors of an AG into dst, a pointer to
// a struct of fixed size, and checks its magic number.
func (img *Image) header(agno ioctl.AGNumber, sector int, crc int, magic uint32, dst any) (*object, error) {
	if uint32(agno) >= img.SB.AGCount {
		return nil, fmt.Errorf("header of AG %d: there are %d", agno, img.SB.AGCount)
	}
	size := int(img.SB.SectSize)
	o, err := img.read(img.agStart(agno)+int64(sector*size), size, crc)
	if err != nil {
		return nil, err
	}
	if got := binary.BigEndian.Uint32(o.data); got != magic {
		return nil, fmt.Errorf("sector %d of AG %d has magic %#x, not %#x: %w", sector, agno, got, magic, ErrBadMagic)
	}
	if _, err := binary.Decode(o.data, binary.BigEndian, dst); err != nil {
		return nil, fmt.Errorf("sector %d of AG %d: %w", sector, agno, err)
	}
	return o, nil
}

// encode puts a struct of fixed size back into an object; bytes behind the
// struct stay.
func (o *object) encode(src any) error {
	if _, err := binary.Encode(o.data, binary.BigEndian, src); err != nil {
		return fmt.Errorf("encode %T: %w", src, err)
	}
	return nil
}

// readSuper reads the primary superblock. Its size in bytes is in it.
func (img *Image) readSuper() error {
	head := make([]byte, binary.Size(Superblock{}))
	if _, err := img.file.ReadAt(head, 0); err != nil {
		if errors.Is(err, io.EOF) {
			return ErrNotAnImage
		}
		return err
	}
	if _, err := binary.Decode(head, binary.BigEndian, &img.SB); err != nil {
		return err
	}
	sb := &img.SB
	switch {
	case sb.Magic != superMagic, sb.Version&0xf != 5:
		return ErrNotAnImage
	case sb.BlockSize != 1<<sb.BlockLog || sb.BlockLog < 9 || sb.BlockLog > 16,
		sb.SectSize < 512 || uint32(sb.SectSize) > sb.BlockSize,
		sb.InodeSize < 256 || uint32(sb.InodeSize) > sb.BlockSize,
		sb.AGCount == 0, sb.AGBlocks == 0, sb.AGBlockLog > 32, sb.InopBlog > 8:
		return fmt.Errorf("geometry makes no sense: %w", ErrNotAnImage)
	}
	return nil
}
