package scrub

import (
	"context"
	"fmt"
	"iter"
	"slices"

	"github.com/scrubd/scrubd/ioctl"
	"github.com/scrubd/scrubd/scrub/confirm"
	"github.com/scrubd/scrubd/scrub/witness"
	"github.com/scrubd/scrubd/shadow"
)

// A group of the realtime device is compared as an AG is. The functions here are
// where it matters which of the two a [group] is.

// String names the group.
func (g *group) String() string {
	if g.realtime {
		return fmt.Sprintf("rtgroup %d", g.agno)
	}
	return fmt.Sprintf("AG %d", g.agno)
}

// rgno is the number of a realtime group.
func (g *group) rgno() ioctl.RGNumber { return ioctl.RGNumber(g.agno) }

// window is blocks [start, start+count) of the group.
func (g *group) window(start, count uint32) confirm.Window {
	return confirm.Window{AGNo: g.agno, Start: start, Count: count, Realtime: g.realtime}
}

// everyGroup are all groups of both devices.
func (p *pass) everyGroup() []*group {
	out := make([]*group, 0, len(p.groups)+len(p.rt.groups))
	for i := range p.groups {
		out = append(out, &p.groups[i])
	}
	for i := range p.rt.groups {
		out = append(out, &p.rt.groups[i])
	}
	return out
}

// inTrees is the number of the group in the pass's trees.
func (p *pass) inTrees(g *group) ioctl.AGNumber {
	if g.realtime {
		return p.trees.RT(g.rgno())
	}
	return g.agno
}

// blocks is the length of the group.
func (p *pass) blocks(g *group) uint32 {
	if g.realtime {
		return uint32(p.r.fs.Geometry().RGLength(g.rgno()))
	}
	return uint32(p.r.fs.Geometry().AGLength(g.agno))
}

// hasRmapbt tells whether the group has one that can be read.
func (p *pass) hasRmapbt(g *group) bool {
	return p.r.coverage.Rmapbt && (!g.realtime || p.r.fs.Geometry().HasRTRmapbt())
}

func (p *pass) rmapView(ctx context.Context, g *group) iter.Seq2[[]shadow.Rmap, error] {
	if g.realtime {
		return witness.RTRmapView(ctx, p.r.fs, g.rgno(), p.fsmapBuf)
	}
	return witness.RmapView(ctx, p.r.fs, g.agno, p.fsmapBuf)
}

func (p *pass) recordView(ctx context.Context, g *group) iter.Seq2[[]witness.Record, error] {
	if g.realtime {
		return witness.RTRecordView(ctx, p.r.fs, g.rgno(), p.fsmapBuf)
	}
	return witness.RecordView(ctx, p.r.fs, g.agno, p.fsmapBuf)
}

func (p *pass) freeView(ctx context.Context, g *group) iter.Seq2[[]witness.Free, error] {
	if g.realtime {
		return witness.RTFreeView(ctx, p.r.fs, p.r.bnobt, g.rgno(), p.freeBuf)
	}
	return witness.FreeView(ctx, p.r.fs, p.r.bnobt, g.agno, p.freeBuf)
}

func (p *pass) rmapWindow(g *group, start, count uint32) ([]witness.Record, error) {
	if g.realtime {
		return witness.RTRmapWindow(p.r.fs, g.rgno(), ioctl.AGBlock(start), ioctl.AGBlock(count), p.fsmapBuf, nil)
	}
	return witness.RmapWindow(p.r.fs, g.agno, ioctl.AGBlock(start), ioctl.AGBlock(count), p.fsmapBuf, nil)
}

func (p *pass) freeWindow(g *group, start, count uint32) ([]witness.Free, error) {
	if g.realtime {
		return witness.RTFreeWindow(p.r.fs, p.r.bnobt, g.rgno(), ioctl.AGBlock(start), ioctl.AGBlock(count), p.freeBuf, nil)
	}
	return witness.FreeWindow(p.r.fs, p.r.bnobt, g.agno, ioctl.AGBlock(start), ioctl.AGBlock(count), p.freeBuf, nil)
}

// sharedIn are the blocks of the group that GETBMAPX called shared.
func (p *pass) sharedIn(g *group) iter.Seq2[[]shadow.Range, error] {
	if g.realtime {
		return p.walk.RTSharedIn(g.rgno())
	}
	return p.walk.SharedIn(g.agno)
}

// rtStatic are the claims on a realtime group that the geometry alone makes.
func (r *run) rtStatic(rgno ioctl.RGNumber) []shadow.Rmap {
	geo := r.fs.Geometry()
	if rgno != 0 || !geo.HasRTSuperblock() {
		return nil
	}
	return []shadow.Rmap{{BlockCount: geo.RTExtSize, Owner: shadow.OwnerFS}}
}

// drainRT is the drain barrier of a realtime group.
func (r *run) drainRT(ctx context.Context, rgno ioctl.AGNumber) error {
	return r.kern.DrainRT(ctx, ioctl.RGNumber(rgno))
}

// unjudgedRT reports a record of the rtrmapbt that no claim can stand against: of
// an inode that BULKSTAT does not tell of (waiting to be freed, private to a
// repair), or whose forks a lease keeps shut. Whatever else has no data on the
// realtime device.
func (p *pass) unjudgedRT(d *shadow.Difference) (bool, error) {
	if d.HasClaim || !d.Kernel.IsInode() {
		return false, nil
	}
	ino := ioctl.Ino(d.Kernel.Owner)
	if silent, err := p.walk.IsSilent(ino); silent || err != nil {
		return silent, err
	}
	for i := range p.walk.Refused {
		if p.walk.Refused[i].Ino == ino {
			return true, nil
		}
	}
	return false, nil
}

// rtFilesOf are the inodes of which the kernel found something bad and whose data
// is on the realtime device.
func (p *pass) rtFilesOf(inos []ioctl.Ino) map[ioctl.Ino]bool {
	out := make(map[ioctl.Ino]bool)
	for _, ino := range inos {
		if p.isRealtime(ino) {
			out[ino] = true
		}
	}
	return out
}

// isRealtime tells whether the data of an inode is on the realtime device. One
// that cannot be looked up is taken for one where there is such a device.
func (p *pass) isRealtime(ino ioctl.Ino) bool {
	if p.r.fs.Geometry().RTBlocks == 0 {
		return false
	}
	if _, err := p.settler.StateOf(uint64(ino)); err != nil {
		return true
	}
	in := p.settler.InodeOf(uint64(ino))
	return in == nil || in.Mode == 0 || in.Realtime()
}

// rtBarriers waits for what is under way in every realtime group that the data
// fork of a realtime file has blocks in.
func (p *pass) rtBarriers(ctx context.Context, recs []ioctl.BmapRecord) error {
	var asked []ioctl.RGNumber
	geo := p.r.fs.Geometry()
	for i := range recs {
		rgno, _ := geo.DAddrToRG(recs[i].Block)
		if uint64(rgno) >= uint64(len(p.rt.groups)) || slices.Contains(asked, rgno) {
			continue
		}
		asked = append(asked, rgno)
		if _, err := p.settler.BarrierRT(ctx, rgno); err != nil {
			return err
		}
	}
	return nil
}
