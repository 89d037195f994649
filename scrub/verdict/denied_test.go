package verdict_test

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/scrubd/scrubd/ioctl"
	"github.com/scrubd/scrubd/scrub/verdict"
	"github.com/scrubd/scrubd/shadow"
)

// The reap rule: who counts as a second witness against a record.
func TestDenied(t *testing.T) {
	record := data(72, 8, alice, 16)
	for _, c := range []struct {
		name string
		p    verdict.Piece
		want bool
	}{
		{"nobody speaks", piece(nil, record), false},
		{"free in the bnobt", piece(nil, record, free), true},
		{"the bnobt could not be asked", piece(nil, record, unknownSpace), false},
		{"claimed otherwise", piece(data(72, 8, bob, 0), record), true},
		{"claimed as an attr block", piece(nil, record, alsoClaims(attr(data(72, 8, bob, 0)))), true},
		{"claimed as an inode chunk, marked as shared", piece(nil, record, shared, alsoClaims(special(72, 8, shadow.OwnerInodes))), true},
		{"said twice of the same owner", piece(nil, record, shared, alsoClaims(record)), true},

		// W5, both ways: a claim that could share the blocks.
		{"a possible sharer, not marked as shared", piece(nil, record, alsoClaims(data(72, 8, bob, 0))), true},
		{"a sharer, marked as shared: a lost clone", piece(nil, record, shared, alsoClaims(data(72, 8, bob, 0))), false},
		{"marked as shared, and the refcountbt counts fewer", piece(nil, record, shared, refcountDenies, alsoClaims(data(72, 8, bob, 0))), true},
		{"the refcountbt complains, and nobody claims the blocks", piece(nil, record, refcountDenies), false},
		{"an unwritten record is never shared", piece(nil, unwritten(record), shared, alsoClaims(data(72, 8, bob, 0))), true},
		{"the same file at another offset, marked as shared", piece(nil, record, shared, alsoClaims(data(72, 8, alice, 0))), false},

		// Another record is the same witness once more.
		{"the rmapbt has a btree there too", piece(nil, record, alsoRecords(special(72, 8, shadow.OwnerAG))), false},
		{"the rmapbt has staging there too", piece(nil, record, alsoRecords(special(72, 8, shadow.OwnerCoW))), false},
		{"the rmapbt has a fork's btree there too", piece(nil, record, alsoRecords(flagged(special(72, 8, bob), shadow.OffsetBmbtBlock))), false},
		{"the rmapbt has another inode there too", piece(nil, record, alsoRecords(data(72, 8, bob, 0))), false},
	} {
		t.Run(c.name, func(t *testing.T) {
			d := dispute(pieces(c.p), inode(alice), inode(bob))
			assert.Equal(t, c.want, d.Denied(&d.Pieces[0]))
		})
	}
}

// A record that strayed onto blocks with another owner is denied by the fork
// that maps its offsets elsewhere, where the bnobt vouches for that.
func TestDeniedMappedElsewhere(t *testing.T) {
	stray := piece(nil, data(72, 8, alice, 16), alsoRecords(special(72, 8, shadow.OwnerCoW)))
	home := piece(data(200, 8, alice, 16), nil)
	with := func(p verdict.Piece, f ...func(*verdict.Piece)) verdict.Piece {
		for _, change := range f {
			change(&p)
		}
		return p
	}
	alone := stray
	alone.OtherRecords = nil
	strayAttr := piece(nil, attr(data(72, 8, alice, 16)), alsoRecords(special(72, 8, shadow.OwnerCoW)))
	for _, c := range []struct {
		name string
		d    []verdict.Piece
		want bool
	}{
		{"all offsets at home", pieces(stray, home), true},
		{"in two parts", pieces(stray, piece(data(200, 4, alice, 16), nil), piece(data(300, 4, alice, 20), nil)), true},
		{"in two parts, in the other order", pieces(piece(data(300, 4, alice, 20), nil), stray, piece(data(200, 4, alice, 16), nil)), true},
		{"home is larger", pieces(stray, piece(data(200, 24, alice, 8), nil)), true},
		{"an attr record and an attr home", pieces(strayAttr, piece(attr(data(200, 8, alice, 16)), nil)), true},
		{"claimed and shared where it strayed to", pieces(with(alone, shared, alsoClaims(data(72, 8, bob, 0))), home), true},

		{"nobody else is known to own the blocks", pieces(alone, home), false},
		{"no home", pieces(stray), false},
		{"the last offset has none", pieces(stray, piece(data(200, 7, alice, 16), nil)), false},
		{"the first offset has none", pieces(stray, piece(data(200, 7, alice, 17), nil)), false},
		{"a gap in the middle", pieces(stray, piece(data(200, 3, alice, 16), nil), piece(data(300, 4, alice, 20), nil)), false},
		{"the other fork", pieces(stray, piece(attr(data(200, 8, alice, 16)), nil)), false},
		{"another inode", pieces(stray, piece(data(200, 8, bob, 16), nil)), false},
		{"home is free by now", pieces(stray, with(home, free)), false},
		{"home could not be asked for", pieces(stray, with(home, unknownSpace)), false},
		{"home is claimed by another", pieces(stray, with(home, alsoClaims(data(200, 8, bob, 0)))), false},
		{"home has another record", pieces(stray, with(home, alsoRecords(data(200, 8, bob, 0)))), false},
		// A lost inode write, after which the file had moved within its own blocks.
		{"home is the same inode's at another offset", pieces(stray, piece(data(200, 8, alice, 16), data(200, 8, alice, 100))), false},
		{"home has a record of nobody", pieces(stray, piece(data(200, 8, alice, 16), data(200, 8, ghost, 0))), false},
	} {
		t.Run(c.name, func(t *testing.T) {
			d := dispute(c.d, inode(alice), inode(bob))
			for i := range d.Pieces {
				if p := &d.Pieces[i]; p.Start == 72 {
					assert.Equal(t, c.want, d.Denied(p))
				}
			}
		})
	}
}

