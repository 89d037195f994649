package ioctltest

import (
	"os"
	"sync"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/scrubd/scrubd/ioctl"
	"github.com/scrubd/scrubd/ioctl/internal/abi"
)

// Path is the path of the filesystem that [New] opens.
const Path = "/srv"

// firstFD is far above what a real process has open, so that a fake descriptor that leaks into a
// system call fails there.
const firstFD = 1 << 20

// Kernel is the fake. Its On functions may be set before or between calls; nil is the model's answer.
// They are called without any lock held, from as many goroutines as call.
type Kernel struct {
	OnGeometry     func() (ioctl.Geometry, unix.Errno)
	OnCounts       func() (ioctl.Counts, unix.Errno)
	OnAGGeometry   func(agno ioctl.AGNumber) (ioctl.AGGeometry, unix.Errno)
	OnRTGeometry   func(rgno ioctl.RGNumber) (ioctl.RTGroupGeometry, unix.Errno)
	OnScrub        func(req ioctl.ScrubRequest) (ioctl.ScrubFlags, unix.Errno)
	OnScrubVec     func(req ScrubVecRequest) unix.Errno
	OnFSMap        func(req FSMapRequest) ([]ioctl.FSMapRecord, unix.Errno)
	OnBulkstat     func(req BulkRequest) ([]ioctl.BulkstatRecord, ioctl.Ino, unix.Errno)
	OnInumbers     func(req BulkRequest) ([]ioctl.InumbersRecord, ioctl.Ino, unix.Errno)
	OnBmap         func(req BmapRequest) ([]ioctl.BmapRecord, unix.Errno)
	OnOpenByHandle func(ino ioctl.Ino, gen ioctl.Gen, path bool) unix.Errno
	OnStatx        func(ino ioctl.Ino) (ioctl.Statx, unix.Errno)
	OnFlushInodegc func() unix.Errno
	OnFreeze       func() unix.Errno
	OnThaw         func() unix.Errno
	OnParents      func(ino ioctl.Ino, gen ioctl.Gen) ([]ioctl.Parent, unix.Errno)
	OnVerifyMedia  func(req ioctl.MediaRequest) (ioctl.MediaResult, unix.Errno)
	OnGetXattr     func(name string) (string, unix.Errno)
	OnDropAdmin    func() unix.Errno
	// OnCall is asked before anything else; an errno other than 0 is the answer.
	OnCall func(Call) unix.Errno

	tb testing.TB

	mu      sync.RWMutex
	model   *Model
	fds     map[int]openFile
	nextFD  int
	locked  int // descriptor that holds the flock, 0 for none
	frozen  bool
	calls   []Call
	noLog   bool
	monitor *os.File // write end of the health monitor's pipe
}

// openFile is what a fake descriptor refers to.
type openFile struct {
	ino  ioctl.Ino
	gen  ioctl.Gen
	path bool // O_PATH
}

// New returns a filesystem played by the returned kernel, with the model of [NewModel] under it. Both
// end with the test, which fails if a descriptor is still open by then.
func New(tb testing.TB) (*ioctl.FS, *Kernel) {
	tb.Helper()
	return NewWithModel(tb, NewModel())
}

// NewWithModel is [New] with a model of the test's own.
func NewWithModel(tb testing.TB, model *Model) (*ioctl.FS, *Kernel) {
	tb.Helper()
	k := NewKernel(tb, model)
	fs, err := ioctl.New(k, Path)
	if err != nil {
		tb.Fatalf("open the fake filesystem: %v", err)
	}
	k.ResetCalls()
	tb.Cleanup(func() {
		_ = fs.Close()
		k.checkLeaks()
	})
	return fs, k
}

// NewKernel returns a kernel to open a filesystem on with ioctl.New, as a test of opening does.
func NewKernel(tb testing.TB, model *Model) *Kernel {
	tb.Helper()
	return &Kernel{tb: tb, model: model, fds: make(map[int]openFile), nextFD: firstFD}
}

func (k *Kernel) checkLeaks() {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, f := range k.fds {
		k.tb.Errorf("inode %d is still open at the end of the test", f.ino)
	}
	if k.monitor != nil {
		_ = k.monitor.Close()
		k.monitor = nil
	}
}

// Update changes the model while no default answer looks at it.
func (k *Kernel) Update(change func(*Model)) {
	k.mu.Lock()
	defer k.mu.Unlock()
	change(k.model)
}

// View looks at the model.
func (k *Kernel) View(look func(*Model)) {
	k.mu.RLock()
	defer k.mu.RUnlock()
	look(k.model)
}

// OpenFiles returns how many descriptors are open, the root directory's included.
func (k *Kernel) OpenFiles() int {
	k.mu.RLock()
	defer k.mu.RUnlock()
	return len(k.fds)
}

// Frozen reports whether the filesystem is frozen.
func (k *Kernel) Frozen() bool {
	k.mu.RLock()
	defer k.mu.RUnlock()
	return k.frozen
}

// Lock takes the filesystem's lock as another process would, if held is true, and drops it otherwise.
func (k *Kernel) Lock(held bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.locked = 0
	if held {
		k.locked = -1
	}
}

// view is what a thread sees of the kernel.
type view struct {
	*Kernel
	unprivileged bool
}

