package verdict

import (
	"fmt"
	"slices"

	"github.com/scrubd/scrubd/ioctl"
	"github.com/scrubd/scrubd/shadow"
)

// SharedPiece is confirmed: on every block of it the forks' own count of owners
// and the refcountbt's SHARED mark (witness W5) disagree.
type SharedPiece struct {
	AGNo         ioctl.AGNumber
	Start, Count uint32
	// Marked: the refcountbt calls the blocks shared and at most one fork claims
	// them. Otherwise two or more claim them and they are not marked.
	Marked bool
	// Claims is who claims the blocks now; Records what the rmapbt has there.
	Claims, Records []shadow.Rmap
	// Coarse: known only by the mark of a whole rmapbt record, one of whose blocks
	// it is.
	Coarse bool
	// NoFlag are those of the claimants that share blocks and lack the reflink
	// flag.
	NoFlag []ioctl.Ino
}

// SharedRows are the lines of the table about reference counts.
func SharedRows() []SharedRow { return slices.Clone(sharedRows) }

// SharedRow is a line of the table about a [SharedPiece].
type SharedRow struct {
	Number  int
	Letter  string
	Seen    string
	AtFault Structure
	Action  Action
	when    func(*SharedPiece, Scrub) bool
	why     string
}

var sharedRows = []SharedRow{
	{
		Number: 6, Letter: "b", Seen: "the refcountbt is not what the forks' owners add up to, and the rmapbt is not what the forks say",
		AtFault: Undecided, Action: ActionHold,
		when: func(p *SharedPiece, _ Scrub) bool { return !p.sameOwners() },
		why:  "the rmapbt, from which the reference counts are made, has other owners of these blocks than the forks: that comes first",
	},
	{
		Number: 9, Letter: "b", Seen: "files share blocks, rmapbt and refcountbt agree, and one lacks the reflink flag",
		AtFault: ReflinkFlag, Action: ActionRepairInode,
		when: func(p *SharedPiece, refcountbt Scrub) bool {
			return agrees(refcountbt) && len(p.NoFlag) > 0 && len(p.Claims) > 1
		},
	},
	{
		Number: 6, Seen: "the kernel's own count agrees with the refcountbt", AtFault: Undecided, Action: ActionHold,
		when: func(_ *SharedPiece, refcountbt Scrub) bool { return agrees(refcountbt) },
		why:  "the kernel finds the refcountbt to agree with the rmapbt: this contradicts what scrubd sees, please report it",
	},
	{
		Number: 6, Seen: "forks and rmapbt have the same owners of the blocks, and the refcountbt does not count them",
		AtFault: Refcountbt, Action: ActionRebuildRefcountbt,
		when: func(*SharedPiece, Scrub) bool { return true },
	},
}

// DecideShared applies rows 6, 6b and 9b. refcountbt is what the kernel's own
// scrub of that tree said.
func DecideShared(p *SharedPiece, refcountbt Scrub) Decision {
	for i := range sharedRows {
		if r := &sharedRows[i]; r.when(p, refcountbt) {
			return Decision{Row: r.Number, Letter: r.Letter, AtFault: r.AtFault, Action: r.Action, Reason: r.why}
		}
	}
	return hold(6, "there is no evidence")
}

// agrees: the kernel compared the refcountbt with the rmapbt, and found nothing.
func agrees(refcountbt Scrub) bool {
	const not = ioctl.ScrubCorrupt | ioctl.ScrubXCorrupt | ioctl.ScrubXFail | ioctl.ScrubIncomplete
	return refcountbt.Ran && !refcountbt.Flags.Any(not)
}

// sameOwners tells whether the rmapbt's records of data that can be shared are
// those that forks claim, on the blocks of p.
func (p *SharedPiece) sameOwners() bool {
	owners := func(in []shadow.Rmap) []string {
		var out []string
		for i := range in {
			if in[i].IsShareable() && covers(&in[i], p.Start, p.Count) {
				r := clip(in[i], p.Start, p.Count)
				out = append(out, fmt.Sprintf("%d %d", r.Owner, r.Offset))
			}
		}
		slices.Sort(out)
		return out
	}
	return slices.Equal(owners(p.Claims), owners(p.Records))
}
