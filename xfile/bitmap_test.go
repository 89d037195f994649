package xfile

import (
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

// TestBitmap compares the bitmap with a set, around the ends of its words and
// pieces and over missing pieces.
func TestBitmap(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var m bitmap
		twin := map[int64]bool{}
		edge := rapid.OneOf(
			rapid.Int64Range(0, 200),
			rapid.Map(rapid.Int64Range(-70, 70), func(d int64) int64 { return pieceBits + d }),
			rapid.Map(rapid.Int64Range(-70, 70), func(d int64) int64 { return 4*pieceBits + d }),
		)
		for range rapid.IntRange(1, 30).Draw(t, "steps") {
			i := edge.Draw(t, "i")
			j := i + rapid.Int64Range(-1, 300).Draw(t, "n")
			var changed int64
			switch rapid.IntRange(0, 2).Draw(t, "op") {
			case 0:
				for b := i; b < j; b++ {
					if !twin[b] {
						twin[b] = true
						changed++
					}
				}
				require.Equal(t, changed, m.set(i, j))
			case 1:
				for b := i; b < j; b++ {
					if twin[b] {
						delete(twin, b)
						changed++
					}
				}
				require.Equal(t, changed, m.clear(i, j))
			case 2:
				j = max(i, edge.Draw(t, "end"))
				want := rapid.Bool().Draw(t, "want")
				b := i
				for b < j && twin[b] != want {
					b++
				}
				require.Equal(t, b, m.next(i, j, want))
			}
			require.EqualValues(t, len(twin), m.count)
		}
	})
}