// genPiece draws a piece with any combination of what witnesses may say.
func genPiece(t *rapid.T, at uint32) verdict.Piece {
	mapping := func(label string) *shadow.Rmap {
		r := rapid.SampledFrom([]*shadow.Rmap{
			data(at, 4, alice, 0), data(at, 4, alice, 8), data(at, 4, bob, 0), data(at, 4, ghost, 0), data(at, 4, carol, 4),
			special(at, 4, shadow.OwnerAG), special(at, 4, shadow.OwnerCoW), special(at, 4, shadow.OwnerFS), special(at, 4, shadow.OwnerInodes),
		}).Draw(t, label)
		if r.IsInode() {
			r = flagged(r, rapid.SampledFrom([]uint64{0, 0, shadow.OffsetUnwritten, shadow.OffsetAttrFork}).Draw(t, label+" flags"))
		}
		return r
	}
	p := verdict.Piece{
		Start: at, Count: 4,
		Space:          rapid.SampledFrom([]verdict.Space{verdict.SpaceUsed, verdict.SpaceUsed, verdict.SpaceFree, verdict.SpaceUnknown}).Draw(t, "space"),
		Shared:         rapid.Bool().Draw(t, "shared"),
		RefcountDenies: rapid.IntRange(0, 3).Draw(t, "refcount denies") == 3,
		RmapbtBad:      rapid.Bool().Draw(t, "rmapbt bad"),
	}
	sides := rapid.IntRange(1, 3).Draw(t, "sides")
	if sides&1 != 0 {
		p.Claim = mapping("claim")
	}
	if sides&2 != 0 {
		p.Record = mapping("record")
	}
	few := rapid.SampledFrom([]int{0, 0, 0, 1, 1, 2})
	for range few.Draw(t, "other claims") {
		p.OtherClaims = append(p.OtherClaims, *mapping("other claim"))
	}
	for range few.Draw(t, "other records") {
		p.OtherRecords = append(p.OtherRecords, *mapping("other record"))
	}
	return p
}

func genInode(t *rapid.T, ino uint64) *verdict.Inode {
	flags := rapid.SampledFrom([]ioctl.ScrubFlags{
		ioctl.ScrubXCorrupt, ioctl.ScrubXCorrupt, ioctl.ScrubXCorrupt, ioctl.ScrubXCorrupt, 0, ioctl.ScrubCorrupt, ioctl.ScrubXFail,
	})
	mostly := func(label string) bool { return rapid.IntRange(0, 9).Draw(t, label) > 0 }
	return inode(ino, func(in *verdict.Inode) {
		if !mostly("live") {
			in.State = verdict.OwnerState(rapid.IntRange(0, int(verdict.OwnerMetadata)).Draw(t, "state"))
		}
		in.Blocks = rapid.SampledFrom([]uint64{0, 0, 0, 1}).Draw(t, "blocks")
		if rapid.Bool().Draw(t, "counters differ") {
			in.Counters = verdict.Counters(rapid.IntRange(0, int(verdict.CountersDoubted)).Draw(t, "counters"))
		}
		in.DataRan, in.AttrRan = mostly("data ran"), mostly("attr ran")
		in.UnreadableAttr = rapid.Bool().Draw(t, "unreadable attr")
		in.Recorded, in.RecordedKnown = in.Blocks+rapid.SampledFrom([]uint64{0, 0, 1}).Draw(t, "recorded"), mostly("recorded known")
		in.DataScrub, in.AttrScrub = flags.Draw(t, "data scrub"), flags.Draw(t, "attr scrub")
	})
}

