package scrub

import (
	"slices"

	"github.com/scrubd/scrubd/ioctl"
	"github.com/scrubd/scrubd/scrub/kernel"
	"github.com/scrubd/scrubd/scrub/verdict"
	"github.com/scrubd/scrubd/shadow"
)

// explained is which of the kernel's complaints the findings of a pass account
// for. What none accounts for is a fault of its own, also beside another one
// that is held.
type explained struct {
	types  map[ioctl.AGNumber]map[ioctl.ScrubType]bool
	inodes map[ioctl.Ino]bool
	// forksOf are AGs whose free space or reference counts are in question: forks
	// with blocks there cannot agree with them.
	forks bool
	// chunksOf are AGs whose inode btrees are in question.
	chunksOf map[ioctl.AGNumber]bool
	// crossed are AGs whose AGFL names blocks of others: a fault of its own.
	crossed map[ioctl.AGNumber]bool
	// rtForks are realtime files of which the kernel found something bad, while
	// something that their forks are compared with is in question.
	rtForks map[ioctl.Ino]bool
}

func (p *pass) explain() *explained {
	e := &explained{
		types: make(map[ioctl.AGNumber]map[ioctl.ScrubType]bool), inodes: make(map[ioctl.Ino]bool),
		chunksOf: make(map[ioctl.AGNumber]bool), crossed: make(map[ioctl.AGNumber]bool),
	}
	for i := range p.groups {
		e.crossed[p.groups[i].agno] = p.groups[i].agflCrossed
	}
	for _, f := range p.findings {
		for _, file := range f.Files {
			e.inodes[file.Ino] = true
		}
		if f.Realtime && e.rtForks == nil {
			e.rtForks = p.rtFilesOf(sortedKeys(p.inodeBad))
		}
		switch {
		case len(f.disputes) > 0:
			for _, d := range f.disputes {
				e.dispute(d)
			}
		case f.HasAG:
			e.group(f)
		}
	}
	return e
}

func (e *explained) add(agno ioctl.AGNumber, types ...ioctl.ScrubType) {
	if e.types[agno] == nil {
		e.types[agno] = make(map[ioctl.ScrubType]bool)
	}
	for _, t := range types {
		e.types[agno][t] = true
	}
}

// dispute: what the kernel checks of records that are in dispute, and of every
// inode that has a claim or a record there.
func (e *explained) dispute(d *dispute) {
	for ino := range d.Inodes {
		e.inodes[ioctl.Ino(ino)] = true
	}
	for i := range d.Pieces {
		pc := &d.Pieces[i]
		e.add(pc.AGNo, ioctl.ScrubTypeRMAPBT)
		if pc.Space == verdict.SpaceFree {
			e.add(pc.AGNo, ioctl.ScrubTypeBNOBT, ioctl.ScrubTypeCNTBT)
		}
		shareable := pc.Shared
		for _, m := range []*shadow.Rmap{pc.Claim, pc.Record} {
			shareable = shareable || m != nil && m.IsShareable()
		}
		if shareable {
			e.add(pc.AGNo, ioctl.ScrubTypeREFCNTBT)
			e.forks = e.forks || pc.Shared
		}
		for _, m := range slices.Concat(pc.OtherClaims, pc.OtherRecords) {
			switch {
			case m.IsInode():
				e.inodes[ioctl.Ino(m.Owner)] = true
			case m.Owner == shadow.OwnerInodes:
				e.add(pc.AGNo, inodeTypes...)
				e.chunksOf[pc.AGNo] = true
			}
		}
		if pc.Record != nil && pc.Record.Owner == shadow.OwnerInodes {
			e.chunksOf[pc.AGNo] = true
		}
	}
}

// group: what hangs on a structure of an AG.
func (e *explained) group(f *finding) {
	e.add(f.AGNo, f.ScrubTypes...)
	switch f.AtFault {
	case string(verdict.InodeBtree):
		e.add(f.AGNo, append([]ioctl.ScrubType{ioctl.ScrubTypeAGI, ioctl.ScrubTypeRMAPBT}, inodeTypes...)...)
		e.chunksOf[f.AGNo] = true
	case string(verdict.Bnobt):
		e.add(f.AGNo, ioctl.ScrubTypeBNOBT, ioctl.ScrubTypeCNTBT, ioctl.ScrubTypeAGF, ioctl.ScrubTypeRMAPBT)
		if !e.crossed[f.AGNo] {
			e.add(f.AGNo, ioctl.ScrubTypeAGFL) // its blocks are held against the bnobt
		}
		e.forks = true
	case string(verdict.Refcountbt):
		e.add(f.AGNo, ioctl.ScrubTypeREFCNTBT)
		e.forks = true
	case string(verdict.Rmapbt):
		e.add(f.AGNo, ioctl.ScrubTypeRMAPBT)
		e.forks = true
	case ioctl.ScrubTypeAGI.String():
		for _, t := range f.ScrubTypes {
			e.chunksOf[f.AGNo] = e.chunksOf[f.AGNo] || slices.Contains(inodeTypes, t)
		}
	case string(verdict.Undecided):
		e.add(f.AGNo, spaceTypes...)
		e.forks = true
		for _, t := range f.ScrubTypes {
			e.chunksOf[f.AGNo] = e.chunksOf[f.AGNo] || slices.Contains(inodeTypes, t)
		}
	}
}

// leaves returns those of types that no finding accounts for in agno.
func (e *explained) leaves(agno ioctl.AGNumber, types []ioctl.ScrubType) []ioctl.ScrubType {
	return slices.DeleteFunc(slices.Clone(types), func(t ioctl.ScrubType) bool { return e.types[agno][t] })
}

// inode tells whether what the kernel found in an inode of agno is accounted for.
func (e *explained) inode(ino ioctl.Ino, agno ioctl.AGNumber, results []kernel.Result) bool {
	if e.inodes[ino] || e.chunksOf[agno] {
		return true
	}
	if !e.forks && !e.rtForks[ino] {
		return false
	}
	// A fork that only disagrees, while something that it is compared with is in
	// question; its own faults show as such.
	for _, r := range results {
		if r.Bad() && (r.Type != ioctl.ScrubTypeBMBTD && r.Type != ioctl.ScrubTypeBMBTA || r.Flags.Has(ioctl.ScrubCorrupt)) {
			return false
		}
	}
	return true
}
