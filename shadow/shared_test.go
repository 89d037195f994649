package shadow

import (
	"errors"
	"iter"
	"slices"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

func drawRange(t *rapid.T) Range {
	start := rapid.Uint32Range(0, twinSpace-1).Draw(t, "start")
	return Range{start, rapid.Uint32Range(1, min(9, twinSpace-start)).Draw(t, "len")}
}

func TestDiffSharedLikeTwin(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var sides [2][]Range
		var covers [2][twinSpace + 1]bool
		for side := range sides {
			sides[side] = rapid.SliceOfN(rapid.Custom(drawRange), 0, 12).Draw(t, "ranges")
			slices.SortFunc(sides[side], func(a, b Range) int { return int(a.Start) - int(b.Start) })
			for _, r := range sides[side] {
				for b := uint64(r.Start); b < r.End(); b++ {
					covers[side][b] = true
				}
			}
		}
		var want []RangeDifference
		prev := DiffKind(0)
		for b := range uint32(twinSpace + 1) {
			kind := DiffKind(0)
			switch {
			case covers[0][b] && !covers[1][b]:
				kind = DiffMissing
			case covers[1][b] && !covers[0][b]:
				kind = DiffExtra
			}
			if kind != 0 && kind == prev {
				want[len(want)-1].Len++
			} else if kind != 0 {
				want = append(want, RangeDifference{kind, Range{b, 1}})
			}
			prev = kind
		}
		got, err := collect(DiffShared(batches(sides[0], 3), batches(sides[1], 2)))
		require.NoError(t, err)
		require.Equal(t, want, got)
	})
}

func TestDiffSharedErrors(t *testing.T) {
	broken := errors.New("broken")
	good := []Range{{1, 1}, {5, 2}}
	for name, c := range map[string]struct {
		bad  iter.Seq2[[]Range, error]
		want error
	}{
		"at once":   {failing[Range](nil, broken), broken},
		"later":     {failing(good, broken), broken},
		"no blocks": {batches([]Range{{1, 0}}, 1), ErrBadRecord},
		"too long":  {batches([]Range{{2, 1<<32 - 1}}, 1), ErrBadRecord},
		"unsorted":  {batches([]Range{{5, 1}, {4, 1}}, 1), ErrUnsorted},
	} {
		for _, other := range [][]Range{nil, good} {
			_, err := collect(DiffShared(c.bad, batches(other, 1)))
			require.ErrorIs(t, err, c.want, name)
			_, err = collect(DiffShared(batches(other, 1), c.bad))
			require.ErrorIs(t, err, c.want, name)
		}
	}
	assert.Equal(t, "missing: [1,2)", only(t, DiffShared(batches(good, 1), batches([]Range(nil), 1))).String())
}
