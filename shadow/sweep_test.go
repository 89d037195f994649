package shadow

import (
	"errors"
	"math"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/scrubd/scrubd/shadow/btree"
)

// drawShared draws mappings that nearly all can be shared.
func drawShared(t *rapid.T) Rmap {
	r := drawRmap(t)
	if rapid.IntRange(0, 9).Draw(t, "plain") > 0 {
		r.Owner = rapid.Uint64Range(100, 108).Draw(t, "inode")
		r.Offset = rapid.Uint64Range(0, 3).Draw(t, "offset")
	}
	return r
}

// twinRefcounts counts the owners of every block.
func twinRefcounts(records []Rmap) (counts []Refcount, sharers []uint64) {
	var n [twinSpace + 1]uint32
	for _, r := range records {
		if r.IsInode() && r.Flags() == 0 {
			for b := uint64(r.StartBlock); b < r.End(); b++ {
				n[b]++
			}
		}
	}
	for b := uint32(0); b < twinSpace; b++ {
		start := b
		for b+1 < twinSpace && n[b+1] == n[start] {
			b++
		}
		if n[start] >= 2 {
			counts = append(counts, Refcount{start, b + 1 - start, n[start]})
		}
	}
	for _, r := range records {
		if r.IsInode() && r.Flags() == 0 && slices.Max(n[r.StartBlock:r.End()]) >= 2 {
			sharers = append(sharers, r.Owner)
		}
	}
	slices.Sort(sharers)
	return counts, slices.Compact(sharers)
}

func TestRefcountsLikeTwin(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		records := sortRmaps(rapid.SliceOfN(rapid.Custom(drawShared), 0, 60).Draw(t, "records"))
		want, wantSharers := twinRefcounts(records)
		sharers, err := NewInodeSet(&memPages{})
		require.NoError(t, err)
		got := copies(t, Refcounts(batches(records, rapid.IntRange(1, 9).Draw(t, "batch")), &memPages{}, sharers))
		require.Equal(t, want, got)
		gotSharers, err := collect(sharers.All())
		require.NoError(t, err)
		require.Equal(t, wantSharers, gotSharers)
		require.EqualValues(t, len(wantSharers), sharers.Len())
		require.Equal(t, want, copies(t, Refcounts(batches(records, 3), &memPages{}, nil)))
		for _, r := range got {
			require.NoError(t, r.Validate())
		}
	})
}

// TestRefcountsInBatches has more records than one batch holds.
func TestRefcountsInBatches(t *testing.T) {
	var records []Rmap
	var want []Refcount
	for i := range uint32(5 * sweepBatch) {
		records = append(records, Rmap{i * 4, 3, 100, 0}, Rmap{i * 4, 2, 101, 0}, Rmap{i*4 + 1, 2, 102, 0})
		want = append(want, Refcount{i * 4, 1, 2}, Refcount{i*4 + 1, 1, 3}, Refcount{i*4 + 2, 1, 2})
	}
	require.Equal(t, want, copies(t, Refcounts(batches(records, 100), &memPages{}, nil)))
	require.Equal(t, want[0], only(t, Refcounts(batches(records, 100), &memPages{}, nil))[0])

	// Records that are about to leave in a batch may still grow.
	records = nil
	for i := range uint32(3 * sweepBatch) {
		records = append(records, Rmap{i, 1, OwnerCoW, 0})
	}
	require.Equal(t, []Refcount{{RefcountCoW, 3 * sweepBatch, 1}}, copies(t, CoWStaging(batches(records, 100))))
	for i := range records {
		records[i].StartBlock *= 2
	}
	require.Len(t, copies(t, CoWStaging(batches(records, 100))), 3*sweepBatch)
	require.EqualValues(t, 1, only(t, CoWStaging(batches(records, 100)))[0].BlockCount)
}

