package state

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/scrubd/scrubd/ioctl"
)

// The files of raw blocks in the evidence.
const (
	// BlocksFile is a sparse image: the blocks are at the offset that they have
	// on the device, so that xfs_db -r finds them.
	BlocksFile = "blocks.img"
	// BlocksList says in JSON what there is in the image, and what could not be
	// read; it is there even if nothing could.
	BlocksList = "blocks.json"
)

// ErrNoDevice is a block device that cannot be read: not found, no permission,
// or hidden by a sandbox. The evidence says so, and is complete otherwise.
var ErrNoDevice = errors.New("the block device cannot be read")

// ByteRange is bytes [Offset, Offset+Length) of the data device.
type ByteRange struct {
	Offset ioctl.ByteOff `json:"offset_bytes"`
	Length ioctl.ByteOff `json:"length_bytes"`
}

func (r ByteRange) end() ioctl.ByteOff { return r.Offset + r.Length }

// blocksManifest is what BlocksList holds.
type blocksManifest struct {
	// Device is where the blocks were read from.
	Device string `json:"device,omitempty"`
	// Note says what the blocks are.
	Note string `json:"note"`
	// Saved are the ranges in the image, Unread those that gave an error.
	Saved  []ByteRange   `json:"saved"`
	Unread []unreadRange `json:"unread,omitempty"`
	// Error is why nothing could be read at all.
	Error string `json:"error,omitempty"`
}

type unreadRange struct {
	ByteRange
	Error string `json:"error"`
}

const blocksNote = "as they were on the device; changes that are in the log only are not in them"

// blockImage is the image under construction.
type blockImage struct {
	file     *os.File
	device   *device
	manifest blocksManifest
}

// RawBlocks copies blocks from a block device into the sparse image
// [BlocksFile], and lists them in [BlocksList]. dev is the path of the device,
// empty for the filesystem's data device; it is that of the first call that
// counts. Ranges are widened to the device's sectors; several calls add to one
// another.
//
// Errors: [ErrNoDevice], which the list records and which is no reason not to
// go on; an error of the ranges that could not be read, which it records too;
// any other is one of writing the evidence.
func (e *Evidence) RawBlocks(dev string, ranges []ByteRange) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.closed {
		return fmt.Errorf("save blocks in %s: %w", e.path, fs.ErrClosed)
	}
	if e.blocks == nil {
		e.blocks = &blockImage{manifest: e.earlierBlocks()}
	}
	err := e.copyBlocks(dev, ranges)
	list, jsonErr := json.MarshalIndent(&e.blocks.manifest, "", "  ")
	if jsonErr == nil {
		jsonErr = e.replace(BlocksList, append(list, '\n'))
	}
	if err := errors.Join(err, jsonErr); err != nil {
		return fmt.Errorf("save blocks in %s: %w", e.path, err)
	}
	return nil
}

// earlierBlocks is what the image holds already, from an earlier opening of the
// same evidence.
func (e *Evidence) earlierBlocks() blocksManifest {
	m := blocksManifest{Saved: []ByteRange{}}
	if list, err := e.root.ReadFile(BlocksList); err == nil && json.Unmarshal(list, &m) != nil {
		m = blocksManifest{Saved: []ByteRange{}}
	}
	m.Note = blocksNote
	return m
}

// copyBlocks reads the ranges and writes them into the image. The caller holds
// mu.
func (e *Evidence) copyBlocks(dev string, ranges []ByteRange) error {
	b := e.blocks
	if b.device == nil {
		d, err := openDevice(dev, e.dir.fs.Device())
		if err != nil {
			err = fmt.Errorf("%w: %w", ErrNoDevice, err)
			b.manifest.Error = err.Error()
			return err
		}
		b.device, b.manifest.Device, b.manifest.Error = d, d.path, ""
	}
	if b.file == nil {
		file, err := e.root.OpenFile(BlocksFile, os.O_WRONLY|os.O_CREATE, fileMode)
		if err != nil {
			return err
		}
		b.file = file
		// The whole device's size, so that the image looks like it. Not every
		// filesystem can hold so large a file, however sparse.
		if err := file.Truncate(b.device.size); err != nil && !errors.Is(err, unix.EFBIG) && !errors.Is(err, unix.EINVAL) {
			return err
		}
	}
	var errs []error
	for _, r := range widen(ranges, b.device.sector, b.device.size) {
		unread, err := b.copyRange(r)
		if err != nil {
			return errors.Join(append(errs, err)...)
		}
		errs = append(errs, unread...)
	}
	return errors.Join(append(errs, b.file.Sync())...)
}

// copyRange copies one range, and where reading it fails, sector by sector.
func (b *blockImage) copyRange(r ByteRange) (unread []error, err error) {
	for at := r.Offset; at < r.end(); {
		n := min(r.end()-at, ioctl.ByteOff(len(b.device.buf)))
		data, err := b.device.read(int64(at), int(n))
		if err != nil && n > b.device.sector {
			more, err := b.copySectors(ByteRange{at, n})
			if err != nil {
				return unread, err
			}
			unread = append(unread, more...)
			at += n
			continue
		}
		if err != nil {
			unread = append(unread, b.skip(ByteRange{at, n}, err))
		} else if err := b.put(at, data); err != nil {
			return unread, err
		}
		at += n
	}
	return unread, nil
}

