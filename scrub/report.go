package scrub

import (
	"fmt"
	"slices"
	"strings"

	"github.com/scrubd/scrubd/ioctl"
	"github.com/scrubd/scrubd/scrub/verdict"
	"github.com/scrubd/scrubd/scrub/witness"
	"github.com/scrubd/scrubd/shadow"
)

// fromDisputes words one finding for disputes with one decision.
func (p *pass) fromDisputes(set ...*dispute) *finding {
	d := set[0]
	first := d.first()
	f := &finding{
		Finding: &Finding{
			AtFault: string(d.decision.AtFault), Row: d.decision.Row, Letter: d.decision.Letter, Severity: Corruption,
			HasAG: true, AGNo: first.AGNo,
		},
		disputes: set,
	}
	if d.decision.Critical {
		f.Severity = Critical
	}
	for _, d := range set {
		f.Extents = appendExtents(f.Extents, d)
		f.Files = appendFiles(f.Files, d)
	}
	f.Witnesses = append(f.Witnesses,
		Witness{"fork", saysFork(d)},
		Witness{"rmapbt", saysRmap(d)},
		Witness{"bnobt", first.Space.String()},
	)
	if says := saysCounters(d); says != "" {
		f.Witnesses = append(f.Witnesses, Witness{"inode counters", says})
	}
	f.ScrubTypes = p.kernelSaw(set)
	where := fmt.Sprintf("block %d of AG %d", first.Start, first.AGNo)
	switch d.decision.AtFault {
	case verdict.Rmapbt:
		f.Summary = fmt.Sprintf("the rmapbt is wrong about %s at %s", countBlocks(f.Extents), where)
	case verdict.DataFork, verdict.AttrFork:
		if d.decision.Letter != "" {
			f.Summary = fmt.Sprintf("the %s of inode %d is wrong about %s of the file at %s", d.decision.AtFault, d.decision.Ino, plural(claimedBlocks(set), "block"), where)
			break
		}
		f.Summary = fmt.Sprintf("the %s of inode %d lost %s at %s", d.decision.AtFault, d.decision.Ino, countBlocks(f.Extents), where)
	default:
		f.Summary = fmt.Sprintf("fork and rmapbt disagree about %s at %s", countBlocks(f.Extents), where)
	}
	return f
}

// claimedBlocks counts the blocks that the forks in dispute map.
func claimedBlocks(set []*dispute) (n uint64) {
	for _, d := range set {
		for i := range d.Pieces {
			if d.Pieces[i].Claim != nil {
				n += uint64(d.Pieces[i].Count)
			}
		}
	}
	return n
}

func saysFork(d *dispute) string {
	if c := said(d, func(pc *verdict.Piece) *shadow.Rmap { return pc.Claim }); c != nil {
		return "maps " + describe(c)
	}
	for _, in := range sortedInodes(d) {
		switch in.State {
		case verdict.OwnerDead:
			return fmt.Sprintf("inode %d does not exist", in.Ino)
		case verdict.OwnerUnreadable:
			return fmt.Sprintf("a fork of inode %d cannot be read", in.Ino)
		}
	}
	return "does not map these blocks"
}

func saysRmap(d *dispute) string {
	if r := said(d, func(pc *verdict.Piece) *shadow.Rmap { return pc.Record }); r != nil {
		return "has " + describe(r)
	}
	return "has no record of these blocks"
}

// said is the first mapping that a witness has for the blocks of d, over all
// pieces that continue it: sharing and the other witness cut it into pieces.
func said(d *dispute, of func(*verdict.Piece) *shadow.Rmap) *shadow.Rmap {
	var whole *shadow.Rmap
	var agno ioctl.AGNumber
	for i := range d.Pieces {
		r := of(&d.Pieces[i])
		switch {
		case r == nil:
			continue
		case whole == nil:
			first := *r
			whole, agno = &first, d.Pieces[i].AGNo
			continue
		case r.Owner != whole.Owner || uint64(r.StartBlock) != whole.End() || d.Pieces[i].AGNo != agno ||
			r.HasOffset() && r.Offset != whole.Offset+uint64(whole.BlockCount) || !r.HasOffset() && r.Offset != whole.Offset:
			return whole
		}
		whole.BlockCount += r.BlockCount
	}
	return whole
}

func saysCounters(d *dispute) string {
	var says []string
	for _, in := range sortedInodes(d) {
		if in.State == verdict.OwnerLive && len(says) < 2 {
			says = append(says, fmt.Sprintf("those of inode %d %s (nblocks %d, forks %d)", in.Ino, in.Counters, in.Blocks, in.ForkBlocks))
		}
	}
	return strings.Join(says, ", ")
}

