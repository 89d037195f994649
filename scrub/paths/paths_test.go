package paths

import (
	"context"
	"encoding/binary"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/scrubd/scrubd/internal/lab"
	"github.com/scrubd/scrubd/ioctl"
	"github.com/scrubd/scrubd/ioctl/ioctltest"
)

// tree is a fake filesystem with parent pointers.
func tree(t *testing.T) (*ioctl.FS, *ioctltest.Kernel) {
	t.Helper()
	m := ioctltest.NewModel()
	add := func(ino ioctl.Ino, parents ...ioctl.Parent) {
		m.AddInode(&ioctltest.Inode{Ino: ino, Gen: 5, Parents: parents})
	}
	add(200, ioctl.Parent{Ino: 128, Gen: 1, Name: "home"})
	add(201, ioctl.Parent{Ino: 200, Gen: 5, Name: "me"})
	add(300, ioctl.Parent{Ino: 201, Gen: 5, Name: "b"}, ioctl.Parent{Ino: 128, Gen: 1, Name: "a"}, ioctl.Parent{Ino: 201, Gen: 5, Name: "\xff\n"})
	add(301) // unlinked but open
	add(400, ioctl.Parent{Ino: 401, Gen: 5, Name: "x"})
	add(401, ioctl.Parent{Ino: 400, Gen: 5, Name: "y"}) // a loop
	add(402, ioctl.Parent{Ino: 401, Gen: 5, Name: "in a loop"})
	add(500, ioctl.Parent{Ino: 501, Gen: 5, Name: "x"}) // whose parent cannot be read
	fs, k := ioctltest.NewWithModel(t, m)
	return fs, k
}

func TestParentPointers(t *testing.T) {
	fs, _ := tree(t)
	got, err := Resolve(t.Context(), fs, map[ioctl.Ino]ioctl.Gen{
		128: 1, 200: 5, 201: 5, 300: 5, 301: 5, 400: 5, 402: 5, 500: 5,
		999: 1, // not there
	})
	require.NoError(t, err)
	assert.Equal(t, map[ioctl.Ino][]string{
		128: {"."}, 200: {"home"}, 201: {"home/me"}, 300: {"a", "home/me/b", "home/me/\xff\n"},
	}, got)
	got, err = Resolve(t.Context(), fs, map[ioctl.Ino]ioctl.Gen{300: 6})
	require.NoError(t, err)
	assert.Empty(t, got, "another file has the number now")
}

func TestEachDirectoryIsLookedUpOnce(t *testing.T) {
	fs, k := tree(t)
	inos := make(map[ioctl.Ino]ioctl.Gen)
	k.Update(func(m *ioctltest.Model) {
		for ino := ioctl.Ino(600); ino < 700; ino++ {
			m.AddInode(&ioctltest.Inode{Ino: ino, Gen: 5, Parents: []ioctl.Parent{{Ino: 201, Gen: 5, Name: fmt.Sprint(ino)}}})
			inos[ino] = 5
		}
	})
	got, err := Resolve(t.Context(), fs, inos)
	require.NoError(t, err)
	assert.Len(t, got, 100)
	assert.Equal(t, []string{"home/me/650"}, got[650])
	assert.Len(t, k.Calls(ioctltest.OpParents), 100+2)
}

func TestNamesAreBounded(t *testing.T) {
	fs, k := tree(t)
	k.Update(func(m *ioctltest.Model) {
		i := &ioctltest.Inode{Ino: 600, Gen: 5}
		for n := range 1000 {
			i.Parents = append(i.Parents, ioctl.Parent{Ino: 200, Gen: 5, Name: fmt.Sprint(n)})
		}
		m.AddInode(i)
	})
	got, err := Resolve(t.Context(), fs, map[ioctl.Ino]ioctl.Gen{600: 5})
	require.NoError(t, err)
	assert.Len(t, got[600], MaxNames)
}

func TestVeryDeepTree(t *testing.T) {
	fs, k := tree(t)
	const depth = maxDepth + 100
	k.Update(func(m *ioctltest.Model) {
		above := ioctl.Parent{Ino: 128, Gen: 1, Name: "d"}
		for i := range ioctl.Ino(depth) {
			ino := 2000 + i
			m.AddInode(&ioctltest.Inode{Ino: ino, Gen: 5, Parents: []ioctl.Parent{above}})
			above = ioctl.Parent{Ino: ino, Gen: 5, Name: "d"}
		}
	})
	got, err := Resolve(t.Context(), fs, map[ioctl.Ino]ioctl.Gen{2000 + depth - 1: 5, 2010: 5})
	require.NoError(t, err)
	assert.NotContains(t, got, ioctl.Ino(2000+depth-1))
}

