package verdict_test

import (
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/scrubd/scrubd/ioctl"
	"github.com/scrubd/scrubd/scrub/verdict"
	"github.com/scrubd/scrubd/shadow"
)

// Rows 6, 6b and 9b: the refcountbt against the owners that forks and rmapbt have.
func TestDecideShared(t *testing.T) {
	a, b, c := *data(72, 8, alice, 0), *data(72, 8, bob, 0), *data(72, 8, carol, 4)
	bad, clean := verdict.Scrub{Ran: true, Flags: xcorrupt}, verdict.Scrub{Ran: true}
	for _, k := range []struct {
		name   string
		p      verdict.SharedPiece
		scrub  verdict.Scrub
		row    int
		letter string
		action verdict.Action
	}{
		{"two owners and no mark", verdict.SharedPiece{Claims: []shadow.Rmap{a, b}, Records: []shadow.Rmap{b, a}}, bad, 6, "", verdict.ActionRebuildRefcountbt},
		{"one owner and a mark", verdict.SharedPiece{Marked: true, Claims: []shadow.Rmap{a}, Records: []shadow.Rmap{a}}, bad, 6, "", verdict.ActionRebuildRefcountbt},
		{"the kernel gave no verdict", verdict.SharedPiece{Marked: true, Claims: []shadow.Rmap{a}, Records: []shadow.Rmap{a}}, verdict.Scrub{}, 6, "", verdict.ActionRebuildRefcountbt},
		{"records that are no data do not count", verdict.SharedPiece{Marked: true, Claims: []shadow.Rmap{a}, Records: []shadow.Rmap{a, *attr(&b)}}, bad, 6, "", verdict.ActionRebuildRefcountbt},
		{"a record that reaches beyond the blocks", verdict.SharedPiece{Marked: true, Claims: []shadow.Rmap{*data(72, 8, alice, 10)}, Records: []shadow.Rmap{*data(62, 30, alice, 0)}}, bad, 6, "", verdict.ActionRebuildRefcountbt},
		{"the rmapbt lacks an owner", verdict.SharedPiece{Claims: []shadow.Rmap{a, b}, Records: []shadow.Rmap{a}}, bad, 6, "b", verdict.ActionHold},
		{"the rmapbt has one more", verdict.SharedPiece{Marked: true, Claims: []shadow.Rmap{a}, Records: []shadow.Rmap{a, b}}, bad, 6, "b", verdict.ActionHold},
		{"the rmapbt has another", verdict.SharedPiece{Claims: []shadow.Rmap{a, b}, Records: []shadow.Rmap{a, c}}, bad, 6, "b", verdict.ActionHold},
		{"the kernel counts as the refcountbt does", verdict.SharedPiece{Claims: []shadow.Rmap{a, b}, Records: []shadow.Rmap{a, b}}, clean, 6, "", verdict.ActionHold},
		{"a sharer without the flag", verdict.SharedPiece{Claims: []shadow.Rmap{a, b}, Records: []shadow.Rmap{a, b}, NoFlag: []ioctl.Ino{alice}}, clean, 9, "b", verdict.ActionRepairInode},
		{"and the refcountbt is in question", verdict.SharedPiece{Claims: []shadow.Rmap{a, b}, Records: []shadow.Rmap{a, b}, NoFlag: []ioctl.Ino{alice}}, bad, 6, "", verdict.ActionRebuildRefcountbt},
		{"and the rmapbt is", verdict.SharedPiece{Claims: []shadow.Rmap{a, b}, Records: []shadow.Rmap{a}, NoFlag: []ioctl.Ino{alice}}, clean, 6, "b", verdict.ActionHold},
	} {
		t.Run(k.name, func(t *testing.T) {
			k.p.Start, k.p.Count = 72, 8
			got := verdict.DecideShared(&k.p, k.scrub)
			assert.Equal(t, k.row, got.Row)
			assert.Equal(t, k.letter, got.Letter)
			assert.Equal(t, k.action, got.Action)
			assert.Equal(t, got.Held(), got.Reason != "")
		})
	}
	for _, r := range verdict.SharedRows() {
		assert.NotEmpty(t, r.Seen)
	}
}

// The table as data: every line has a number, says what it sees, and those that
// hold blame nobody.
func TestTable(t *testing.T) {
	rows := make(map[string]bool)
	for _, r := range verdict.Table() {
		rows[r.ID()] = true
		assert.NotEmpty(t, r.Seen)
		if r.Action == verdict.ActionHold {
			assert.Equal(t, verdict.Undecided, r.AtFault, r.Seen)
		} else {
			assert.NotEqual(t, verdict.Undecided, r.AtFault, r.Seen)
			assert.False(t, r.Critical || r.OnlyTrace, r.Seen)
		}
	}
	for _, id := range []string{"1", "2", "3", "3b", "5", "8", "9", "11", "11b", "12", "13", "14", "16"} {
		assert.True(t, rows[id], "row %s is not in the table", id)
	}
}
