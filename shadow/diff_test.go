package shadow

import (
	"cmp"
	"errors"
	"iter"
	"slices"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

// batches gives records in batches of n.
func batches[T any](records []T, n int) iter.Seq2[[]T, error] {
	return func(yield func([]T, error) bool) {
		for c := range slices.Chunk(records, n) {
			if !yield(c, nil) {
				return
			}
		}
	}
}

func failing[T any](records []T, err error) iter.Seq2[[]T, error] {
	return func(yield func([]T, error) bool) {
		_ = yield(records, nil) && yield(nil, err)
	}
}

func collect[T any](seq iter.Seq2[T, error]) ([]T, error) {
	var all []T
	for v, err := range seq {
		if err != nil {
			return all, err
		}
		all = append(all, v)
	}
	return all, nil
}

func sortRmaps(records []Rmap) []Rmap {
	slices.SortStableFunc(records, func(a, b Rmap) int { return Compare(&a, &b) })
	return records
}

// twinSpace is the number of blocks that the dumb twin looks at.
const twinSpace = 48

// twinDiff says what Diff must yield by looking at every block.
func twinDiff(claims, kernel []Rmap) []Difference {
	var covers [2]map[line][twinSpace + 2]int // shifted by one: block b is at b+1
	for side, records := range [][]Rmap{claims, kernel} {
		covers[side] = map[line][twinSpace + 2]int{}
		for _, r := range records {
			c := covers[side][lineOf(&r)]
			for b := uint64(r.StartBlock); b < r.End(); b++ {
				c[b+1]++
			}
			covers[side][lineOf(&r)] = c
		}
	}
	type pair struct {
		lines [2]line
		has   [2]bool
	}
	starts := map[pair]int{}
	var out []Difference
	end := func(p pair, b int) {
		d := Difference{HasClaim: p.has[0], HasKernel: p.has[1]}
		start := starts[p]
		delete(starts, p)
		for side, l := range p.lines {
			if p.has[side] {
				r := l.rmap(uint64(start), uint64(b))
				if side == 0 {
					d.Claim = r
				} else {
					d.Kernel = r
				}
				other := covers[1-side][l]
				d.Abuts = p.has[0] != p.has[1] && (other[start] > 0 || other[b+1] > 0)
			}
		}
		switch {
		case !d.HasKernel:
			d.Kind = DiffMissing
		case !d.HasClaim:
			d.Kind = DiffExtra
		case d.Claim.Owner != d.Kernel.Owner:
			d.Kind = DiffOwner
		case d.Claim.Flags() != d.Kernel.Flags():
			d.Kind = DiffFlags
		default:
			d.Kind = DiffOffset
		}
		out = append(out, d)
	}
	for b := range twinSpace + 1 {
		var only [2][]line
		for side := range covers {
			for l, c := range covers[side] {
				if c[b+1] > 0 && covers[1-side][l][b+1] == 0 {
					only[side] = append(only[side], l)
				}
			}
			slices.SortFunc(only[side], compareLines)
		}
		now := map[pair]bool{}
		for _, fits := range []func(a, b line) bool{
			func(a, b line) bool { return a.owner == b.owner && a.place<<3 == b.place<<3 },
			func(a, b line) bool { return a.owner == b.owner && a.place>>61 == b.place>>61 },
			func(a, b line) bool { return a.owner == b.owner },
			func(_, _ line) bool { return true },
		} {
			for i := 0; i < len(only[0]); i++ {
				j := slices.IndexFunc(only[1], func(k line) bool { return fits(only[0][i], k) })
				if j >= 0 {
					now[pair{[2]line{only[0][i], only[1][j]}, [2]bool{true, true}}] = true
					only[0] = slices.Delete(only[0], i, i+1)
					only[1] = slices.Delete(only[1], j, j+1)
					i--
				}
			}
		}
		for side := range only {
			for _, l := range only[side] {
				var p pair
				p.lines[side], p.has[side] = l, true
				now[p] = true
			}
		}
		for p := range starts {
			if !now[p] {
				end(p, b)
			}
		}
		for p := range now {
			if _, ok := starts[p]; !ok {
				starts[p] = b
			}
		}
	}
	for side, records := range [][]Rmap{claims, kernel} {
		reach := map[line]uint64{}
		for _, r := range records {
			l := lineOf(&r)
			if e := min(reach[l], r.End()); e > uint64(r.StartBlock) {
				d := Difference{Kind: DiffDuplicate}
				d.set(side, l.rmap(uint64(r.StartBlock), e))
				out = append(out, d)
			}
			reach[l] = max(reach[l], r.End())
		}
	}
	return sortDiffs(out)
}

func sortDiffs(ds []Difference) []Difference {
	slices.SortStableFunc(ds, func(a, b Difference) int {
		as, ae := a.Blocks()
		bs, be := b.Blocks()
		c := func(x, y Rmap) int { return cmp.Or(Compare(&x, &y), cmp.Compare(x.Offset, y.Offset)) }
		return cmp.Or(cmp.Compare(as, bs), cmp.Compare(a.Kind, b.Kind), c(a.Claim, b.Claim), c(a.Kernel, b.Kernel), cmp.Compare(ae, be))
	})
	return ds
}

var twinOwners = []uint64{7, 8, 9, OwnerFS, OwnerAG}

func drawRmap(t *rapid.T) Rmap {
	r := Rmap{
		StartBlock: rapid.Uint32Range(0, twinSpace-1).Draw(t, "start"),
		Owner:      rapid.SampledFrom(twinOwners).Draw(t, "owner"),
	}
	r.BlockCount = rapid.Uint32Range(1, min(12, twinSpace-r.StartBlock)).Draw(t, "count")
	if r.IsInode() {
		r.Offset = rapid.SampledFrom([]uint64{0, 0, 0, 0, OffsetUnwritten, OffsetAttrFork, OffsetBmbtBlock}).Draw(t, "flags")
		if r.HasOffset() {
			// Few distances, so that mappings meet on the same line.
			r.Offset |= uint64(r.StartBlock) + rapid.Uint64Range(0, 2).Draw(t, "distance")*100
		}
	}
	return r
}

// split cuts some records in two.
func split(t *rapid.T, records []Rmap) []Rmap {
	var out []Rmap
	for _, r := range records {
		if r.BlockCount > 1 && rapid.Bool().Draw(t, "cut") {
			n := rapid.Uint32Range(1, r.BlockCount-1).Draw(t, "at")
			l := lineOf(&r)
			mid := uint64(r.StartBlock + n)
			out = append(out, l.rmap(uint64(r.StartBlock), mid), l.rmap(mid, r.End()))
			continue
		}
		out = append(out, r)
	}
	return sortRmaps(out)
}

// healthy drops what covers its own line twice.
func healthy(records []Rmap) []Rmap {
	reach := map[line]uint64{}
	return slices.DeleteFunc(sortRmaps(records), func(r Rmap) bool {
		l := lineOf(&r)
		if uint64(r.StartBlock) < reach[l] {
			return true
		}
		reach[l] = r.End()
		return false
	})
}

func TestDiffLikeTwin(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		common := rapid.SliceOfN(rapid.Custom(drawRmap), 0, 12).Draw(t, "common")
		own := rapid.SliceOfN(rapid.Custom(drawRmap), 0, 5)
		claims := slices.Concat(common, own.Draw(t, "claims"))
		kernel := slices.Concat(common, own.Draw(t, "kernel"))
		if rapid.Bool().Draw(t, "healthy") {
			claims, kernel = split(t, healthy(claims)), split(t, healthy(kernel))
		}
		sortRmaps(claims)
		sortRmaps(kernel)
		got, err := collect(Diff(batches(claims, rapid.IntRange(1, 4).Draw(t, "batch")), batches(kernel, rapid.IntRange(1, 4).Draw(t, "batch"))))
		require.NoError(t, err)
		require.True(t, slices.IsSortedFunc(got, func(a, b Difference) int {
			as, _ := a.Blocks()
			bs, _ := b.Blocks()
			return cmp.Compare(as, bs)
		}), "order of start block: %v", got)
		require.Equal(t, twinDiff(claims, kernel), sortDiffs(got), "claims %v\nkernel %v", claims, kernel)

		// With room for one waiting difference, differences may be cut, and say
		// the same.
		cut, err := collect(diff(batches(claims, 3), batches(kernel, 3), 1))
		require.NoError(t, err)
		require.Equal(t, perBlock(got), perBlock(cut))
	})
}

