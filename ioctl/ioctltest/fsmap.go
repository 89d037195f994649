package ioctltest

import (
	"cmp"
	"math"

	"golang.org/x/sys/unix"

	"github.com/scrubd/scrubd/ioctl"
)

// FSMapRequest is one GETFSMAP call.
type FSMapRequest struct {
	Low, High    ioctl.FSMapKey
	Count        int  // records that fit; 0 only counts
	Unprivileged bool // from a thread without CAP_SYS_ADMIN
}

// rmapKey is a key of the rmapbt: offset with the attr and bmbt flags above it, as on disk.
type rmapKey struct {
	agbno  ioctl.AGBlock
	owner  uint64
	offset uint64
}

const (
	diskAttrFork = 1 << 63
	diskBmbt     = 1 << 62
)

func packOffset(offset uint64, flags ioctl.FSMapFlags) uint64 {
	if flags.Has(ioctl.FSMapAttrFork) {
		offset |= diskAttrFork
	}
	if flags.Has(ioctl.FSMapExtentMap) {
		offset |= diskBmbt
	}
	return offset
}

func (a rmapKey) compare(b rmapKey) int {
	return cmp.Or(cmp.Compare(a.agbno, b.agbno), cmp.Compare(a.owner, b.owner), cmp.Compare(a.offset, b.offset))
}

// low and high are the first and the last key that a record covers.
func (r *Rmap) low() rmapKey {
	return rmapKey{r.AGBno, r.rmapOwner(), packOffset(r.Offset, r.Flags)}
}

func (r *Rmap) high() rmapKey {
	k := r.low()
	k.agbno += r.Length - 1
	if r.Flags&(ioctl.FSMapSpecialOwner|ioctl.FSMapExtentMap) == 0 {
		k.offset += uint64(r.Length) - 1
	}
	return k
}

func compareRmaps(a, b *Rmap) int {
	return cmp.Or(cmp.Compare(a.AGNo, b.AGNo), a.low().compare(b.low()))
}

// fsmapQuery is the state of one query of one device.
type fsmapQuery struct {
	m       *Model
	dev     uint32
	count   int
	missing ioctl.FSMapOwner // owner of what no record covers
	next    ioctl.ByteOff    // end of what has been told
	end     ioctl.ByteOff    // end of the query, exclusive
	low     rmapKey
	resume  bool // low is a record that has been returned
	out     []ioctl.FSMapRecord
}

// DefaultFSMap answers from the model, by the kernel's rules.
func (k *Kernel) DefaultFSMap(req FSMapRequest) ([]ioctl.FSMapRecord, unix.Errno) {
	k.mu.RLock()
	defer k.mu.RUnlock()
	return k.model.fsmap(req)
}

func encodeDev(major, minor uint32) uint32 {
	return minor&0xff | major<<8 | minor&^0xff<<12
}

func (m *Model) fsmap(req FSMapRequest) ([]ioctl.FSMapRecord, unix.Errno) {
	if m.Shutdown {
		return nil, unix.EIO
	}
	dataDev := encodeDev(m.DevMajor, m.DevMinor)
	var logDev uint32
	if m.Geometry.LogStart == 0 {
		logDev = encodeDev(m.LogDevMajor, m.LogDevMinor)
	}
	if m.Geometry.RTStart != 0 {
		dataDev = uint32(ioctl.MediaData)
		if logDev != 0 {
			logDev = uint32(ioctl.MediaLog)
		}
	}
	valid := func(dev uint32) bool {
		return dev == 0 || dev == math.MaxUint32 || dev == dataDev || logDev != 0 && dev == logDev
	}
	if !valid(req.Low.Device) || !valid(req.High.Device) || !keysInOrder(req.Low, req.High) {
		return nil, unix.EINVAL
	}

	q := &fsmapQuery{m: m, count: req.Count}
	if req.Count == 0 {
		q.count = math.MaxInt
	}
	q.next = req.Low.Physical.DAddr().Bytes() + req.Low.Length.DAddr().Bytes()
	low := req.Low
	more := false
	devices := []uint32{dataDev}
	if logDev != 0 {
		devices = append(devices, logDev)
		if logDev < dataDev {
			devices[0], devices[1] = logDev, dataDev
		}
	}
	for _, dev := range devices {
		if req.Low.Device > dev {
			continue
		}
		if req.High.Device < dev || more {
			break
		}
		// A key of another device, a wildcard say, does not limit this one.
		high := ioctl.FSMapKey{Physical: math.MaxUint64, Owner: math.MaxUint64, Offset: math.MaxUint64, Flags: math.MaxUint32}
		if dev == req.High.Device {
			high = req.High
		}
		if dev > req.Low.Device {
			low = ioctl.FSMapKey{}
			q.next = 0
		}
		q.dev = dev
		if dev == dataDev {
			if !knownOwner(low) {
				return nil, unix.EINVAL
			}
			var errno unix.Errno
			more, errno = q.dataDevice(low, high, req.Unprivileged || m.NoAdmin || !m.Geometry.Has(ioctl.FlagRmapbt))
			if errno != 0 {
				return nil, errno
			}
		} else {
			more = q.logDevice(low)
		}
		q.next = 0
	}
	if n := len(q.out); n > 0 && !more {
		q.out[n-1].Flags |= ioctl.FSMapLast
	}
	return q.out, 0
}

