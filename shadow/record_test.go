package shadow

import (
	"bytes"
	"slices"
	"testing"
	"unsafe"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

func TestRmapSize(t *testing.T) {
	assert.EqualValues(t, RmapSize, unsafe.Sizeof(Rmap{}))
}

func TestOwners(t *testing.T) {
	for i, owner := range []uint64{OwnerNull, OwnerUnknown, OwnerFS, OwnerLog, OwnerAG, OwnerInobt, OwnerInodes, OwnerRefcbt, OwnerCoW} {
		assert.Equal(t, int64(-1-i), int64(owner))
		assert.False(t, Rmap{Owner: owner}.IsInode())
		assert.NotContains(t, OwnerString(owner), "owner")
	}
	assert.True(t, Rmap{Owner: 1<<56 - 1}.IsInode())
	assert.Equal(t, "owner -10", OwnerString(OwnerCoW-1))
	assert.Equal(t, "inode 131", OwnerString(131))
}

func TestValidate(t *testing.T) {
	const ino = 131
	for name, c := range map[string]struct {
		r  Rmap
		ok bool
	}{
		"plain":                 {Rmap{5, 1, ino, 9}, true},
		"no blocks":             {Rmap{5, 0, ino, 9}, false},
		"last block":            {Rmap{1<<32 - 2, 1, ino, 9}, true},
		"the null block":        {Rmap{1<<32 - 1, 1, ino, 9}, false},
		"past 32 bits":          {Rmap{1<<32 - 2, 1<<32 - 1, ino, 9}, false},
		"unwritten":             {Rmap{5, 1, ino, 9 | OffsetUnwritten}, true},
		"attr":                  {Rmap{5, 1, ino, 9 | OffsetAttrFork}, true},
		"unwritten attr":        {Rmap{5, 1, ino, 9 | OffsetAttrFork | OffsetUnwritten}, false},
		"bmbt":                  {Rmap{5, 1, ino, OffsetBmbtBlock}, true},
		"attr bmbt":             {Rmap{5, 1, ino, OffsetBmbtBlock | OffsetAttrFork}, true},
		"bmbt with offset":      {Rmap{5, 1, ino, OffsetBmbtBlock | 1}, false},
		"unwritten bmbt":        {Rmap{5, 1, ino, OffsetBmbtBlock | OffsetUnwritten}, false},
		"last offset":           {Rmap{5, 1, ino, MaxOffset}, true},
		"offset end too large":  {Rmap{5, 2, ino, MaxOffset}, false},
		"reserved bit":          {Rmap{5, 1, ino, MaxOffset + 1}, false},
		"headers":               {Rmap{0, 1, OwnerFS, 0}, true},
		"headers with offset":   {Rmap{0, 1, OwnerFS, 1}, false},
		"headers and unwritten": {Rmap{0, 1, OwnerFS, OffsetUnwritten}, false},
	} {
		err := c.r.Validate()
		if c.ok {
			require.NoError(t, err, name)
		} else {
			require.ErrorIs(t, err, ErrBadRecord, name)
		}
	}
}

func TestRmapString(t *testing.T) {
	assert.Equal(t, "[5,8) inode 131 offset 9 unwritten", Rmap{5, 3, 131, 9 | OffsetUnwritten}.String())
	assert.Equal(t, "[5,8) inode 131 attr bmbt", Rmap{5, 3, 131, OffsetAttrFork | OffsetBmbtBlock}.String())
	assert.Equal(t, "[0,1) fs", Rmap{0, 1, OwnerFS, 0}.String())
	assert.Equal(t, "[0,1) fs offset 7", Rmap{0, 1, OwnerFS, 7}.String())
}

func TestPackOffset(t *testing.T) {
	r := Rmap{Offset: PackOffset(77, OffsetAttrFork|OffsetUnwritten)}
	assert.EqualValues(t, 77, r.FileOffset())
	assert.Equal(t, OffsetAttrFork|OffsetUnwritten, r.Flags())
	assert.Equal(t, uint64(1), PackOffset(1|OffsetAttrFork, 2))
}

// TestCompareIsKeyOrder holds Compare to the order of the on-disk bytes with
// length and unwritten bit blanked, which is what the key of an rmap btree is.
func TestCompareIsKeyOrder(t *testing.T) {
	key := func(r Rmap) []byte {
		r.Offset &^= OffsetUnwritten
		b := r.AppendDisk(nil)
		return slices.Concat(b[:4], b[8:])
	}
	rapid.Check(t, func(t *rapid.T) {
		draw := func(name string) Rmap {
			return Rmap{
				StartBlock: rapid.Uint32Range(0, 3).Draw(t, name+" start"),
				BlockCount: rapid.Uint32().Draw(t, name+" count"),
				Owner:      rapid.SampledFrom([]uint64{0, 1, OwnerFS, OwnerCoW}).Draw(t, name+" owner"),
				Offset:     PackOffset(rapid.Uint64Range(0, 2).Draw(t, name+" offset"), rapid.Uint64().Draw(t, name+" flags")),
			}
		}
		a, b := draw("a"), draw("b")
		if got, want := Compare(&a, &b), bytes.Compare(key(a), key(b)); got != want {
			t.Fatalf("Compare(%v, %v) = %d, the keys compare %d", a, b, got, want)
		}
	})
}

func TestParseRmapShort(t *testing.T) {
	_, err := ParseRmap(make([]byte, RmapSize-1))
	require.ErrorIs(t, err, ErrBadRecord)
}

func FuzzParseRmap(f *testing.F) {
	f.Add(Rmap{5, 3, 131, 9 | OffsetUnwritten}.AppendDisk(nil))
	f.Add(Rmap{0, 1, OwnerFS, 0}.AppendDisk(nil))
	f.Add([]byte("short"))
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := ParseRmap(b)
		if len(b) < RmapSize {
			require.Error(t, err)
			return
		}
		require.Equal(t, b[:RmapSize], r.AppendDisk(nil))
		if err != nil {
			require.ErrorIs(t, err, ErrBadRecord)
			return
		}
		require.Equal(t, Rmap{r.StartBlock, r.BlockCount, r.Owner, PackOffset(r.FileOffset(), r.Flags())}, r)
		// A record that can be lies on a line that gives it back.
		require.Equal(t, r, lineOf(&r).rmap(uint64(r.StartBlock), r.End()))
	})
}
