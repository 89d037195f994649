package verdict

import (
	"fmt"
	"strings"

	"github.com/scrubd/scrubd/ioctl"
)

// The metadata of a realtime group. Its space is told by the same witnesses as
// that of an AG, each by a structure of its own: the rtrmapbt, the rtbitmap for the
// bnobt, the rtrefcountbt. The table is the same, with these names.
const (
	RTRmapbt     Structure = "rtrmapbt"
	RTRefcountbt Structure = "rtrefcountbt"
	RTBitmap     Structure = "rtbitmap"
	RTSummary    Structure = "rtsummary"
)

// rtNames turn what is said of an AG into what is said of a realtime group.
var rtNames = strings.NewReplacer(
	"rtrmapbt", "rtrmapbt", "rmapbt", "rtrmapbt", "refcountbt", "rtrefcountbt", "bnobt", "rtbitmap",
	"the AG headers", "the realtime superblock",
)

// rtStructures are the structures of a realtime group by those of an AG.
var rtStructures = map[Structure]Structure{Rmapbt: RTRmapbt, Bnobt: RTBitmap, Refcountbt: RTRefcountbt}

// whyRTFork is why no fork of a realtime file is rebuilt on its own.
const whyRTFork = "the fork of a realtime file is at fault, and such a fork is not rebuilt on its own"

// DecideRealtime applies the arbitration table to a confirmed dispute between the
// forks of realtime files and the rtrmapbt. Where the table would rebuild a fork it
// is held.
func DecideRealtime(d *Dispute) Decision {
	out := Decide(d)
	out.Reason = rtNames.Replace(out.Reason)
	switch out.Action {
	case ActionRebuildRmapbt, ActionHold:
		if rt, ok := rtStructures[out.AtFault]; ok {
			out.AtFault = rt
		}
		return out
	default:
		held := hold(out.Row, "%s", whyRTFork)
		held.Letter, held.OnlyTrace = out.Letter, out.Action == ActionRebuildFork
		return held
	}
}

// DecideRTShared applies rows 6 and 6b to blocks of a realtime group. Row 9b, an
// inode without the reflink flag, is held: the flag is set by a rebuild of a fork.
func DecideRTShared(p *SharedPiece, refcountbt Scrub) Decision {
	out := DecideShared(p, refcountbt)
	out.Reason = rtNames.Replace(out.Reason)
	switch out.Action {
	case ActionRebuildRefcountbt:
		out.AtFault = RTRefcountbt
	case ActionRepairInode:
		held := hold(out.Row, "%s", whyRTFork)
		held.Letter, held.AtFault = out.Letter, out.AtFault
		return held
	default:
	}
	return out
}

// RTGroup is what is known of one realtime group when a repair in it is weighed.
type RTGroup struct {
	RGNo ioctl.RGNumber
	// Scrubs holds the latest verdict per type.
	Scrubs map[ioctl.ScrubType]Scrub
	// RmapReadable is false when GETFSMAP could not read the rtrmapbt, or it was not
	// compared to its end.
	RmapReadable bool
	// Open names disputes between forks and rtrmapbt that the repair under
	// consideration does not settle; Unsettled every candidate that could not be
	// confirmed.
	Open, Unsettled []string
	// OwnedFree and Leaked name blocks, apart from the disputed ones, that the
	// rtrmapbt owns and the rtbitmap has free, and those that neither has.
	// SpaceCompared is false when they were not compared.
	OwnedFree, Leaked []string
	SpaceCompared     bool
	// Reaped names blocks whose records a rebuild of the rtrmapbt would drop
	// although no second witness denies them. The rebuild frees nothing, but the
	// rtbitmap that is made from its gaps does.
	Reaped []string
	// Unheard names owners in the rtrmapbt of whom no claim is to be had, and what of
	// it could not be read: nobody can say whether these records are right.
	Unheard []string
	// OwnersUnscrubbed names inodes that the rtrmapbt has as owners and that did not
	// pass a read-only INODE scrub.
	OwnersUnscrubbed []string
	// NoStaging: the rtrmapbt was read to its end and names no CoW staging.
	NoStaging bool
	// ClaimsFill: every block that the rtbitmap does not have free is claimed by a
	// fork or is the superblock's, and none that it has free. There is no CoW staging
	// then, and no trace of anything lost.
	ClaimsFill bool
	// ForksUnproven names forks whose mappings were not compared with the rtrmapbts.
	ForksUnproven []string
	// LeakProven: the leaked blocks were seen in a moment without transactions under
	// way, or the kernel's own scrub of the rtbitmap complains. Wanted names
	// inodes and lost writes that leaked blocks may belong to.
	LeakProven bool
	Wanted     []string
}

