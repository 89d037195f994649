package scrub

import (
	"context"
	"errors"
	"fmt"

	"github.com/scrubd/scrubd/ioctl"
	"github.com/scrubd/scrubd/scrub/verdict"
	"github.com/scrubd/scrubd/scrub/walk"
	"github.com/scrubd/scrubd/scrub/witness"
	"github.com/scrubd/scrubd/shadow"
)

// chunkLooks is how often inode chunks are compared before a difference
// counts: chunks come and go in a live filesystem.
const chunkLooks = 5

// compareChunks adds to the facts how the inode chunks of INUMBERS stand to
// those of the rmapbt: a rebuild of the inode btrees forgets every inode in a
// chunk that the rmapbt does not name.
func (p *pass) compareChunks(ctx context.Context, g *group, ag *verdict.AG) error {
	for range chunkLooks {
		inodes, err := p.ownedInodes(ctx, g.agno)
		if errors.Is(err, ioctl.ErrCorrupt) || errors.Is(err, witness.ErrStuck) {
			return nil // not compared
		}
		if err != nil {
			return err
		}
		geo, err := p.r.fs.AGGeometry(g.agno)
		if err != nil {
			return err
		}
		var room uint64
		for _, r := range inodes {
			room += uint64(r.Count) * uint64(p.r.fs.Geometry().InodesPerBlock())
		}
		ag.InodesCounted = room == uint64(geo.InodeCount)
		listed, err := p.listedInodes(ctx, g.agno)
		if err != nil {
			return err
		}
		ag.InodesListed = listed == uint64(geo.InodeCount) && !p.unlisted(g.agno)
		if ag.ChunksUncovered, err = p.uncovered(ctx, g.agno, inodes); err != nil {
			return err
		}
		// Where INUMBERS could not list everything, the count is what tells that
		// no chunk is missing from the rmapbt.
		ag.ChunksCompared = ag.InodesCounted || !p.unlisted(g.agno)
		if ag.InodesCounted && len(ag.ChunksUncovered) == 0 {
			return nil
		}
		if drain := p.r.drain(); drain != nil {
			if err := drain(ctx, g.agno); err != nil {
				return err
			}
		}
	}
	return nil
}

// listedInodes counts the inodes of the chunks that INUMBERS listed, as if none
// of them was sparse.
func (p *pass) listedInodes(ctx context.Context, agno ioctl.AGNumber) (n uint64, err error) {
	for _, err := range p.walk.Chunks[agno].All(ctx) {
		if err != nil {
			return 0, err
		}
		n += 64
	}
	return n, nil
}

// ownedInodes are the blocks that the rmapbt of an AG gives to inode chunks.
func (p *pass) ownedInodes(ctx context.Context, agno ioctl.AGNumber) ([]verdict.Range, error) {
	var out []verdict.Range
	for recs, err := range witness.RmapView(ctx, p.r.fs, agno, p.fsmapBuf) {
		if err != nil {
			return nil, err
		}
		for i := range recs {
			if recs[i].Owner == shadow.OwnerInodes {
				out = append(out, verdict.Range{Start: recs[i].StartBlock, Count: recs[i].BlockCount})
			}
		}
	}
	return out, nil
}

// uncovered names the chunks that hold an inode in a block that is not among
// those of the rmapbt.
func (p *pass) uncovered(ctx context.Context, agno ioctl.AGNumber, inodes []verdict.Range) ([]string, error) {
	var out []string
	at := 0
	for c, err := range p.walk.Chunks[agno].All(ctx) {
		if err != nil {
			return nil, err
		}
		for _, r := range p.chunkClaims(c.StartIno, c.AllocMask) {
			for at < len(inodes) && uint64(inodes[at].Start)+uint64(inodes[at].Count) <= uint64(r.StartBlock) {
				at++
			}
			if at == len(inodes) || inodes[at].Start > r.StartBlock {
				out = append(out, fmt.Sprintf("the rmapbt does not have the block of the inodes from %d on", c.StartIno))
				break
			}
		}
	}
	return out, nil
}

// unlisted tells whether the walk missed inodes of an AG because INUMBERS
// could not list them.
func (p *pass) unlisted(agno ioctl.AGNumber) bool {
	for i := range p.walk.Unreadable {
		if u := &p.walk.Unreadable[i]; u.Stage == walk.StageInumbers && agOf(p.r.fs, u.Ino) == agno {
			return true
		}
	}
	return p.walk.UnreadableTotal > uint64(len(p.walk.Unreadable))
}
