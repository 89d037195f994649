package ioctltest

import (
	"encoding/binary"
	"os"

	"golang.org/x/sys/unix"

	"github.com/scrubd/scrubd/ioctl"
	"github.com/scrubd/scrubd/ioctl/internal/abi"
)

// DefaultGeometry returns the model's geometry.
func (k *Kernel) DefaultGeometry() (ioctl.Geometry, unix.Errno) {
	k.mu.RLock()
	defer k.mu.RUnlock()
	return k.model.Geometry, 0
}

// DefaultCounts returns the model's counters.
func (k *Kernel) DefaultCounts() (ioctl.Counts, unix.Errno) {
	k.mu.RLock()
	defer k.mu.RUnlock()
	return k.model.Counts, 0
}

// DefaultAGGeometry counts the inodes and the free blocks of a group of the model.
func (k *Kernel) DefaultAGGeometry(agno ioctl.AGNumber) (ioctl.AGGeometry, unix.Errno) {
	k.mu.RLock()
	defer k.mu.RUnlock()
	m := k.model
	switch {
	case uint32(agno) >= m.Geometry.AGCount:
		return ioctl.AGGeometry{}, unix.EINVAL
	case m.Shutdown:
		return ioctl.AGGeometry{}, unix.EIO
	}
	g := ioctl.AGGeometry{AGNo: agno, Length: m.Geometry.AGLength(agno), Sick: m.AGSick[agno], Checked: m.AGSick[agno]}
	for _, f := range m.Free {
		if f.AGNo == agno {
			g.FreeBlocks += uint32(f.Length)
		}
	}
	for _, start := range m.chunkStarts() {
		if in, _ := m.Geometry.InoToAGIno(start); in != agno {
			continue
		}
		g.InodeCount += ioctl.InodesPerChunk
		for i := range ioctl.Ino(ioctl.InodesPerChunk) {
			if m.Inodes[start+i] == nil {
				g.FreeInodes++
			}
		}
	}
	return g, 0
}

// DefaultRTGeometry returns an element of the model's RTGroups.
func (k *Kernel) DefaultRTGeometry(rgno ioctl.RGNumber) (ioctl.RTGroupGeometry, unix.Errno) {
	k.mu.RLock()
	defer k.mu.RUnlock()
	if int64(rgno) >= int64(len(k.model.RTGroups)) {
		return ioctl.RTGroupGeometry{}, unix.EINVAL
	}
	return k.model.RTGroups[rgno], 0
}

// DefaultStatx describes an inode of the model.
func (k *Kernel) DefaultStatx(ino ioctl.Ino) (ioctl.Statx, unix.Errno) {
	k.mu.RLock()
	defer k.mu.RUnlock()
	m := k.model
	i := m.Inodes[ino]
	if i == nil {
		return ioctl.Statx{}, unix.ESTALE
	}
	return ioctl.Statx{
		Ino: i.Ino, Mode: i.Mode, Nlink: i.Nlink, Size: i.Size, CTime: i.CTime, MTime: i.CTime, ATime: i.CTime, BTime: i.CTime,
		Blocks:   uint64(m.blocks(i)) * uint64(m.Geometry.BlockSize>>ioctl.SectorShift),
		DevMajor: m.DevMajor, DevMinor: m.DevMinor,
	}, 0
}

// DefaultOpenByHandle says whether an inode of the model can be opened; with path, by
// open_by_handle_at with O_PATH, which takes any type.
func (k *Kernel) DefaultOpenByHandle(ino ioctl.Ino, gen ioctl.Gen, path bool) unix.Errno {
	if k.Frozen() {
		k.tb.Errorf("open of inode %d while the filesystem is frozen: this can wait for the thaw for ever", ino)
	}
	k.mu.RLock()
	defer k.mu.RUnlock()
	m := k.model
	i := m.Inodes[ino]
	switch {
	case m.NoAdmin:
		return unix.EPERM
	case m.Shutdown:
		return unix.EIO
	case i == nil, i.Gen != gen, i.Private, i.Inactive, i.Metadir:
		return unix.ESTALE
	case path:
		return 0
	}
	switch i.Mode & unix.S_IFMT {
	case unix.S_IFREG, unix.S_IFDIR:
		return 0
	}
	return unix.EPERM
}

