package verdict

import (
	"fmt"

	"github.com/scrubd/scrubd/ioctl"
)

// Blocker is one reason why a repair may not run: the clause of the rules that
// it breaks and what was seen.
type Blocker struct {
	Clause string
	Why    string
}

// Scrub is what a read-only scrub of one AG structure said.
type Scrub struct {
	Ran   bool // it gave a verdict
	Flags ioctl.ScrubFlags
}

// AG is what is known of one allocation group when a repair in it is weighed.
type AG struct {
	AGNo ioctl.AGNumber
	// Scrubs holds the latest verdict per type; Sick is ag_sick as it is now.
	Scrubs map[ioctl.ScrubType]Scrub
	Sick   ioctl.AGHealth
	// RmapReadable is false when privileged GETFSMAP answered EUCLEAN.
	RmapReadable bool
	// Open are the disputes between forks and rmapbt in this AG that the repair
	// under consideration does not settle; Unsettled names every candidate that
	// could not be confirmed; Held every held or row 3 dispute that is open here.
	Open            []Open
	Unsettled, Held []string
	// SpaceDisputes names blocks on which bnobt and rmapbt gaps differ apart
	// from the disputed ones; SpaceCompared is false when they were not compared.
	SpaceDisputes []string
	SpaceCompared bool
	// Reaped names blocks that a rebuild of the rmapbt would free although no
	// second witness denies the record that owns them.
	Reaped []string
	// Unheard names owners whose forks nobody can list and that have more blocks
	// in the rmapbt than they count: these would be freed too.
	Unheard []string
	// OwnersUnscrubbed names inodes that the old rmapbt has as owners here and
	// that did not pass a read-only INODE scrub.
	OwnersUnscrubbed []string
	// OwnersUncompared are scrubs of cores that left something out, where every
	// inode of the filesystem may be an owner here.
	OwnersUncompared Uncompared
	// NoStaging: the rmapbt was read to its end and names no CoW staging.
	NoStaging bool
	// ForksUnproven names forks, of any inode that may own blocks here, whose
	// mappings are not known to be in the rmapbt: those that could not be read
	// and compared, and those of which the kernel's scrub complains. Links and
	// special files are among these, and the blocks of forks' own btrees.
	ForksUnproven []string
	// ForksUncompared are scrubs of forks of any inode that left something out.
	ForksUncompared Uncompared
	// AGBlocksCounted: the rmapbt has as many blocks for the AG's own btrees and its
	// AGFL as the AGF counts, each of them to these alone and none that the bnobt has
	// free; no metadata is without an owner; and the AGF that was read is the one of
	// now, by the free space that the rmapbt leaves.
	AGBlocksCounted bool
	// AGFLCrossed: the AGFL names blocks that are somebody else's. Whatever takes a
	// block from it writes over them.
	AGFLCrossed bool
	// ChunksUncovered names allocated inodes whose blocks the rmapbt does not
	// have as inode chunks; ChunksCompared is false when that was not looked at.
	ChunksUncovered []string
	ChunksCompared  bool
	// InodesCounted: the AGI counts as many inodes as the rmapbt has room for in
	// its inode chunks.
	InodesCounted bool
	// NoMetadataLeaked: of the blocks that nobody owns and the bnobt does not have none
	// says that it is one of the AG's btrees or AGFL, of inodes, or of a fork's btree.
	NoMetadataLeaked bool
	// InodesListed: the AGI counts as many inodes as the chunks that INUMBERS
	// lists have.
	InodesListed bool
}

// FS is what is known of the whole filesystem.
type FS struct {
	// SickInodes names inodes with bs_sick INODE, BMBTD or BMBTA that may be
	// zapped forks; Unreadable those that the walk could not read.
	SickInodes, Unreadable []string
	// InodeBtrees names the AGs whose INOBT or FINOBT scrub is not clean.
	InodeBtrees []string
}

// btreeSick has the ag_sick bits of the btrees that scrubs of an AG
// cross-reference.
var btreeSick = map[ioctl.ScrubType]ioctl.AGHealth{
	ioctl.ScrubTypeBNOBT:    ioctl.AGHealthBnobt,
	ioctl.ScrubTypeCNTBT:    ioctl.AGHealthCntbt,
	ioctl.ScrubTypeINOBT:    ioctl.AGHealthInobt,
	ioctl.ScrubTypeFINOBT:   ioctl.AGHealthFinobt,
	ioctl.ScrubTypeRMAPBT:   ioctl.AGHealthRmapbt,
	ioctl.ScrubTypeREFCNTBT: ioctl.AGHealthRefcountbt,
}

