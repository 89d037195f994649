package ioctltest

import (
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/scrubd/scrubd/ioctl"
	"github.com/scrubd/scrubd/ioctl/internal/abi"
)

// Ioctl decodes a request, asks the function that answers it, and encodes the answer.
func (v view) Ioctl(fd int, req uintptr, arg unsafe.Pointer) (int, unix.Errno) {
	if req == abi.ReqHealthFDOnFS {
		return 0, v.healthCovers((*abi.HealthFileOnFS)(arg))
	}
	f, errno := v.file(fd)
	if errno != 0 {
		return -1, errno
	}
	if f.path {
		return -1, unix.EBADF
	}
	ret := 0
	switch req {
	case abi.ReqFSGeometry:
		errno = v.geometry((*abi.FSGeometry)(arg))
	case abi.ReqFSCounts:
		errno = v.counts((*abi.FSCounts)(arg))
	case abi.ReqAGGeometry:
		errno = v.agGeometry((*abi.AGGeometry)(arg))
	case abi.ReqRTGroupGeometry:
		errno = v.rtGeometry((*abi.RTGroupGeometry)(arg))
	case abi.ReqScrubMetadata:
		errno = v.scrubMetadata((*abi.ScrubMetadata)(arg))
	case abi.ReqScrubvMetadata:
		errno = v.scrubVec((*abi.ScrubVecHead)(arg))
	case abi.ReqGetFSMap:
		errno = v.fsmapCall((*abi.FSMapHead)(arg))
	case abi.ReqGetBmapx:
		errno = v.bmapCall(f, (*abi.Bmapx)(arg))
	case abi.ReqBulkstat:
		errno = bulkCall(v, OpBulkstat, v.OnBulkstat, v.DefaultBulkstat, (*abi.BulkReq)(arg))
	case abi.ReqInumbers:
		errno = bulkCall(v, OpInumbers, v.OnInumbers, v.DefaultInumbers, (*abi.BulkReq)(arg))
	case abi.ReqFDToHandle:
		errno = v.fdToHandle(f, (*abi.HandleReq)(arg))
	case abi.ReqOpenByHandle:
		ret, errno = v.openByHandle((*abi.HandleReq)(arg))
	case abi.ReqFreeEOFBlocks:
		errno = v.simple(OpFlushInodegc, v.OnFlushInodegc, v.DefaultFlushInodegc)
	case abi.ReqFreeze:
		errno = v.simple(OpFreeze, v.OnFreeze, v.DefaultFreeze)
	case abi.ReqThaw:
		errno = v.simple(OpThaw, v.OnThaw, v.DefaultThaw)
	case abi.ReqGetParents:
		errno = v.parents(f.ino, f.gen, (*abi.GetParents)(arg))
	case abi.ReqGetParentsByHandle:
		a := (*abi.GetParentsByHandle)(arg)
		errno = v.parents(ioctl.Ino(a.Handle.Ino), ioctl.Gen(a.Handle.Gen), &a.Request)
	case abi.ReqHealthMonitor:
		ret, errno = v.healthMonitor(f, (*abi.HealthMonitor)(arg))
	case abi.ReqVerifyMedia:
		errno = v.verifyMedia((*abi.VerifyMedia)(arg))
	default:
		v.begin(Call{Op: OpUnknown})
		errno = unix.ENOTTY
	}
	if errno != 0 {
		return -1, errno
	}
	return ret, 0
}

func (v view) simple(op Op, on, byDefault func() unix.Errno) unix.Errno {
	if errno := v.begin(Call{Op: op}); errno != 0 {
		return errno
	}
	if on != nil {
		return on()
	}
	return byDefault()
}

