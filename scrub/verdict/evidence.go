package verdict

import (
	"github.com/scrubd/scrubd/ioctl"
	"github.com/scrubd/scrubd/shadow"
)

// Structure is what can be at fault.
type Structure string

// The structures, as reports name them.
const (
	Undecided  Structure = "undecided"
	Rmapbt     Structure = "rmapbt"
	Bnobt      Structure = "bnobt"
	DataFork   Structure = "data fork"
	AttrFork   Structure = "attribute fork"
	InodeBtree Structure = "inobt"

	Refcountbt  Structure = "refcountbt"
	ReflinkFlag Structure = "reflink flag"
	AGFL        Structure = "agfl"
	InodeCore   Structure = "inode counters"
)

// Space is what the bnobt says of an interval (witness W4).
type Space int

// The states of an interval. A piece is cut so small that it is never mixed;
// SpaceUnknown means that the view could not be had.
const (
	SpaceUnknown Space = iota
	SpaceUsed
	SpaceFree
)

// String names the state as a report does.
func (s Space) String() string {
	switch s {
	case SpaceUsed:
		return "allocated"
	case SpaceFree:
		return "free"
	default:
		return "unknown"
	}
}

// Counters is how an inode's own counters (nblocks, extent counts; witness W3)
// stand to its forks.
type Counters int

// The relations. CountersUnknown is also the answer where the INODE scrub
// complains of something that the counters do not explain.
const (
	CountersUnknown          Counters = iota
	CountersMatchFork                 // nblocks == data + attr + bmbt blocks
	CountersMatchForkMissing          // nblocks == that + the blocks that only the rmapbt still has
	CountersMatchNeither
	// CountersDoubted add up, and the kernel finds the inode corrupt all the same.
	CountersDoubted
)

// String names the relation as a report does.
func (c Counters) String() string {
	switch c {
	case CountersMatchFork:
		return "agree with the fork"
	case CountersMatchForkMissing:
		return "agree with the rmapbt"
	case CountersMatchNeither:
		return "agree with neither"
	case CountersDoubted:
		return "agree with the fork, but the kernel finds the inode itself corrupt"
	default:
		return "could not be judged"
	}
}

// OwnerState is what is known of the inode that a record or claim names.
type OwnerState int

// The states.
const (
	OwnerUnknown    OwnerState = iota // could not be found out
	OwnerLive                         // allocated, both forks read
	OwnerDead                         // no inobt record has it allocated
	OwnerSilent                       // allocated, but its forks cannot be read by design
	OwnerUnreadable                   // allocated, and a fork could not be read (EUCLEAN)
	OwnerUnloadable                   // allocated, and the kernel refuses to load it
	OwnerMetadata                     // not an inode
)

// Inode is one inode that a dispute is about.
type Inode struct {
	Ino      ioctl.Ino
	Gen      ioctl.Gen
	State    OwnerState
	Counters Counters
	// Blocks is nblocks; ForkBlocks what both forks and their btrees add up to.
	Blocks, ForkBlocks uint64
	// DataScrub and AttrScrub are what BMBTD and BMBTA scrubs said; DataRan
	// and AttrRan whether they gave a verdict at all.
	DataScrub, AttrScrub ioctl.ScrubFlags
	DataRan, AttrRan     bool
	// NamesBad: it is a directory, and the kernel does not find in order what lies in
	// its data fork; AttrsBad: so it is with its attributes. Only asked where the
	// offset of a mapping is in dispute.
	NamesBad, AttrsBad bool
	// UnreadableAttr tells which fork an OwnerUnreadable inode lost.
	UnreadableAttr bool
	// Recorded is how many blocks the rmapbts of all AGs give to the inode, those
	// of both forks and their btrees; RecordedKnown: they were all read to the end.
	Recorded      uint64
	RecordedKnown bool
	// BtreeMissing is how many more blocks the trees of the forks have than the
	// rmapbts record of them; BtreeKnown tells whether the kernel's own count of
	// the inode's blocks, which it is derived from, was had and is in order.
	BtreeMissing int64
	BtreeKnown   bool
}