// harm says in what way a decision could cost something that no witness
// supports, "" if in none.
func harm(d *verdict.Dispute, got *verdict.Decision) string {
	for i := range d.Pieces {
		p := &d.Pieces[i]
		switch got.Action {
		case verdict.ActionRebuildRmapbt:
			if why := harmOfRmapbt(d, p); why != "" {
				return why
			}
		case verdict.ActionRebuildFork:
			if got.Letter == "b" {
				if why := harmOfMove(d, p, got); why != "" {
					return why
				}
				continue
			}
			switch {
			case p.Claim != nil || p.Record == nil || uint64(got.Ino) != p.Record.Owner:
				return "the fork would change in what it has"
			case d.Denied(p) || p.Space != verdict.SpaceUsed:
				return "the fork would get blocks that are denied"
			case d.Inodes[p.Record.Owner].State == verdict.OwnerUnreadable && d.Inodes[p.Record.Owner].Recorded != d.Inodes[p.Record.Owner].Blocks:
				return "what the fork lost in the rmapbts would be lost"
			case got.Attr != (p.Record.Flags()&shadow.OffsetAttrFork != 0):
				return "the wrong fork"
			case d.Inodes[p.Record.Owner].State == verdict.OwnerLive && d.Inodes[p.Record.Owner].Counters != verdict.CountersMatchForkMissing:
				return "the inode's counters do not want these blocks"
			}
		case verdict.ActionHold:
			if got.Reason == "" {
				return "held without a reason"
			}
		case verdict.ActionRebuildBnobt:
			return "no dispute between forks and rmapbt blames the bnobt"
		}
	}
	return ""
}

// harmOfMove is about rows 3b and 11b: a fork that gets back what the rmapbt has
// of it, where it now has something else.
func harmOfMove(d *verdict.Dispute, p *verdict.Piece, got *verdict.Decision) string {
	in := d.Inodes[uint64(got.Ino)]
	if in.State != verdict.OwnerLive || in.Counters != verdict.CountersMatchFork || in.Blocks != in.ForkBlocks {
		return "the counters are not those of the fork"
	}
	for _, m := range []*shadow.Rmap{p.Claim, p.Record} {
		if m != nil && (m.Owner != uint64(got.Ino) || got.Attr != (m.Flags()&shadow.OffsetAttrFork != 0)) {
			return "another fork has a part in it"
		}
	}
	if p.Record == nil {
		if p.Space == verdict.SpaceUnknown || p.Space == verdict.SpaceUsed && len(p.OtherRecords) == 0 {
			return "blocks would be given up that nobody else is known to own"
		}
		return ""
	}
	if p.Space != verdict.SpaceUsed {
		return "the fork would get blocks that are not in use"
	}
	for i := range p.OtherClaims {
		if o := &p.OtherClaims[i]; !o.IsShareable() || p.Record.Flags() != 0 || !p.Shared {
			return "the fork would get another's blocks"
		}
	}
	return ""
}

func harmOfRmapbt(d *verdict.Dispute, p *verdict.Piece) string {
	if p.Space == verdict.SpaceUnknown {
		return "the bnobt was not asked"
	}
	if p.Claim == nil {
		switch others := len(p.OtherClaims) + len(p.OtherRecords); {
		case !d.Denied(p):
			return "an undenied record would go"
		case p.Space == verdict.SpaceUsed && others == 0:
			return "allocated blocks would be freed that nobody else is known to own"
		case p.Space == verdict.SpaceFree && !p.RmapbtBad:
			return "the kernel does not see that the rmapbt owns free blocks"
		case wants(d.Inodes[p.Record.Owner]):
			return "the inode's counters want these blocks"
		}
		return ""
	}
	if p.Space == verdict.SpaceFree {
		return "the kernel would refuse: a claim on free blocks"
	}
	if in := d.Inodes[p.Claim.Owner]; p.Claim.IsInode() && (in.State != verdict.OwnerLive || in.Counters != verdict.CountersMatchFork) {
		return "the claimant is in doubt"
	}
	if p.Record != nil && p.Record.Owner == p.Claim.Owner &&
		p.Claim.Flags()&shadow.OffsetUnwritten != 0 && p.Record.Flags()&shadow.OffsetUnwritten == 0 {
		return "the only word that data was written would go"
	}
	for i := range p.OtherClaims {
		o := &p.OtherClaims[i]
		if (!o.IsShareable() || !p.Claim.IsShareable() || !p.Shared) && (o.Owner != p.Claim.Owner || o.Offset != p.Claim.Offset) {
			return "a cross-link would be made good"
		}
	}
	return ""
}

