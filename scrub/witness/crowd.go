package witness

import (
	"math"

	"github.com/scrubd/scrubd/ioctl"
)

// crowd reads a start block that one file maps at more offsets than a batch has
// room for: what deduplication makes of a file with many equal blocks.
//
// Two low keys lead on from the last record, and it depends on the kernel which
// of them does: afterOffset before Linux 6.14, atEndOf since 6.5. Whether one
// does is told by expect. atEndOf misses records that are shorter than the
// last one; the kernel is asked for the number of records in the end, and if
// some are missing that is an error and not a difference.
type crowd struct {
	expect recordKey // of a record that was seen and is to come next
	byEnd  bool      // afterOffset did not lead to it
}

// isCrowd tells whether the records that were cut off continue the start block
// and owner of those handed out.
func (r *reader) isCrowd(cutOff []ioctl.FSMapRecord) bool {
	return r.reflink && r.any && len(cutOff) > 0 && keyOf(&cutOff[0]).sameGroup(r.last)
}

// readCrowd reads the next batch of the crowd.
func (r *reader) readCrowd() ([]ioctl.FSMapRecord, error) {
	c := r.crowd
	blockSize := uint64(1) << r.group.shift
	if !c.byEnd {
		if err := r.call(afterOffset(&r.lastRec, r.low.Device, blockSize)); err != nil {
			return nil, err
		}
		c.byEnd = !r.holds(c.expect)
	}
	if c.byEnd {
		if err := r.call(atEndOf(&r.lastRec, r.low.Device, blockSize)); err != nil {
			return nil, err
		}
		if !r.holds(c.expect) {
			return nil, r.stuck(len(r.buf.Records()))
		}
	}
	more := r.buf.Full()
	all := r.buf.Records()
	n := 0
	for i := range all {
		key := keyOf(&all[i])
		switch {
		case all[i].Is(r.gap), key.compare(r.last) <= 0:
		case key.sameGroup(r.last):
			all[n] = all[i]
			n++
		default:
			more = false // what sorts behind the crowd has come
		}
	}
	fresh, cutOff := all[:n], all[n:n]
	if more {
		fresh, cutOff = cut(fresh)
	}
	if len(fresh) == 0 {
		return nil, r.stuck(len(all))
	}
	r.advance(fresh)
	if more {
		c.expect = keyOf(&cutOff[0])
		return r.settle(fresh)
	}
	r.crowd = nil
	r.low = afterOwner(r.lastRec.Physical, r.lastRec.Owner, r.low.Device, blockSize)
	if c.byEnd {
		n, err := r.countRun()
		if err != nil {
			return nil, err
		}
		if n > r.run {
			return nil, r.stuck(n)
		}
	}
	return r.settle(fresh)
}

// holds tells whether the batch has a record with that key.
func (r *reader) holds(key recordKey) bool {
	recs := r.buf.Records()
	for i := range recs {
		if keyOf(&recs[i]) == key {
			return true
		}
	}
	return false
}

// countRun asks for the number of data extents with the start block and owner of
// the last record: those up to that owner's last possible offset, less those up
// to the first one that was handed out. Both counts have that one in them, and
// so neither has a gap.
func (r *reader) countRun() (int, error) {
	upTo := func(offset uint64) (int, error) {
		low := ioctl.FSMapKey{Device: r.low.Device, Physical: r.lastRec.Physical}
		return r.counter.FSMapCount(low, ioctl.FSMapKey{
			Device: r.low.Device, Physical: r.lastRec.Physical, Owner: r.lastRec.Owner, Offset: ioctl.ByteOff(offset),
		})
	}
	all, err := upTo(math.MaxInt64)
	if err != nil {
		return 0, err
	}
	first, err := upTo(r.first.offset)
	return all - first + 1, err
}
