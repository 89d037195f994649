package ioctl

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"iter"
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/scrubd/scrubd/ioctl/internal/abi"
)

// Parent is one name of an inode: the directory that it is in, and what it is called there.
type Parent struct {
	Ino  Ino // the directory
	Gen  Gen
	Name string // bytes, not necessarily UTF-8
}

// parentsBufferSize is XFS_XATTR_LIST_MAX, the most that the kernel takes.
const parentsBufferSize = 64 << 10

// Parents yields the names of an inode, from its parent pointers. The root directory has none, and
// neither has a file that is unlinked but open. The pair with an error is the last one and has no parent.
//
// Errors: [ErrNotSupported] before Linux 6.10 and on filesystems made without parent pointers; [ErrStale];
// [ErrCorrupt].
//
// Source: man 2 ioctl_xfs_getparents; fs/xfs/xfs_handle.c.
func (fs *FS) Parents(ino Ino, gen Gen) iter.Seq2[Parent, error] {
	return func(yield func(Parent, error) bool) {
		args := &abi.GetParentsByHandle{Handle: fs.handle(ino, gen)}
		err := fs.parents(fs.fd, abi.ReqGetParentsByHandle, unsafe.Pointer(args), &args.Request,
			func(errno unix.Errno) *Error { return fs.failIno(opParents, ino, gen, errno) }, yield)
		runtime.KeepAlive(args)
		if err != nil {
			yield(Parent{}, err)
		}
	}
}

// ParentsFD is [FS.Parents] for an open file.
func (fs *FS) ParentsFD(fd int) iter.Seq2[Parent, error] {
	return func(yield func(Parent, error) bool) {
		args := new(abi.GetParents)
		err := fs.parents(fd, abi.ReqGetParents, unsafe.Pointer(args), args,
			func(errno unix.Errno) *Error { return fs.failFile(opParents, errno) }, yield)
		runtime.KeepAlive(args)
		if err != nil {
			yield(Parent{}, err)
		}
	}
}

// parents makes calls until the kernel says that it is done. An error returned has not been yielded.
func (fs *FS) parents(fd int, ioc uintptr, arg unsafe.Pointer, gp *abi.GetParents,
	fail func(unix.Errno) *Error, yield func(Parent, error) bool,
) error {
	if err := fs.enter(); err != nil {
		return err
	}
	defer fs.leave()
	mem := make([]uint64, parentsBufferSize/8)
	buf := unsafe.Slice((*byte)(unsafe.Pointer(unsafe.SliceData(mem))), parentsBufferSize)
	gp.Buffer = abi.NewUserPtr(unsafe.Pointer(unsafe.SliceData(mem)))
	for {
		gp.BufSize, gp.OFlags = parentsBufferSize, 0
		cursor := gp.Cursor
		// Without a record to return, the kernel writes nothing.
		clear(buf[:parentNameOffset])
		if _, errno := fs.ioctl(fd, ioc, arg); errno != 0 {
			e := fail(errno)
			if errno == unix.EOPNOTSUPP {
				e.Unsupported.Reason = "this filesystem was made without parent pointers"
			}
			return e
		}
		more, err := decodeParents(buf, func(p Parent) bool { return yield(p, nil) })
		if err != nil {
			return fmt.Errorf("parents of an inode of %s: %w", fs.path, err)
		}
		if !more || gp.OFlags&abi.GetParentsOFlagDone != 0 {
			return nil
		}
		if gp.Cursor == cursor {
			return fmt.Errorf("parents of an inode of %s: %w: the cursor does not move", fs.path, ErrMalformed)
		}
	}
}

// Offsets in struct xfs_getparents_rec.
const (
	parentGenOffset    = unsafe.Offsetof(abi.GetParentsRec{}.Parent) + unsafe.Offsetof(abi.Handle{}.Gen)
	parentInoOffset    = unsafe.Offsetof(abi.GetParentsRec{}.Parent) + unsafe.Offsetof(abi.Handle{}.Ino)
	parentRecLenOffset = unsafe.Offsetof(abi.GetParentsRec{}.RecLen)
	parentNameOffset   = unsafe.Sizeof(abi.GetParentsRec{})
)

// decodeParents yields the records of a buffer that GETPARENTS filled: each tells its length, and the
// last one takes what is left. A record without a name or a length means that there is none. more is false once
// yield has returned false.
func decodeParents(buf []byte, yield func(Parent) bool) (more bool, err error) {
	for len(buf) > 0 {
		if len(buf) <= int(parentNameOffset) {
			return false, fmt.Errorf("%w: %d bytes left for a parent record", ErrMalformed, len(buf))
		}
		length := int64(binary.NativeEndian.Uint32(buf[parentRecLenOffset:]))
		if length == 0 {
			return true, nil
		}
		if length <= int64(parentNameOffset) || length%8 != 0 || length > int64(len(buf)) {
			return false, fmt.Errorf("%w: parent record of %d bytes in %d", ErrMalformed, length, len(buf))
		}
		name, _, terminated := bytes.Cut(buf[parentNameOffset:length], []byte{0})
		if !terminated {
			return false, fmt.Errorf("%w: parent name without an end", ErrMalformed)
		}
		if len(name) == 0 {
			return true, nil
		}
		p := Parent{
			Ino:  Ino(binary.NativeEndian.Uint64(buf[parentInoOffset:])),
			Gen:  Gen(binary.NativeEndian.Uint32(buf[parentGenOffset:])),
			Name: string(name),
		}
		if !yield(p) {
			return false, nil
		}
		buf = buf[length:]
	}
	return true, nil
}
