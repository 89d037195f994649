package verdict_test

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/scrubd/scrubd/ioctl"
	"github.com/scrubd/scrubd/scrub/verdict"
)

// The table is that of an AG, with the names of a realtime group; what it would
// rebuild a fork for is held.
func TestDecideRealtime(t *testing.T) {
	for name, c := range map[string]struct {
		d       *verdict.Dispute
		row     int
		atFault verdict.Structure
		action  verdict.Action
		why     string
		trace   bool
	}{
		"row 1: no record": {
			d:   dispute(pieces(piece(data(24, 8, alice, 0), nil)), inode(alice)),
			row: 1, atFault: verdict.RTRmapbt, action: verdict.ActionRebuildRmapbt,
		},
		"row 2: denied by the bitmap": {
			d:   dispute(pieces(piece(nil, data(24, 8, alice, 0), free)), inode(alice)),
			row: 2, atFault: verdict.RTRmapbt, action: verdict.ActionRebuildRmapbt,
		},
		"row 2: denied by nobody": {
			d:   dispute(pieces(piece(nil, data(24, 8, alice, 0))), inode(alice)),
			row: 2, atFault: verdict.Undecided, action: verdict.ActionHold, why: "only trace", trace: true,
		},
		"row 3": {
			d:   dispute(pieces(piece(nil, data(24, 8, alice, 0))), inode(alice, counters(verdict.CountersMatchForkMissing), recorded(8))),
			row: 3, atFault: verdict.Undecided, action: verdict.ActionHold, why: "not rebuilt on its own", trace: true,
		},
		"row 5": {
			d:   dispute(pieces(piece(data(24, 8, alice, 0), nil, free)), inode(alice)),
			row: 5, atFault: verdict.Undecided, action: verdict.ActionHold, why: "the rtbitmap calls free and the rtrmapbt does not give",
		},
		"row 8": {
			d:   dispute(pieces(piece(data(24, 8, alice, 0), data(24, 8, ghost, 0))), inode(alice)),
			row: 8, atFault: verdict.RTRmapbt, action: verdict.ActionRebuildRmapbt,
		},
		"row 11, a tie": {
			d:   dispute(pieces(piece(unwritten(data(24, 8, alice, 0)), data(24, 8, alice, 0))), inode(alice)),
			row: 11, atFault: verdict.Undecided, action: verdict.ActionHold, why: "where the rtrmapbt says written",
		},
		"row 12": {
			d:   dispute(pieces(piece(data(24, 8, alice, 0), data(24, 8, alice, 5))), inode(alice)),
			row: 12, atFault: verdict.RTRmapbt, action: verdict.ActionRebuildRmapbt,
		},
	} {
		t.Run(name, func(t *testing.T) {
			got := verdict.DecideRealtime(c.d)
			assert.Equal(t, c.row, got.Row)
			assert.Equal(t, c.atFault, got.AtFault)
			assert.Equal(t, c.action, got.Action)
			assert.Contains(t, got.Reason, c.why)
			assert.Equal(t, c.trace, got.OnlyTrace)
			assert.NotContains(t, got.Reason, "bnobt")
		})
	}
}

func TestDecideRTShared(t *testing.T) {
	owners := []*verdict.SharedPiece{
		{Start: 24, Count: 8},
		{Start: 24, Count: 8, NoFlag: []ioctl.Ino{alice, bob}},
		{Start: 24, Count: 8},
	}
	for _, p := range owners {
		for _, ino := range []uint64{alice, bob} {
			p.Claims, p.Records = append(p.Claims, *data(24, 8, ino, 0)), append(p.Records, *data(24, 8, ino, 0))
		}
	}
	owners[2].Records = owners[2].Records[:1]
	counted, miscounted := verdict.Scrub{Ran: true}, verdict.Scrub{Ran: true, Flags: ioctl.ScrubXCorrupt}

	got := verdict.DecideRTShared(owners[0], miscounted)
	assert.Equal(t, verdict.RTRefcountbt, got.AtFault)
	assert.Equal(t, verdict.ActionRebuildRefcountbt, got.Action)
	got = verdict.DecideRTShared(owners[1], counted)
	assert.Equal(t, verdict.ReflinkFlag, got.AtFault)
	assert.True(t, got.Held(), "the flag is set by a rebuild of a fork")
	got = verdict.DecideRTShared(owners[2], miscounted)
	assert.True(t, got.Held())
	assert.Contains(t, got.Reason, "the rtrmapbt")
}

