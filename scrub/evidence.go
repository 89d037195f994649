package scrub

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/scrubd/scrubd/ioctl"
	"github.com/scrubd/scrubd/scrub/state"
	"github.com/scrubd/scrubd/scrub/verdict"
	"github.com/scrubd/scrubd/scrub/witness"
	"github.com/scrubd/scrubd/shadow"
)

// evidence is what is kept of a finding before its repair: enough to see what
// every witness said, and to undo by hand what a repair made of it.
type evidence struct {
	Finding  *Finding        `json:"finding"`
	Repairs  []string        `json:"repairs"`
	Pieces   []pieceRecord   `json:"pieces,omitempty"`
	Inodes   []inodeRecord   `json:"inodes,omitempty"`
	Scrubs   []scrubRecord   `json:"scrubs,omitempty"`
	Free     []verdict.Range `json:"bnobt_only,omitempty"`
	RawError string          `json:"raw_blocks_error,omitempty"`
}

type pieceRecord struct {
	// AGNo is a realtime group, and the blocks are its, with Realtime.
	AGNo         ioctl.AGNumber `json:"agno"`
	Realtime     bool           `json:"realtime,omitempty"`
	Start        uint32         `json:"agbno"`
	Count        uint32         `json:"blocks"`
	Fork         *shadow.Rmap   `json:"fork"`
	Rmapbt       *shadow.Rmap   `json:"rmapbt"`
	Bnobt        string         `json:"bnobt"`
	Shared       bool           `json:"shared"`
	OtherClaims  []shadow.Rmap  `json:"other_claims,omitempty"`
	OtherRecords []shadow.Rmap  `json:"other_records,omitempty"`
}

type inodeRecord struct {
	Ino        ioctl.Ino    `json:"ino"`
	Gen        ioctl.Gen    `json:"gen"`
	Counters   string       `json:"counters"`
	Blocks     uint64       `json:"nblocks"`
	ForkBlocks uint64       `json:"fork_blocks"`
	Data       []forkExtent `json:"data_fork"`
	Attr       []forkExtent `json:"attr_fork"`
}

// forkExtent is one mapping, in units of 512 bytes.
type forkExtent struct {
	Offset ioctl.DAddr `json:"offset_sectors"`
	Block  ioctl.DAddr `json:"daddr_sectors"`
	Length ioctl.DAddr `json:"length_sectors"`
	Flags  string      `json:"flags"`
}

type scrubRecord struct {
	AGNo  ioctl.AGNumber `json:"agno"` // or the realtime group, for types of one
	Type  string         `json:"type"`
	Flags string         `json:"flags"`
}

// maxRawBlocks bounds the metadata blocks that are copied for one finding.
const maxRawBlocks = 64 << 10

// saveEvidence writes the evidence of every finding that is to be repaired to
// the state directory and syncs it; it returns where. A repair does not run
// without it.
func (r *run) saveEvidence(ctx context.Context, p *pass, due []*finding) (saved map[string]string, err error) {
	if _, err := r.intentLog(); err != nil {
		return nil, err
	}
	saved = make(map[string]string)
	for _, f := range due {
		if saved[f.ID], err = p.saveFinding(ctx, r.stateDir, f); err != nil {
			return nil, err
		}
	}
	return saved, nil
}

func (p *pass) saveFinding(ctx context.Context, dir *state.Dir, f *finding) (path string, err error) {
	ev, err := dir.Evidence(p.r.id, f.ID)
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, ev.Close()) }()
	doc := &evidence{Finding: f.Finding}
	for _, s := range f.steps {
		doc.Repairs = append(doc.Repairs, s.String())
	}
	for _, d := range slices.Concat(f.disputes, f.rtDisputes) {
		for i := range d.Pieces {
			pc := &d.Pieces[i]
			doc.Pieces = append(doc.Pieces, pieceRecord{
				AGNo: pc.AGNo, Realtime: f.Realtime, Start: pc.Start, Count: pc.Count, Fork: pc.Claim, Rmapbt: pc.Record,
				Bnobt: pc.Space.String(), Shared: pc.Shared, OtherClaims: pc.OtherClaims, OtherRecords: pc.OtherRecords,
			})
		}
		for _, in := range sortedInodes(d) {
			rec := inodeRecord{Ino: in.Ino, Gen: in.Gen, Counters: in.Counters.String(), Blocks: in.Blocks, ForkBlocks: in.ForkBlocks}
			if rec.Data, err = p.forkList(in, ioctl.DataFork); err != nil {
				return "", err
			}
			if rec.Attr, err = p.forkList(in, ioctl.AttrFork); err != nil {
				return "", err
			}
			doc.Inodes = append(doc.Inodes, rec)
		}
	}
	groups := f.groupNumbers()
	for _, agno := range groups {
		g := &p.groups[agno]
		for _, t := range slices.Concat(headerTypes, spaceTypes) {
			if s := g.scrubs[t]; s.Ran {
				doc.Scrubs = append(doc.Scrubs, scrubRecord{agno, t.String(), s.Flags.String()})
			}
		}
	}
	raw, err := p.metadataBlocks(ctx, f, groups)
	if err != nil {
		return "", err
	}
	if f.Realtime {
		more, scrubs, err := p.rtEvidence(ctx, f)
		if err != nil {
			return "", err
		}
		raw, doc.Scrubs = append(raw, more...), append(doc.Scrubs, scrubs...)
	}
	if err := ev.RawBlocks("", raw); err != nil {
		// The records are what a person needs; the raw blocks come on top where
		// the device can be read.
		doc.RawError = err.Error()
	}
	if err := ev.JSON("evidence", doc); err != nil {
		return "", err
	}
	return ev.Path(), nil
}

