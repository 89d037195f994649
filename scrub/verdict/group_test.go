package verdict_test

import (
	"fmt"
	"slices"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/scrubd/scrubd/ioctl"
	"github.com/scrubd/scrubd/scrub/verdict"
	"github.com/scrubd/scrubd/shadow"
)

func difference(agno ioctl.AGNumber, claim, record *shadow.Rmap) verdict.Difference {
	d := verdict.Difference{AGNo: agno}
	if claim != nil {
		d.Claim, d.HasClaim = *claim, true
	}
	if record != nil {
		d.Kernel, d.HasKernel = *record, true
	}
	return d
}

func TestExtent(t *testing.T) {
	d := difference(0, data(72, 8, alice, 0), nil)
	start, count := d.Extent()
	assert.Equal(t, [2]uint32{72, 8}, [2]uint32{start, count})
	d = difference(0, nil, data(5, 6, alice, 0))
	start, count = d.Extent()
	assert.Equal(t, [2]uint32{5, 6}, [2]uint32{start, count})
}

// starts gives the groups by AG and start block of their members.
func starts(groups [][]verdict.Difference) (out [][]string) {
	for _, g := range groups {
		var names []string
		for i := range g {
			start, _ := g[i].Extent()
			names = append(names, fmt.Sprintf("%d:%d", g[i].AGNo, start))
		}
		out = append(out, names)
	}
	return out
}

func TestGroup(t *testing.T) {
	for _, c := range []struct {
		name  string
		diffs []verdict.Difference
		want  [][]string
	}{
		{"none", nil, nil},
		{"two faults", []verdict.Difference{
			difference(0, nil, data(90, 8, bob, 0)), difference(0, nil, data(72, 8, alice, 0)),
		}, [][]string{{"0:72"}, {"0:90"}}},
		{"they touch", []verdict.Difference{
			difference(0, nil, data(80, 8, bob, 0)), difference(0, nil, data(72, 8, alice, 0)),
		}, [][]string{{"0:72", "0:80"}}},
		{"they overlap", []verdict.Difference{
			difference(0, nil, data(72, 100, alice, 0)), difference(0, nil, data(90, 2, bob, 0)), difference(0, nil, data(150, 4, carol, 0)),
		}, [][]string{{"0:72", "0:90", "0:150"}}},
		{"neighbours in different AGs", []verdict.Difference{
			difference(0, nil, data(72, 8, alice, 0)), difference(1, nil, data(72, 8, bob, 0)), difference(1, nil, data(0, 1, carol, 0)),
		}, [][]string{{"0:72"}, {"1:0"}, {"1:72"}}},
		{"one inode in two AGs", []verdict.Difference{
			difference(0, nil, data(72, 8, alice, 0)), difference(0, nil, data(500, 8, bob, 0)), difference(2, data(9, 1, alice, 8), nil),
		}, [][]string{{"0:72", "2:9"}, {"0:500"}}},
		{"claimant and record's owner are one fault", []verdict.Difference{
			difference(0, data(72, 8, alice, 0), data(72, 8, bob, 0)), difference(1, nil, data(5, 1, bob, 9)), difference(1, nil, data(50, 1, alice, 9)),
		}, [][]string{{"0:72", "1:5", "1:50"}}},
		{"metadata joins nothing", []verdict.Difference{
			difference(0, nil, special(72, 8, shadow.OwnerLog)), difference(1, nil, special(72, 8, shadow.OwnerLog)),
		}, [][]string{{"0:72"}, {"1:72"}}},
		{"a chain of inodes", []verdict.Difference{
			difference(0, data(10, 1, alice, 0), data(10, 1, bob, 0)),
			difference(0, data(30, 1, carol, 0), data(30, 1, ghost, 0)),
			difference(0, data(50, 1, bob, 0), data(50, 1, carol, 0)),
		}, [][]string{{"0:10", "0:30", "0:50"}}},
	} {
		t.Run(c.name, func(t *testing.T) {
			assert.Equal(t, c.want, starts(verdict.Group(c.diffs)))
		})
	}
}