func (b *blockImage) copySectors(r ByteRange) (unread []error, err error) {
	for at := r.Offset; at < r.end(); at += b.device.sector {
		data, err := b.device.read(int64(at), int(b.device.sector))
		if err != nil {
			unread = append(unread, b.skip(ByteRange{at, b.device.sector}, err))
		} else if err := b.put(at, data); err != nil {
			return unread, err
		}
	}
	return unread, nil
}

// skip notes a range that could not be read.
func (b *blockImage) skip(r ByteRange, err error) error {
	b.manifest.Unread = append(b.manifest.Unread, unreadRange{r, err.Error()})
	return fmt.Errorf("read %d bytes at %d of %s: %w", r.Length, r.Offset, b.device.path, err)
}

// put writes data into the image and notes it.
func (b *blockImage) put(at ioctl.ByteOff, data []byte) error {
	if _, err := b.file.WriteAt(data, int64(at)); err != nil {
		return err
	}
	saved := &b.manifest.Saved
	*saved = merge(append(*saved, ByteRange{at, ioctl.ByteOff(len(data))}))
	return nil
}

func (b *blockImage) close() error {
	var errs []error
	if b.file != nil {
		errs = append(errs, b.file.Sync(), b.file.Close())
	}
	if b.device != nil {
		errs = append(errs, b.device.close())
	}
	return errors.Join(errs...)
}

// widen brings ranges to whole sectors inside the device, in order, without
// overlaps.
func widen(ranges []ByteRange, sector ioctl.ByteOff, size int64) []ByteRange {
	out := make([]ByteRange, 0, len(ranges))
	for _, r := range ranges {
		end := min(r.end(), ioctl.ByteOff(size))
		if r.end() < r.Offset { // more than there can be
			end = ioctl.ByteOff(size)
		}
		if r.Length == 0 || r.Offset >= end {
			continue
		}
		lo := r.Offset / sector * sector
		hi := min((end+sector-1)/sector*sector, ioctl.ByteOff(size))
		out = append(out, ByteRange{lo, hi - lo})
	}
	return merge(out)
}

// merge sorts ranges and joins those that touch.
func merge(ranges []ByteRange) []ByteRange {
	slices.SortFunc(ranges, func(a, b ByteRange) int {
		switch {
		case a.Offset < b.Offset:
			return -1
		case a.Offset > b.Offset:
			return 1
		}
		return 0
	})
	out := ranges[:0]
	for _, r := range ranges {
		if n := len(out); n > 0 && r.Offset <= out[n-1].end() {
			out[n-1].Length = max(out[n-1].end(), r.end()) - out[n-1].Offset
			continue
		}
		out = append(out, r)
	}
	return out
}

// device is a block device, or an image of one, open for reading.
type device struct {
	path   string
	fd     int
	size   int64
	sector ioctl.ByteOff
	buf    []byte // aligned, as O_DIRECT wants it
}

// readSize is the largest read of raw blocks.
const readSize = 1 << 20

// openDevice opens a device by its path, or by its number.
func openDevice(path string, number uint64) (*device, error) {
	if path == "" {
		found, err := FindDevice(number)
		if err != nil {
			return nil, err
		}
		path = found
	}
	// What the page cache has of the device can be older than what XFS wrote.
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_DIRECT|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if errors.Is(err, unix.EINVAL) {
		fd, err = unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
		if err == nil {
			_ = unix.Fadvise(fd, 0, 0, unix.FADV_DONTNEED)
		}
	}
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: path, Err: err}
	}
	d := &device{path: path, fd: fd, sector: 512}
	if err := d.measure(); err != nil {
		return nil, errors.Join(&fs.PathError{Op: "measure", Path: path, Err: err}, d.close())
	}
	d.buf, err = unix.Mmap(-1, 0, readSize, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("allocate a read buffer: %w", err), d.close())
	}
	return d, nil
}

// measure finds out the size and the sector size.
func (d *device) measure() error {
	var st unix.Stat_t
	if err := unix.Fstat(d.fd, &st); err != nil {
		return err
	}
	if st.Mode&unix.S_IFMT != unix.S_IFBLK {
		// An image in a file: what the file's own device has as sectors.
		d.size, d.sector = st.Size, 4096
		return nil
	}
	sector, err := unix.IoctlGetInt(d.fd, unix.BLKSSZGET)
	if err != nil {
		return err
	}
	if sector < 512 || sector > readSize || sector&(sector-1) != 0 {
		return fmt.Errorf("sectors of %d bytes", sector)
	}
	d.sector = ioctl.ByteOff(sector)
	d.size, err = unix.Seek(d.fd, 0, io.SeekEnd)
	return err
}

// read reads n bytes; they are valid until the next read. It asks for whole
// sectors, also at the end of an image that has none there.
func (d *device) read(at int64, n int) ([]byte, error) {
	sector := int(d.sector)
	whole := min((n+sector-1)/sector*sector, len(d.buf))
	for done := 0; done < n; {
		got, err := unix.Pread(d.fd, d.buf[done:whole], at+int64(done))
		switch {
		case errors.Is(err, unix.EINTR):
		case err != nil:
			return nil, err
		case got == 0:
			return nil, io.ErrUnexpectedEOF
		default:
			done += got
		}
	}
	return d.buf[:n], nil
}

func (d *device) close() error {
	var errs []error
	if d.buf != nil {
		errs = append(errs, unix.Munmap(d.buf))
	}
	return errors.Join(append(errs, unix.Close(d.fd))...)
}