// fork returns what the kernel's scrub of one fork said, and whether it gave a
// verdict.
func (in *Inode) fork(attr bool) (ran bool, flags ioctl.ScrubFlags) {
	if attr {
		return in.AttrRan, in.AttrScrub
	}
	return in.DataRan, in.DataScrub
}

// Piece is one interval of AG blocks about which fork claims and rmapbt
// differ. It is elementary: every witness says one and the same thing of all
// its blocks.
//
// Invariant: at least one of Claim and Record is set, and both lie exactly on
// [Start, Start+Count).
type Piece struct {
	AGNo         ioctl.AGNumber
	Start, Count uint32
	Claim        *shadow.Rmap // W1: what a fork says that the rmapbt does not
	Record       *shadow.Rmap // W2: what the rmapbt says that no fork does
	Space        Space        // W4
	// OtherClaims are further claims on these blocks, by forks or by known
	// metadata (W6); OtherRecords what else the rmapbt has there.
	OtherClaims  []shadow.Rmap
	OtherRecords []shadow.Rmap
	// Elsewhere: the fork that Record is of maps its file offsets, or some of them,
	// to other blocks.
	Elsewhere bool
	// RoomForRecord: Claim is out of order in its fork, and the offsets of Record
	// would be in order there.
	RoomForRecord bool
	// OverrunsNext: the mapping that Claim is of, or a part of, reaches into the
	// offsets of the next one in its fork.
	OverrunsNext bool
	// Shared is what the refcountbt says (W5): there are records of written data
	// on the blocks, and all of them are marked as shared. The kernel marks a
	// record if any of its blocks is, so that clear is certain and set is not.
	Shared bool
	// RefcountDenies: the kernel finds that the refcountbt of this AG does not
	// count as many owners as the rmapbt has.
	RefcountDenies bool
	// RmapbtBad: the kernel's scrub of this AG's rmapbt finds it corrupt, or at
	// odds with another structure.
	RmapbtBad bool
}

// OffsetDiffers tells whether fork and rmapbt have the blocks at different offsets of
// the same fork, and say the same otherwise.
func (p *Piece) OffsetDiffers() bool {
	c, r := p.Claim, p.Record
	return c != nil && r != nil && c.HasOffset() && r.HasOffset() &&
		c.Owner == r.Owner && c.Flags() == r.Flags() && c.FileOffset() != r.FileOffset()
}

// End is the first block after the piece.
func (p *Piece) End() uint32 { return p.Start + p.Count }

// Dispute is a set of pieces that one fault may explain: they touch the same
// blocks or the same inode.
type Dispute struct {
	Pieces []Piece
	Inodes map[uint64]*Inode
	// NothingLost: bnobt and rmapbts were compared in every AG, and every
	// allocated block has a record of somebody.
	NothingLost bool
}

// Action is what a decision asks for.
type Action int

// The actions.
const (
	ActionHold Action = iota
	ActionRebuildRmapbt
	ActionRebuildBnobt
	ActionRebuildFork
	ActionRebuildRefcountbt
	ActionRebuildInobt
	ActionRepairInode
	ActionRebuildHeader
)

// Decision is the verdict on one dispute.
type Decision struct {
	Row     int
	Letter  string
	AtFault Structure
	Action  Action
	// Ino is the inode whose fork is to be rebuilt.
	Ino  ioctl.Ino
	Gen  ioctl.Gen
	Attr bool
	// Reason says why it is held.
	Reason string
	// Critical marks blocks that a file uses and the bnobt calls free.
	Critical bool
	// OnlyTrace is set on a held decision where an rmap that nobody denies may be
	// the only trace of lost data: both ways out are a person's to choose.
	OnlyTrace bool
}

// Held reports whether nothing may be repaired on account of d.
func (d *Decision) Held() bool { return d.Action == ActionHold }
