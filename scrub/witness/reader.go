package witness

import (
	"errors"
	"fmt"
	"math"
	"slices"

	"github.com/scrubd/scrubd/ioctl"
)

// mapper is what answers GETFSMAP: an [ioctl.FS] or an [ioctl.BnobtView].
type mapper interface {
	FSMap(low, high ioctl.FSMapKey, buf *ioctl.FSMapBuffer) error
}

// counter counts the records between two keys in one go, however many.
type counter interface {
	FSMapCount(low, high ioctl.FSMapKey) (int, error)
}

// reader reads all records that touch a window of a group, batch by batch, in
// the order of [recordKey]. It hands out every record once, and skips none.
//
// # Where a batch ends
//
// Not with its last record: that one may be out of place (a damaged tree hands
// out what is in its leaves, in that order), and going on behind it would skip
// all that it has been misplaced over. A full batch ends with the last record
// that is below what follows it, and the rest is read again. In a healthy tree
// that is one record.
//
// # How it goes on
//
//   - With reflink, at the first record of the last one's start block and owner:
//     see atOwnerOf. What has that start block and owner comes back, and nothing
//     else does. Should it fill a whole batch, crowd takes over.
//   - Without reflink the kernel moves a key with a length past the whole record.
//     There, and in the bnobt view, the key is a fresh one without a length at
//     the last record's start block: everything that touches that block comes
//     back. Sharing is impossible there, so it is not much.
//
// What comes back is told by its key and dropped.
//
// # What stays hidden
//
// A record in a place of the tree where it sorts below the low key cannot be
// read by any query that begins behind it, and one that sorts above the high
// key hides the rest of its leaf. The kernel does not see these either.
//
// Source: fs/xfs/xfs_fsmap.c (xfs_getfsmap, rmap_not_shareable);
// fs/xfs/libxfs/xfs_btree.c (xfs_btree_overlapped_query_range).
type reader struct {
	fs        mapper
	counter   counter // of the rmapbt view
	group     group
	buf       *ioctl.FSMapBuffer
	low, high ioctl.FSMapKey
	reflink   bool
	gap       ioctl.FSMapOwner // what this view calls a stretch without record

	last    recordKey         // of the last record handed out
	any     bool              // last counts
	run     int               // records handed out that have the start block and owner of last
	first   recordKey         // of these
	lastRec ioctl.FSMapRecord // that record
	crowd   *crowd            // not nil while more of these are to come than fit a batch
	done    bool
	// early are records that were found before their place in the order, sorted.
	// Only a damaged tree has any.
	early []ioctl.FSMapRecord
}

// maxEarly bounds the records that wait for their place: more than a few mean
// that the tree has no order at all.
const maxEarly = 4096

// newRmapReader reads what touches blocks [start, start+count) in the rmapbt.
func newRmapReader(fs *ioctl.FS, g group, start, count uint64, buf *ioctl.FSMapBuffer) *reader {
	r := &reader{fs: fs, group: g, buf: buf, gap: ioctl.FSMapOwnerFree, reflink: fs.Geometry().Has(ioctl.FlagReflink), counter: fs}
	r.setWindow(start, count)
	return r
}

func (r *reader) setWindow(start, count uint64) {
	dev := r.group.dev
	r.low = ioctl.FSMapKey{Device: dev, Physical: r.group.byteOf(start)}
	r.high = ioctl.FSMapKey{
		Device: dev, Flags: math.MaxUint32, Physical: r.group.byteOf(start+count) - 1,
		Owner: math.MaxUint64, Offset: math.MaxUint64,
	}
}

// next makes one call and returns what is new in it: sorted, and sorted behind
// everything returned before. The records are in the buffer, which the next
// call overwrites. An empty batch does not mean the end; done does.
func (r *reader) next() ([]ioctl.FSMapRecord, error) {
	batch, err := r.read()
	if err != nil {
		r.done = true
		return nil, err
	}
	return batch, nil
}

func (r *reader) read() ([]ioctl.FSMapRecord, error) {
	if r.crowd != nil {
		return r.readCrowd()
	}
	if err := r.call(r.low); err != nil {
		return nil, err
	}
	all := r.buf.Records()
	r.done = !r.buf.Full() || all[len(all)-1].Flags&ioctl.FSMapLast != 0
	ends := r.done || all[len(all)-1].Is(r.gap) // nothing reaches over a gap
	fresh, ordered := r.dropKnown(all)
	var cutOff []ioctl.FSMapRecord
	switch {
	case ends && ordered:
	case ends:
		slices.SortStableFunc(fresh, compareRecords)
	case ordered:
		fresh, cutOff = cut(fresh)
	default:
		fresh = r.sift(fresh)
	}
	switch {
	case len(fresh) > 0:
		r.advance(fresh)
		if !r.done {
			r.goOn(&fresh[len(fresh)-1])
		}
	case r.done:
	case ends:
		r.low = ioctl.FSMapKey{Device: r.low.Device, Physical: all[len(all)-1].Physical + all[len(all)-1].Length}
		r.done = r.low.Physical > r.high.Physical
	case r.isCrowd(cutOff):
		r.crowd = &crowd{expect: keyOf(&cutOff[0])}
	default:
		return nil, r.stuck(len(all))
	}
	if !ordered {
		return r.reorder(fresh)
	}
	return r.settle(fresh)
}

