package lab

import (
	"encoding/binary"
	"fmt"
	"hash/fnv"
	"math/rand/v2"
	"os"

	"golang.org/x/sys/unix"
)

// sampleBlock is the granularity in bytes of contents and of the shapes. It is
// the usual XFS block size; other block sizes work, with other extent counts.
const sampleBlock = 4096

// sampleFile is an open file whose contents follow from its name.
type sampleFile struct {
	*os.File
	name string
	seed uint64
}

// fill writes n bytes at off. Another generation gives other bytes: rewrites
// of a clone use one, so that shared and unshared blocks differ.
func (w *sampleFile) fill(off, n int64, generation uint64) error {
	buf := make([]byte, min(n, 64*sampleBlock))
	for n > 0 {
		piece := buf[:min(n, int64(len(buf)))]
		sampleBytes(piece, w.seed+generation*0x9e3779b97f4a7c15, w.name, off)
		if _, err := w.WriteAt(piece, off); err != nil {
			return err
		}
		off += int64(len(piece))
		n -= int64(len(piece))
	}
	return nil
}

// sampleBytes fills p with nonzero bytes that depend on the seed, the name and
// the position off.
func sampleBytes(p []byte, seed uint64, name string, off int64) {
	h := fnv.New64a()
	_, _ = h.Write([]byte(name))
	var word [8]byte
	rng := rand.NewPCG(seed^h.Sum64(), uint64(off))
	for i := 0; i < len(p); i += len(word) {
		// The lowest bit of each byte set: no byte is zero.
		binary.LittleEndian.PutUint64(word[:], rng.Uint64()|0x0101010101010101)
		copy(p[i:], word[:])
	}
}

// fallocate wraps fallocate(2); mode 0 grows the file, the others keep its size.
func (w *sampleFile) fallocate(mode uint32, off, n int64) error {
	if err := unix.Fallocate(int(w.Fd()), mode, off, n); err != nil {
		return fmt.Errorf("fallocate %s mode %#x at %d+%d: %w", w.Name(), mode, off, n, err)
	}
	return nil
}

func (w *sampleFile) punch(off, n int64) error {
	return w.fallocate(unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, off, n)
}

// sampleAttr returns a deterministic attribute value of n bytes.
func (s *sampler) sampleAttr(name, attr string, n int) []byte {
	v := make([]byte, n)
	sampleBytes(v, s.spec.Seed, name+"\x00"+attr, 0)
	return v
}

// setAttrs sets count attributes of size bytes each, named PREFIX000 and so on.
// It does not follow symlinks.
func (s *sampler) setAttrs(name, prefix string, count, size int) error {
	for i := range count {
		attr := fmt.Sprintf("%s%03d", prefix, i)
		if err := unix.Lsetxattr(s.path(name), attr, s.sampleAttr(name, attr, size), 0); err != nil {
			return fmt.Errorf("set %s of %s: %w", attr, name, err)
		}
	}
	return nil
}

// ACL entry tags of linux/posix_acl.h.
const (
	aclUserObj  = 0x01
	aclUser     = 0x02
	aclGroupObj = 0x04
	aclMask     = 0x10
	aclOther    = 0x20
	aclNoID     = 0xffffffff
)

// sampleACL returns an access control list in the form of
// linux/posix_acl_xattr.h (version 2) that grants one more user access.
func sampleACL(uid uint32) []byte {
	b := binary.LittleEndian.AppendUint32(nil, 2)
	for _, e := range []struct {
		tag, perm uint16
		id        uint32
	}{{aclUserObj, 6, aclNoID}, {aclUser, 7, uid}, {aclGroupObj, 4, aclNoID}, {aclMask, 7, aclNoID}, {aclOther, 4, aclNoID}} {
		b = binary.LittleEndian.AppendUint16(b, e.tag)
		b = binary.LittleEndian.AppendUint16(b, e.perm)
		b = binary.LittleEndian.AppendUint32(b, e.id)
	}
	return b
}