// perBlock cuts differences into single blocks; lengths and duplicates are not
// about single blocks.
func perBlock(ds []Difference) []Difference {
	var out []Difference
	for _, d := range ds {
		if d.Kind == DiffDuplicate {
			continue
		}
		start, end := d.Blocks()
		for b := start; b < end; b++ {
			one := Difference{Kind: d.Kind}
			if d.HasClaim {
				one.set(claimSide, lineOf(&d.Claim).rmap(b, b+1))
			}
			if d.HasKernel {
				one.set(kernelSide, lineOf(&d.Kernel).rmap(b, b+1))
			}
			out = append(out, one)
		}
	}
	return sortDiffs(out)
}

// TestDiffForgetsCuts: cutting and joining records is no difference, in any
// amount of sharing.
func TestDiffForgetsCuts(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		records := healthy(rapid.SliceOfN(rapid.Custom(drawRmap), 0, 30).Draw(t, "records"))
		got, err := collect(Diff(batches(split(t, records), 5), batches(split(t, records), 3)))
		require.NoError(t, err)
		require.Empty(t, got)
	})
}

func TestDiffCases(t *testing.T) {
	const a, b = 131, 132
	for name, c := range map[string]struct {
		claims, kernel []Rmap
		want           []string
	}{
		"a tail that the kernel does not map": {
			[]Rmap{{0, 20, a, 5}},
			[]Rmap{{0, 12, a, 5}},
			[]string{"missing (length): claimed [12,20) inode 131 offset 17"},
		},
		"the same tail after cancelled heads": {
			[]Rmap{{0, 12, a, 5}, {12, 8, a, 17}},
			[]Rmap{{0, 12, a, 5}},
			[]string{"missing (length): claimed [12,20) inode 131 offset 17"},
		},
		"the same tail behind another record": {
			[]Rmap{{0, 12, b, 5}, {12, 1, a, 5}, {12, 8, b, 17}},
			[]Rmap{{0, 12, b, 5}, {12, 1, a, 5}},
			[]string{"missing (length): claimed [12,20) inode 132 offset 17"},
		},
		"a lost record": {
			[]Rmap{{0, 12, a, 5}, {13, 7, a, 18}},
			[]Rmap{{0, 12, a, 5}},
			[]string{"missing: claimed [13,20) inode 131 offset 18"},
		},
		"owner": {
			[]Rmap{{0, 8, a, 0}, {8, 8, b, 0}},
			[]Rmap{{0, 8, a, 0}, {8, 8, 999, 0}},
			[]string{"owner: claimed [8,16) inode 132 offset 0: kernel has [8,16) inode 999 offset 0"},
		},
		"offset": {
			[]Rmap{{0, 8, a, 0}},
			[]Rmap{{0, 8, a, 64}},
			[]string{"offset: claimed [0,8) inode 131 offset 0: kernel has [0,8) inode 131 offset 64"},
		},
		"flags": {
			[]Rmap{{0, 8, a, 0}},
			[]Rmap{{0, 8, a, OffsetUnwritten}},
			[]string{"flags: claimed [0,8) inode 131 offset 0: kernel has [0,8) inode 131 offset 0 unwritten"},
		},
		"an offset where there is none": {
			[]Rmap{{0, 1, OwnerFS, 0}}, []Rmap{{0, 1, OwnerFS, 7}}, nil,
		},
		"one record over many": {
			[]Rmap{{0, 4, a, 0}, {4, 4, b, 0}, {8, 4, a, 8}},
			[]Rmap{{0, 12, a, 0}},
			[]string{"owner: claimed [4,8) inode 132 offset 0: kernel has [4,8) inode 131 offset 4"},
		},
		"two identical rmaps": {
			[]Rmap{{0, 4, a, 0}},
			[]Rmap{{0, 4, a, 0}, {0, 4, a, 0}},
			[]string{"duplicate: kernel has [0,4) inode 131 offset 0"},
		},
		"duplicates on both sides": {
			[]Rmap{{0, 4, a, 0}, {2, 4, a, 2}},
			[]Rmap{{0, 4, a, 0}, {2, 4, a, 2}},
			[]string{"duplicate: claimed [2,4) inode 131 offset 2", "duplicate: kernel has [2,4) inode 131 offset 2"},
		},
		"all blocks there are": {
			[]Rmap{{0, 1<<32 - 1, a, 0}},
			[]Rmap{{0, 1, b, 0}},
			[]string{
				"owner: claimed [0,1) inode 131 offset 0: kernel has [0,1) inode 132 offset 0",
				"missing: claimed [1,4294967295) inode 131 offset 1",
			},
		},
	} {
		got, err := collect(Diff(batches(c.claims, 2), batches(c.kernel, 2)))
		require.NoError(t, err, name)
		var s []string
		for _, d := range got {
			s = append(s, d.String())
		}
		assert.Equal(t, c.want, s, name)
	}
}