func (v view) geometry(raw *abi.FSGeometry) unix.Errno {
	if errno := v.begin(Call{Op: OpGeometry}); errno != 0 {
		return errno
	}
	answer := v.OnGeometry
	if answer == nil {
		answer = v.DefaultGeometry
	}
	g, errno := answer()
	*raw = abi.FSGeometry{
		BlockSize: g.BlockSize, RTExtSize: g.RTExtSize, AGBlocks: uint32(g.AGBlocks), AGCount: g.AGCount, LogBlocks: g.LogBlocks,
		SectSize: g.SectorSize, InodeSize: g.InodeSize, IMaxPct: g.IMaxPct, DataBlocks: g.DataBlocks, RTBlocks: g.RTBlocks,
		RTExtents: g.RTExtents, LogStart: uint64(g.LogStart), UUID: g.UUID, SUnit: g.SUnit, SWidth: g.SWidth, Version: g.Version,
		Flags: uint32(g.Flags), LogSectSize: g.LogSectSize, RTSectSize: g.RTSectSize, DirBlockSize: g.DirBlockSize,
		LogSUnit: g.LogSUnit, Sick: uint32(g.Sick), Checked: uint32(g.Checked), RGExtents: g.RGExtents, RGCount: g.RGCount,
		RTStart: g.RTStart, RTReserved: g.RTReserved,
	}
	return errno
}

func (v view) counts(raw *abi.FSCounts) unix.Errno {
	if errno := v.begin(Call{Op: OpCounts}); errno != 0 {
		return errno
	}
	answer := v.OnCounts
	if answer == nil {
		answer = v.DefaultCounts
	}
	c, errno := answer()
	*raw = abi.FSCounts{FreeData: c.FreeData, FreeRTX: c.FreeRT, FreeIno: c.FreeIno, AllocIno: c.AllocIno}
	return errno
}

func (v view) agGeometry(raw *abi.AGGeometry) unix.Errno {
	agno := ioctl.AGNumber(raw.Number)
	if errno := v.begin(Call{Op: OpAGGeometry, AGNo: agno}); errno != 0 {
		return errno
	}
	if raw.Flags != 0 || raw.Reserved != [12]uint64{} {
		return unix.EINVAL
	}
	answer := v.OnAGGeometry
	if answer == nil {
		answer = v.DefaultAGGeometry
	}
	g, errno := answer(agno)
	*raw = abi.AGGeometry{
		Number: uint32(g.AGNo), Length: uint32(g.Length), FreeBlks: g.FreeBlocks, ICount: g.InodeCount, IFree: g.FreeInodes,
		Sick: uint32(g.Sick), Checked: uint32(g.Checked),
	}
	return errno
}

func (v view) rtGeometry(raw *abi.RTGroupGeometry) unix.Errno {
	rgno := ioctl.RGNumber(raw.Number)
	if errno := v.begin(Call{Op: OpRTGeometry, AGNo: ioctl.AGNumber(rgno)}); errno != 0 {
		return errno
	}
	answer := v.OnRTGeometry
	if answer == nil {
		answer = v.DefaultRTGeometry
	}
	g, errno := answer(rgno)
	*raw = abi.RTGroupGeometry{
		Number: uint32(g.RGNo), Length: g.Length, Sick: uint32(g.Sick), Checked: uint32(g.Checked), WritePointer: g.WritePointer,
	}
	if g.HasWritePointer {
		raw.Flags = abi.RTGroupWritePointer
	}
	return errno
}

func (v view) scrubMetadata(raw *abi.ScrubMetadata) unix.Errno {
	if raw.Reserved != [5]uint64{} {
		return unix.EINVAL
	}
	flags, errno := v.scrub(ioctl.ScrubRequest{
		Type: ioctl.ScrubType(raw.Type), Flags: ioctl.ScrubFlags(raw.Flags),
		Ino: ioctl.Ino(raw.Ino), Gen: ioctl.Gen(raw.Gen), AGNo: ioctl.AGNumber(raw.AGNo),
	})
	if errno == 0 {
		raw.Flags = raw.Flags&uint32(ioctl.ScrubFlagsIn) | uint32(flags)
	}
	return errno
}

func (v view) scrubVec(head *abi.ScrubVecHead) unix.Errno {
	if errno := v.begin(Call{Op: OpScrubVec, Ino: ioctl.Ino(head.Ino), Gen: ioctl.Gen(head.Gen), AGNo: ioctl.AGNumber(head.AGNo)}); errno != 0 {
		return errno
	}
	if head.Flags != 0 || head.Reserved != 0 {
		return unix.EINVAL
	}
	raw := unsafe.Slice((*abi.ScrubVec)(head.Vectors.Pointer()), head.Nr)
	req := ScrubVecRequest{
		Ino: ioctl.Ino(head.Ino), Gen: ioctl.Gen(head.Gen), AGNo: ioctl.AGNumber(head.AGNo),
		Rest: time.Duration(head.RestUs) * time.Microsecond, Entries: make([]ScrubVecEntry, len(raw)),
	}
	for i := range raw {
		req.Entries[i] = ScrubVecEntry{Type: ioctl.ScrubType(raw[i].Type), Flags: ioctl.ScrubFlags(raw[i].Flags)}
	}
	answer := v.OnScrubVec
	if answer == nil {
		answer = v.DefaultScrubVec
	}
	if errno := answer(req); errno != 0 {
		return errno
	}
	for i, e := range req.Entries {
		if e.Ran {
			raw[i].Flags, raw[i].Ret = uint32(e.Flags), -int32(e.Errno)
		}
	}
	return 0
}

