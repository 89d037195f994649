package witness_test

import (
	"cmp"
	"math"
	"slices"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/scrubd/scrubd/ioctl"
	"github.com/scrubd/scrubd/ioctl/ioctltest"
	"github.com/scrubd/scrubd/shadow"
)

// behaviour is how GETFSMAP goes on after a record, which has changed twice.
type behaviour int

const (
	oldest   behaviour = iota // before Linux 6.5
	middle                    // Linux 6.5 to 6.13
	newest                    // since Linux 6.14
	numKinds = iota
)

// fakeAG plays the rmapbt of group 0 of a fake filesystem, record by record as
// the kernel's query goes over it: it may be in any disorder.
type fakeAG struct {
	geo     *ioctl.Geometry
	kind    behaviour
	reflink bool
	records []shadow.Rmap   // as they lie in the leaves
	bad     map[uint32]bool // start blocks of records that cannot be read
	calls   int
}

// newFakeAG returns a filesystem of one group whose rmapbt is records, and
// the fake behind it.
func newFakeAG(tb testing.TB, kind behaviour, reflink bool, records []shadow.Rmap) (*ioctl.FS, *fakeAG) {
	m := ioctltest.NewModel()
	m.Geometry.AGCount, m.Geometry.AGBlocks, m.Geometry.DataBlocks, m.Geometry.LogStart = 1, 1<<20, 1<<20, 0
	if !reflink {
		m.Geometry.Flags &^= ioctl.FlagReflink
	}
	fs, k := ioctltest.NewWithModel(tb, m)
	ag := &fakeAG{geo: fs.Geometry(), kind: kind, reflink: reflink, records: records, bad: map[uint32]bool{}}
	k.OnFSMap = ag.fsmap
	return fs, ag
}

// fakeKey is a key of the rmapbt, and of the comparison that filters.
type fakeKey struct{ start, owner, offset uint64 }

func (k fakeKey) compare(o fakeKey) int {
	return cmp.Or(cmp.Compare(k.start, o.start), cmp.Compare(k.owner, o.owner), cmp.Compare(k.offset, o.offset))
}

func lowKey(r *shadow.Rmap) fakeKey {
	return fakeKey{uint64(r.StartBlock), r.Owner, r.Offset &^ shadow.OffsetUnwritten}
}

func highKey(r *shadow.Rmap) fakeKey {
	k := lowKey(r)
	k.start += uint64(r.BlockCount) - 1
	if r.IsInode() && r.Offset&shadow.OffsetBmbtBlock == 0 {
		k.offset += uint64(r.BlockCount) - 1
	}
	return k
}

// specialOwners are the owners on disk of what GETFSMAP calls special.
var specialOwners = map[uint64]ioctl.FSMapOwner{
	shadow.OwnerUnknown: ioctl.FSMapOwnerUnknown,
	shadow.OwnerFS:      ioctl.FSMapOwnerFS,
	shadow.OwnerLog:     ioctl.FSMapOwnerLog,
	shadow.OwnerAG:      ioctl.FSMapOwnerAG,
	shadow.OwnerInobt:   ioctl.FSMapOwnerInobt,
	shadow.OwnerInodes:  ioctl.FSMapOwnerInodes,
	shadow.OwnerRefcbt:  ioctl.FSMapOwnerRefcount,
	shadow.OwnerCoW:     ioctl.FSMapOwnerCoW,
}

func (f *fakeAG) blocks(b ioctl.ByteOff) uint64 { return uint64(b) >> f.geo.BlockLog() }