func sortedInodes(d *dispute) []*verdict.Inode {
	out := make([]*verdict.Inode, 0, len(d.Inodes))
	for _, in := range d.Inodes {
		out = append(out, in)
	}
	slices.SortFunc(out, func(a, b *verdict.Inode) int { return int(int64(a.Ino) - int64(b.Ino)) })
	return out
}

// describe says what a mapping says: "blocks 24+16 as inode 131 offset 0 (unwritten)".
func describe(r *shadow.Rmap) string {
	s := fmt.Sprintf("blocks %d+%d as %s", r.StartBlock, r.BlockCount, owner(r.Owner))
	if r.HasOffset() {
		s += fmt.Sprintf(" offset %d", r.FileOffset())
	}
	var flags []string
	for _, f := range []struct {
		bit  uint64
		name string
	}{{shadow.OffsetAttrFork, "attr fork"}, {shadow.OffsetBmbtBlock, "bmbt"}, {shadow.OffsetUnwritten, "unwritten"}} {
		if r.Offset&f.bit != 0 {
			flags = append(flags, f.name)
		}
	}
	if len(flags) > 0 {
		s += " (" + strings.Join(flags, ", ") + ")"
	}
	return s
}

func owner(o uint64) string {
	if o>>63 == 0 {
		return fmt.Sprintf("inode %d", o)
	}
	return verdict.OwnerName(o)
}

// waysOut names what a person can decide about the held dispute of finding id,
// with the commands that carry it out on a kernel with online repair.
func (p *pass) waysOut(d *dispute, id string) []WayOut {
	if !d.decision.OnlyTrace {
		return offline()
	}
	blocks := countBlocks(appendExtents(nil, d))
	command := func(trust string) string {
		if _, _, why := p.chosenSteps(d, trust); why != "" || !p.r.coverage.Repair {
			return ""
		}
		return fmt.Sprintf("scrubd repair %s --finding %s --trust %s", p.r.fs.Path(), id, trust)
	}
	giveUp := WayOut{
		Trust:   TrustFork,
		Effect:  fmt.Sprintf("give up the %s for good: rebuild the rmapbt from the forks, which frees them", blocks),
		Command: command(TrustFork),
	}
	for _, in := range sortedInodes(d) {
		switch in.State {
		case verdict.OwnerLive:
			return []WayOut{{
				Trust:   TrustRmap,
				Effect:  fmt.Sprintf("give inode %d its %s back: rebuild its fork from the rmapbt%s", in.Ino, blocks, p.beyondSize(d, in)),
				Command: command(TrustRmap),
			}, giveUp}
		case verdict.OwnerUnloadable:
			return []WayOut{{
				Trust:  TrustRmap,
				Effect: fmt.Sprintf("copy the %s named above from the device before anything else is done: every repair of inode %d empties it", blocks, in.Ino),
			}, {
				Trust:  TrustFork,
				Effect: fmt.Sprintf("give up the %s for good: unmount and run xfs_repair", blocks),
			}}
		}
	}
	return []WayOut{{
		Trust:  TrustRmap,
		Effect: fmt.Sprintf("copy the %s named above from the device: no inode is there to give them to", blocks),
	}, giveUp}
}

// beyondSize says that a file's size hides what it gets back: it was lost with
// the same sector as the fork, and only the data is still there.
func (p *pass) beyondSize(d *dispute, in *verdict.Inode) string {
	buf := ioctl.NewBulkstatBuffer(1)
	n, err := p.r.fs.Bulkstat(&ioctl.BulkRequest{Ino: in.Ino, Limit: 1}, buf)
	if err != nil || n == 0 || buf.Records()[0].Ino != in.Ino {
		return ""
	}
	size, block := buf.Records()[0].Size, uint64(p.r.fs.Geometry().BlockSize)
	for i := range d.Pieces {
		r := d.Pieces[i].Record
		if r == nil || !r.HasOffset() || r.Flags()&shadow.OffsetAttrFork != 0 {
			continue
		}
		if r.FileOffset()+uint64(r.BlockCount) > (size+block-1)/block {
			return fmt.Sprintf("; what lies beyond its size of %d bytes has to be copied from the device to be read", size)
		}
	}
	return ""
}