// knownOwner says whether the kernel knows a key's special owner. 0 and ^0 are ends of a range.
func knownOwner(k ioctl.FSMapKey) bool {
	_, known := diskOwners[ioctl.FSMapOwner(k.Owner)]
	return known || !k.Flags.Has(ioctl.FSMapSpecialOwner) || k.Owner == 0 || k.Owner == math.MaxUint64
}

// keysInOrder says whether the kernel takes these keys.
func keysInOrder(low, high ioctl.FSMapKey) bool {
	const odd = ioctl.FSMapSpecialOwner | ioctl.FSMapExtentMap
	if low.Flags&odd != 0 && low.Offset != 0 {
		return false
	}
	if high.Flags != math.MaxUint32 && high.Flags&odd != 0 && high.Offset != 0 && high.Offset != math.MaxUint64 {
		return false
	}
	if high.Length != 0 && high.Length != math.MaxUint64 {
		return false
	}
	return cmp.Or(cmp.Compare(low.Device, high.Device), cmp.Compare(low.Physical.DAddr(), high.Physical.DAddr()),
		cmp.Compare(low.Owner, high.Owner), cmp.Compare(low.Offset.DAddr(), high.Offset.DAddr())) < 0
}

// dataDevice tells the groups from low to high. It returns whether the buffer was full before the end.
func (q *fsmapQuery) dataDevice(low, high ioctl.FSMapKey, unprivileged bool) (full bool, errno unix.Errno) {
	g := &q.m.Geometry
	size := g.BlocksToBytes(g.DataBlocks)
	if low.Physical >= size {
		return false, 0
	}
	q.end = (min(size-1, high.Physical).DAddr() + 1).Bytes()
	start := low.Physical
	q.low = rmapKey{owner: low.Owner, offset: packOffset(uint64(low.Offset)>>g.BlockLog(), low.Flags)}
	if low.Flags.Has(ioctl.FSMapSpecialOwner) {
		q.low.owner = specialToDisk(ioctl.FSMapOwner(low.Owner))
	}
	if done := g.BytesToBlocks(low.Length); done > 0 {
		q.resume = true
		const unshareable = ioctl.FSMapAttrFork | ioctl.FSMapExtentMap | ioctl.FSMapPrealloc
		if low.Flags&unshareable == 0 && q.low.owner>>63 == 0 && g.Has(ioctl.FlagReflink) {
			q.low.offset += done
		} else {
			q.low.owner, q.low.offset = 0, 0
			if start += g.BlocksToBytes(done); start >= size {
				return false, 0
			}
		}
	}
	startAG, startBlock := g.BytesToAG(start)
	endAG, endBlock := g.BytesToAG(q.end - 1)
	q.low.agbno = startBlock
	q.missing = ioctl.FSMapOwnerFree
	if unprivileged {
		q.missing = ioctl.FSMapOwnerUnknown
	}
	for agno := startAG; agno <= endAG; agno++ {
		top := rmapKey{agbno: math.MaxUint32, owner: math.MaxUint64, offset: math.MaxUint64}
		if agno == endAG {
			top.agbno = endBlock
			if high.Owner != math.MaxUint64 {
				top.owner = high.Owner
				top.offset = packOffset(uint64(high.Offset)>>g.BlockLog(), high.Flags)
			}
		}
		// A continuation that is past the high key in the same group is refused.
		if q.low.compare(top) > 0 {
			return false, unix.EINVAL
		}
		if full = q.group(agno, top, unprivileged); full {
			return true, 0
		}
		q.low, q.resume = rmapKey{}, false
	}
	return q.gap(q.end), 0
}