func genDifferences(t *rapid.T) []verdict.Difference {
	var out []verdict.Difference
	owner := rapid.SampledFrom([]uint64{alice, bob, carol, ghost, 77, 78, 79, shadow.OwnerFS, shadow.OwnerLog})
	for range rapid.IntRange(0, 12).Draw(t, "n") {
		start, count := rapid.Uint32Range(0, 200).Draw(t, "start"), rapid.Uint32Range(1, 20).Draw(t, "count")
		d := verdict.Difference{AGNo: ioctl.AGNumber(rapid.IntRange(0, 2).Draw(t, "ag"))}
		sides := rapid.IntRange(1, 3).Draw(t, "sides")
		d.HasClaim, d.HasKernel = sides&1 != 0, sides&2 != 0
		if d.HasClaim {
			d.Claim = shadow.Rmap{StartBlock: start, BlockCount: count, Owner: owner.Draw(t, "claim")}
		}
		if d.HasKernel {
			d.Kernel = shadow.Rmap{StartBlock: start, BlockCount: count, Owner: owner.Draw(t, "record")}
		}
		out = append(out, d)
	}
	return out
}

// related is the relation of which Group gives the closure.
func related(a, b *verdict.Difference) bool {
	inodes := func(d *verdict.Difference) (out []uint64) {
		if d.HasClaim && d.Claim.IsInode() {
			out = append(out, d.Claim.Owner)
		}
		if d.HasKernel && d.Kernel.IsInode() {
			out = append(out, d.Kernel.Owner)
		}
		return out
	}
	for _, ino := range inodes(a) {
		if slices.Contains(inodes(b), ino) {
			return true
		}
	}
	as, ac := a.Extent()
	bs, bc := b.Extent()
	return a.AGNo == b.AGNo && as <= bs+bc && bs <= as+ac
}

// The groups partition the differences: all are there once, no two groups have
// anything to do with each other, and no group can be split.
func TestGroupPartitions(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		diffs := genDifferences(t)
		groups := verdict.Group(slices.Clone(diffs))
		var all []verdict.Difference
		for _, g := range groups {
			require.NotEmpty(t, g)
			all = append(all, g...)
		}
		require.ElementsMatch(t, diffs, all)
		for i, g := range groups {
			for j, h := range groups {
				for k := range g {
					for l := range h {
						if i != j {
							require.False(t, related(&g[k], &h[l]), "%v and %v are in different groups", g[k], h[l])
						}
					}
				}
			}
			reached := map[int]bool{0: true}
			for range g {
				for k := range g {
					for l := range g {
						if reached[k] && related(&g[k], &g[l]) {
							reached[l] = true
						}
					}
				}
			}
			require.Len(t, reached, len(g), "group %v falls apart", g)
			require.True(t, slices.IsSortedFunc(g, func(a, b verdict.Difference) int {
				as, _ := a.Extent()
				bs, _ := b.Extent()
				return int(a.AGNo)*1000 + int(as) - int(b.AGNo)*1000 - int(bs)
			}))
		}
	})
}

func TestPieces(t *testing.T) {
	d := difference(2, data(72, 8, alice, 100), data(72, 8, ghost, 4))
	got := verdict.Pieces(&d, &verdict.Around{
		FreeKnown: true,
		Free:      []verdict.Range{{Start: 60, Count: 14}, {Start: 79, Count: 30}},
		Claims:    []shadow.Rmap{*data(60, 40, alice, 88), *data(74, 2, bob, 0)},
		Records: []verdict.Record{
			{Rmap: *data(70, 10, ghost, 2), Shared: true},
			{Rmap: *data(76, 1, bob, 7), Shared: true},
			{Rmap: *data(77, 1, bob, 7)},
		},
	})
	want := []verdict.Piece{
		{Start: 72, Count: 2, Claim: data(72, 2, alice, 100), Record: data(72, 2, ghost, 4), Space: verdict.SpaceFree, Shared: true},
		{
			Start: 74, Count: 2, Claim: data(74, 2, alice, 102), Record: data(74, 2, ghost, 6), Space: verdict.SpaceUsed, Shared: true,
			OtherClaims: []shadow.Rmap{*data(74, 2, bob, 0)},
		},
		{
			Start: 76, Count: 1, Claim: data(76, 1, alice, 104), Record: data(76, 1, ghost, 8), Space: verdict.SpaceUsed, Shared: true,
			OtherRecords: []shadow.Rmap{*data(76, 1, bob, 7)},
		},
		{
			Start: 77, Count: 1, Claim: data(77, 1, alice, 105), Record: data(77, 1, ghost, 9), Space: verdict.SpaceUsed,
			OtherRecords: []shadow.Rmap{*data(77, 1, bob, 7)},
		},
		{Start: 78, Count: 1, Claim: data(78, 1, alice, 106), Record: data(78, 1, ghost, 10), Space: verdict.SpaceUsed, Shared: true},
		{Start: 79, Count: 1, Claim: data(79, 1, alice, 107), Record: data(79, 1, ghost, 11), Space: verdict.SpaceFree, Shared: true},
	}
	for i := range want {
		want[i].AGNo = 2
	}
	assert.Equal(t, want, got)
}

