package verdict_test

import (
	"github.com/scrubd/scrubd/ioctl"
	"github.com/scrubd/scrubd/scrub/verdict"
	"github.com/scrubd/scrubd/shadow"
)

// The inodes of the tables below.
const (
	alice = 131 // the one whose fork or record is in question
	bob   = 1000
	carol = 2000
	ghost = 999 // not allocated, unless a test says otherwise
)

// data is a written mapping of a data fork.
func data(start, count uint32, owner, off uint64) *shadow.Rmap {
	return &shadow.Rmap{StartBlock: start, BlockCount: count, Owner: owner, Offset: off}
}

func flagged(r *shadow.Rmap, flags uint64) *shadow.Rmap {
	c := *r
	c.Offset |= flags
	return &c
}

func unwritten(r *shadow.Rmap) *shadow.Rmap { return flagged(r, shadow.OffsetUnwritten) }

func attr(r *shadow.Rmap) *shadow.Rmap { return flagged(r, shadow.OffsetAttrFork) }

func special(start, count uint32, owner uint64) *shadow.Rmap {
	return &shadow.Rmap{StartBlock: start, BlockCount: count, Owner: owner}
}

// piece is a piece of AG 0 in allocated space.
func piece(claim, record *shadow.Rmap, more ...func(*verdict.Piece)) verdict.Piece {
	p := verdict.Piece{Claim: claim, Record: record, Space: verdict.SpaceUsed}
	r := claim
	if r == nil {
		r = record
	}
	if r != nil {
		p.Start, p.Count = r.StartBlock, r.BlockCount
	}
	for _, f := range more {
		f(&p)
	}
	return p
}

// free has the bnobt call the blocks free, which the kernel's scrub notices.
func free(p *verdict.Piece) { p.Space, p.RmapbtBad = verdict.SpaceFree, true }

func rmapbtBad(p *verdict.Piece) { p.RmapbtBad = true }

func unknownSpace(p *verdict.Piece) { p.Space = verdict.SpaceUnknown }

func elsewhere(p *verdict.Piece) { p.Elsewhere = true }

func shared(p *verdict.Piece) { p.Shared = true }

func refcountDenies(p *verdict.Piece) { p.RefcountDenies = true }

func alsoClaims(r ...*shadow.Rmap) func(*verdict.Piece) {
	return func(p *verdict.Piece) {
		for _, o := range r {
			p.OtherClaims = append(p.OtherClaims, *o)
		}
	}
}

func alsoRecords(r ...*shadow.Rmap) func(*verdict.Piece) {
	return func(p *verdict.Piece) {
		for _, o := range r {
			p.OtherRecords = append(p.OtherRecords, *o)
		}
	}
}

// inode is a live inode whose counters agree with its forks; the kernel finds
// that its data fork disagrees with another structure.
func inode(ino uint64, more ...func(*verdict.Inode)) *verdict.Inode {
	in := &verdict.Inode{
		Ino: ioctl.Ino(ino), Gen: 7, State: verdict.OwnerLive, Counters: verdict.CountersMatchFork,
		DataRan: true, AttrRan: true, DataScrub: ioctl.ScrubXCorrupt, AttrScrub: ioctl.ScrubXCorrupt,
	}
	for _, f := range more {
		f(in)
	}
	return in
}

func is(s verdict.OwnerState) func(*verdict.Inode) {
	return func(in *verdict.Inode) { in.State = s }
}

func counters(c verdict.Counters) func(*verdict.Inode) {
	return func(in *verdict.Inode) { in.Counters = c }
}

func scrubbed(flags ioctl.ScrubFlags) func(*verdict.Inode) {
	return func(in *verdict.Inode) { in.DataScrub, in.AttrScrub = flags, flags }
}

func unscrubbed(in *verdict.Inode) { in.DataRan, in.AttrRan = false, false }

// recorded: the rmapbts have so many blocks of the inode, which counts eight.
func recorded(blocks uint64) func(*verdict.Inode) {
	return func(in *verdict.Inode) { in.Blocks, in.Recorded, in.RecordedKnown = 8, blocks, true }
}

func attrLost(in *verdict.Inode) { in.UnreadableAttr = true }

func pieces(p ...verdict.Piece) []verdict.Piece { return p }

// dispute is about pieces and the inodes that are given; ghost is dead.
func dispute(p []verdict.Piece, in ...*verdict.Inode) *verdict.Dispute {
	d := &verdict.Dispute{Pieces: p, Inodes: map[uint64]*verdict.Inode{
		ghost: {Ino: ghost, State: verdict.OwnerDead},
	}}
	for _, i := range in {
		d.Inodes[uint64(i.Ino)] = i
	}
	return d
}
