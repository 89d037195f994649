package state

import (
	"fmt"
	"io"
	"slices"

	"github.com/scrubd/scrubd/ioctl"
)

// Raw reads the data device of a mounted filesystem below the filesystem: what
// is on the disk, without what is in the log or in memory only.
type Raw struct{ d *device }

// OpenRaw opens the data device of fs for reading.
// Errors: [ErrNoDevice].
func OpenRaw(fs *ioctl.FS) (*Raw, error) {
	d, err := openDevice("", fs.Device())
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrNoDevice, err)
	}
	return &Raw{d}, nil
}

// Read returns length bytes at offset, from whatever sectors hold them. They are
// the caller's.
// Errors: those of the device; [io.ErrUnexpectedEOF] behind its end.
func (r *Raw) Read(offset, length ioctl.ByteOff) ([]byte, error) {
	first := offset / r.d.sector * r.d.sector
	n := offset + length - first
	if n > readSize {
		return nil, fmt.Errorf("read %d bytes at %d of %s: %w", length, offset, r.d.path, io.ErrShortBuffer)
	}
	data, err := r.d.read(int64(first), int(n))
	if err != nil {
		return nil, fmt.Errorf("read %d bytes at %d of %s: %w", length, offset, r.d.path, err)
	}
	return slices.Clone(data[offset-first:]), nil
}

// Close gives the device back.
func (r *Raw) Close() error { return r.d.close() }
