package walk_test

import (
	"context"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/scrubd/scrubd/ioctl"
	"github.com/scrubd/scrubd/ioctl/ioctltest"
	"github.com/scrubd/scrubd/scrub/walk"
	"github.com/scrubd/scrubd/shadow"
)

type errno = unix.Errno

// run walks and closes the result when the test ends.
func run(t testing.TB, fs *ioctl.FS, o walk.Options) *walk.Result {
	t.Helper()
	res, err := walk.Run(context.Background(), fs, o)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, res.Close()) })
	return res
}

// claims returns the claims of inodes in one group.
func claims(t testing.TB, res *walk.Result, agno ioctl.AGNumber) []shadow.Rmap {
	t.Helper()
	all := []shadow.Rmap{}
	for r, err := range res.Claims[agno].All(context.Background()) {
		require.NoError(t, err)
		if r.IsInode() {
			all = append(all, r)
		}
	}
	return all
}

// owners returns the inodes that have claims anywhere.
func owners(t testing.TB, res *walk.Result) []ioctl.Ino {
	t.Helper()
	var all []ioctl.Ino
	for agno := range res.Claims {
		for _, r := range claims(t, res, ioctl.AGNumber(agno)) {
			all = append(all, ioctl.Ino(r.Owner))
		}
	}
	slices.Sort(all)
	return slices.Compact(all)
}

func silent(t testing.TB, res *walk.Result) []ioctl.Ino {
	t.Helper()
	all := []ioctl.Ino{}
	for ino, err := range res.Silent.All(context.Background()) {
		require.NoError(t, err)
		all = append(all, ino)
	}
	return all
}

// unreadables returns the inodes that could not be read, in order.
func unreadables(res *walk.Result) []ioctl.Ino {
	all := []ioctl.Ino{}
	for _, u := range res.Unreadable {
		all = append(all, u.Ino)
	}
	slices.Sort(all)
	return all
}

// addFiles adds n files with one block each, from inode number first on, and
// returns their numbers. The blocks lie in the group of first.
func addFiles(m *ioctltest.Model, first ioctl.Ino, n int) []ioctl.Ino {
	agno, _ := m.Geometry.InoToAGIno(first)
	var all []ioctl.Ino
	for i := range n {
		ino := first + ioctl.Ino(i)
		all = append(all, ino)
		m.AddInode(&ioctltest.Inode{
			Ino: ino, Gen: ioctl.Gen(ino) + 1,
			Data: []ioctltest.Extent{{Offset: uint64(i), AGNo: agno, AGBno: ioctl.AGBlock(100 + i%700), Length: 1}},
		})
	}
	return all
}

// corrupt makes BULKSTAT fail at some inodes as the kernel does: it returns what
// comes before, and fails when there is nothing before.
func corrupt(k *ioctltest.Kernel, bad func(ioctl.Ino) bool, why errno) {
	k.OnBulkstat = func(req ioctltest.BulkRequest) ([]ioctl.BulkstatRecord, ioctl.Ino, errno) {
		recs, next, e := k.DefaultBulkstat(req)
		for i := range recs {
			if !bad(recs[i].Ino) {
				continue
			}
			if i == 0 {
				return nil, 0, why
			}
			return recs[:i], recs[i-1].Ino + 1, 0
		}
		return recs, next, e
	}
}