// SickBit is the health bit of the btree that scrubs of type t check, 0 for
// other types.
func SickBit(t ioctl.ScrubType) ioctl.AGHealth { return btreeSick[t] }

// rebuiltWith returns the types that a repair of target rebuilds.
func rebuiltWith(target ioctl.ScrubType) []ioctl.ScrubType {
	switch target {
	case ioctl.ScrubTypeBNOBT, ioctl.ScrubTypeCNTBT:
		return []ioctl.ScrubType{ioctl.ScrubTypeBNOBT, ioctl.ScrubTypeCNTBT}
	case ioctl.ScrubTypeINOBT, ioctl.ScrubTypeFINOBT:
		return []ioctl.ScrubType{ioctl.ScrubTypeINOBT, ioctl.ScrubTypeFINOBT}
	default:
		return []ioctl.ScrubType{target}
	}
}

// Clean reports whether the scrub of type t found nothing wrong with it,
// apart from what it could not compare with the structures that target
// rebuilds: the kernel leaves out a cross-reference to a btree that is marked
// sick and says XFAIL instead. XFAIL for any other reason is not clean.
func (ag *AG) Clean(t, target ioctl.ScrubType) (string, bool) {
	s, ok := ag.Scrubs[t]
	switch {
	case !ok || !s.Ran:
		return fmt.Sprintf("the %s scrub of AG %d gave no verdict", t, ag.AGNo), false
	case s.Flags.Has(ioctl.ScrubCorrupt), s.Flags.Has(ioctl.ScrubXCorrupt), s.Flags.Has(ioctl.ScrubIncomplete):
		return fmt.Sprintf("the %s scrub of AG %d says %s", t, ag.AGNo, s.Flags), false
	case s.Flags.Has(ioctl.ScrubXFail):
		var excused, all ioctl.AGHealth
		for _, r := range rebuiltWith(target) {
			excused |= btreeSick[r]
		}
		for _, bit := range btreeSick {
			all |= bit
		}
		excused |= btreeSick[t] | uncompared(t, target) | ag.vouchedMarks(target)
		if ag.Sick&all&^excused != 0 || ag.Sick&excused&^btreeSick[t] == 0 {
			return fmt.Sprintf("the %s scrub of AG %d could not compare everything (ag_sick %s)", t, ag.AGNo, ag.Sick), false
		}
	}
	return "", true
}

// uncompared has btrees that need not have been compared with what t checks
// before a repair of target. A rebuild of the rmapbt takes nothing from the
// refcountbt but staging, which is weighed by itself (stagingUnproven): that no
// block of other metadata is shared is not needed.
func uncompared(t, target ioctl.ScrubType) ioctl.AGHealth {
	if target == ioctl.ScrubTypeRMAPBT && t != ioctl.ScrubTypeREFCNTBT {
		return ioctl.AGHealthRefcountbt
	}
	return 0
}

// vouchedMarks has the inode btrees where a rebuild of the free space btrees of ag
// can do without them: all inode chunks were compared with the rmapbt here, the AGI
// counts as many inodes as the rmapbt has room for, and no block that would become
// free space says that it is metadata.
func (ag *AG) vouchedMarks(target ioctl.ScrubType) ioctl.AGHealth {
	frees := target == ioctl.ScrubTypeBNOBT || target == ioctl.ScrubTypeCNTBT
	if !frees || !ag.ChunksCompared || !ag.InodesCounted || len(ag.ChunksUncovered) > 0 || !ag.NoMetadataLeaked {
		return 0
	}
	return ioctl.AGHealthInobt | ioctl.AGHealthFinobt
}

func block(b []Blocker, clause string, whys ...string) []Blocker {
	const named = 3 // enough to start looking; the report stays short
	for i, why := range whys {
		if i == named {
			return append(b, Blocker{clause, fmt.Sprintf("and %d more", len(whys)-named)})
		}
		b = append(b, Blocker{clause, why})
	}
	return b
}

