package scrub

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"hash"
	"slices"

	"github.com/scrubd/scrubd/ioctl"
	"github.com/scrubd/scrubd/scrub/verdict"
	"github.com/scrubd/scrubd/shadow"
)

// placeOf names the same fault of the same filesystem alike in every run and in
// every pass, also when part of it was repaired or a writer has changed it: by the
// structure, the verdict, the AG, and, of what is no whole structure, the first
// block and the inodes.
func (p *pass) placeOf(f *finding) string {
	h := sha256.New()
	fmt.Fprintf(h, "%x %s %d %t %d", p.r.fs.Geometry().UUID, f.AtFault, f.Row, f.HasAG, f.AGNo)
	if f.Realtime {
		fmt.Fprint(h, " realtime")
	}
	if f.AtFault == string(verdict.Undecided) || !f.HasAG && !f.Realtime {
		for _, e := range f.Extents {
			fmt.Fprintf(h, " %d:%d", e.AGNo, e.StartBlock)
			break
		}
	}
	for _, file := range f.Files {
		if f.AtFault != string(verdict.Rmapbt) && f.AtFault != string(verdict.Bnobt) && !f.byGroup() {
			fmt.Fprintf(h, " %d", file.Ino)
		}
	}
	// What complains of a header that lost its roots changes with the marks.
	header := f.AtFault == ioctl.ScrubTypeAGF.String() || f.AtFault == ioctl.ScrubTypeAGI.String()
	if len(f.Extents) == 0 && len(f.Files) == 0 && !header {
		fmt.Fprintf(h, " %v", f.ScrubTypes)
	}
	return shortHash(h)
}

func shortHash(h hash.Hash) string { return hex.EncodeToString(h.Sum(nil))[:8] }

// decidable tells whether a person may be asked to decide about f: the ID that
// they name it by has to stand for just these blocks then.
func (f *finding) decidable() bool {
	return len(f.disputes) == 1 && f.disputes[0].decision.Held() && f.disputes[0].decision.OnlyTrace
}

// exactID names a dispute by all that a decision about it would do: the verdict,
// every mapping in it, whole, as fork and rmapbt have them, and every inode with
// its generation. It is the same in every run as long as all of these are.
func (p *pass) exactID(f *finding) string {
	d := f.disputes[0]
	h := sha256.New()
	fmt.Fprintf(h, "%x %s", p.r.fs.Geometry().UUID, f.AtFault)
	fmt.Fprintf(h, " %d%s", d.decision.Row, d.decision.Letter)
	for _, m := range wholeMappings(d.Pieces) {
		fmt.Fprintf(h, " %d:%d+%d %t %d %x", m.AGNo, m.StartBlock, m.BlockCount, m.Record, m.Owner, m.Offset)
	}
	for _, in := range sortedInodes(d) {
		fmt.Fprintf(h, " %d.%d %d", in.Ino, in.Gen, in.State)
	}
	return shortHash(h)
}

// sidedMapping is what a fork or an rmapbt says of blocks of an AG.
type sidedMapping struct {
	AGNo   ioctl.AGNumber
	Record bool // of the rmapbt
	shadow.Rmap
}

// wholeMappings returns the mappings that pieces are of, sorted, each as long as
// it is: what the other witnesses say cuts them otherwise from run to run.
func wholeMappings(pieces []verdict.Piece) []sidedMapping {
	var all []sidedMapping
	for i := range pieces {
		pc := &pieces[i]
		if pc.Claim != nil {
			all = append(all, sidedMapping{pc.AGNo, false, *pc.Claim})
		}
		if pc.Record != nil {
			all = append(all, sidedMapping{pc.AGNo, true, *pc.Record})
		}
	}
	slices.SortFunc(all, func(a, b sidedMapping) int {
		side := func(m *sidedMapping) int {
			if m.Record {
				return 1
			}
			return 0
		}
		return cmp.Or(cmp.Compare(a.AGNo, b.AGNo), side(&a)-side(&b), cmp.Compare(a.Owner, b.Owner),
			cmp.Compare(a.Flags(), b.Flags()), cmp.Compare(a.StartBlock, b.StartBlock), cmp.Compare(a.Offset, b.Offset))
	})
	var out []sidedMapping
	for _, m := range all {
		if n := len(out); n > 0 {
			last := &out[n-1]
			goesOn := last.Offset
			if m.HasOffset() {
				goesOn += uint64(last.BlockCount)
			}
			if last.AGNo == m.AGNo && last.Record == m.Record && last.Owner == m.Owner && last.End() == uint64(m.StartBlock) && goesOn == m.Offset {
				last.BlockCount += m.BlockCount
				continue
			}
		}
		out = append(out, m)
	}
	return out
}