func TestErrorsThatEndTheSearch(t *testing.T) {
	fs, k := tree(t)
	for errno, want := range map[unix.Errno]error{
		unix.ESHUTDOWN: ioctl.ErrShutdown, unix.EPERM: ioctl.ErrPrivilege,
	} {
		k.OnParents = func(ioctl.Ino, ioctl.Gen) ([]ioctl.Parent, unix.Errno) { return nil, errno }
		_, err := Resolve(t.Context(), fs, map[ioctl.Ino]ioctl.Gen{300: 5})
		require.ErrorIs(t, err, want)
	}
	k.OnParents = func(ino ioctl.Ino, gen ioctl.Gen) ([]ioctl.Parent, unix.Errno) {
		if ino == 201 {
			return nil, unix.EUCLEAN
		}
		return k.DefaultParents(ino, gen)
	}
	got, err := Resolve(t.Context(), fs, map[ioctl.Ino]ioctl.Gen{300: 5, 201: 5})
	require.NoError(t, err)
	assert.Equal(t, map[ioctl.Ino][]string{300: {"a"}}, got)

	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = Resolve(ctx, fs, map[ioctl.Ino]ioctl.Gen{300: 5})
	require.ErrorIs(t, err, context.Canceled)
	got, err = Resolve(ctx, fs, nil)
	require.NoError(t, err)
	assert.Empty(t, got)
}

func TestWalkOfAFilesystemThatIsDown(t *testing.T) {
	m := ioctltest.NewModel()
	m.Geometry.Flags &^= ioctl.FlagParent
	fs, k := ioctltest.NewWithModel(t, m)
	k.Update(func(m *ioctltest.Model) { m.Shutdown = true })
	_, err := Resolve(t.Context(), fs, map[ioctl.Ino]ioctl.Gen{300: 5})
	require.ErrorIs(t, err, ioctl.ErrShutdown)
}

func FuzzDirents(f *testing.F) {
	f.Add(direntBytes(128, unix.DT_DIR, "."))
	f.Add(append(direntBytes(131, unix.DT_REG, "name"), direntBytes(132, unix.DT_UNKNOWN, "other")...))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, buf []byte) {
		total := 0
		for e := range dirents(buf) {
			total += len(e.name) + direntName
			if e.ino == 0 {
				t.Fatal("inode 0")
			}
		}
		if total > len(buf) {
			t.Fatalf("%d bytes of entries in %d", total, len(buf))
		}
	})
}

func direntBytes(ino uint64, kind byte, name string) []byte {
	length := (direntName + len(name) + 1 + 7) / 8 * 8
	b := make([]byte, length)
	binary.NativeEndian.PutUint64(b, ino)
	binary.NativeEndian.PutUint16(b[direntLen:], uint16(length))
	b[direntType] = kind
	copy(b[direntName:], name)
	return b
}

func TestDirents(t *testing.T) {
	buf := slices.Concat(direntBytes(128, unix.DT_DIR, "."), direntBytes(1<<40, unix.DT_REG, "a\xff\nb"), direntBytes(0, unix.DT_REG, "deleted"))
	var got []dirent
	for e := range dirents(buf) {
		got = append(got, e)
	}
	assert.Equal(t, []dirent{{128, unix.DT_DIR, "."}, {1 << 40, unix.DT_REG, "a\xff\nb"}}, got)
	for range dirents(buf[:30]) {
		break
	}
}

// names are the paths of everything below a directory, by inode.
func names(t *testing.T, dir string) (paths map[ioctl.Ino][]string) {
	t.Helper()
	paths = make(map[ioctl.Ino][]string)
	require.NoError(t, filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(dir, path)
		if err != nil {
			return err
		}
		ino := ioctl.Ino(info.Sys().(*syscall.Stat_t).Ino)
		paths[ino] = append(paths[ino], rel)
		return nil
	}))
	for _, p := range paths {
		slices.Sort(p)
	}
	return paths
}

