package scrub

import (
	"context"
	"maps"
	"slices"

	"github.com/scrubd/scrubd/ioctl"
	"github.com/scrubd/scrubd/scrub/verdict"
)

// metadataTypes are the scrubs that compare the metadata of an AG with its
// btrees, in the order in which they are made.
var metadataTypes = slices.Concat(headerTypes[1:], spaceTypes)

// suspectTypes are the btrees that can be left out of the others' comparisons.
var suspectTypes = []ioctl.ScrubType{
	ioctl.ScrubTypeRMAPBT, ioctl.ScrubTypeINOBT, ioctl.ScrubTypeREFCNTBT, ioctl.ScrubTypeBNOBT,
}

// trialRounds is how often the other scrubs are made: the first round takes the
// marks off those that only disagreed with what is left out, the second sees
// each compared with all of them.
const trialRounds = 2

// findSuspects lets the kernel arbitrate where several kinds of metadata of an
// AG complain, and no difference between forks, rmapbt and bnobt says why: each
// btree is left out in turn.
func (p *pass) findSuspects(ctx context.Context) error {
	for i := range p.groups {
		g := &p.groups[i]
		bad := badTypes(g, metadataTypes...)
		if g.rmapErr != nil || len(g.candidates) > 0 || !severalKinds(bad) {
			continue
		}
		if !slices.Contains(bad, ioctl.ScrubTypeRMAPBT) && len(g.space) > 0 {
			continue // bnobt and rmapbt say of which blocks
		}
		if slices.Contains(bad, ioctl.ScrubTypeAGFL) {
			// The AGFL cannot be left out: without the rmapbt nobody speaks against
			// it. It has a rule of its own where it names another owner's blocks.
			if crossed, looked := p.crossedAGFL(g); !looked || len(crossed) > 0 {
				continue
			}
		}
		if err := p.findSuspect(ctx, g, bad); err != nil {
			return err
		}
	}
	return nil
}

// severalKinds tells whether structures complain that are not rebuilt together,
// one of them a btree that can be left out. Headers whose counters alone are off
// speak for themselves.
func severalKinds(bad []ioctl.ScrubType) bool {
	kinds := make(map[ioctl.ScrubType]bool)
	for _, t := range bad {
		switch t {
		case ioctl.ScrubTypeCNTBT:
			t = ioctl.ScrubTypeBNOBT
		case ioctl.ScrubTypeFINOBT:
			t = ioctl.ScrubTypeINOBT
		case ioctl.ScrubTypeAGF, ioctl.ScrubTypeAGI:
			continue
		}
		kinds[t] = true
	}
	return len(kinds) > 1
}

func (p *pass) findSuspect(ctx context.Context, g *group, bad []ioctl.ScrubType) error {
	before := maps.Clone(g.scrubs)
	var trials []verdict.Trial
	for _, t := range suspectTypes {
		if !slices.Contains(bad, t) && (t != ioctl.ScrubTypeINOBT || !slices.Contains(bad, ioctl.ScrubTypeFINOBT)) {
			continue
		}
		if err := p.trial(ctx, g, t); err != nil {
			return err
		}
		trials = append(trials, verdict.Trial{Without: t, Scrubs: maps.Clone(g.scrubs)})
	}
	found := verdict.Suspects(trials)
	if slices.Equal(found, []ioctl.ScrubType{ioctl.ScrubTypeRMAPBT, ioctl.ScrubTypeINOBT}) {
		// These two disagree with each other alone: the AGI decides (row 10).
		facts := p.facts(g, nil)
		if err := p.compareChunks(ctx, g, facts); err != nil {
			return err
		}
		if verdict.BlameRmapbtForChunks(facts) {
			found = found[:1]
		}
	}
	if len(found) == 1 && (found[0] == ioctl.ScrubTypeRMAPBT || found[0] == ioctl.ScrubTypeREFCNTBT) {
		// The marks and the verdicts are to be those of this trial from here on.
		g.suspect = found[0]
		return p.trial(ctx, g, g.suspect)
	}
	for _, t := range metadataTypes {
		if err := p.scrubGroup(ctx, g, t); err != nil {
			return err
		}
	}
	g.scrubs = before
	return p.readSick(g)
}

// trial scrubs everything of g with t marked as sick, if it can be: it has to
// complain for that.
func (p *pass) trial(ctx context.Context, g *group, t ioctl.ScrubType) error {
	if err := p.scrubGroup(ctx, g, t); err != nil {
		return err
	}
	for range trialRounds {
		for _, other := range metadataTypes {
			if other == t {
				continue
			}
			if err := p.scrubGroup(ctx, g, other); err != nil {
				return err
			}
		}
	}
	return p.readSick(g)
}