// soundRT is a realtime group of which nobody complains.
func soundRT() *verdict.RTGroup {
	rg := &verdict.RTGroup{RGNo: 1, Scrubs: make(map[ioctl.ScrubType]verdict.Scrub), RmapReadable: true, SpaceCompared: true, NoStaging: true}
	for _, typ := range []ioctl.ScrubType{
		ioctl.ScrubTypeRTRMAPBT, ioctl.ScrubTypeRTREFCBT, ioctl.ScrubTypeRTBITMAP, ioctl.ScrubTypeRTSUM,
	} {
		rg.Scrubs[typ] = verdict.Scrub{Ran: true}
	}
	return rg
}

func rtSays(typ ioctl.ScrubType, flags ioctl.ScrubFlags) func(*rtCase) {
	return func(c *rtCase) { c.rg.Scrubs[typ] = verdict.Scrub{Ran: true, Flags: flags} }
}

// rtCase is what a repair of realtime metadata is weighed by.
type rtCase struct {
	fs      *verdict.FS
	rg      *verdict.RTGroup
	ags     []*verdict.AG
	unheard []string
}

// Every clause stands against the repairs that it is for, and against no others.
func TestMayRebuildRealtime(t *testing.T) {
	const (
		rmapbt = 1 << iota
		bitmap
		refcountbt
		summary
		all = rmapbt | bitmap | refcountbt | summary
	)
	for name, c := range map[string]struct {
		change  func(*rtCase)
		against int
	}{
		"nothing":                     {func(*rtCase) {}, 0},
		"a zapped fork, maybe":        {func(c *rtCase) { c.fs.SickInodes = []string{"x"} }, rmapbt},
		"an unread inode":             {func(c *rtCase) { c.fs.Unreadable = []string{"x"} }, rmapbt},
		"a bad owner":                 {func(c *rtCase) { c.rg.OwnersUnscrubbed = []string{"x"} }, rmapbt},
		"an open dispute":             {func(c *rtCase) { c.rg.Open = []string{"x"} }, rmapbt | bitmap | refcountbt},
		"an unsettled candidate":      {func(c *rtCase) { c.rg.Unsettled = []string{"x"} }, rmapbt | bitmap | refcountbt},
		"a bad inobt":                 {func(c *rtCase) { c.fs.InodeBtrees = []string{"x"} }, rmapbt | bitmap},
		"a corrupt bitmap":            {rtSays(ioctl.ScrubTypeRTBITMAP, ioctl.ScrubCorrupt), rmapbt | summary},
		"a bitmap that disagrees":     {rtSays(ioctl.ScrubTypeRTBITMAP, ioctl.ScrubXCorrupt), summary},
		"a corrupt rtrmapbt":          {rtSays(ioctl.ScrubTypeRTRMAPBT, ioctl.ScrubCorrupt), bitmap | refcountbt},
		"an rtrmapbt that disagrees":  {rtSays(ioctl.ScrubTypeRTRMAPBT, ioctl.ScrubXCorrupt), 0},
		"a corrupt rtrefcountbt":      {rtSays(ioctl.ScrubTypeRTREFCBT, ioctl.ScrubCorrupt), rmapbt | bitmap},
		"counts that disagree":        {rtSays(ioctl.ScrubTypeRTREFCBT, ioctl.ScrubXCorrupt), 0},
		"no verdict on the counts":    {func(c *rtCase) { delete(c.rg.Scrubs, ioctl.ScrubTypeRTREFCBT) }, rmapbt | bitmap},
		"staging":                     {func(c *rtCase) { c.rg.NoStaging = false }, refcountbt},
		"space not compared":          {func(c *rtCase) { c.rg.SpaceCompared = false }, rmapbt | bitmap},
		"an unreadable rtrmapbt":      {func(c *rtCase) { c.rg.RmapReadable = false }, rmapbt | bitmap | refcountbt},
		"used blocks that are free":   {func(c *rtCase) { c.rg.OwnedFree = []string{"x"} }, rmapbt | refcountbt | summary},
		"blocks that nobody owns":     {func(c *rtCase) { c.rg.Leaked, c.rg.LeakProven = []string{"x"}, true }, rmapbt | refcountbt | summary},
		"the same, seen in no quiet":  {func(c *rtCase) { c.rg.Leaked = []string{"x"} }, all},
		"the same, wanted by a file":  {func(c *rtCase) { c.rg.Leaked, c.rg.LeakProven, c.rg.Wanted = []string{"x"}, true, []string{"x"} }, all},
		"a record that nobody denies": {func(c *rtCase) { c.rg.Reaped = []string{"x"} }, rmapbt},
		"an owner without a claim":    {func(c *rtCase) { c.rg.Unheard = []string{"x"} }, rmapbt | bitmap | refcountbt},
		"a fork that was not compared": {
			func(c *rtCase) { c.rg.ForksUnproven = []string{"x"} }, bitmap | refcountbt,
		},
		"an owner that was not heard": {func(c *rtCase) { c.unheard = []string{"x"} }, refcountbt},
		"staging and counts that disagree": {func(c *rtCase) {
			c.rg.NoStaging = false
			rtSays(ioctl.ScrubTypeRTREFCBT, ioctl.ScrubXCorrupt)(c)
		}, rmapbt | bitmap | refcountbt},
		"an unreadable rtrmapbt, and claims that fill the bitmap": {func(c *rtCase) {
			c.rg.RmapReadable, c.rg.SpaceCompared, c.rg.NoStaging, c.rg.ClaimsFill = false, false, false, true
			rtSays(ioctl.ScrubTypeRTREFCBT, ioctl.ScrubXFail)(c)
		}, bitmap | refcountbt},
		"a dispute on the data device": {func(c *rtCase) { c.ags[1].Open = []verdict.Open{{What: "x"}} }, all},
		"a bad rmapbt there": {func(c *rtCase) {
			c.ags[1].Scrubs[ioctl.ScrubTypeRMAPBT] = verdict.Scrub{Ran: true, Flags: ioctl.ScrubXCorrupt}
		}, all},
		"a bad bnobt there": {func(c *rtCase) {
			c.ags[1].Scrubs[ioctl.ScrubTypeBNOBT] = verdict.Scrub{Ran: true, Flags: ioctl.ScrubCorrupt}
		}, all},
		"a bad AGF there": {func(c *rtCase) {
			c.ags[1].Scrubs[ioctl.ScrubTypeAGF] = verdict.Scrub{Ran: true, Flags: ioctl.ScrubCorrupt}
		}, all},
		"an AGFL that disagrees there": {func(c *rtCase) {
			c.ags[1].Scrubs[ioctl.ScrubTypeAGFL] = verdict.Scrub{Ran: true, Flags: ioctl.ScrubXCorrupt}
		}, all},
		"free space in dispute there": {func(c *rtCase) { c.ags[1].SpaceDisputes = []string{"x"} }, all},
	} {
		t.Run(name, func(t *testing.T) {
			in := &rtCase{fs: &verdict.FS{}, rg: soundRT(), ags: []*verdict.AG{soundAG(), soundAG()}}
			c.change(in)
			for _, r := range []struct {
				name     string
				bit      int
				blockers []verdict.Blocker
			}{
				{"rtrmapbt", rmapbt, verdict.MayRebuildRTRmapbt(in.fs, in.rg, in.ags)},
				{"rtbitmap", bitmap, verdict.MayRebuildRTBitmap(in.fs, in.rg, in.ags)},
				{"rtrefcountbt", refcountbt, verdict.MayRebuildRTRefcountbt(in.rg, in.ags, in.unheard)},
				{"rtsummary", summary, verdict.MayRebuildRTSummary(in.rg, in.ags)},
			} {
				if c.against&r.bit == 0 {
					assert.Empty(t, r.blockers, r.name)
					continue
				}
				require.NotEmpty(t, r.blockers, r.name)
				assert.NotEmpty(t, r.blockers[0].Why)
			}
		})
	}
}
