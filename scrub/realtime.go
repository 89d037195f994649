package scrub

import (
	"context"
	"fmt"
	"slices"

	"github.com/scrubd/scrubd/ioctl"
	"github.com/scrubd/scrubd/scrub/confirm"
	"github.com/scrubd/scrubd/scrub/kernel"
	"github.com/scrubd/scrubd/scrub/verdict"
)

// realtime is what a pass knows of the realtime device.
type realtime struct {
	groups []group
	bad    []*dispute            // confirmed between forks and rtrmapbts; AGNo is a realtime group
	shared []verdict.SharedPiece // confirmed between forks and rtrefcountbts, likewise
	// explained are complaints of the kernel that findings account for.
	explained map[kernel.Object]bool
}

// rtTypes are the metadata of a realtime group, in the order in which they are
// scrubbed.
var rtTypes = []ioctl.ScrubType{
	ioctl.ScrubTypeRGSUPER, ioctl.ScrubTypeRTBITMAP, ioctl.ScrubTypeRTSUM, ioctl.ScrubTypeRTREFCBT, ioctl.ScrubTypeRTRMAPBT,
}

// PartRealtime is the comparison of realtime files with their groups, as reports
// name it.
const PartRealtime = "realtime blocks against forks"

// coverRealtime finds out whether the blocks of realtime files can be compared.
func (r *run) coverRealtime() {
	c := &r.coverage
	geo := r.fs.Geometry()
	if geo.RTBlocks == 0 {
		return
	}
	not := func(why string) { c.NotChecked = append(c.NotChecked, Uncovered{PartRealtime, why}) }
	switch _, err := r.fs.FSMapRTDevice(); {
	case geo.RTStart != 0 || geo.Has(ioctl.FlagZoned):
		not("the realtime device is zoned: its files move without a trace in their times")
	case !geo.RTGrouped():
		not("the realtime device has no groups and is too large to be one")
	case r.bnobt == nil:
		not("its free space could not be asked for")
	case err != nil:
		not(reason(err))
	default:
		c.Realtime = true
		c.Checked = append(c.Checked, PartRealtime)
		if !geo.HasRTRmapbt() || !c.Rmapbt {
			c.NotChecked = append(c.NotChecked, Uncovered{"rtrmapbt", "this filesystem was made without it"})
		}
	}
}

// realtimeGroups are the groups of the realtime device, none where they are not
// compared.
func (r *run) realtimeGroups() []group {
	if !r.coverage.Realtime {
		return nil
	}
	groups := make([]group, r.fs.Geometry().RTGroups())
	for i := range groups {
		groups[i] = group{agno: ioctl.AGNumber(i), realtime: true, scrubs: make(map[ioctl.ScrubType]verdict.Scrub)}
	}
	return groups
}

// scrubRealtime asks the kernel about every realtime group once more where it or
// the comparison found something, now that what was a moment's is gone, and takes
// its other answers over from the beginning of the pass.
func (p *pass) scrubRealtime(ctx context.Context) error {
	bad := make(map[ioctl.AGNumber]bool)
	for _, res := range p.fsBad {
		if res.Type.Object() == ioctl.ScrubObjectRTGroup {
			bad[res.AGNo] = true
		}
	}
	for i := range p.rt.groups {
		g := &p.rt.groups[i]
		again := bad[g.agno] || g.suspicious()
		for _, t := range rtTypes {
			if !again {
				g.scrubs[t] = verdict.Scrub{Ran: true} // it was clean, or there is none
				continue
			}
			res, err := p.scrubObject(ctx, kernel.Object{Type: t, AGNo: g.agno})
			if err != nil {
				return err
			}
			p.fsBad = slices.DeleteFunc(p.fsBad, func(old kernel.Result) bool { return old.Object == res.Object })
			if res.Absent || res.Unknown {
				g.scrubs[t] = verdict.Scrub{Ran: res.Absent}
				continue
			}
			g.scrubs[t] = verdict.Scrub{Ran: res.Ran && res.Err == nil, Flags: res.Flags}
			if res.Noteworthy() {
				p.fsBad = append(p.fsBad, res)
			}
		}
	}
	return nil
}

// suspicious tells whether anything of the group is left to be judged.
func (g *group) suspicious() bool {
	return len(g.candidates)+len(g.space)+len(g.shared) > 0 || g.rmapErr != nil
}

// rtDisputed returns the blocks of a realtime group that disputes are about,
// sorted.
func (p *pass) rtDisputed(g *group) []verdict.Range {
	var out []verdict.Range
	for _, d := range p.rt.bad {
		for i := range d.Pieces {
			if pc := &d.Pieces[i]; pc.AGNo == g.agno {
				out = append(out, verdict.Range{Start: pc.Start, Count: pc.Count})
			}
		}
	}
	sortRanges(out)
	return out
}

func sortRanges(in []verdict.Range) {
	slices.SortFunc(in, func(a, b verdict.Range) int { return int(int64(a.Start) - int64(b.Start)) })
}

