package walk

import (
	"math/bits"

	"github.com/scrubd/scrubd/shadow"
	"github.com/scrubd/scrubd/xfile"
)

// A worker's claims wait in slots until there are enough for one Append. Neither
// the number of slots nor their size in all follows the number of groups:
//
//	slots <= maxSlots
//	workers * slots * slot size <= batchBytes, or the slots are minSlot records
const (
	maxSlots   = 64
	maxSlot    = 512 // records
	minSlot    = 32
	batchBytes = 8 << 20
)

// batcher collects the claims of one worker by allocation group.
//
// Group agno waits in slot agno mod len(slots). Two groups that want the same
// slot evict one another: that costs short appends, not memory.
type batcher struct {
	arrays []*xfile.Array[shadow.Rmap]
	slots  []slot
	mask   uint32
	size   int // records of a slot
}

type slot struct {
	agno uint32
	recs []shadow.Rmap // cap is batcher.size once used
}

func newBatcher(arrays []*xfile.Array[shadow.Rmap], workers int) *batcher {
	n := min(maxSlots, 1<<bits.Len(uint(max(len(arrays), 1)-1)))
	size := batchBytes / shadow.RmapSize / max(workers, 1) / n
	return &batcher{
		arrays: arrays,
		slots:  make([]slot, n),
		mask:   uint32(n - 1),
		size:   max(minSlot, min(size, maxSlot)),
	}
}

// add appends a claim on blocks of group agno, or lengthens the last one by it
// where the two are one mapping cut in two, as GETBMAPX does at the edges of
// shared blocks and at its own maximum extent length.
func (b *batcher) add(agno uint32, r shadow.Rmap) error {
	s := &b.slots[agno&b.mask]
	if n := len(s.recs); n > 0 && s.agno == agno {
		last := &s.recs[n-1]
		if last.Owner == r.Owner &&
			last.StartBlock+last.BlockCount == r.StartBlock &&
			last.Offset+uint64(last.BlockCount) == r.Offset {
			last.BlockCount += r.BlockCount
			return nil
		}
		if n < b.size {
			s.recs = append(s.recs, r)
			return nil
		}
	}
	if err := b.flushSlot(s); err != nil {
		return err
	}
	if s.recs == nil {
		s.recs = make([]shadow.Rmap, 0, b.size)
	}
	s.agno = agno
	s.recs = append(s.recs, r)
	return nil
}

func (b *batcher) flushSlot(s *slot) error {
	if len(s.recs) == 0 {
		return nil
	}
	if err := b.arrays[s.agno].Append(s.recs); err != nil {
		return err
	}
	s.recs = s.recs[:0]
	return nil
}

// flush appends everything that waits.
func (b *batcher) flush() error {
	for i := range b.slots {
		if err := b.flushSlot(&b.slots[i]); err != nil {
			return err
		}
	}
	return nil
}
