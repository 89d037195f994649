package scrub

import (
	"context"
	"errors"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/scrubd/scrubd/ioctl"
	"github.com/scrubd/scrubd/ioctl/ioctltest"
	"github.com/scrubd/scrubd/scrub/verdict"
	"github.com/scrubd/scrubd/shadow"
)

// undecided is a held dispute that a person may decide about: an inode lost three
// extents, one of them in two pieces.
func undecided() *dispute {
	d := &dispute{decision: verdict.Decision{Row: 2, AtFault: verdict.Undecided, OnlyTrace: true}}
	record := func(agno ioctl.AGNumber, start, count uint32, offset uint64) {
		d.Pieces = append(d.Pieces, verdict.Piece{AGNo: agno, Start: start, Count: count, Space: verdict.SpaceUsed, Record: &shadow.Rmap{
			StartBlock: start, BlockCount: count, Owner: 131, Offset: offset,
		}})
	}
	record(0, 100, 4, 0)
	record(0, 104, 4, 4)
	record(0, 200, 8, 8)
	record(2, 50, 1, 16)
	d.Inodes = map[uint64]*verdict.Inode{131: {Ino: 131, Gen: 7, State: verdict.OwnerLive}}
	return d
}

// The ID that a person names a finding by stands for all that they decide about,
// and for nothing that may be otherwise in the next run.
func TestExactID(t *testing.T) {
	fs, _ := ioctltest.New(t)
	p := &pass{r: &run{fs: fs}, groups: make([]group, 4)}
	id := func(d *dispute) string { return p.add(p.fromDisputes(d)).ID }
	want := id(undecided())
	for _, c := range []struct {
		name   string
		change func(*dispute)
		same   bool
	}{
		{"nothing", func(*dispute) {}, true},
		{"cut elsewhere", func(d *dispute) {
			d.Pieces[0].Record.BlockCount, d.Pieces[0].Count = 6, 6
			d.Pieces[1].Record.StartBlock, d.Pieces[1].Record.BlockCount, d.Pieces[1].Record.Offset = 106, 2, 6
			d.Pieces[1].Start, d.Pieces[1].Count = 106, 2
		}, true},
		{"shared by now", func(d *dispute) { d.Pieces[0].Shared = true }, true},
		{"the first block", func(d *dispute) { d.Pieces[0].Record.StartBlock-- }, false},
		{"the last extent", func(d *dispute) { d.Pieces[3].Record.StartBlock++ }, false},
		{"its AG", func(d *dispute) { d.Pieces[3].AGNo = 3 }, false},
		{"one less", func(d *dispute) { d.Pieces = d.Pieces[:3] }, false},
		{"a length", func(d *dispute) { d.Pieces[2].Record.BlockCount++ }, false},
		{"an offset", func(d *dispute) { d.Pieces[2].Record.Offset++ }, false},
		{"a flag", func(d *dispute) { d.Pieces[2].Record.Offset |= shadow.OffsetUnwritten }, false},
		{"the owner of one", func(d *dispute) { d.Pieces[2].Record.Owner = 132 }, false},
		{"the generation", func(d *dispute) { d.Inodes[131].Gen = 8 }, false},
		{"another inode", func(d *dispute) { d.Inodes[132] = &verdict.Inode{Ino: 132, Gen: 1} }, false},
		{"whether it exists", func(d *dispute) { d.Inodes[131].State = verdict.OwnerDead }, false},
		{"the verdict", func(d *dispute) { d.decision.Row = 8 }, false},
		{"a claim instead of a record", func(d *dispute) {
			d.Pieces[2].Claim, d.Pieces[2].Record = d.Pieces[2].Record, nil
		}, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			d := undecided()
			c.change(d)
			assert.Equal(t, c.same, id(d) == want)
		})
	}
}

// A fault whose blocks change from pass to pass is one fault: what was done about
// it goes on under its new ID, and it is not taken for repaired.
func TestRecordFollowsAFault(t *testing.T) {
	fs, _ := ioctltest.New(t)
	r := &run{
		fs: fs, mode: ModeRepair, known: make(map[string]*Finding), tries: make(map[string]int), places: make(map[string]string),
		sum: &Summary{},
	}
	r.progress = newProgress(r)
	defer r.progress.stop()
	found := func(d *dispute) *finding {
		p := &pass{r: r, groups: make([]group, 4)}
		f := p.add(p.fromDisputes(d))
		r.record(p)
		return f
	}
	first := found(undecided())
	r.tries[first.ID] = 1
	first.Done = []string{"rebuild rmapbt of AG 0"}

	less := undecided()
	less.Pieces = less.Pieces[:2]
	second := found(less)
	require.NotEqual(t, first.ID, second.ID)
	assert.Equal(t, []string{second.ID}, r.order)
	assert.Equal(t, first.Done, second.Done)
	assert.Equal(t, map[string]int{second.ID: 1}, r.tries)

	r.record(&pass{r: r})
	assert.Equal(t, Repaired, r.known[second.ID].Outcome)
	third := found(undecided())
	assert.Equal(t, []string{second.ID, third.ID}, r.order, "one that comes after a repair is another")
	assert.Empty(t, third.Done)
}

// lostExtent is a model in which a file lost an extent with its counters, that
// only the rmapbt knows of.
func lostExtent() *ioctltest.Model {
	m := ioctltest.NewModel()
	in := m.AddInode(&ioctltest.Inode{Ino: 131, Gen: 5, Parents: []ioctl.Parent{{Ino: 128, Gen: 1, Name: "lost"}}, Data: []ioctltest.Extent{
		{Offset: 0, AGBno: 200, Length: 8}, {Offset: 8, AGBno: 300, Length: 4},
	}})
	m.Derive()
	in.Data = in.Data[:1]
	return m
}

// The plan names the file, and only the finding with the same blocks is it.
func TestPlanNamesFiles(t *testing.T) {
	sum, _ := fakeRun(t, lostExtent(), Options{Mode: ModeCheck})
	require.Len(t, sum.Findings, 1)
	id := sum.Findings[0].ID
	var plans []*Plan
	choose := func(m *ioctltest.Model) error {
		_, err := fakeTry(t, m, Options{Choice: &Choice{FindingID: id, Trust: TrustRmap, Confirm: func(_ context.Context, plan *Plan) error {
			plans = append(plans, plan)
			return errors.New("not today")
		}}})
		return err
	}
	require.NoError(t, choose(lostExtent()))
	require.Len(t, plans, 1)
	require.Len(t, plans[0].Finding.Files, 1)
	assert.Equal(t, "lost", plans[0].Finding.Files[0].Path)

	longer := lostExtent()
	for i := range longer.Rmaps {
		if longer.Rmaps[i].AGBno == 300 {
			longer.Rmaps[i].Length = 3
		}
	}
	var refused *ChoiceError
	require.ErrorAs(t, choose(longer), &refused)
	assert.True(t, refused.Unknown)
	again := lostExtent()
	again.Inodes[131].Gen++
	require.ErrorAs(t, choose(again), &refused)
	assert.Len(t, plans, 1)
}