// group tells the records of one group that touch the keys.
func (q *fsmapQuery) group(agno ioctl.AGNumber, top rmapKey, unprivileged bool) (full bool) {
	if unprivileged {
		for _, f := range q.m.Free {
			if f.AGNo == agno && f.AGBno+f.Length-1 >= q.low.agbno && f.AGBno <= top.agbno {
				r := Rmap{AGNo: agno, AGBno: f.AGBno, Length: f.Length, Owner: uint64(ioctl.FSMapOwnerFree), Flags: ioctl.FSMapSpecialOwner}
				if q.record(&r) {
					return true
				}
			}
		}
		return false
	}
	for i := range q.m.Rmaps {
		r := &q.m.Rmaps[i]
		if r.AGNo != agno || r.high().compare(q.low) < 0 {
			continue
		}
		if r.low().compare(top) > 0 {
			break
		}
		if q.record(r) {
			return true
		}
	}
	return false
}

// record tells the gap before a record and the record.
func (q *fsmapQuery) record(r *Rmap) (full bool) {
	g := &q.m.Geometry
	start := g.AGByte(r.AGNo, r.AGBno)
	end := start + g.BlocksToBytes(uint64(r.Length))
	// The kernel leaves the offset out of this comparison.
	key := rmapKey{r.AGBno, r.rmapOwner(), packOffset(0, r.Flags)}
	if q.resume && key.compare(q.low) < 0 {
		q.next = max(q.next, end)
		return false
	}
	if q.gap(start) || len(q.out) >= q.count {
		return true
	}
	out := ioctl.FSMapRecord{Device: q.dev, Flags: r.Flags, Physical: start, Owner: r.Owner, Length: end - start}
	if r.Flags&(ioctl.FSMapSpecialOwner|ioctl.FSMapExtentMap) == 0 {
		out.Offset = g.BlocksToBytes(r.Offset)
	}
	if r.Flags == 0 && q.m.isShared(Range{r.AGNo, r.AGBno, r.Length}) {
		out.Flags |= ioctl.FSMapShared
	}
	q.out = append(q.out, out)
	q.next = max(q.next, end)
	return false
}

// gap tells what lies between the end of the last record and start, if anything does.
func (q *fsmapQuery) gap(start ioctl.ByteOff) (full bool) {
	if start <= q.next {
		return false
	}
	if len(q.out) >= q.count {
		return true
	}
	q.out = append(q.out, ioctl.FSMapRecord{
		Device: q.dev, Flags: ioctl.FSMapSpecialOwner, Physical: q.next, Owner: uint64(q.missing), Length: start - q.next,
	})
	q.next = start
	return false
}

// logDevice tells the one record of an external log.
func (q *fsmapQuery) logDevice(low ioctl.FSMapKey) (full bool) {
	if low.Physical+low.Length > 0 {
		return false
	}
	if len(q.out) >= q.count {
		return true
	}
	g := &q.m.Geometry
	q.out = append(q.out, ioctl.FSMapRecord{
		Device: q.dev, Flags: ioctl.FSMapSpecialOwner, Owner: uint64(ioctl.FSMapOwnerLog), Length: g.BlocksToBytes(uint64(g.LogBlocks)),
	})
	return false
}

// isShared says whether a SHARED refcount record touches the range.
func (m *Model) isShared(r Range) bool {
	if !m.Geometry.Has(ioctl.FlagReflink) {
		return false
	}
	for _, s := range m.Shared {
		if s.AGNo == r.AGNo && s.AGBno < r.AGBno+r.Length && r.AGBno < s.AGBno+s.Length {
			return true
		}
	}
	return false
}