// fsmap answers as xfs_getfsmap does.
func (f *fakeAG) fsmap(req ioctltest.FSMapRequest) ([]ioctl.FSMapRecord, unix.Errno) {
	f.calls++
	low := fakeKey{f.blocks(req.Low.Physical), req.Low.Owner, f.blocks(req.Low.Offset)}
	high := fakeKey{f.blocks(req.High.Physical), req.High.Owner, f.blocks(req.High.Offset)}
	if req.High.Offset == math.MaxUint64 {
		high.offset = math.MaxUint64
	}
	resumed := req.Low.Length > 0
	if resumed {
		bump := req.Low.Flags&(ioctl.FSMapSpecialOwner|ioctl.FSMapExtentMap) != 0
		if f.kind != oldest {
			bump = bump || !f.reflink || req.Low.Flags&(ioctl.FSMapAttrFork|ioctl.FSMapPrealloc) != 0 || low.owner>>63 != 0
		}
		if bump {
			low = fakeKey{start: low.start + f.blocks(req.Low.Length)}
		} else {
			low.offset += f.blocks(req.Low.Length)
		}
	}
	if low.compare(high) > 0 {
		return nil, unix.EINVAL
	}
	count := req.Count
	if count == 0 {
		count = math.MaxInt
	}
	q := &fakeQuery{ag: f, out: []ioctl.FSMapRecord{}, count: count, next: low.start}
	for i := range f.records {
		r := &f.records[i]
		if highKey(r).compare(low) < 0 || lowKey(r).compare(high) > 0 {
			continue
		}
		if f.bad[r.StartBlock] {
			return nil, unix.EUCLEAN
		}
		if f.filters(r, low, resumed) {
			q.next = max(q.next, r.End())
			continue
		}
		if !q.gap(uint64(r.StartBlock)) || !q.record(r) {
			return q.out, 0
		}
	}
	if q.gap(high.start+1) && len(q.out) > 0 {
		q.out[len(q.out)-1].Flags |= ioctl.FSMapLast
	}
	return q.out, 0
}

// filters says whether the query leaves out a record as one before the low key.
func (f *fakeAG) filters(r *shadow.Rmap, low fakeKey, resumed bool) bool {
	key := lowKey(r)
	switch f.kind {
	case oldest:
		return key.compare(low) < 0
	case newest:
		key.offset &= shadow.OffsetAttrFork | shadow.OffsetBmbtBlock
	}
	return resumed && key.compare(low) < 0
}

type fakeQuery struct {
	ag    *fakeAG
	out   []ioctl.FSMapRecord
	count int
	next  uint64 // end of what has been told
}

// gap tells of the blocks before start that no record covers, and whether there
// was room.
func (q *fakeQuery) gap(start uint64) bool {
	if start <= q.next {
		return true
	}
	if len(q.out) == q.count {
		return false
	}
	q.out = append(q.out, ioctl.FSMapRecord{
		Device: 1, Flags: ioctl.FSMapSpecialOwner, Owner: uint64(ioctl.FSMapOwnerFree),
		Physical: q.ag.geo.AGByte(0, ioctl.AGBlock(q.next)), Length: q.ag.geo.BlocksToBytes(start - q.next),
	})
	q.next = start
	return true
}

func (q *fakeQuery) record(r *shadow.Rmap) bool {
	if len(q.out) == q.count {
		return false
	}
	rec := ioctl.FSMapRecord{
		Physical: q.ag.geo.AGByte(0, ioctl.AGBlock(r.StartBlock)), Length: q.ag.geo.BlocksToBytes(uint64(r.BlockCount)), Owner: r.Owner,
	}
	if special, ok := specialOwners[r.Owner]; ok {
		rec.Owner, rec.Flags = uint64(special), ioctl.FSMapSpecialOwner
	}
	if r.Offset&shadow.OffsetAttrFork != 0 {
		rec.Flags |= ioctl.FSMapAttrFork
	}
	if r.Offset&shadow.OffsetBmbtBlock != 0 {
		rec.Flags |= ioctl.FSMapExtentMap
	}
	if r.Offset&shadow.OffsetUnwritten != 0 {
		rec.Flags |= ioctl.FSMapPrealloc
	}
	rec.Offset = q.ag.geo.BlocksToBytes(r.Offset & shadow.MaxOffset)
	q.out = append(q.out, rec)
	q.next = max(q.next, r.End())
	return true
}

// inOrder returns records sorted as a healthy tree has them.
func inOrder(records []shadow.Rmap) []shadow.Rmap {
	sorted := slices.Clone(records)
	slices.SortStableFunc(sorted, func(a, b shadow.Rmap) int { return lowKey(&a).compare(lowKey(&b)) })
	return sorted
}