// Open opens any path as the model's directory of that name, or as the root directory.
func (k *Kernel) Open(path string, _ int) (int, unix.Errno) {
	if errno := k.begin(Call{Op: OpOpen, Path: path}); errno != 0 {
		return -1, errno
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	ino := k.model.RootIno
	if other, ok := k.model.Paths[path]; ok {
		ino = other
	}
	inode := k.model.Inodes[ino]
	if inode == nil {
		return -1, unix.ENOENT
	}
	if inode.Mode&unix.S_IFMT != unix.S_IFDIR {
		return -1, unix.ENOTDIR
	}
	return k.newFD(openFile{ino: ino, gen: inode.Gen}), 0
}

// newFD gives out a descriptor. The caller holds mu.
func (k *Kernel) newFD(f openFile) int {
	k.nextFD++
	k.fds[k.nextFD] = f
	return k.nextFD
}

// Close closes a descriptor.
func (k *Kernel) Close(fd int) unix.Errno {
	k.mu.Lock()
	defer k.mu.Unlock()
	if _, ok := k.fds[fd]; !ok {
		k.tb.Errorf("close of descriptor %d, which is not open", fd)
		return unix.EBADF
	}
	delete(k.fds, fd)
	if k.locked == fd {
		k.locked = 0
	}
	return 0
}

// file returns what a descriptor refers to.
func (k *Kernel) file(fd int) (openFile, unix.Errno) {
	k.mu.RLock()
	defer k.mu.RUnlock()
	f, ok := k.fds[fd]
	if !ok {
		return openFile{}, unix.EBADF
	}
	return f, 0
}

// Statx describes an open file.
func (k *Kernel) Statx(fd, _ int, st *unix.Statx_t) unix.Errno {
	f, errno := k.file(fd)
	if errno != 0 {
		return errno
	}
	if errno := k.begin(Call{Op: OpStatx, Ino: f.ino}); errno != 0 {
		return errno
	}
	answer := k.OnStatx
	if answer == nil {
		answer = k.DefaultStatx
	}
	s, errno := answer(f.ino)
	if errno != 0 {
		return errno
	}
	stamp := func(t ioctl.Timestamp) unix.StatxTimestamp {
		return unix.StatxTimestamp{Sec: t.Sec, Nsec: t.Nsec}
	}
	*st = unix.Statx_t{
		Mask: unix.STATX_BASIC_STATS | unix.STATX_BTIME,
		Ino:  uint64(s.Ino), Mode: s.Mode, Nlink: s.Nlink, Uid: s.UID, Gid: s.GID,
		Size: s.Size, Blocks: s.Blocks, Attributes: s.Attributes,
		Atime: stamp(s.ATime), Mtime: stamp(s.MTime), Ctime: stamp(s.CTime), Btime: stamp(s.BTime),
		Dev_major: s.DevMajor, Dev_minor: s.DevMinor,
	}
	return 0
}

// FSType returns the model's magic number.
func (k *Kernel) FSType(int) (int64, unix.Errno) {
	k.mu.RLock()
	defer k.mu.RUnlock()
	return k.model.FSType, 0
}

// GetXattr reads an attribute of the root directory.
func (k *Kernel) GetXattr(_ int, name string, value []byte) (int, unix.Errno) {
	if errno := k.begin(Call{Op: OpGetXattr, Path: name}); errno != 0 {
		return -1, errno
	}
	answer := k.OnGetXattr
	if answer == nil {
		answer = k.DefaultGetXattr
	}
	s, errno := answer(name)
	switch {
	case errno != 0:
		return -1, errno
	case len(s) > len(value):
		return -1, unix.ERANGE
	}
	return copy(value, s), 0
}

// Flock takes or drops the filesystem's lock.
func (k *Kernel) Flock(fd, how int) unix.Errno {
	k.mu.Lock()
	defer k.mu.Unlock()
	switch {
	case how&unix.LOCK_UN != 0:
		if k.locked == fd {
			k.locked = 0
		}
	case k.locked == 0 || k.locked == fd:
		k.locked = fd
	default:
		return unix.EWOULDBLOCK
	}
	return 0
}

// OpenByHandleAt opens a file of any type.
func (k *Kernel) OpenByHandleAt(mountFD int, handle unsafe.Pointer, _ int) (int, unix.Errno) {
	if _, errno := k.file(mountFD); errno != 0 {
		return -1, errno
	}
	h := (*abi.FileHandle)(handle)
	if h.Bytes != abi.FileHandleBytes || h.Type != abi.FileHandleType {
		return -1, unix.ESTALE
	}
	return k.open(ioctl.Ino(abi.Whole(h.Ino)), ioctl.Gen(h.Gen), true)
}

// Release returns the model's kernel release.
func (k *Kernel) Release() string {
	k.mu.RLock()
	defer k.mu.RUnlock()
	return k.model.Release
}

// DropAdmin returns the kernel as somebody without CAP_SYS_ADMIN sees it.
func (k *Kernel) DropAdmin() (ioctl.Kernel, unix.Errno) {
	if k.OnDropAdmin != nil {
		if errno := k.OnDropAdmin(); errno != 0 {
			return nil, errno
		}
	}
	return view{Kernel: k, unprivileged: true}, 0
}

// Ioctl decodes a request and answers it.
func (k *Kernel) Ioctl(fd int, req uintptr, arg unsafe.Pointer) (int, unix.Errno) {
	return view{Kernel: k}.Ioctl(fd, req, arg)
}