// rtSpaceConflicts returns the confirmed conflicts between rtrmapbt and rtbitmap
// that no dispute explains.
func (p *pass) rtSpaceConflicts(g *group) (owned, leaked []verdict.Range) {
	disputed := p.rtDisputed(g)
	for _, s := range g.space {
		if s.Status != confirm.Confirmed {
			continue
		}
		parts := confirm.Subtract(s.Parts, disputed)
		if s.Conflict == confirm.OwnedFree {
			owned = append(owned, parts...)
		} else {
			leaked = append(leaked, parts...)
		}
	}
	return owned, leaked
}

// rtFacts gathers what is known of a realtime group for weighing a repair that
// settles the given disputes.
func (p *pass) rtFacts(g *group, settled []*dispute) *verdict.RTGroup {
	rg := &verdict.RTGroup{
		RGNo: g.rgno(), Scrubs: g.scrubs, RmapReadable: g.rmapErr == nil, SpaceCompared: g.spaceCompared,
	}
	if g.rmapErr != nil {
		rg.Unsettled = append(rg.Unsettled, fmt.Sprintf("the rtrmapbt of %s could not be compared", g))
	}
	for _, d := range p.rt.bad {
		if !d.touches(g.agno) || contains(settled, d) {
			continue
		}
		rg.Open = append(rg.Open, fmt.Sprintf("blocks %d+%d of rtgroup %d are in dispute", d.first().Start, d.first().Count, d.first().AGNo))
	}
	for _, c := range g.candidates {
		if c.Status == confirm.Unsettled {
			rg.Unsettled = append(rg.Unsettled, fmt.Sprintf("blocks %d+%d of %s could not be settled", c.Start, c.Count, g))
		}
	}
	for _, s := range g.space {
		if s.Status == confirm.Unsettled {
			rg.Unsettled = append(rg.Unsettled, fmt.Sprintf("free space at block %d of %s could not be settled", s.Start, g))
		}
	}
	owned, leaked := p.rtSpaceConflicts(g)
	for _, r := range owned {
		rg.OwnedFree = append(rg.OwnedFree, fmt.Sprintf("the rtbitmap has blocks %d+%d of %s free and the rtrmapbt does not", r.Start, r.Count, g))
	}
	for _, r := range leaked {
		rg.Leaked = append(rg.Leaked, fmt.Sprintf("nobody owns blocks %d+%d of %s and the rtbitmap does not have them free", r.Start, r.Count, g))
	}
	for _, d := range settled {
		for i := range d.Pieces {
			pc := &d.Pieces[i]
			if pc.AGNo == g.agno && pc.Record != nil && pc.Claim == nil && !d.Denied(pc) {
				rg.Reaped = append(rg.Reaped, fmt.Sprintf("blocks %d+%d of %s would belong to nobody", pc.Start, pc.Count, g))
			}
		}
	}
	rg.ForksUnproven = p.rtUnproven()
	return rg
}

// rtUnproven lists forks of realtime files, or that may be, whose mappings were
// not compared with the rtrmapbts.
func (p *pass) rtUnproven() []string {
	var out []string
	for i := range p.walk.Unreadable {
		out = append(out, fmt.Sprintf("inode %d could not be read (%s)", p.walk.Unreadable[i].Ino, p.walk.Unreadable[i].Stage))
	}
	if n := p.walk.UnreadableTotal; n > uint64(len(p.walk.Unreadable)) {
		out = append(out, fmt.Sprintf("%s could not be read", plural(n, "inode")))
	}
	if n := p.walk.RefusedTotal; n > 0 {
		out = append(out, fmt.Sprintf("%s could not be opened because of leases or access scanners", plural(n, "inode")))
	}
	if n := p.walk.RTSkipped; n > 0 {
		out = append(out, fmt.Sprintf("the data forks of %s were not read", plural(n, "realtime file")))
	}
	// One that was zapped is empty, and reads well. That a fork disagrees with
	// something is what a fault of a realtime group looks like.
	for _, ino := range sortedKeys(p.inodeBad) {
		for _, r := range p.inodeBad[ino] {
			if r.Type == ioctl.ScrubTypeBMBTD && (r.Err != nil || r.Flags.Has(ioctl.ScrubCorrupt)) {
				out = append(out, fmt.Sprintf("the kernel's scrub of the %s says %s", r.Object, r.Flags))
			}
		}
	}
	out = append(out, p.open.notFinished()...)
	return append(out, p.inodesLeftOut()...)
}

// dataDevice gathers the facts about every AG: the metadata of realtime groups
// lies there, and a rebuild takes new blocks from the AGs and gives old ones back.
func (p *pass) dataDevice() []*verdict.AG {
	out := make([]*verdict.AG, len(p.groups))
	for i := range p.groups {
		out[i] = p.facts(&p.groups[i], nil)
	}
	return out
}
