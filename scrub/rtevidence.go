package scrub

import (
	"context"
	"slices"

	"github.com/scrubd/scrubd/ioctl"
	"github.com/scrubd/scrubd/scrub/state"
	"github.com/scrubd/scrubd/shadow"
)

// rtEvidence are the blocks of the data device that the metadata of the realtime
// device lies in, and what the kernel said of the groups of a finding. Which of the
// filesystem's own files is which cannot be asked, so that all of them are taken.
func (p *pass) rtEvidence(ctx context.Context, f *finding) ([]state.ByteRange, []scrubRecord, error) {
	var scrubs []scrubRecord
	groups := append(groupsOf(f.rtDisputes), f.AGNo)
	for i := range p.rt.groups {
		g := &p.rt.groups[i]
		for _, t := range rtTypes {
			if s := g.scrubs[t]; s.Ran && slices.Contains(groups, g.agno) {
				scrubs = append(scrubs, scrubRecord{g.agno, t.String(), s.Flags.String()})
			}
		}
	}
	geo := p.r.fs.Geometry()
	var out []state.ByteRange
	var blocks uint64
	for i := range p.groups {
		g := &p.groups[i]
		_, err := p.eachRecord(ctx, g, func(r *shadow.Rmap) error {
			if !r.IsInode() || blocks+uint64(r.BlockCount) > maxRawBlocks {
				return nil
			}
			private, err := p.walk.IsSilent(ioctl.Ino(r.Owner))
			if err != nil || !private {
				return err
			}
			blocks += uint64(r.BlockCount)
			out = append(out, state.ByteRange{
				Offset: geo.AGByte(g.agno, ioctl.AGBlock(r.StartBlock)),
				Length: ioctl.ByteOff(r.BlockCount) * ioctl.ByteOff(geo.BlockSize),
			})
			return nil
		})
		if err != nil {
			return nil, nil, err
		}
	}
	return out, scrubs, nil
}
