package xfile

import (
	"cmp"
	"context"
	"testing"

	"github.com/stretchr/testify/require"
)

type rec struct {
	Start, Count  uint32
	Owner, Offset uint64
}

func TestFirst(t *testing.T) {
	b := NewBudget(1 << 30)
	a, err := NewArray[rec](Options{Name: "r", Budget: b})
	require.NoError(t, err)
	for i := range 100000 {
		require.NoError(t, a.Append([]rec{{Start: uint32(i * 7919 % 100003), Count: 1}}))
	}
	require.NoError(t, a.Set(5_000_000, rec{Start: 5, Count: 9}))
	require.NoError(t, a.Sort(context.Background(), func(x, y *rec) int { return cmp.Compare(x.Start, y.Start) }))
	require.EqualValues(t, 100001, a.Len())
	var last uint32
	n := 0
	for r, err := range a.All(t.Context()) {
		require.NoError(t, err)
		require.LessOrEqual(t, last, r.Start)
		last = r.Start
		n++
	}
	require.Equal(t, 100001, n)
	require.NoError(t, a.Close())
	require.NoError(t, a.Close())
	f, err := New(Options{Budget: b})
	require.NoError(t, err)
	p, err := f.AllocPages(1000)
	require.NoError(t, err)
	require.Zero(t, p)
	for i := range int64(1000) {
		f.Page(i)[i] = 1
	}
	require.NoError(t, f.PunchPages(3, 1))
	require.NoError(t, f.EnsurePages(3, 1))
	require.Zero(t, f.Page(3)[3])
	require.Nil(t, f.Page(1000))
	require.NoError(t, f.Close())
	used, _ := b.Used(Memory)
	require.Zero(t, used)
	bl, err := NewBlob(Options{})
	require.NoError(t, err)
	c, err := bl.Put([]byte("hello"))
	require.NoError(t, err)
	v, err := bl.Get(c)
	require.NoError(t, err)
	require.Equal(t, "hello", string(v))
	require.NoError(t, bl.Free(c))
	_, err = bl.Get(c)
	require.ErrorIs(t, err, ErrCookie)
	require.NoError(t, bl.Close())
	require.Zero(t, OpenFiles())
}

func TestSystemFirst(t *testing.T) {
	b, err := SystemBudget()
	require.NoError(t, err)
	t.Log(b.Left(Memory)>>20, b.Bound(), b.WouldFit(1<<20))
	ad, err := b.Advise(1<<40, 1<<20, "/tmp")
	t.Log(ad, err)
}
