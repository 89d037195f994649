package verdict

import (
	"slices"

	"github.com/scrubd/scrubd/ioctl"
	"github.com/scrubd/scrubd/shadow"
)

// Open is a dispute that is not settled while a repair is weighed, as far as it
// lies in one AG. A repair need not wait for one about records that it does not
// read.
type Open struct {
	// What names the blocks, for a report.
	What string
	// Inodes are those that a claim or a record of it names.
	Inodes []uint64
	// Uncovered: a fork claims blocks there that no record covers. Whatever takes
	// the gaps of the rmapbt for free space would give them away.
	Uncovered bool
	// Counted: blocks there have several owners, or may have; reference counts
	// hang on who they are.
	Counted bool
	// Metadata: it names blocks of metadata.
	Metadata bool
	// Visible: the kernel's own check of the rmapbt stumbles over it. What else it
	// might have found it has not looked for.
	Visible bool
}

// OpenIn says what of d lies in agno.
func OpenIn(d *Dispute, agno ioctl.AGNumber, what string) Open {
	o := Open{What: what}
	for i := range d.Pieces {
		p := &d.Pieces[i]
		if p.AGNo != agno {
			continue
		}
		all := slices.Concat(p.OtherClaims, p.OtherRecords)
		for _, m := range []*shadow.Rmap{p.Claim, p.Record} {
			if m != nil {
				all = append(all, *m)
			}
		}
		owners := 0
		for j := range all {
			m := &all[j]
			switch {
			case !m.IsInode(), m.Offset&shadow.OffsetBmbtBlock != 0:
				o.Metadata = true
			case !slices.Contains(o.Inodes, m.Owner):
				o.Inodes = append(o.Inodes, m.Owner)
			}
			if m.IsShareable() {
				owners++
			}
		}
		records := len(p.OtherRecords)
		if p.Record != nil {
			records++
		}
		o.Uncovered = o.Uncovered || records == 0
		o.Counted = o.Counted || owners > 2 || p.Shared || owners == 2 && (p.Claim == nil || p.Record == nil)
		o.Visible = o.Visible || p.Space == SpaceFree && p.Record != nil || records > 1
	}
	return o
}

// concerns tells whether a repair of target, of the fork of inode ino if it is
// one of a fork, reads what o is about.
func (o *Open) concerns(target ioctl.ScrubType, ino uint64) bool {
	switch target {
	case ioctl.ScrubTypeBMBTD, ioctl.ScrubTypeBMBTA, ioctl.ScrubTypeINODE:
		// All records of that inode, and no others.
		return slices.Contains(o.Inodes, ino) || o.Metadata
	case ioctl.ScrubTypeBNOBT, ioctl.ScrubTypeCNTBT:
		return o.Uncovered || o.Visible || o.Metadata
	case ioctl.ScrubTypeREFCNTBT:
		return o.Counted || o.Visible || o.Metadata
	case ioctl.ScrubTypeAGF, ioctl.ScrubTypeAGFL, ioctl.ScrubTypeAGI, ioctl.ScrubTypeINOBT, ioctl.ScrubTypeFINOBT:
		// Records of metadata alone.
		return o.Metadata
	default:
		return true
	}
}

// excusedBy tells whether what the kernel found in the rmapbt of ag is known to
// be an open dispute that a repair of target does not read. The kernel's check
// stops at the first thing it finds: that metadata has its records has to be
// known from the checks of what these belong to.
func (ag *AG) excusedBy(target ioctl.ScrubType, ino uint64) bool {
	s := ag.Scrubs[ioctl.ScrubTypeRMAPBT]
	if !s.Ran || s.Flags.Any(ioctl.ScrubCorrupt|ioctl.ScrubIncomplete) {
		return false
	}
	visible := false
	for i := range ag.Open {
		visible = visible || ag.Open[i].Visible && !ag.Open[i].concerns(target, ino)
	}
	if !visible {
		return false
	}
	var vouch []ioctl.ScrubType
	switch target {
	case ioctl.ScrubTypeBMBTD, ioctl.ScrubTypeBMBTA, ioctl.ScrubTypeINODE:
		return true
	case ioctl.ScrubTypeAGF:
		vouch = []ioctl.ScrubType{ioctl.ScrubTypeBNOBT, ioctl.ScrubTypeCNTBT, ioctl.ScrubTypeREFCNTBT, ioctl.ScrubTypeAGFL}
	case ioctl.ScrubTypeAGI:
		vouch = []ioctl.ScrubType{ioctl.ScrubTypeINOBT, ioctl.ScrubTypeFINOBT}
	default:
		return false
	}
	for _, t := range vouch {
		const not = ioctl.ScrubCorrupt | ioctl.ScrubXCorrupt | ioctl.ScrubXFail | ioctl.ScrubIncomplete
		if v := ag.Scrubs[t]; !v.Ran || v.Flags.Any(not) {
			return false
		}
	}
	return true
}

// vouchedFor tells whether the rmapbt of ag can be taken for a rebuild of the free
// space btrees although the kernel finds that it disagrees with something, as it
// does with a bnobt that has the blocks of records free: forks, headers and log
// were compared with it here, and each other kind of record has one who counts it,
// the AGF, the inode btrees and the refcountbt.
func (ag *AG) vouchedFor(target ioctl.ScrubType) bool {
	s := ag.Scrubs[ioctl.ScrubTypeRMAPBT]
	if target != ioctl.ScrubTypeBNOBT && target != ioctl.ScrubTypeCNTBT || !ag.RmapReadable || !ag.AGBlocksCounted ||
		!s.Ran || s.Flags.Any(ioctl.ScrubCorrupt|ioctl.ScrubIncomplete) {
		return false
	}
	for _, t := range []ioctl.ScrubType{ioctl.ScrubTypeINOBT, ioctl.ScrubTypeFINOBT, ioctl.ScrubTypeREFCNTBT} {
		if _, ok := ag.Clean(t, target); !ok && btreeSick[t]&ag.vouchedMarks(target) == 0 {
			return false
		}
	}
	return true
}

// excusedXFail tells whether the check of free space btree t left out nothing but
// the comparison with an rmapbt that is excused.
func (ag *AG) excusedXFail(t, target ioctl.ScrubType, ino uint64) bool {
	s := ag.Scrubs[t]
	const bad = ioctl.ScrubCorrupt | ioctl.ScrubXCorrupt | ioctl.ScrubIncomplete
	return s.Ran && !s.Flags.Any(bad) && ag.Sick&^(ioctl.AGHealthRmapbt|btreeSick[t]) == 0 &&
		ag.Sick&ioctl.AGHealthRmapbt != 0 && ag.excusedBy(target, ino)
}