// fromSpace words a finding about the bnobt of one AG.
func (p *pass) fromSpace(g *group, owned, leaked []verdict.Range) *finding {
	f := &finding{Finding: &Finding{AtFault: string(verdict.Bnobt), Row: 7, Severity: Corruption, HasAG: true, AGNo: g.agno}}
	for _, r := range append(slices.Clone(owned), leaked...) {
		f.Extents = append(f.Extents, Extent{g.agno, ioctl.AGBlock(r.Start), r.Count})
	}
	says := f.saySpace("bnobt", "rmapbt", owned, leaked, func() string { return p.ownersAt(g, owned[0], f) })
	f.Summary = fmt.Sprintf("the free space btree of AG %d %s at block %d", g.agno, says, f.Extents[0].StartBlock)
	f.ScrubTypes = badTypes(g, ioctl.ScrubTypeAGF, ioctl.ScrubTypeBNOBT, ioctl.ScrubTypeCNTBT, ioctl.ScrubTypeRMAPBT)
	return f
}

// saySpace words what free has wrong: blocks free that rmaps, whose owners are
// called, have in use (row 4), and blocks that it does not have and nobody owns
// (row 7).
func (f *finding) saySpace(free, rmaps string, owned, leaked []verdict.Range, owners func() string) string {
	var says []string
	var who []Witness
	if len(owned) > 0 {
		f.Row, f.Severity = 4, Critical
		says = append(says, fmt.Sprintf("has %s free that are in use", countRanges(owned)))
		who = append(who, Witness{rmaps, "owns them, and the forks agree with it: " + owners()})
	}
	if len(leaked) > 0 {
		says = append(says, fmt.Sprintf("does not have %s that nobody owns", countRanges(leaked)))
		if len(owned) == 0 {
			who = append(who, Witness{rmaps, "has no owner for them, and no fork claims them"})
		}
	}
	all := strings.Join(says, " and ")
	f.Witnesses = append([]Witness{{free, all}}, who...)
	return all
}

// ownersAt says who owns the first of the blocks that the bnobt has free, and
// adds the inodes to the finding.
func (p *pass) ownersAt(g *group, r verdict.Range, f *finding) string {
	recs, err := witness.RmapWindow(p.r.fs, g.agno, ioctl.AGBlock(r.Start), ioctl.AGBlock(r.Count), p.fsmapBuf, nil)
	if err != nil || len(recs) == 0 {
		return "their owner could not be read"
	}
	for i := range recs {
		if recs[i].IsInode() {
			f.Files = addFile(f.Files, ioctl.Ino(recs[i].Owner), 0)
		}
	}
	return describe(&recs[0].Rmap)
}

// kernelSaw lists the scrub types by which the kernel noticed the disputes too.
func (p *pass) kernelSaw(set []*dispute) []ioctl.ScrubType {
	var out []ioctl.ScrubType
	for _, d := range set {
		for _, in := range d.Inodes {
			for _, r := range p.inodeBad[in.Ino] {
				if r.Bad() && !slices.Contains(out, r.Type) {
					out = append(out, r.Type)
				}
			}
		}
		for _, agno := range d.groupNumbers() {
			for _, t := range badTypes(&p.groups[agno], spaceTypes...) {
				if !slices.Contains(out, t) {
					out = append(out, t)
				}
			}
		}
	}
	slices.Sort(out)
	return out
}

// maxListed bounds the extents and files that a finding lists.
const maxListed = 64

func appendExtents(out []Extent, d *dispute) []Extent {
	for i := range d.Pieces {
		pc := &d.Pieces[i]
		if n := len(out); n > 0 && out[n-1].AGNo == pc.AGNo && uint32(out[n-1].StartBlock)+out[n-1].BlockCount == pc.Start {
			out[n-1].BlockCount += pc.Count
			continue
		}
		if len(out) == maxListed {
			break
		}
		out = append(out, Extent{pc.AGNo, ioctl.AGBlock(pc.Start), pc.Count})
	}
	return out
}

func appendFiles(out []File, d *dispute) []File {
	for _, in := range sortedInodes(d) {
		if in.State == verdict.OwnerDead && !hides(d, in) {
			continue
		}
		out = addFile(out, in.Ino, in.Gen)
	}
	return out
}

// hides tells whether in is the only kind of inode that d knows.
func hides(d *dispute, in *verdict.Inode) bool {
	for _, other := range d.Inodes {
		if other.State != in.State {
			return false
		}
	}
	return true
}

func addFile(out []File, ino ioctl.Ino, gen ioctl.Gen) []File {
	if len(out) == maxListed || slices.ContainsFunc(out, func(f File) bool { return f.Ino == ino }) {
		return out
	}
	return append(out, File{Ino: ino, Gen: gen})
}

func countBlocks(ext []Extent) string {
	var n uint64
	for _, e := range ext {
		n += uint64(e.BlockCount)
	}
	return plural(n, "block")
}

func countRanges(ranges []verdict.Range) string {
	var n uint64
	for _, r := range ranges {
		n += uint64(r.Count)
	}
	return plural(n, "block")
}

func plural(n uint64, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}