func (v view) fsmapCall(head *abi.FSMapHead) unix.Errno {
	key := func(k *abi.FSMap) ioctl.FSMapKey {
		return ioctl.FSMapKey{
			Device: k.Device, Flags: ioctl.FSMapFlags(k.Flags), Physical: ioctl.ByteOff(k.Physical),
			Owner: k.Owner, Offset: ioctl.ByteOff(k.Offset), Length: ioctl.ByteOff(k.Length),
		}
	}
	req := FSMapRequest{Low: key(&head.Keys[0]), High: key(&head.Keys[1]), Count: int(head.Count), Unprivileged: v.unprivileged}
	if errno := v.begin(Call{Op: OpFSMap, FSMap: req, Unprivileged: v.unprivileged}); errno != 0 {
		return errno
	}
	answer := v.OnFSMap
	if answer == nil {
		answer = v.DefaultFSMap
	}
	records, errno := answer(req)
	if errno != 0 {
		return errno
	}
	head.Entries = uint32(len(records))
	head.OFlags = 0
	if v.realDevices() {
		head.OFlags = abi.FSMapOFDevT
	}
	if head.Count > 0 {
		// More records than fit are the mistake of an On function, to be noticed by the caller.
		copy(unsafe.Slice((*ioctl.FSMapRecord)(unsafe.Add(unsafe.Pointer(head), unsafe.Sizeof(*head))), head.Count), records)
	}
	return 0
}

// realDevices says whether records carry device numbers.
func (v view) realDevices() bool {
	v.mu.RLock()
	defer v.mu.RUnlock()
	return v.model.Geometry.RTStart == 0
}

func (v view) bmapCall(f openFile, head *abi.Bmapx) unix.Errno {
	req := BmapRequest{Ino: f.ino, Start: ioctl.DAddr(head.Offset), Length: ioctl.DAddr(head.Length), Count: int(head.Count) - 1}
	if head.IFlags&abi.BmapIFAttrFork != 0 {
		req.Fork = ioctl.AttrFork
	}
	if errno := v.begin(Call{Op: OpBmap, Ino: f.ino, Gen: f.gen, Bmap: req}); errno != 0 {
		return errno
	}
	if head.Count < 2 {
		return unix.EINVAL
	}
	answer := v.OnBmap
	if answer == nil {
		answer = v.DefaultBmap
	}
	records, errno := answer(req)
	if errno != 0 {
		return errno
	}
	head.Entries = int32(len(records))
	copy(unsafe.Slice((*ioctl.BmapRecord)(unsafe.Add(unsafe.Pointer(head), unsafe.Sizeof(*head))), req.Count), records)
	return 0
}

// bulkCall answers BULKSTAT and INUMBERS.
func bulkCall[R any](v view, op Op, on, byDefault func(BulkRequest) ([]R, ioctl.Ino, unix.Errno), head *abi.BulkReq) unix.Errno {
	req := BulkRequest{
		Ino: ioctl.Ino(head.Ino), Flags: ioctl.BulkFlags(head.Flags), AGNo: ioctl.AGNumber(head.AGNo), Count: int(head.ICount),
	}
	if errno := v.begin(Call{Op: op, Ino: req.Ino, AGNo: req.AGNo, Bulk: req}); errno != 0 {
		return errno
	}
	if on == nil {
		on = byDefault
	}
	records, next, errno := on(req)
	if errno != 0 {
		return errno
	}
	head.OCount, head.Ino = uint32(len(records)), uint64(next)
	copy(unsafe.Slice((*R)(unsafe.Add(unsafe.Pointer(head), unsafe.Sizeof(*head))), head.ICount), records)
	return 0
}