// generations asks for those of inodes.
func generations[V any](t *testing.T, fs *ioctl.FS, inos map[ioctl.Ino]V) map[ioctl.Ino]ioctl.Gen {
	t.Helper()
	out := make(map[ioctl.Ino]ioctl.Gen)
	buf := ioctl.NewBulkstatBuffer(1024)
	for req := (ioctl.BulkRequest{}); ; {
		n, err := fs.Bulkstat(&req, buf)
		require.NoError(t, err)
		if n == 0 {
			return out
		}
		for i := range buf.Records() {
			if rec := &buf.Records()[i]; ok(inos, rec.Ino) {
				out[rec.Ino] = rec.Gen
			}
		}
	}
}

func ok[V any](m map[ioctl.Ino]V, ino ioctl.Ino) bool {
	_, ok := m[ino]
	return ok
}

// compareWithTree resolves every inode of a mounted filesystem.
func compareWithTree(t *testing.T, loop *lab.LoopFS, fs *ioctl.FS) {
	t.Helper()
	want := names(t, loop.Dir())
	got, err := Resolve(t.Context(), fs, generations(t, fs, want))
	require.NoError(t, err)
	require.Len(t, got, len(want))
	for ino, paths := range want {
		if len(paths) <= MaxNames {
			require.Equal(t, paths, got[ino], "inode %d", ino)
			continue
		}
		require.Len(t, got[ino], MaxNames)
		require.Subset(t, paths, got[ino])
	}
}

func sample(t *testing.T, loop *lab.LoopFS) *ioctl.FS {
	t.Helper()
	require.NoError(t, lab.Sample(loop.Dir(), lab.SampleSpec{Seed: 1, Files: 200}))
	fs, err := ioctl.Open(loop.Dir())
	require.NoError(t, err)
	t.Cleanup(func() { _ = fs.Close() })
	return fs
}

func TestWalkFindsEveryName(t *testing.T) {
	lab.Require(t, lab.Loop)
	loop := lab.NewLoopFS(t, lab.MkfsOptions{})
	compareWithTree(t, loop, sample(t, loop))
}

func TestOpenDirs(t *testing.T) {
	lab.Require(t, lab.Loop)
	loop := lab.NewLoopFS(t, lab.MkfsOptions{})
	fs := sample(t, loop)
	require.NoError(t, os.MkdirAll(loop.Path("a", "b", "c"), 0o755))
	require.NoError(t, os.MkdirAll(loop.Path("a", "covered"), 0o755))
	dirs := make(map[ioctl.Ino]string)
	for _, path := range []string{"a/b/c", "a", "a/covered"} {
		info, err := os.Stat(loop.Path(path))
		require.NoError(t, err)
		dirs[ioctl.Ino(info.Sys().(*syscall.Stat_t).Ino)] = path
	}
	gens := generations(t, fs, dirs)
	require.NoError(t, unix.Mount("tmpfs", loop.Path("a", "covered"), "tmpfs", 0, ""))
	defer unix.Unmount(loop.Path("a", "covered"), unix.MNT_DETACH) //nolint:errcheck // the rig complains if it stays

	opened, err := OpenDirs(t.Context(), fs, gens)
	require.NoError(t, err)
	require.Len(t, opened, 2)
	for ino, fd := range opened {
		path, err := os.Readlink(fmt.Sprintf("/proc/self/fd/%d", fd))
		require.NoError(t, err)
		assert.Equal(t, loop.Path(dirs[ino]), path)
		fs.CloseFD(fd)
	}
}

func TestWalkSeesThroughMounts(t *testing.T) {
	lab.Require(t, lab.Loop)
	loop := lab.NewLoopFS(t, lab.MkfsOptions{})
	require.NoError(t, os.MkdirAll(loop.Path("covered", "below"), 0o755))
	require.NoError(t, os.MkdirAll(loop.Path("bound"), 0o755))
	hidden := loop.Path("covered", "below", "file")
	require.NoError(t, os.WriteFile(hidden, nil, 0o644))
	info, err := os.Stat(hidden)
	require.NoError(t, err)
	ino := ioctl.Ino(info.Sys().(*syscall.Stat_t).Ino)
	fs, err := ioctl.Open(loop.Dir())
	require.NoError(t, err)
	defer fs.Close()
	inos := generations(t, fs, map[ioctl.Ino]bool{ino: true, fs.RootIno(): true})

	// A tmpfs over one directory, with a file of its own, and the filesystem
	// itself over another.
	require.NoError(t, unix.Mount("tmpfs", loop.Path("covered"), "tmpfs", 0, ""))
	defer unix.Unmount(loop.Path("covered"), unix.MNT_DETACH) //nolint:errcheck // the rig complains if it stays
	require.NoError(t, os.WriteFile(loop.Path("covered", "other"), nil, 0o644))
	require.NoError(t, unix.Mount(loop.Dir(), loop.Path("bound"), "", unix.MS_BIND, ""))
	defer unix.Unmount(loop.Path("bound"), unix.MNT_DETACH) //nolint:errcheck // the rig complains if it stays

	got, err := Resolve(t.Context(), fs, inos)
	require.NoError(t, err)
	assert.Equal(t, map[ioctl.Ino][]string{ino: {"covered/below/file"}, fs.RootIno(): {"."}}, got)

	// Opened through a directory of it, the paths are those of the filesystem.
	sub, err := ioctl.Open(loop.Path("bound"))
	require.NoError(t, err)
	defer sub.Close()
	got, err = Resolve(t.Context(), sub, inos)
	require.NoError(t, err)
	assert.Equal(t, []string{"covered/below/file"}, got[ino])
}