// MayRebuildRmapbt lists what stands against a forced rebuild of the rmapbt of
// ag; an empty list allows it. The clauses are those of the design rule: (a)
// zapped or unread forks anywhere, (b) owners that failed an INODE scrub, (c)
// open held, row 3 or unsettled disputes, (d) inode btrees of every AG, (e)
// the AG's free space, (f) the reap rule. The source clause is about what the
// rebuild takes from the refcountbt.
func MayRebuildRmapbt(fs *FS, ag *AG) []Blocker {
	const target = ioctl.ScrubTypeRMAPBT
	var b []Blocker
	b = block(b, "a", fs.SickInodes...)
	b = block(b, "a", fs.Unreadable...)
	b = block(b, "b", ag.OwnersUnscrubbed...)
	b = block(b, "b", ag.OwnersUncompared.whyCores()...)
	b = block(b, "c", ag.Held...)
	b = block(b, "c", ag.Unsettled...)
	b = block(b, "d", fs.InodeBtrees...)
	for _, t := range []ioctl.ScrubType{
		ioctl.ScrubTypeAGF, ioctl.ScrubTypeAGFL,
		ioctl.ScrubTypeBNOBT, ioctl.ScrubTypeCNTBT,
	} {
		if why, ok := ag.Clean(t, target); !ok {
			b = block(b, "e", why)
		}
	}
	if !ag.SpaceCompared {
		b = block(b, "e", fmt.Sprintf("bnobt and rmapbt of AG %d were not compared", ag.AGNo))
	}
	b = block(b, "e", ag.SpaceDisputes...)
	b = block(b, "f", ag.Reaped...)
	b = block(b, "f", ag.Unheard...)
	return append(b, ag.stagingUnproven()...)
}

// stagingUnproven lists what stands against taking the AG's CoW staging from
// its refcountbt, as a rebuild of the rmapbt does: staging that is not there is
// freed while a writer fills it, and nothing but the rmapbt to be replaced
// denies that. What the two say of shared data may differ; the rebuild does not
// read that.
func (ag *AG) stagingUnproven() []Blocker {
	s, ok := ag.Scrubs[ioctl.ScrubTypeREFCNTBT]
	const bad = ioctl.ScrubCorrupt | ioctl.ScrubIncomplete
	switch {
	case !ok || !s.Ran:
		return []Blocker{{"source", fmt.Sprintf("the %s scrub of AG %d gave no verdict", ioctl.ScrubTypeREFCNTBT, ag.AGNo)}}
	case s.Flags.Any(bad):
		return []Blocker{{"source", fmt.Sprintf("the %s scrub of AG %d says %s", ioctl.ScrubTypeREFCNTBT, ag.AGNo, s.Flags)}}
	case s.Flags.Any(ioctl.ScrubXCorrupt|ioctl.ScrubXFail) && !ag.NoStaging:
		return []Blocker{{"source", fmt.Sprintf("there is copy-on-write staging in AG %d, and its refcountbt and rmapbt were not found to agree about it", ag.AGNo)}}
	}
	return nil
}

// RmapbtProven lists what stands against taking the rmapbt of ag as the source
// of a repair of target, a fork of inode ino if it is one of a fork; an empty
// list proves what the repair reads of it. ag.Open must already leave out the
// dispute that the repair settles. For a repair that takes new blocks the free
// space of ag has to be sound too.
func RmapbtProven(ag *AG, target ioctl.ScrubType, ino uint64) []Blocker {
	var b []Blocker
	if !ag.RmapReadable {
		b = block(b, "proven", fmt.Sprintf("the rmapbt of AG %d cannot be read", ag.AGNo))
	}
	for i := range ag.Open {
		if o := &ag.Open[i]; o.concerns(target, ino) {
			b = block(b, "proven", o.What)
		}
	}
	b = block(b, "proven", ag.Unsettled...)
	if why, ok := ag.Clean(ioctl.ScrubTypeRMAPBT, target); !ok && !ag.excusedBy(target, ino) && !ag.vouchedFor(target) {
		b = block(b, "proven", why)
	}
	if !allocates(target) {
		return b
	}
	for _, t := range []ioctl.ScrubType{ioctl.ScrubTypeBNOBT, ioctl.ScrubTypeCNTBT} {
		if why, ok := ag.Clean(t, target); !ok && !ag.excusedXFail(t, target, ino) {
			b = block(b, "space", why)
		}
	}
	return block(b, "space", ag.SpaceDisputes...)
}