// open opens an inode if the answer is that it can be.
func (k *Kernel) open(ino ioctl.Ino, gen ioctl.Gen, path bool) (int, unix.Errno) {
	if errno := k.begin(Call{Op: OpOpenByHandle, Ino: ino, Gen: gen}); errno != 0 {
		return -1, errno
	}
	answer := k.OnOpenByHandle
	if answer == nil {
		answer = k.DefaultOpenByHandle
	}
	if errno := answer(ino, gen, path); errno != 0 {
		return -1, errno
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.newFD(openFile{ino: ino, gen: gen, path: path}), 0
}

// DefaultFlushInodegc removes the inodes that wait to be inactivated.
func (k *Kernel) DefaultFlushInodegc() unix.Errno {
	k.mu.Lock()
	defer k.mu.Unlock()
	switch {
	case k.model.NoAdmin:
		return unix.EPERM
	case k.model.ReadOnly:
		return unix.EROFS
	}
	for ino, i := range k.model.Inodes {
		if i.Inactive {
			delete(k.model.Inodes, ino)
		}
	}
	return 0
}

// DefaultFreeze freezes the filesystem.
func (k *Kernel) DefaultFreeze() unix.Errno {
	k.mu.Lock()
	defer k.mu.Unlock()
	switch {
	case k.model.NoAdmin:
		return unix.EPERM
	case k.frozen:
		return unix.EBUSY
	}
	k.frozen = true
	return 0
}

// DefaultThaw thaws the filesystem.
func (k *Kernel) DefaultThaw() unix.Errno {
	k.mu.Lock()
	defer k.mu.Unlock()
	switch {
	case k.model.NoAdmin:
		return unix.EPERM
	case !k.frozen:
		return unix.EINVAL
	}
	k.frozen = false
	return 0
}

// DefaultParents returns the model's parent pointers of an inode.
func (k *Kernel) DefaultParents(ino ioctl.Ino, gen ioctl.Gen) ([]ioctl.Parent, unix.Errno) {
	k.mu.RLock()
	defer k.mu.RUnlock()
	i := k.model.Inodes[ino]
	switch {
	case i == nil, gen != 0 && i.Gen != gen:
		return nil, unix.ESTALE
	case !k.model.Geometry.Has(ioctl.FlagParent):
		return nil, unix.EOPNOTSUPP
	}
	return i.Parents, 0
}

// DefaultGetXattr returns an attribute of the model's root directory.
func (k *Kernel) DefaultGetXattr(name string) (string, unix.Errno) {
	k.mu.RLock()
	defer k.mu.RUnlock()
	v, ok := k.model.Xattrs[name]
	if !ok {
		return "", unix.ENODATA
	}
	return v, 0
}

// DefaultVerifyMedia finds every device good.
func (k *Kernel) DefaultVerifyMedia(req ioctl.MediaRequest) (ioctl.MediaResult, unix.Errno) {
	k.mu.RLock()
	defer k.mu.RUnlock()
	m := k.model
	if m.NoAdmin {
		return ioctl.MediaResult{}, unix.EPERM
	}
	if req.Device != ioctl.MediaData {
		return ioctl.MediaResult{}, unix.ENODEV
	}
	end := min(req.End, m.Geometry.BlocksToBytes(m.Geometry.DataBlocks).DAddr())
	return ioctl.MediaResult{Verified: max(end, req.Start), End: end}, 0
}

// startMonitor answers HEALTH_MONITOR with the read end of a pipe.
func (k *Kernel) startMonitor() (int, unix.Errno) {
	k.mu.Lock()
	defer k.mu.Unlock()
	switch {
	case k.model.NoAdmin:
		return -1, unix.EPERM
	case k.monitor != nil:
		return -1, unix.EEXIST
	}
	var fds [2]int
	if err := unix.Pipe2(fds[:], unix.O_CLOEXEC); err != nil {
		k.tb.Errorf("pipe for the health monitor: %v", err)
		return -1, unix.EMFILE
	}
	k.monitor = os.NewFile(uintptr(fds[1]), "health monitor")
	return fds[0], 0
}

// SendHealth gives events to the health monitor that is open.
func (k *Kernel) SendHealth(events ...ioctl.HealthEvent) {
	var b []byte
	for i := range events {
		b = append(b, encodeHealthEvent(&events[i])...)
	}
	k.SendHealthBytes(b)
}

// SendHealthBytes gives bytes to the health monitor that is open, as a kernel that tears events
// apart would.
func (k *Kernel) SendHealthBytes(b []byte) {
	k.mu.RLock()
	defer k.mu.RUnlock()
	if k.monitor == nil {
		k.tb.Errorf("no health monitor is open")
		return
	}
	if _, err := k.monitor.Write(b); err != nil {
		k.tb.Errorf("write health events: %v", err)
	}
}

// EndHealth ends the stream of health events, as an unmount does.
func (k *Kernel) EndHealth() {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.monitor != nil {
		_ = k.monitor.Close()
		k.monitor = nil
	}
}

// encodeHealthEvent lays an event out as the kernel does.
func encodeHealthEvent(e *ioctl.HealthEvent) []byte {
	const payload = 16
	b := make([]byte, 64)
	u32 := func(off int, v uint32) { binary.NativeEndian.PutUint32(b[off:], v) }
	u64 := func(off int, v uint64) { binary.NativeEndian.PutUint64(b[off:], v) }
	u32(0, uint32(e.Domain))
	u32(4, uint32(e.Type))
	if !e.Time.IsZero() {
		u64(8, uint64(e.Time.UnixNano()))
	}
	switch e.Domain {
	case ioctl.HealthMount:
		switch e.Type {
		case ioctl.HealthLost:
			u64(payload, e.Lost)
		case ioctl.HealthShutdown:
			u32(payload, uint32(e.Shutdown))
		}
	case ioctl.HealthFS:
		u32(payload, e.Mask)
	case ioctl.HealthAG:
		u32(payload, e.Mask)
		u32(payload+4, uint32(e.AGNo))
	case ioctl.HealthRTGroup:
		u32(payload, e.Mask)
		u32(payload+4, uint32(e.RGNo))
	case ioctl.HealthInode:
		u32(payload, e.Mask)
		u32(payload+4, uint32(e.Gen))
		u64(payload+8, uint64(e.Ino))
	case ioctl.HealthDataDev, ioctl.HealthRTDev, ioctl.HealthLogDev:
		u64(payload, uint64(e.DAddr))
		u64(payload+8, uint64(e.Length))
	case ioctl.HealthFileRange:
		u64(payload, e.Pos)
		u64(payload+8, e.Len)
		u64(payload+16, uint64(e.Ino))
		u32(payload+24, uint32(e.Gen))
		u32(payload+28, uint32(e.Errno))
	}
	return b
}

// encodeParents lays parent records out as the kernel does: as many as fit in size bytes, from the
// first one on that cursor names. It returns how many, and 0 if not even one fits.
func encodeParents(buf []byte, fsid [8]byte, parents []ioctl.Parent) int {
	const header = 32
	off, last, n := 0, -1, 0
	for _, p := range parents {
		length := (header + len(p.Name) + 1 + 7) &^ 7
		if off+length > len(buf) {
			break
		}
		rec := buf[off : off+length]
		clear(rec)
		copy(rec, fsid[:])
		binary.NativeEndian.PutUint16(rec[8:], abi.HandleFIDLen)
		binary.NativeEndian.PutUint32(rec[12:], uint32(p.Gen))
		binary.NativeEndian.PutUint64(rec[16:], uint64(p.Ino))
		binary.NativeEndian.PutUint32(rec[24:], uint32(length))
		copy(rec[header:], p.Name)
		last = off
		off += length
		n++
	}
	// The last record takes the rest of the buffer; without any, nothing is written.
	if n > 0 {
		binary.NativeEndian.PutUint32(buf[last+24:], uint32(len(buf)-last))
	}
	return n
}