func (v view) handle(ino ioctl.Ino, gen ioctl.Gen) abi.Handle {
	v.mu.RLock()
	defer v.mu.RUnlock()
	return abi.Handle{FSID: v.model.FSID, FIDLen: abi.HandleFIDLen, Gen: uint32(gen), Ino: uint64(ino)}
}

func (v view) fdToHandle(f openFile, raw *abi.HandleReq) unix.Errno {
	if errno := v.begin(Call{Op: OpHandle, Ino: f.ino}); errno != 0 {
		return errno
	}
	*(*abi.Handle)(raw.OHandle) = v.handle(f.ino, f.gen)
	*(*uint32)(raw.OHandleLen) = uint32(unsafe.Sizeof(abi.Handle{}))
	return 0
}

func (v view) openByHandle(raw *abi.HandleReq) (int, unix.Errno) {
	h := (*abi.Handle)(raw.IHandle)
	ino, gen := ioctl.Ino(h.Ino), ioctl.Gen(h.Gen)
	if raw.IHandleLen != uint32(unsafe.Sizeof(*h)) || *h != v.handle(ino, gen) {
		return -1, unix.EINVAL
	}
	if raw.OFlags&unix.O_NONBLOCK == 0 {
		v.tb.Errorf("inode %d is opened without O_NONBLOCK: this can wait for a lease", ino)
	}
	return v.open(ino, gen, false)
}

func (v view) parents(ino ioctl.Ino, gen ioctl.Gen, raw *abi.GetParents) unix.Errno {
	if errno := v.begin(Call{Op: OpParents, Ino: ino, Gen: gen}); errno != 0 {
		return errno
	}
	answer := v.OnParents
	if answer == nil {
		answer = v.DefaultParents
	}
	all, errno := answer(ino, gen)
	if errno != 0 {
		return errno
	}
	// The cursor counts the records that were returned.
	from := min(int(raw.Cursor[0]), len(all))
	buf := unsafe.Slice((*byte)(raw.Buffer.Pointer()), raw.BufSize)
	n := encodeParents(buf, v.handle(0, 0).FSID, all[from:])
	raw.Cursor[0] = uint32(from + n)
	raw.OFlags = 0
	if from+n == len(all) {
		raw.OFlags = abi.GetParentsOFlagDone
	} else if n == 0 {
		return unix.EMSGSIZE
	}
	return 0
}

func (v view) healthMonitor(f openFile, raw *abi.HealthMonitor) (int, unix.Errno) {
	if errno := v.begin(Call{Op: OpHealthMonitor}); errno != 0 {
		return -1, errno
	}
	v.mu.RLock()
	root, admin := v.model.RootIno, !v.model.NoAdmin
	v.mu.RUnlock()
	switch {
	case !admin, f.ino != root:
		return -1, unix.EPERM
	case raw.Format != abi.HealthMonitorFormat0, raw.Flags&^abi.HealthMonitorVerbose != 0:
		return -1, unix.EINVAL
	}
	return v.startMonitor()
}

func (v view) healthCovers(raw *abi.HealthFileOnFS) unix.Errno {
	if errno := v.begin(Call{Op: OpHealthCovers}); errno != 0 {
		return errno
	}
	if _, errno := v.file(int(raw.FD)); errno != 0 {
		return unix.ESTALE // a real file, which is elsewhere
	}
	return 0
}

func (v view) verifyMedia(raw *abi.VerifyMedia) unix.Errno {
	req := ioctl.MediaRequest{
		Device: ioctl.MediaDevice(raw.Dev), Start: ioctl.DAddr(raw.StartDAddr), End: ioctl.DAddr(raw.EndDAddr),
		Report: raw.Flags&abi.VerifyMediaReport != 0, MaxIO: raw.MaxIOSize, Rest: time.Duration(raw.RestUs) * time.Microsecond,
	}
	if errno := v.begin(Call{Op: OpVerifyMedia, Media: req}); errno != 0 {
		return errno
	}
	if raw.Pad != 0 {
		return unix.EINVAL
	}
	answer := v.OnVerifyMedia
	if answer == nil {
		answer = v.DefaultVerifyMedia
	}
	r, errno := answer(req)
	raw.StartDAddr, raw.EndDAddr, raw.IOError = uint64(r.Verified), uint64(r.End), uint32(r.IOError)
	return errno
}