// settle returns an ordered batch, with those records in it that came too early.
func (r *reader) settle(batch []ioctl.FSMapRecord) ([]ioctl.FSMapRecord, error) {
	if len(r.early) > 0 {
		return r.reorder(batch)
	}
	return batch, nil
}

// call makes one call into the buffer.
func (r *reader) call(low ioctl.FSMapKey) error {
	err := r.fs.FSMap(low, r.high, r.buf)
	if errors.Is(err, ioctl.ErrCorrupt) {
		return &CorruptError{AGNo: r.group.agno, Realtime: r.group.rt, Reached: r.position(), Err: err}
	}
	return err
}

func (r *reader) stuck(n int) error {
	return fmt.Errorf("read space mappings of %s at block %d: %d records in one call: %w",
		&r.group, r.position(), n, ErrStuck)
}

// advance notes that records, in order, are handed out.
func (r *reader) advance(recs []ioctl.FSMapRecord) {
	last := keyOf(&recs[len(recs)-1])
	n := len(recs) - 1
	for n > 0 {
		if key := keyOf(&recs[n-1]); !key.sameGroup(last) {
			break
		}
		n--
	}
	if n == 0 && r.any && r.last.sameGroup(last) {
		r.run += len(recs)
	} else {
		r.run, r.first = len(recs)-n, keyOf(&recs[n])
	}
	r.last, r.any = last, true
	r.lastRec = recs[len(recs)-1]
}

// position is the block at which the next call reads.
func (r *reader) position() ioctl.AGBlock {
	return ioctl.AGBlock(uint64(r.low.Physical)>>r.group.shift - r.group.first)
}

// goOn sets the low key to go on after a record.
func (r *reader) goOn(rec *ioctl.FSMapRecord) {
	if r.reflink {
		r.low = atOwnerOf(rec, r.low.Device, 1<<r.group.shift)
	} else {
		r.low = ioctl.FSMapKey{Device: r.low.Device, Physical: rec.Physical}
	}
}

// dropKnown moves the records that are no gaps and were not read before to the
// front of the batch, and tells whether they are in order.
func (r *reader) dropKnown(recs []ioctl.FSMapRecord) (fresh []ioctl.FSMapRecord, ordered bool) {
	ordered = true
	n := 0
	var prev recordKey
	for i := range recs {
		if recs[i].Is(r.gap) {
			continue
		}
		key := keyOf(&recs[i])
		if r.any && key.compare(r.last) <= 0 || len(r.early) > 0 && r.isEarly(key) {
			continue
		}
		if n > 0 && key.compare(prev) < 0 {
			ordered = false
		}
		if n < i {
			recs[n] = recs[i]
		}
		prev = key
		n++
	}
	return recs[:n], ordered
}

func (r *reader) isEarly(key recordKey) bool {
	return slices.ContainsFunc(r.early, func(e ioctl.FSMapRecord) bool { return keyOf(&e) == key })
}

// cut splits an ordered batch before its last key: of records with equal keys
// all are read again or none.
func cut(recs []ioctl.FSMapRecord) (keep, cutOff []ioctl.FSMapRecord) {
	n := len(recs)
	if n == 0 {
		return recs, nil
	}
	last := keyOf(&recs[n-1])
	for n > 0 && keyOf(&recs[n-1]) == last {
		n--
	}
	return recs[:n], recs[n:]
}

// sift is cut for a batch out of order. It returns, sorted, what does not sort
// behind the last record that is below all that follow it; those before it that
// do are too early, those after it are read again.
//
// Records that are too low themselves do not count as what follows, or one of
// them at the end would leave nothing: they sort below the two before them,
// whereas a record behind one that is too high sorts between the two.
func (r *reader) sift(recs []ioctl.FSMapRecord) []ioctl.FSMapRecord {
	keys := make([]recordKey, len(recs))
	for i := range recs {
		keys[i] = keyOf(&recs[i])
	}
	last := len(recs) // of those that count
	var least recordKey
	found := -1
	for i := len(recs) - 1; i >= 0 && found < 0; i-- {
		if i >= 2 && keys[i].compare(keys[i-1]) < 0 && keys[i].compare(keys[i-2]) < 0 {
			continue
		}
		if last < len(recs) && keys[i].compare(least) < 0 {
			found = i
		}
		last, least = i, keys[i]
	}
	if found < 0 {
		return recs[:0]
	}
	n := 0
	for i := range recs {
		switch {
		case keys[i].compare(keys[found]) <= 0:
			recs[n] = recs[i]
			n++
		case i < found:
			r.early = append(r.early, recs[i])
		}
	}
	slices.SortStableFunc(recs[:n], compareRecords)
	return recs[:n]
}

func compareRecords(a, b ioctl.FSMapRecord) int { return keyOf(&a).compare(keyOf(&b)) }

// reorder merges a batch with the records that were too early, keeps those back
// that still are, and returns the rest.
func (r *reader) reorder(batch []ioctl.FSMapRecord) ([]ioctl.FSMapRecord, error) {
	out := slices.Concat(batch, r.early)
	slices.SortStableFunc(out, compareRecords)
	r.early = r.early[:0]
	if r.done {
		return out, nil
	}
	n := len(out)
	for n > 0 {
		if key := keyOf(&out[n-1]); key.compare(r.last) <= 0 {
			break
		}
		n--
	}
	if len(out)-n > maxEarly {
		return nil, r.group.malformed(&out[n], "one of too many records out of order")
	}
	r.early = append(r.early, out[n:]...)
	return out[:n], nil
}
