package scrub

import (
	"context"
	"fmt"
	"slices"

	"github.com/scrubd/scrubd/ioctl"
	"github.com/scrubd/scrubd/scrub/confirm"
	"github.com/scrubd/scrubd/scrub/kernel"
	"github.com/scrubd/scrubd/scrub/state"
	"github.com/scrubd/scrubd/scrub/verdict"
	"github.com/scrubd/scrubd/scrub/walk"
	"github.com/scrubd/scrubd/scrub/witness"
)

// judgeOwnLog decides, from what a pass found, whether the log of intents on this
// very filesystem may be written: what its fork maps may be somebody else's.
func (r *run) judgeOwnLog(ctx context.Context, p *pass) error {
	r.ownLog, r.logDoubt = nil, ""
	if r.mode == ModeCheck || !r.coverage.Repair || r.partial() {
		return nil
	}
	own, err := state.FindOwnLog(r.opts.StateDir, r.fs)
	if err != nil {
		r.log.WithError(err).Warn("look for a log of intents on this filesystem")
	}
	if own != nil {
		if r.logDoubt, err = p.doubtsLog(ctx, own); err != nil {
			return err
		}
		if r.logDoubt == "" {
			r.ownLog = own
			return nil
		}
	}
	if r.intents == nil {
		return nil
	}
	if err := r.intents.LeaveOwn(); err != nil {
		r.log.WithError(err).Warn("leave the log of intents on this filesystem alone")
	}
	return nil
}

// doubtsLog says why the blocks of a log on this filesystem, or its inode, are not
// known to be its own; "" if they are. Nothing that is open may touch them: no
// finding, settled or not, and nothing that a repair would read instead. And fork,
// rmapbt and bnobt have to agree about every block, with no other owner.
// Errors: those that end a run.
func (p *pass) doubtsLog(ctx context.Context, own *state.OwnLog) (string, error) {
	if why := p.doubtsInode(own.Ino); why != "" {
		return why, nil
	}
	// Its times change with each write, and the kernel writes inodes back by the
	// cluster: all of the chunk's blocks, at most.
	geo := p.r.fs.Geometry()
	agno, agbno, _ := geo.InoToAG(own.Ino &^ (ioctl.InodesPerChunk - 1))
	chunk := confirm.Window{AGNo: agno, Start: uint32(agbno), Count: max(1, ioctl.InodesPerChunk/uint32(geo.InodesPerBlock()))}
	if why := p.doubtsBlocks(chunk); why != "" {
		return why, nil
	}
	if bad := badTypes(&p.groups[agno], append([]ioctl.ScrubType{ioctl.ScrubTypeAGI}, inodeTypes...)...); len(bad) > 0 {
		return fmt.Sprintf("the %s of AG %d, which its inode is in, is bad", bad[0], agno), nil
	}
	for i := range own.Extents {
		r := &own.Extents[i]
		agno, agbno := geo.DAddrToAG(r.Block)
		w := confirm.Window{AGNo: agno, Start: uint32(agbno), Count: uint32(geo.DAddrToBlocks(r.Length))}
		why := p.doubtsBlocks(w)
		if why == "" {
			var err error
			if why, err = p.notAlone(ctx, own.Ino, geo.DAddrToBlocks(r.Offset), w); err != nil {
				return "", err
			}
		}
		if why != "" {
			return why, nil
		}
	}
	return "", nil
}

// doubtsInode says what speaks against an inode as a whole.
func (p *pass) doubtsInode(ino ioctl.Ino) string {
	named := fmt.Sprintf("its inode %d is in question", ino)
	for _, f := range p.findings {
		if slices.ContainsFunc(f.Files, func(file File) bool { return file.Ino == ino }) {
			return named
		}
	}
	for _, d := range p.rmapBad {
		if _, ok := d.Inodes[uint64(ino)]; ok {
			return named
		}
	}
	if slices.ContainsFunc(p.inodeBad[ino], func(r kernel.Result) bool { return r.Bad() || r.Err != nil }) ||
		slices.ContainsFunc(p.walk.Sick, func(s walk.SickInode) bool { return s.Ino == ino && s.Mask != 0 }) {
		return named
	}
	for i := range p.walk.Unreadable {
		if u := &p.walk.Unreadable[i]; u.Ino <= ino && ino <= u.LastIno {
			return named
		}
	}
	if p.badInodesLeftOut > 0 || p.walk.UnreadableTotal > uint64(len(p.walk.Unreadable)) || p.walk.SickTotal > uint64(len(p.walk.Sick)) {
		return "too many inodes are in question to name them all"
	}
	return ""
}