// MayRebuildUnread lists what stands against rebuilding a fork of in from rmapbts
// although it could not be compared with them: that they have all of the inode's
// blocks is known from its own count alone (row 16).
func MayRebuildUnread(in *Inode) []Blocker {
	if why := in.whyNotRecorded(); why != "" {
		return []Blocker{{"row 16", why}}
	}
	return nil
}

// allocates tells whether a repair takes blocks for the new structure from the
// free space btrees: where these call blocks free that are in use, it would
// overwrite what is there. The rmapbt's rebuild has a clause of its own.
func allocates(target ioctl.ScrubType) bool {
	switch target {
	case ioctl.ScrubTypeINOBT, ioctl.ScrubTypeFINOBT, ioctl.ScrubTypeREFCNTBT, ioctl.ScrubTypeBMBTD, ioctl.ScrubTypeBMBTA:
		return true
	default:
		return false
	}
}

// MayRebuildBnobt lists what stands against rebuilding the free space btrees
// of ag from the gaps of its rmapbt: everything that has no record there becomes
// free space, and so do the AG's own blocks that are in none of its btrees. What
// forks were seen to map has a record (RmapbtProven); the blocks of btrees, inodes
// and staging are vouched for by the scrubs of what they belong to, and those of
// forks that cannot be read by these forks' scrubs. The repair itself takes blocks
// from the AGFL.
func MayRebuildBnobt(ag *AG) []Blocker {
	const target = ioctl.ScrubTypeBNOBT
	b := RmapbtProven(ag, target, 0)
	// AGF counters are wrong together with the bnobt, and the kernel calls that
	// corrupt where it has others in memory. A wrong root shows in its btree.
	if s := ag.Scrubs[ioctl.ScrubTypeAGF]; !s.Ran || s.Flags.Has(ioctl.ScrubCorrupt) && !ag.rootsSound() {
		b = block(b, "source", fmt.Sprintf("the AGF of AG %d is not sound", ag.AGNo))
	}
	if why, ok := ag.Clean(ioctl.ScrubTypeAGFL, target); !ok && !ag.agflCounted() {
		b = block(b, "source", why)
	}
	for _, t := range []ioctl.ScrubType{ioctl.ScrubTypeINOBT, ioctl.ScrubTypeFINOBT, ioctl.ScrubTypeREFCNTBT} {
		if why, ok := ag.Clean(t, target); !ok && btreeSick[t]&ag.vouchedMarks(target) == 0 {
			b = block(b, "source", why)
		}
	}
	b = block(b, "source", ag.ForksUnproven...)
	return block(b, "source", ag.ForksUncompared.Why(target, ag.vouchedMarks(target))...)
}

// MayFindRoots lists what stands against having the kernel look for the btrees of ag
// anew (an AGF repair), where all that is known to be wrong is that the AGF has no
// good roots of the free space btrees, and so nothing can be compared with these. It
// finds them among the blocks that the rmapbt has for them, by what each block says
// that it is, frees nothing, and gives up where one is not found. The caller has
// looked for them as well, and found each, and that all adds up.
func MayFindRoots(ag *AG) []Blocker {
	var b []Blocker
	if s := ag.Scrubs[ioctl.ScrubTypeAGF]; !ag.RmapReadable || !s.Ran || !s.Flags.Has(ioctl.ScrubCorrupt) {
		b = block(b, "source", fmt.Sprintf("it is not the roots in the AGF of AG %d that are known to be wrong", ag.AGNo))
	}
	for i := range ag.Open {
		b = block(b, "proven", ag.Open[i].What)
	}
	b = block(b, "proven", ag.Unsettled...)
	b = block(b, "space", ag.SpaceDisputes...)
	const space = ioctl.AGHealthBnobt | ioctl.AGHealthCntbt
	for _, t := range []ioctl.ScrubType{
		ioctl.ScrubTypeRMAPBT, ioctl.ScrubTypeREFCNTBT, ioctl.ScrubTypeINOBT, ioctl.ScrubTypeFINOBT,
	} {
		s := ag.Scrubs[t]
		if !s.Ran || s.Flags.Any(ioctl.ScrubCorrupt|ioctl.ScrubXCorrupt|ioctl.ScrubIncomplete) || ag.Sick&btreeSick[t] != 0 {
			b = block(b, "proven", fmt.Sprintf("the %s of AG %d is not known to be in order", t, ag.AGNo))
		}
	}
	if ag.Sick&space == 0 {
		b = block(b, "vote", fmt.Sprintf("the free space btrees of AG %d are not marked, so that it is not their roots", ag.AGNo))
	}
	return b
}