func TestSweepErrors(t *testing.T) {
	broken := errors.New("broken")
	for name, c := range map[string]struct {
		records []Rmap
		want    error
	}{
		"unsorted":       {[]Rmap{{5, 1, 7, 0}, {4, 1, 7, 0}}, ErrUnsorted},
		"no blocks":      {[]Rmap{{5, 0, 7, 0}}, ErrBadRecord},
		"past the end":   {[]Rmap{{5, 1, 7, 0}, {1<<31 - 1, 2, 7, 0}}, ErrBadRecord},
		"past that, too": {[]Rmap{{1 << 31, 1, 7, 0}}, ErrBadRecord},
	} {
		_, err := collect(Refcounts(batches(c.records, 1), &memPages{}, nil))
		require.ErrorIs(t, err, c.want, name)
		for i := range c.records {
			c.records[i].Owner = OwnerCoW
		}
		_, err = collect(CoWStaging(batches(c.records, 1)))
		require.ErrorIs(t, err, c.want, name)
	}
	_, err := collect(Refcounts(failing([]Rmap{{5, 1, 7, 0}}, broken), &memPages{}, nil))
	require.ErrorIs(t, err, broken)
	_, err = collect(CoWStaging(failing([]Rmap{{5, 1, 7, 0}}, broken)))
	require.ErrorIs(t, err, broken)
	_, err = collect(CoWStaging(batches([]Rmap{{5, 2, OwnerCoW, 0}, {6, 2, OwnerCoW, 0}}, 1)))
	require.ErrorIs(t, err, ErrUnsorted)

	// No space for the bag, or for the sharers, at any call.
	var records []Rmap
	for i := range uint32(2000) {
		records = append(records, Rmap{i, 2*bagFront + i%7, uint64(1000 + 64*i), 0})
	}
	for left := 0; ; left++ {
		full := &memPages{limit: true, left: left}
		_, err := collect(Refcounts(batches(records, 100), full, nil))
		if err == nil {
			require.Positive(t, left)
			break
		}
		require.ErrorIs(t, err, errNoSpace)
	}
	for left := 0; ; left++ {
		set, err := NewInodeSet(&memPages{limit: true, left: left})
		require.NoError(t, err)
		if _, err = collect(Refcounts(batches(records, 100), &memPages{}, set)); err == nil {
			require.Positive(t, left)
			break
		}
		require.ErrorIs(t, err, errNoSpace)
		require.NoError(t, set.t.Check(ctx()))
	}
}

// bagTwin is the dumb twin of a bag.
type bagTwin map[Range]uint64

func (b bagTwin) height() (n uint64) {
	for _, c := range b {
		n += c
	}
	return n
}

func TestBagLikeTwin(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		bag, err := NewBag(&memPages{})
		require.NoError(t, err)
		twin := bagTwin{}
		draw := func(t *rapid.T) Range {
			return Range{rapid.Uint32Range(0, 20).Draw(t, "start"), rapid.Uint32Range(1, 8).Draw(t, "len")}
		}
		t.Repeat(map[string]func(*rapid.T){
			"": func(t *rapid.T) {
				require.Equal(t, twin.height(), bag.Height())
				require.LessOrEqual(t, bag.Distinct(), int64(len(twin)+bagFront))
				require.NoError(t, bag.t.Check(ctx()))
				least := uint64(math.MaxUint64)
				for r := range twin {
					least = min(least, r.End())
				}
				end, ok := bag.NextEnd()
				require.Equal(t, len(twin) > 0, ok)
				if ok {
					require.Equal(t, least, end)
				}
			},
			"add": func(t *rapid.T) {
				r := draw(t)
				for range rapid.IntRange(1, 3).Draw(t, "times") {
					require.NoError(t, bag.Add(r))
					twin[r]++
				}
			},
			"add many": func(t *rapid.T) {
				for range rapid.IntRange(1, 60).Draw(t, "times") {
					r := draw(t)
					require.NoError(t, bag.Add(r))
					twin[r]++
				}
			},
			"remove": func(t *rapid.T) {
				r := draw(t)
				if twin[r] == 0 {
					require.ErrorIs(t, bag.Remove(r), ErrNotInBag)
					return
				}
				require.NoError(t, bag.Remove(r))
				if twin[r]--; twin[r] == 0 {
					delete(twin, r)
				}
			},
			// A sweep takes out what ends next.
			"remove ending": func(t *rapid.T) {
				end, ok := bag.NextEnd()
				if !ok {
					end = 5
				}
				want := uint64(0)
				for r, n := range twin {
					if r.End() == end {
						want += n
						delete(twin, r)
					}
				}
				got, err := bag.RemoveEnding(end)
				require.NoError(t, err)
				require.Equal(t, want, got)
			},
		})
	})
}