// doubtsBlocks says what is open about blocks, or about the AG that they are in.
func (p *pass) doubtsBlocks(w confirm.Window) string {
	if uint64(w.AGNo) >= uint64(len(p.groups)) {
		return fmt.Sprintf("it maps blocks of AG %d, which there is not", w.AGNo)
	}
	g := &p.groups[w.AGNo]
	if g.rmapErr != nil || g.headerLost || !g.spaceCompared {
		return fmt.Sprintf("AG %d, which it is in, could not be compared", w.AGNo)
	}
	in := func(start, count uint32) bool {
		return uint64(start) < uint64(w.Start)+uint64(w.Count) && uint64(w.Start) < uint64(start)+uint64(count)
	}
	what := fmt.Sprintf("its blocks %d+%d of AG %d are in question", w.Start, w.Count, w.AGNo)
	for _, f := range p.findings {
		if f.HasAG && f.AGNo == w.AGNo && len(f.Extents) == 0 && len(f.Files) == 0 {
			return fmt.Sprintf("AG %d, which it is in, is in question as a whole", w.AGNo)
		}
		if slices.ContainsFunc(f.Extents, func(e Extent) bool { return e.AGNo == w.AGNo && in(uint32(e.StartBlock), e.BlockCount) }) {
			return what
		}
	}
	for _, r := range p.disputed(w.AGNo) {
		if in(r.Start, r.Count) {
			return what
		}
	}
	open := slices.ContainsFunc(g.candidates, func(c *confirm.Candidate) bool { return in(c.Start, c.Count) }) ||
		slices.ContainsFunc(g.space, func(c *confirm.SpaceCandidate) bool { return in(c.Start, c.Count) }) ||
		slices.ContainsFunc(g.shared, func(c *confirm.SharedCandidate) bool { return in(c.Start, c.Count) })
	if open {
		return what
	}
	return ""
}

// notAlone says who else has a word on blocks that a fork maps from an offset on,
// or that the rmapbt does not have them as its; "" if they are that fork's alone.
func (p *pass) notAlone(ctx context.Context, ino ioctl.Ino, offset uint64, w confirm.Window) (string, error) {
	what := fmt.Sprintf("its blocks %d+%d of AG %d", w.Start, w.Count, w.AGNo)
	recs, err := witness.RmapWindow(p.r.fs, w.AGNo, ioctl.AGBlock(w.Start), ioctl.AGBlock(w.Count), p.fsmapBuf, nil)
	if err != nil {
		if endsRun(ctx, err) {
			return "", err
		}
		return what + " cannot be looked up in the rmapbt", nil
	}
	left := []verdict.Range{{Start: w.Start, Count: w.Count}}
	for i := range recs {
		r := &recs[i]
		mine := r.Owner == uint64(ino) && r.Flags() == 0 && !r.Shared && r.FileOffset()+uint64(w.Start) == offset+uint64(r.StartBlock)
		if !mine {
			return what + " have another record in the rmapbt", nil
		}
		left = confirm.Subtract(left, []verdict.Range{{Start: r.StartBlock, Count: r.BlockCount}})
	}
	if len(left) > 0 {
		return what + " have no record in the rmapbt", nil
	}
	free, err := witness.FreeWindow(p.r.fs, p.r.bnobt, w.AGNo, ioctl.AGBlock(w.Start), ioctl.AGBlock(w.Count), p.freeBuf, nil)
	switch {
	case err != nil && endsRun(ctx, err):
		return "", err
	case err != nil || len(free) > 0:
		return what + " are not known to be in use by the bnobt", nil
	}
	tree, err := p.trees.Rmaps(ctx, w.AGNo)
	if err != nil {
		return "", err
	}
	for c, err := range tree.Overlaps(uint64(w.Start), uint64(w.Start)+uint64(w.Count)) {
		if err != nil {
			return "", err
		}
		if c.Owner != uint64(ino) {
			return what + " are claimed by " + owner(c.Owner) + " too", nil
		}
	}
	return "", nil
}
