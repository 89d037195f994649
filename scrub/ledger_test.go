package scrub

import (
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/scrubd/scrubd/ioctl"
	"github.com/scrubd/scrubd/scrub/state"
)

// A ledger comes back from a checkpoint as it was, AGs alike as one range.
func TestLedgerAndCheckpoint(t *testing.T) {
	l := newLedger()
	const length = 1000
	for agno := range ioctl.AGNumber(100_000) {
		l.note(agno, length, ioctl.ScrubTypeAGF, true)
		l.note(agno, length, ioctl.ScrubTypeRMAPBT, true)
		l.reached(agno, length, 7, 3, true)
	}
	l.reached(100_000, length, 77, 5, false)
	l.lookAgain(100_000, length, 5)
	l.lookAgain(100_000, length, 5)
	l.note(100_001, 500, ioctl.ScrubTypeSB, true)
	var c state.Checkpoint
	l.checkpoint(&c)
	assert.Len(t, c.Groups, 3)
	assert.Equal(t, uint64(300_000), c.Groups[0].Inodes)
	assert.Equal(t, []ioctl.Ino{5}, c.Groups[1].Again)

	back := ledgerOf(&c, 100_002, func(agno ioctl.AGNumber) uint32 {
		if agno == 100_001 {
			return 500
		}
		return length
	})
	groups, inodes := back.counts()
	assert.Equal(t, 100_002, groups)
	assert.Equal(t, uint64(300_005), inodes)
	assert.True(t, back.groups[99_999].all)
	assert.True(t, back.groups[99_999].types.has(ioctl.ScrubTypeRMAPBT))
	assert.Equal(t, ioctl.Ino(77), back.groups[100_000].next)
	assert.Equal(t, []ioctl.Ino{5}, back.groups[100_000].again)

	// A filesystem that has grown: the last AG is longer, and a new one is behind it.
	grown := ledgerOf(&c, 100_003, func(ioctl.AGNumber) uint32 { return length })
	assert.Contains(t, grown.groups, ioctl.AGNumber(100_000))
	assert.NotContains(t, grown.groups, ioctl.AGNumber(100_001))
	// One that has shrunk.
	shrunk := ledgerOf(&c, 10, func(ioctl.AGNumber) uint32 { return length })
	groups, _ = shrunk.counts()
	assert.Equal(t, 10, groups)
}

// What a checkpoint says of AGs that cannot be is no reason to loop or to panic.
func TestLedgerOfNonsense(t *testing.T) {
	c := &state.Checkpoint{
		Groups: []state.CheckedGroups{{First: 3, Last: 1<<32 - 1, Length: 10, Types: []ioctl.ScrubType{1 << 20}, AllInodes: true}},
	}
	l := ledgerOf(c, 5, func(ioctl.AGNumber) uint32 { return 10 })
	groups, _ := l.counts()
	assert.Equal(t, 2, groups)
	assert.Empty(t, l.groups[3].types.list())
}

// What is found bad after all is not well any more, whatever was known of it.
func TestLedgerTakesBack(t *testing.T) {
	l := newLedger()
	l.note(0, 1, ioctl.ScrubTypeAGF, true)
	l.note(0, 1, ioctl.ScrubTypeBNOBT, true)
	l.note(0, 1, ioctl.ScrubTypeAGF, false)
	assert.Equal(t, typesOf([]ioctl.ScrubType{ioctl.ScrubTypeBNOBT}), l.groups[0].types)
	before := l.clone()
	l.reset()
	groups, _ := l.counts()
	assert.Zero(t, groups)
	assert.Greater(t, l.changes, before.changes, "it is written down")
	groups, _ = before.counts()
	assert.Equal(t, 1, groups)
}

// Too many inodes with something to say: they are not remembered, and so none of
// the AG's is left out.
func TestLedgerForgetsTooMany(t *testing.T) {
	l := newLedger()
	l.reached(0, 1, 500, 100, false)
	for i := range ioctl.Ino(maxAgain + 1) {
		l.lookAgain(0, 1, i)
	}
	l.reached(0, 1, 900, 200, true)
	assert.Zero(t, l.groups[0].next)
	assert.False(t, l.groups[0].all)
	assert.Zero(t, l.groups[0].inodes)
}

// A second scan of the inodes in the same pass, and one that goes on, take nothing
// back and count nothing twice.
func TestLedgerSecondScan(t *testing.T) {
	l := newLedger()
	l.reached(0, 1, 500, 100, false)
	l.reached(0, 1, 300, 60, false)
	assert.Equal(t, ioctl.Ino(500), l.groups[0].next)
	l.reached(0, 1, 700, 150, true)
	l.reached(0, 1, 300, 60, false)
	assert.True(t, l.groups[0].all)
	assert.Equal(t, uint64(150), l.groups[0].inodes)
}