func TestDiffErrors(t *testing.T) {
	good := []Rmap{{1, 1, 7, 0}, {5, 2, 7, 0}}
	broken := errors.New("broken")
	for name, c := range map[string]struct {
		bad  iter.Seq2[[]Rmap, error]
		want error
	}{
		"at once":         {failing[Rmap](nil, broken), broken},
		"later":           {failing(good, broken), broken},
		"no blocks":       {batches([]Rmap{{1, 0, 7, 0}}, 1), ErrBadRecord},
		"too many blocks": {batches([]Rmap{{1, 1<<32 - 1, 7, 0}}, 1), ErrBadRecord},
		"unsorted":        {batches([]Rmap{{1, 1, 7, 0}, {5, 2, 7, 0}, {4, 1, 7, 0}}, 1), ErrUnsorted},
		"unsorted owner":  {batches([]Rmap{{1, 1, 7, 0}, {1, 2, 6, 0}}, 2), ErrUnsorted},
	} {
		for _, other := range [][]Rmap{nil, good, {{9, 1, 7, 0}}} {
			_, err := collect(Diff(c.bad, batches(other, 2)))
			require.ErrorIs(t, err, c.want, name)
			require.ErrorContains(t, err, "claims", name)
			_, err = collect(Diff(batches(other, 2), c.bad))
			require.ErrorIs(t, err, c.want, name)
			require.ErrorContains(t, err, "kernel", name)
		}
		// The same fault on both sides goes through the fast path.
		_, err := collect(Diff(c.bad, c.bad))
		require.ErrorIs(t, err, c.want, name)
	}
}