// TestBagHoldsExtentsOnce: 100,000 mappings of each of many extents take one
// record each, leave at once, and their pages go back.
func TestBagHoldsExtentsOnce(t *testing.T) {
	pages := &memPages{}
	bag, err := NewBag(pages)
	require.NoError(t, err)
	const extents, mappings = 5000, 100_000
	for i := range uint32(extents) {
		for range 3 {
			require.NoError(t, bag.Add(Range{7, i + 1}))
		}
	}
	for range mappings {
		require.NoError(t, bag.Add(Range{7, 1}))
	}
	require.LessOrEqual(t, bag.Distinct(), int64(extents+bagFront))
	require.EqualValues(t, 3*extents+mappings, bag.Height())
	require.Positive(t, bag.Peak())
	n, err := bag.RemoveEnding(8)
	require.NoError(t, err)
	require.EqualValues(t, mappings+3, n)
	for bag.Height() > 0 {
		end, ok := bag.NextEnd()
		require.True(t, ok)
		_, err := bag.RemoveEnding(end)
		require.NoError(t, err)
	}
	held := 0
	for _, p := range pages.pages {
		if p != nil {
			held++
		}
	}
	require.LessOrEqual(t, held, 70, "freed pages go back during the sweep")
}

func TestBagErrors(t *testing.T) {
	pages := &memPages{}
	bag, err := NewBag(pages)
	require.NoError(t, err)
	require.ErrorIs(t, bag.Add(Range{5, 0}), ErrBadRecord)
	require.ErrorIs(t, bag.Add(Range{5, 1<<32 - 1}), ErrBadRecord)
	for i := range uint32(bagFront) {
		require.NoError(t, bag.Add(Range{5, i + 1}))
	}
	pages.limit = true
	for _, r := range []Range{{5, 100}, {4, 2}} {
		require.ErrorIs(t, bag.Add(r), errNoSpace)
		require.EqualValues(t, bagFront, bag.Height())
		require.EqualValues(t, bagFront, bag.Distinct())
	}
	pages.limit = false
	for i := range uint32(1000) {
		require.NoError(t, bag.Add(Range{5, i + 1}))
	}
	pages.smash()
	for bag.n > 0 {
		bag.n--
	}
	end, ok := bag.NextEnd()
	require.True(t, ok)
	_, err = bag.RemoveEnding(end)
	require.ErrorIs(t, err, btree.ErrDamaged)
	require.ErrorIs(t, bag.Remove(Range{5, 500}), btree.ErrDamaged)
}

func TestInodeSet(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		set, err := NewInodeSet(&memPages{})
		require.NoError(t, err)
		twin := map[uint64]bool{}
		for range rapid.IntRange(0, 200).Draw(t, "adds") {
			ino := rapid.Uint64Range(0, 1000).Draw(t, "ino") * rapid.SampledFrom([]uint64{1, 1 << 40}).Draw(t, "by")
			require.NoError(t, set.Add(ino))
			twin[ino] = true
			has, err := set.Has(ino)
			require.True(t, has && err == nil)
		}
		has, err := set.Has(1001)
		require.True(t, !has && err == nil)
		require.EqualValues(t, len(twin), set.Len())
		require.Positive(t, set.Bytes()+1)
		prev := uint64(0)
		for ino, err := range set.All() {
			require.NoError(t, err)
			require.True(t, twin[ino])
			require.True(t, ino > prev || prev == 0)
			delete(twin, ino)
			prev = ino
		}
		require.Empty(t, twin)
	})
	pages := &memPages{}
	set, err := NewInodeSet(pages)
	require.NoError(t, err)
	require.NoError(t, set.Add(5))
	require.EqualValues(t, 5, only(t, set.All()))
	pages.smash()
	_, err = collect(set.All())
	require.ErrorIs(t, err, btree.ErrDamaged)
	require.ErrorIs(t, set.Add(6), btree.ErrDamaged)
	_, err = set.Has(5)
	require.ErrorIs(t, err, btree.ErrDamaged)
}
