package verdict

import (
	"fmt"
	"strconv"

	"github.com/scrubd/scrubd/shadow"
)

// Row is one line of the arbitration table: what is seen, which structure is at
// fault then, and what is done. Lines are tried in order and the first that
// applies decides. A row of the table in docs/architecture.md may have several
// lines here: one that decides, and those that hold for want of a witness.
type Row struct {
	Number int
	Letter string // "b" for rows 3b, 5b, 6b, 9b, 11b and 12b
	// Seen says in words what the evidence has to show.
	Seen    string
	AtFault Structure
	Action  Action
	// Critical and OnlyTrace are as in [Decision].
	Critical, OnlyTrace bool

	when func(e *seen) bool
	why  func(e *seen) string // of a row that holds
}

// ID is the row as it is written: "3", "9b".
func (r *Row) ID() string { return RowID(r.Number, r.Letter) }

// RowID joins a row's number and letter.
func RowID(number int, letter string) string { return strconv.Itoa(number) + letter }

// seen is the evidence about one piece, prepared for the table.
type seen struct {
	d *Dispute
	p *Piece
	// c and r are the claim and the record, nil where there is none.
	c, r *shadow.Rmap
	// claimant and named are the inodes of the two.
	claimant, named *Inode
	denied          bool
}

// say is a reason without figures.
func say(s string) func(*seen) string { return func(*seen) string { return s } }

// decideBy takes the first row that applies.
func decideBy(rows []Row, e *seen) Decision {
	for i := range rows {
		if r := &rows[i]; r.when(e) {
			return r.decide(e)
		}
	}
	return hold(0, "there is no evidence")
}

func (r *Row) decide(e *seen) Decision {
	d := Decision{
		Row: r.Number, Letter: r.Letter, AtFault: r.AtFault, Action: r.Action,
		Critical: r.Critical, OnlyTrace: r.OnlyTrace,
	}
	if r.Action == ActionRebuildFork {
		in, m := e.named, e.r
		if m == nil {
			in, m = e.claimant, e.c
		}
		d.Ino, d.Gen = in.Ino, in.Gen
		if isAttr(m) {
			d.AtFault, d.Attr = AttrFork, true
		}
	}
	if r.why != nil {
		d.Reason = r.why(e)
	}
	return d
}

func hold(row int, format string, args ...any) Decision {
	return Decision{Row: row, AtFault: Undecided, Action: ActionHold, Reason: fmt.Sprintf(format, args...)}
}