func TestDiffStops(t *testing.T) {
	claims := []Rmap{{1, 1, 7, 0}, {5, 2, 7, 0}, {9, 1, 7, 0}}
	n := 0
	for _, err := range Diff(batches(claims, 1), batches([]Rmap(nil), 1)) {
		require.NoError(t, err)
		n++
		if n == 2 {
			break
		}
	}
	assert.Equal(t, 2, n)
}

// TestDiffMemory: a mapping that spans everything does not make the sweep
// remember what it has passed.
func TestDiffMemory(t *testing.T) {
	const n = 200_000
	stream := func(extra bool) iter.Seq2[[]Rmap, error] {
		return func(yield func([]Rmap, error) bool) {
			if extra && !yield([]Rmap{{0, 1<<32 - 1, 4, 0}}, nil) {
				return
			}
			for i := range uint32(n) {
				owner := uint64(7 + i%3)
				if extra && i%2 == 0 {
					owner = 5
				}
				if !yield([]Rmap{{i * 8, 9, owner, 0}}, nil) {
					return
				}
			}
		}
	}
	d := differ{waiting: 64}
	got := 0
	d.yield = func(Difference, error) bool {
		got++
		assert.LessOrEqual(t, len(d.lines.slots), 256)
		assert.LessOrEqual(t, d.queue.len(), 200)
		return !t.Failed()
	}
	for side := range d.in {
		d.in[side] = newFeed("side", stream(side == kernelSide))
		defer d.in[side].stop()
	}
	require.NoError(t, d.run())
	assert.Greater(t, got, n)
}

func FuzzDiff(f *testing.F) {
	f.Add([]byte("\x01\x05\x00\x80\x02\x05\x10\x03"), true)
	f.Fuzz(func(t *testing.T, b []byte, sorted bool) {
		var sides [2][]Rmap
		for c := range slices.Chunk(b, 4) {
			if len(c) == 4 {
				r := Rmap{StartBlock: uint32(c[0]) % twinSpace, Owner: uint64(int64(int8(c[2]) % 3)), Offset: uint64(c[3]&0x70) << 57}
				r.BlockCount = uint32(c[1]) % (twinSpace - r.StartBlock + 1)
				r.Offset |= uint64(c[3] & 0xf)
				sides[c[3]>>7] = append(sides[c[3]>>7], r)
			}
		}
		if sorted {
			for i, s := range sides {
				sides[i] = sortRmaps(slices.DeleteFunc(s, func(r Rmap) bool { return r.BlockCount == 0 }))
			}
		}
		got, err := collect(Diff(batches(sides[0], 3), batches(sides[1], 2)))
		if !sorted {
			if err != nil && !errors.Is(err, ErrUnsorted) && !errors.Is(err, ErrBadRecord) {
				t.Fatal(err)
			}
			return
		}
		require.NoError(t, err)
		require.Equal(t, twinDiff(sides[0], sides[1]), sortDiffs(got))
	})
}