func TestWalkLeavesOutWhatHasNoName(t *testing.T) {
	lab.Require(t, lab.Loop)
	loop := lab.NewLoopFS(t, lab.MkfsOptions{})
	fs := sample(t, loop)
	file, err := os.Create(loop.Path("gone"))
	require.NoError(t, err)
	defer file.Close()
	st, err := file.Stat()
	require.NoError(t, err)
	ino := ioctl.Ino(st.Sys().(*syscall.Stat_t).Ino)
	inos := generations(t, fs, map[ioctl.Ino]bool{ino: true})
	require.Len(t, inos, 1)
	require.NoError(t, os.Remove(loop.Path("gone")))
	got, err := Resolve(t.Context(), fs, inos)
	require.NoError(t, err)
	assert.Empty(t, got)
	got, err = Resolve(t.Context(), fs, map[ioctl.Ino]ioctl.Gen{ino: inos[ino] + 1, 5: 1, 1 << 60: 1})
	require.NoError(t, err)
	assert.Empty(t, got)
}

func TestWalkStopsWithTheContext(t *testing.T) {
	lab.Require(t, lab.Loop)
	loop := lab.NewLoopFS(t, lab.MkfsOptions{})
	fs := sample(t, loop)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := Resolve(ctx, fs, map[ioctl.Ino]ioctl.Gen{5: 1})
	require.ErrorIs(t, err, context.Canceled)
}

func TestWalkOfAVeryDeepTree(t *testing.T) {
	lab.Require(t, lab.Loop)
	loop := lab.NewLoopFS(t, lab.MkfsOptions{})
	dir, err := os.OpenRoot(loop.Dir())
	require.NoError(t, err)
	for range walkDepth + 50 {
		require.NoError(t, dir.Mkdir("d", 0o755))
		next, err := dir.OpenRoot("d")
		require.NoError(t, err)
		require.NoError(t, dir.Close())
		dir = next
	}
	require.NoError(t, dir.Close())
	require.NoError(t, os.WriteFile(loop.Path("z"), nil, 0o644))
	info, err := os.Stat(loop.Path("z"))
	require.NoError(t, err)
	ino := ioctl.Ino(info.Sys().(*syscall.Stat_t).Ino)
	fs, err := ioctl.Open(loop.Dir())
	require.NoError(t, err)
	defer fs.Close()
	inos := generations(t, fs, map[ioctl.Ino]bool{ino: true})
	got, err := Resolve(t.Context(), fs, inos)
	require.NoError(t, err)
	assert.Equal(t, []string{"z"}, got[ino])
}

func TestLabParentPointersFindEveryName(t *testing.T) {
	lab.InKernel(t, func(t *testing.T) {
		lab.Require(t, lab.SidTools)
		bin, err := lab.SidBin()
		require.NoError(t, err)
		loop := lab.NewLoopFS(t, lab.MkfsOptions{Binary: filepath.Join(bin, "mkfs.xfs"), Args: []string{"-n", "parent=1"}})
		fs := sample(t, loop)
		require.True(t, fs.Geometry().Has(ioctl.FlagParent))
		compareWithTree(t, loop, fs)

		// And the walk gives the same.
		want := names(t, loop.Dir())
		got := make(map[ioctl.Ino][]string)
		require.NoError(t, byWalk(t.Context(), fs, generations(t, fs, want), got))
		assert.Len(t, got, len(want))
	})
}