func TestPiecesOwnSides(t *testing.T) {
	d := difference(0, data(72, 8, alice, 0), nil)
	own, own2 := *data(72, 8, alice, 0), *data(72, 8, alice, 0)

	t.Run("its own claim is not another's", func(t *testing.T) {
		got := verdict.Pieces(&d, &verdict.Around{Claims: []shadow.Rmap{own}})
		require.Len(t, got, 1)
		assert.Empty(t, got[0].OtherClaims)
		assert.Equal(t, verdict.SpaceUnknown, got[0].Space)
	})
	t.Run("a second one is", func(t *testing.T) {
		got := verdict.Pieces(&d, &verdict.Around{Claims: []shadow.Rmap{own, own2}})
		require.Len(t, got, 1)
		assert.Equal(t, []shadow.Rmap{own2}, got[0].OtherClaims)
	})
	t.Run("one that has changed since is", func(t *testing.T) {
		got := verdict.Pieces(&d, &verdict.Around{Claims: []shadow.Rmap{*unwritten(&own)}})
		require.Len(t, got, 1)
		assert.Len(t, got[0].OtherClaims, 1)
	})
	t.Run("so it is with records", func(t *testing.T) {
		d := difference(0, nil, data(72, 8, alice, 0))
		got := verdict.Pieces(&d, &verdict.Around{Records: []verdict.Record{{Rmap: own, Shared: true}, {Rmap: own2}}})
		require.Len(t, got, 1)
		assert.Equal(t, []shadow.Rmap{own2}, got[0].OtherRecords)
		assert.False(t, got[0].Shared, "one record of the two is not marked")
	})
	t.Run("what is not written data has no say in sharing", func(t *testing.T) {
		got := verdict.Pieces(&d, &verdict.Around{Records: []verdict.Record{
			{Rmap: *unwritten(data(72, 8, bob, 0))}, {Rmap: *special(72, 8, shadow.OwnerAG)}, {Rmap: *data(70, 20, carol, 0), Shared: true},
		}})
		require.Len(t, got, 1)
		assert.True(t, got[0].Shared)
		got = verdict.Pieces(&d, &verdict.Around{Records: []verdict.Record{{Rmap: *special(72, 8, shadow.OwnerAG)}}})
		assert.False(t, got[0].Shared)
	})
	t.Run("blocks of a fork's btree keep their offset", func(t *testing.T) {
		bmbt := flagged(special(70, 20, bob), shadow.OffsetBmbtBlock)
		got := verdict.Pieces(&d, &verdict.Around{Records: []verdict.Record{{Rmap: *bmbt}}})
		require.Len(t, got, 1)
		assert.Equal(t, []shadow.Rmap{{StartBlock: 72, BlockCount: 8, Owner: bob, Offset: shadow.OffsetBmbtBlock}}, got[0].OtherRecords)
	})
}

func genAround(t *rapid.T) *verdict.Around {
	a := &verdict.Around{FreeKnown: rapid.Bool().Draw(t, "free known")}
	at := uint32(0)
	for range rapid.IntRange(0, 5).Draw(t, "free") {
		at += rapid.Uint32Range(0, 15).Draw(t, "gap")
		n := rapid.Uint32Range(1, 15).Draw(t, "length")
		a.Free = append(a.Free, verdict.Range{Start: at, Count: n})
		at += n
	}
	mapping := func() shadow.Rmap {
		r := shadow.Rmap{
			StartBlock: rapid.Uint32Range(0, 60).Draw(t, "start"), BlockCount: rapid.Uint32Range(1, 30).Draw(t, "count"),
			Owner: rapid.SampledFrom([]uint64{alice, bob, shadow.OwnerAG}).Draw(t, "owner"),
		}
		if r.IsInode() {
			r.Offset = rapid.Uint64Range(0, 100).Draw(t, "offset") | rapid.SampledFrom([]uint64{0, shadow.OffsetAttrFork, shadow.OffsetUnwritten}).Draw(t, "flags")
		}
		return r
	}
	for range rapid.IntRange(0, 4).Draw(t, "claims") {
		a.Claims = append(a.Claims, mapping())
	}
	for range rapid.IntRange(0, 4).Draw(t, "records") {
		a.Records = append(a.Records, verdict.Record{Rmap: mapping(), Shared: rapid.Bool().Draw(t, "shared")})
	}
	return a
}