// wants tells whether an inode's counters count blocks that its forks lack.
func wants(in *verdict.Inode) bool {
	return in != nil && in.State == verdict.OwnerLive && in.Counters == verdict.CountersMatchForkMissing
}

// Whatever the witnesses say of one piece: a rebuild of the rmapbt frees no
// block that is allocated and that nobody else is known to own, and a fork is
// rebuilt only towards what its counters want and nobody denies.
func TestDecideDoesNoHarm(t *testing.T) {
	none := []*shadow.Rmap{nil}
	claims := append(none, data(72, 4, alice, 0), unwritten(data(72, 4, alice, 0)), attr(data(72, 4, alice, 0)), data(72, 4, bob, 0))
	records := append(none, data(72, 4, alice, 0), data(72, 4, alice, 8), unwritten(data(72, 4, alice, 0)),
		attr(data(72, 4, alice, 0)), data(72, 4, bob, 0), data(72, 4, ghost, 0), special(72, 4, shadow.OwnerCoW))
	otherClaims := append(none, data(72, 4, carol, 0), attr(data(72, 4, carol, 0)), data(72, 4, alice, 8), special(72, 4, shadow.OwnerInodes))
	otherRecords := append(none, data(72, 4, carol, 0), unwritten(data(72, 4, carol, 0)), special(72, 4, shadow.OwnerAG))
	made := make(map[verdict.Action]int)
	check := func(p verdict.Piece, in *verdict.Inode) {
		d := dispute(pieces(p), in, inode(bob), inode(carol))
		got := verdict.Decide(d)
		made[got.Action]++
		if why := harm(d, &got); why != "" {
			t.Fatalf("%s: piece %+v, claim %v, record %v, inode %+v: %+v", why, p, p.Claim, p.Record, in, got)
		}
	}
	for _, in := range allInodes() {
		for _, claim := range claims {
			for _, record := range records {
				for _, oc := range otherClaims {
					for _, or := range otherRecords {
						for bits := range 24 {
							p := piece(claim, record)
							p.Space, p.Shared, p.RefcountDenies, p.RmapbtBad = verdict.Space(bits%3), bits/3&1 != 0, bits/6&1 != 0, bits/12 != 0
							if oc != nil {
								p.OtherClaims = []shadow.Rmap{*oc}
							}
							if or != nil {
								p.OtherRecords = []shadow.Rmap{*or}
							}
							check(p, in)
						}
					}
				}
			}
		}
	}
	assert.Greater(t, made[verdict.ActionRebuildRmapbt], 1000)
	assert.Greater(t, made[verdict.ActionRebuildFork], 100)
}

// allInodes are the ways in which the inode in question may be.
func allInodes() (out []*verdict.Inode) {
	for _, state := range []verdict.OwnerState{verdict.OwnerLive, verdict.OwnerDead, verdict.OwnerSilent, verdict.OwnerUnreadable, verdict.OwnerUnloadable} {
		for c := verdict.CountersUnknown; c <= verdict.CountersDoubted; c++ {
			for _, flags := range []ioctl.ScrubFlags{ioctl.ScrubXCorrupt, ioctl.ScrubCorrupt, 0} {
				out = append(out, inode(alice, is(state), counters(c), scrubbed(flags)))
				if state == verdict.OwnerUnreadable {
					out = append(out, inode(alice, is(state), counters(c), scrubbed(flags), recorded(8)), inode(alice, is(state), counters(c), scrubbed(flags), recorded(4)))
				}
			}
		}
	}
	out = append(out, inode(alice, unscrubbed), inode(alice, is(verdict.OwnerUnreadable), scrubbed(ioctl.ScrubCorrupt), attrLost))
	return out
}

// And so it is with several pieces, which are decided together.
func TestDecideTogetherDoesNoHarm(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var p []verdict.Piece
		for i := range rapid.IntRange(2, 3).Draw(t, "pieces") {
			p = append(p, genPiece(t, uint32(72+8*i)))
		}
		d := dispute(p, genInode(t, alice), genInode(t, bob), genInode(t, carol))
		got := verdict.Decide(d)
		require.Empty(t, harm(d, &got), "%+v", got)
	})
}
