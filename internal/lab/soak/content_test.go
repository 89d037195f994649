package soak

import (
	"bytes"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

// bytesOf is what a file with that content reads.
func bytesOf(c content) []byte {
	buf := make([]byte, c.size())
	c.expand(buf)
	return buf
}

// What a writer remembers after any changes is what a plain slice of bytes
// holds after the same.
func TestContentAgainstBytes(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		rng := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 1))
		var c content
		var twin []byte
		grow := func(n int) {
			if n *= unitSize; n > len(twin) {
				twin = append(twin, make([]byte, n-len(twin))...)
			}
		}
		for range rapid.IntRange(1, 20).Draw(t, "steps") {
			at, n := rapid.IntRange(0, 20).Draw(t, "at"), rapid.IntRange(1, 9).Draw(t, "n")
			inside := at+n <= len(c)
			switch op := rapid.IntRange(0, 4).Draw(t, "op"); {
			case op == 0:
				what := fresh(rng, n)
				c = c.put(at, what)
				grow(at + n)
				copy(twin[at*unitSize:], bytesOf(what))
			case op == 1:
				c = c.resize(at)
				grow(at)
				twin = twin[:at*unitSize]
			case op == 2:
				c.zero(at, n)
				for i := at * unitSize; i < min((at+n)*unitSize, len(twin)); i++ {
					twin[i] = 0
				}
			case op == 3 && inside:
				c = c.collapse(at, n)
				twin = slices.Delete(twin, at*unitSize, (at+n)*unitSize)
			case op == 4 && inside:
				c = c.insert(at, n)
				twin = slices.Insert(twin, at*unitSize, make([]byte, n*unitSize)...)
			}
			require.True(t, bytes.Equal(twin, bytesOf(c)))
			require.NoError(t, c.check(bytes.NewReader(twin)))
		}
		if len(twin) == 0 {
			return
		}
		// A single byte that is not as written is seen.
		twin[rapid.IntRange(0, len(twin)-1).Draw(t, "byte")] ^= 1
		require.Error(t, c.check(bytes.NewReader(twin)))
	})
}

func TestContentSaysWhatIsThere(t *testing.T) {
	c := content{3, 0, 5}
	read := bytesOf(c)
	require.ErrorContains(t, c.check(bytes.NewReader(read[:1000])), "only 1000")
	zeroed := slices.Clone(read)
	clear(zeroed[2*unitSize:])
	require.ErrorContains(t, c.check(bytes.NewReader(zeroed)), "byte 1024: zeros")
	require.ErrorContains(t, content{3, 5, 5}.check(bytes.NewReader(read)), "byte 512: zeros")
	require.ErrorContains(t, content{3, 0, 7}.check(bytes.NewReader(read)), "something else")
	require.ErrorContains(t, content{0, 0, 5}.check(bytes.NewReader(read)), "byte 0: data where zeros belong")
}