// MayFindInodeRoots is [MayFindRoots] for the roots of the inode btrees in the AGI. The
// rmapbt only has to be sound in itself: it disagrees with the block that is taken for
// a root. That the AGI counts the inodes of the rmapbt's chunks says that neither is
// older than the other; the repair counts them anew.
func MayFindInodeRoots(ag *AG) []Blocker {
	var b []Blocker
	for _, t := range []ioctl.ScrubType{ioctl.ScrubTypeRMAPBT, ioctl.ScrubTypeAGF} {
		if s := ag.Scrubs[t]; !ag.RmapReadable || !s.Ran || s.Flags.Any(ioctl.ScrubCorrupt|ioctl.ScrubIncomplete) {
			b = block(b, "proven", fmt.Sprintf("the %s of AG %d is not known to be sound in itself", t, ag.AGNo))
		}
	}
	for i := range ag.Open {
		b = block(b, "proven", ag.Open[i].What)
	}
	b = block(b, "proven", ag.Unsettled...)
	if !ag.InodesCounted {
		b = block(b, "vote", fmt.Sprintf("the AGI of AG %d does not count the inodes that the rmapbt has room for", ag.AGNo))
	}
	return block(b, "vote", ag.ChunksUncovered...)
}

// agflCounted tells whether the AGFL only disagrees, names no block of anybody
// else's, and no block of it or of the AG's btrees can lack its record.
func (ag *AG) agflCounted() bool {
	s := ag.Scrubs[ioctl.ScrubTypeAGFL]
	return ag.AGBlocksCounted && !ag.AGFLCrossed && s.Ran && !s.Flags.Any(ioctl.ScrubCorrupt|ioctl.ScrubIncomplete)
}

// rootsSound tells whether every btree that the AGF has the root of could be
// walked, and none is corrupt in itself.
func (ag *AG) rootsSound() bool {
	for _, t := range []ioctl.ScrubType{
		ioctl.ScrubTypeBNOBT, ioctl.ScrubTypeCNTBT, ioctl.ScrubTypeRMAPBT, ioctl.ScrubTypeREFCNTBT,
	} {
		if s := ag.Scrubs[t]; !s.Ran || s.Flags.Any(ioctl.ScrubCorrupt|ioctl.ScrubIncomplete) {
			return false
		}
	}
	return true
}

// MayRebuildRefcountbt lists what stands against counting the owners of shared
// blocks anew from the rmapbt of ag: an owner that lost its record there and made
// no claim (unheard) would not be counted any more, and its data be written over
// through another owner.
func MayRebuildRefcountbt(ag *AG, unheard []string) []Blocker {
	return block(RmapbtProven(ag, ioctl.ScrubTypeREFCNTBT, 0), "source", unheard...)
}

// MayRebuildInobt lists what stands against rebuilding the inode btrees of ag
// from the inode chunks that its rmapbt names (row 10): inodes in a chunk that
// has no record there are gone afterwards, with all that they own. Where the
// kernel only finds a disagreement, the AGI has to side with the rmapbt.
func MayRebuildInobt(ag *AG) []Blocker {
	b := RmapbtProven(ag, ioctl.ScrubTypeINOBT, 0)
	corrupt := false
	for _, t := range []ioctl.ScrubType{ioctl.ScrubTypeINOBT, ioctl.ScrubTypeFINOBT} {
		corrupt = corrupt || ag.Scrubs[t].Flags.Has(ioctl.ScrubCorrupt)
	}
	if !corrupt && !ag.InodesCounted {
		b = block(b, "row 10", fmt.Sprintf("the inode btrees of AG %d only disagree with another structure, and the AGI does not side with the rmapbt", ag.AGNo))
	}
	if !ag.ChunksCompared {
		b = block(b, "row 10", fmt.Sprintf("the inode chunks of AG %d were not compared with the rmapbt", ag.AGNo))
	}
	return block(b, "row 10", ag.ChunksUncovered...)
}