// groupNumbers are the AGs that a finding is about.
func (f *finding) groupNumbers() []ioctl.AGNumber {
	var out []ioctl.AGNumber
	if f.HasAG {
		out = append(out, f.AGNo)
	}
	for _, d := range f.disputes {
		out = append(out, d.groupNumbers()...)
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// forkList reads a fork of in for the record, as much as one call gives.
func (p *pass) forkList(in *verdict.Inode, fork ioctl.Fork) ([]forkExtent, error) {
	if in.State != verdict.OwnerLive {
		return nil, nil
	}
	recs, err := p.settler.Fork(uint64(in.Ino), fork)
	if errors.Is(err, ioctl.ErrCorrupt) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	out := make([]forkExtent, len(recs))
	for i := range recs {
		out[i] = forkExtent{recs[i].Offset, recs[i].Block, recs[i].Length, recs[i].Flags.String()}
	}
	return out, nil
}

// metadataBlocks are the byte ranges of the metadata that the repair rewrites
// or reads: the superblock, the AG's headers and btrees, the inodes in
// question and the blocks of their forks' btrees.
func (p *pass) metadataBlocks(ctx context.Context, f *finding, groups []ioctl.AGNumber) ([]state.ByteRange, error) {
	geo := p.r.fs.Geometry()
	bs := ioctl.ByteOff(geo.BlockSize)
	out := []state.ByteRange{{Offset: 0, Length: bs}}
	inodes := make(map[uint64]bool)
	for _, file := range f.Files {
		inodes[uint64(file.Ino)] = true
		agno, agbno, _ := geo.InoToAG(file.Ino)
		if uint64(agno) < uint64(geo.AGCount) {
			out = append(out, state.ByteRange{Offset: geo.AGByte(agno, agbno), Length: bs})
		}
	}
	var blocks uint64
	if f.copyData {
		for _, e := range f.Extents {
			if blocks += uint64(e.BlockCount); blocks > maxRawBlocks {
				break
			}
			out = append(out, state.ByteRange{Offset: geo.AGByte(e.AGNo, e.StartBlock), Length: ioctl.ByteOff(e.BlockCount) * bs})
		}
	}
	for _, agno := range groups {
		head := ioctl.ByteOff(3*geo.SectorSize/geo.BlockSize+1) * bs
		out = append(out, state.ByteRange{Offset: geo.AGByte(agno, 0), Length: head})
		for recs, err := range witness.RmapView(ctx, p.r.fs, agno, p.fsmapBuf) {
			if errors.Is(err, ioctl.ErrCorrupt) {
				break
			}
			if err != nil {
				return nil, fmt.Errorf("list metadata blocks of AG %d: %w", agno, err)
			}
			for i := range recs {
				r := &recs[i]
				btree := r.Owner == shadow.OwnerAG || r.Owner == shadow.OwnerInobt || r.Owner == shadow.OwnerRefcbt
				bmbt := r.IsInode() && r.Offset&shadow.OffsetBmbtBlock != 0 && inodes[r.Owner]
				if (!btree && !bmbt) || blocks+uint64(r.BlockCount) > maxRawBlocks {
					continue
				}
				blocks += uint64(r.BlockCount)
				out = append(out, state.ByteRange{
					Offset: geo.AGByte(agno, ioctl.AGBlock(r.StartBlock)), Length: ioctl.ByteOff(r.BlockCount) * bs,
				})
			}
		}
	}
	return out, nil
}