// sound says why the scrub of type t does not find it sound in itself, "" if it
// does: it may disagree with others.
func (rg *RTGroup) sound(t ioctl.ScrubType) string {
	s := rg.Scrubs[t]
	switch {
	case !s.Ran:
		return fmt.Sprintf("the %s scrub of rtgroup %d gave no verdict", t, rg.RGNo)
	case s.Flags.Any(ioctl.ScrubCorrupt | ioctl.ScrubIncomplete):
		return fmt.Sprintf("the %s scrub of rtgroup %d says %s", t, rg.RGNo, s.Flags)
	}
	return ""
}

// clean says why the scrub of type t finds something wrong, "" if it does not.
func (rg *RTGroup) clean(t ioctl.ScrubType) string {
	if why := rg.sound(t); why != "" {
		return why
	}
	if s := rg.Scrubs[t]; s.Flags.Any(ioctl.ScrubXCorrupt | ioctl.ScrubXFail) {
		return fmt.Sprintf("the %s scrub of rtgroup %d says %s", t, rg.RGNo, s.Flags)
	}
	return ""
}

func blockIf(b []Blocker, clause, why string) []Blocker {
	if why == "" {
		return b
	}
	return block(b, clause, why)
}

// metadataRoom lists what stands against giving the metadata of a realtime group
// new blocks on the data device, and its old ones back: the new ones come from
// what the bnobts have free, the old ones are those that the rmapbts give to it.
func metadataRoom(ags []*AG) []Blocker {
	var b []Blocker
	for _, ag := range ags {
		b = append(b, RmapbtProven(ag, ioctl.ScrubTypeRTRMAPBT, 0)...)
		for _, t := range []ioctl.ScrubType{
			ioctl.ScrubTypeAGF, ioctl.ScrubTypeAGFL, ioctl.ScrubTypeBNOBT, ioctl.ScrubTypeCNTBT,
		} {
			if why, ok := ag.Clean(t, ioctl.ScrubTypeRTRMAPBT); !ok {
				b = block(b, "space", why)
			}
		}
		b = block(b, "space", ag.SpaceDisputes...)
	}
	return b
}

// MayRebuildRTRmapbt lists what stands against a forced rebuild of the rtrmapbt of
// rg; an empty list allows it. The rebuild reads the data forks of all realtime
// files and takes CoW staging from the rtrefcountbt. The clauses are those of
// MayRebuildRmapbt; for what stands in for its clause (e), every block of the
// group is known to be claimed, or owned as staging, or free in the rtbitmap.
func MayRebuildRTRmapbt(fs *FS, rg *RTGroup, ags []*AG) []Blocker {
	var b []Blocker
	b = block(b, "a", fs.SickInodes...)
	b = block(b, "a", fs.Unreadable...)
	b = block(b, "b", rg.OwnersUnscrubbed...)
	b = block(b, "c", rg.Open...)
	b = block(b, "c", rg.Unsettled...)
	b = block(b, "d", fs.InodeBtrees...)
	// The bitmap disagrees where a record is missing.
	b = blockIf(b, "e", rg.sound(ioctl.ScrubTypeRTBITMAP))
	switch {
	case rg.ClaimsFill:
	case !rg.SpaceCompared || !rg.RmapReadable:
		b = block(b, "e", fmt.Sprintf("rtbitmap and rtrmapbt of rtgroup %d were not compared", rg.RGNo))
	}
	b = block(b, "e", rg.OwnedFree...)
	b = block(b, "e", rg.Leaked...)
	b = block(b, "f", rg.Reaped...)
	b = block(b, "f", rg.Unheard...)
	b = append(b, rg.stagingUnproven()...)
	return append(b, metadataRoom(ags)...)
}

