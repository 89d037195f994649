package ioctl_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/scrubd/scrubd/ioctl"
	"github.com/scrubd/scrubd/ioctl/ioctltest"
)

// collect returns what a sequence yields up to its error.
func collect(seq func(func(ioctl.Parent, error) bool)) (parents []ioctl.Parent, err error) {
	for p, err := range seq {
		if err != nil {
			return parents, err
		}
		parents = append(parents, p)
	}
	return parents, nil
}

func TestParents(t *testing.T) {
	fs, k := ioctltest.New(t)
	var want []ioctl.Parent
	// More than fits in one call, with names of all lengths and any bytes.
	for i := range 1000 {
		want = append(want, ioctl.Parent{Ino: 1<<33 + ioctl.Ino(i), Gen: ioctl.Gen(i), Name: strings.Repeat("n\xff", i%100) + fmt.Sprint(i)})
	}
	k.Update(func(m *ioctltest.Model) {
		m.AddInode(&ioctltest.Inode{Ino: 131, Gen: 7, Parents: want})
		m.AddInode(&ioctltest.Inode{Ino: 132, Gen: 7})
	})
	got, err := collect(fs.Parents(131, 7))
	require.NoError(t, err)
	assert.Equal(t, want, got)
	assert.Greater(t, len(k.Calls(ioctltest.OpParents)), 1)
	got, err = collect(fs.ParentsFD(mustOpen(t, fs, 131)))
	require.NoError(t, err)
	assert.Equal(t, want, got)
	got, err = collect(fs.Parents(132, 7))
	require.NoError(t, err)
	assert.Empty(t, got)

	// One may stop in the middle.
	for p, err := range fs.Parents(131, 7) {
		require.NoError(t, err)
		assert.Equal(t, want[0], p)
		break
	}

	_, err = collect(fs.Parents(131, 8))
	require.EqualError(t, err, "parents inode 131 gen 8 of /srv: inode handle is stale")
	k.Update(func(m *ioctltest.Model) { m.Geometry.Flags &^= ioctl.FlagParent })
	_, err = collect(fs.Parents(131, 7))
	require.EqualError(t, err, "parents inode 131 gen 7 of /srv: GETPARENTS is not supported: this filesystem was made without parent pointers (needs Linux 6.10)")
	k.OnParents = func(ioctl.Ino, ioctl.Gen) ([]ioctl.Parent, unix.Errno) { return nil, unix.EUCLEAN }
	_, err = collect(fs.ParentsFD(mustOpen(t, fs, 131)))
	require.ErrorIs(t, err, ioctl.ErrCorrupt)
	require.NoError(t, fs.Close())
	_, err = collect(fs.Parents(131, 7))
	require.ErrorIs(t, err, ioctl.ErrClosed)
}