// The pieces partition the difference, and on every block of a piece each
// witness says what the piece says.
func TestPiecesAreElementary(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		start, count := rapid.Uint32Range(0, 60).Draw(t, "start"), rapid.Uint32Range(1, 30).Draw(t, "count")
		var claim, record *shadow.Rmap
		sides := rapid.IntRange(1, 3).Draw(t, "sides")
		if sides&1 != 0 {
			claim = data(start, count, alice, 50)
		}
		if sides&2 != 0 {
			record = data(start, count, bob, 9)
		}
		d := difference(1, claim, record)
		a := genAround(t)
		at := start
		for _, p := range verdict.Pieces(&d, a) {
			require.Equal(t, at, p.Start, "no gap, no overlap")
			require.NotZero(t, p.Count)
			require.Equal(t, ioctl.AGNumber(1), p.AGNo)
			at = p.End()
			require.Equal(t, d.HasClaim, p.Claim != nil)
			require.Equal(t, d.HasKernel, p.Record != nil)
			for b := p.Start; b < p.End(); b++ {
				checkBlock(t, &d, a, &p, b)
			}
		}
		require.Equal(t, start+count, at)
	})
}

// checkBlock holds what a piece says of one of its blocks against the witnesses.
func checkBlock(t *rapid.T, d *verdict.Difference, a *verdict.Around, p *verdict.Piece, b uint32) {
	offsetAt := func(r *shadow.Rmap) uint64 {
		if !r.HasOffset() {
			return r.Offset
		}
		return r.Offset + uint64(b-r.StartBlock)
	}
	touches := func(r *shadow.Rmap) bool { return r.StartBlock <= b && uint64(b) < r.End() }
	type saying struct{ owner, offset uint64 }
	say := func(r *shadow.Rmap) saying { return saying{r.Owner, offsetAt(r)} }

	space := verdict.SpaceUnknown
	if a.FreeKnown {
		space = verdict.SpaceUsed
		for _, f := range a.Free {
			if f.Start <= b && b < f.Start+f.Count {
				space = verdict.SpaceFree
			}
		}
	}
	require.Equal(t, space, p.Space)

	var claims, want []saying
	own := 0
	if p.Claim != nil {
		require.Equal(t, say(&d.Claim), say(p.Claim))
		claims = append(claims, say(p.Claim))
	}
	for i := range p.OtherClaims {
		require.True(t, touches(&p.OtherClaims[i]))
		claims = append(claims, say(&p.OtherClaims[i]))
	}
	for i := range a.Claims {
		if touches(&a.Claims[i]) {
			want = append(want, say(&a.Claims[i]))
		}
	}
	if p.Claim != nil && !slices.Contains(want, say(p.Claim)) {
		want, own = append(want, say(p.Claim)), own+1
	}
	require.ElementsMatch(t, want, claims, "own claim added: %d", own)

	var records []saying
	want = nil
	if p.Record != nil {
		require.Equal(t, say(&d.Kernel), say(p.Record))
		records = append(records, say(p.Record))
	}
	for i := range p.OtherRecords {
		require.True(t, touches(&p.OtherRecords[i]))
		records = append(records, say(&p.OtherRecords[i]))
	}
	marked, markable := 0, 0
	for i := range a.Records {
		r := &a.Records[i]
		if !touches(&r.Rmap) {
			continue
		}
		want = append(want, say(&r.Rmap))
		if r.IsShareable() {
			markable++
			if r.Shared {
				marked++
			}
		}
	}
	if p.Record != nil && !slices.Contains(want, say(p.Record)) {
		want = append(want, say(p.Record))
	}
	require.ElementsMatch(t, want, records)
	require.Equal(t, markable > 0 && marked == markable, p.Shared)
}