// stagingUnproven lists what stands against taking the rtrefcountbt's word for
// CoW staging.
func (rg *RTGroup) stagingUnproven() []Blocker {
	if why := rg.sound(ioctl.ScrubTypeRTREFCBT); why != "" {
		return []Blocker{{"source", why}}
	}
	if why := rg.clean(ioctl.ScrubTypeRTREFCBT); why != "" && !rg.NoStaging && !rg.ClaimsFill {
		return []Blocker{{"source", fmt.Sprintf("there is copy-on-write staging in rtgroup %d, and its rtrefcountbt and rtrmapbt were not found to agree about it", rg.RGNo)}}
	}
	return nil
}

// rtRmapbtProven lists what stands against taking the rtrmapbt as a source: every
// record that a fork could bear out was compared with the forks, and CoW staging
// is what the rtrefcountbt has.
func (rg *RTGroup) rtRmapbtProven() []Blocker {
	return append(rg.rtOwnersProven(), rg.stagingUnproven()...)
}

// rtOwnersProven is rtRmapbtProven without what the rtrmapbt says of staging.
func (rg *RTGroup) rtOwnersProven() []Blocker {
	var b []Blocker
	if !rg.RmapReadable {
		b = block(b, "proven", fmt.Sprintf("the rtrmapbt of rtgroup %d cannot be read", rg.RGNo))
	}
	b = block(b, "proven", rg.Open...)
	b = block(b, "proven", rg.Unsettled...)
	b = block(b, "proven", rg.Unheard...)
	b = block(b, "proven", rg.ForksUnproven...)
	return blockIf(b, "proven", rg.sound(ioctl.ScrubTypeRTRMAPBT))
}

// MayRebuildRTBitmap lists what stands against making the rtbitmap of rg anew from
// the gaps of its rtrmapbt (rows 4 and 7): what has no record there becomes free.
func MayRebuildRTBitmap(fs *FS, rg *RTGroup, ags []*AG) []Blocker {
	b := rg.rtRmapbtProven()
	if !rg.SpaceCompared {
		b = block(b, "proven", fmt.Sprintf("rtbitmap and rtrmapbt of rtgroup %d were not compared", rg.RGNo))
	}
	b = block(b, "d", fs.InodeBtrees...) // who is hidden by one claims nothing
	if len(rg.Leaked) > 0 {
		if !rg.LeakProven {
			b = block(b, "row 7", "no moment without transactions under way in the group was seen, so that it may be a long one")
		}
		b = block(b, "reap", rg.Wanted...)
	}
	return append(b, metadataRoom(ags)...)
}

// MayRebuildRTRefcountbt lists what stands against counting the owners of shared
// blocks of rg anew from its rtrmapbt. unheard are inodes that may be owners and
// made no claim. CoW staging is taken from the rtrmapbt as well.
func MayRebuildRTRefcountbt(rg *RTGroup, ags []*AG, unheard []string) []Blocker {
	b := rg.rtOwnersProven()
	// With the rtbitmap against the rtrmapbt neither is a source.
	b = block(b, "proven", rg.OwnedFree...)
	b = block(b, "proven", rg.Leaked...)
	if !rg.NoStaging {
		b = block(b, "source", fmt.Sprintf("there is copy-on-write staging in rtgroup %d, and only the rtrmapbt, from which the counts are made, tells of it", rg.RGNo))
	}
	b = block(b, "source", unheard...)
	return append(b, metadataRoom(ags)...)
}

// MayRebuildRTSummary lists what stands against counting the free extents of rg
// anew from its rtbitmap: nothing is allocated or freed by it, and everything is
// looked for in it.
func MayRebuildRTSummary(rg *RTGroup, ags []*AG) []Blocker {
	var b []Blocker
	b = blockIf(b, "proven", rg.clean(ioctl.ScrubTypeRTBITMAP))
	b = block(b, "proven", rg.OwnedFree...)
	b = block(b, "proven", rg.Leaked...)
	return append(b, metadataRoom(ags)...)
}
