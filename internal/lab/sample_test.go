package lab_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/scrubd/scrubd/internal/lab"
)

// xfsDB runs commands on an image and returns what they print.
func xfsDB(t *testing.T, image string, cmds ...string) string {
	t.Helper()
	args := []string{"-r"}
	for _, c := range cmds {
		args = append(args, "-c", c)
	}
	// Complaints about damage go to stderr, in the middle of a line.
	cmd := exec.Command("xfs_db", append(args, image)...)
	var complaints strings.Builder
	cmd.Stderr = &complaints
	out, err := cmd.Output()
	require.NoError(t, err, "xfs_db %q: %s%s", cmds, out, &complaints)
	return string(out)
}

// repairFindsNothing checks that offline repair has nothing to do.
func repairFindsNothing(t *testing.T, image string) {
	t.Helper()
	out, err := exec.Command("xfs_repair", "-n", "-f", image).CombinedOutput()
	require.NoError(t, err, "%s", out)
}

func TestSampleIsVaried(t *testing.T) {
	lab.Require(t, lab.Root, lab.Loop)
	fs := lab.NewLoopFS(t, lab.MkfsOptions{Args: []string{"-d", "agcount=2"}})
	require.NoError(t, lab.Sample(fs.Dir(), lab.SampleSpec{Seed: 1}))
	require.ErrorIs(t, lab.Sample(fs.Dir(), lab.SampleSpec{Seed: 1}), unix.EEXIST)

	before, err := lab.TakeSnapshot(fs.Dir())
	require.NoError(t, err)
	require.NoError(t, fs.Remount())
	after, err := lab.TakeSnapshot(fs.Dir())
	require.NoError(t, err)
	assert.Empty(t, lab.Diff(before, after))
	assert.Greater(t, len(before.Entries), 500)
	require.NoError(t, fs.Unmount())

	repairFindsNothing(t, fs.Image())
	inode := func(path, field string) string {
		e, ok := before.Get(path)
		require.True(t, ok, path)
		out := strings.TrimSpace(xfsDB(t, fs.Image(), fmt.Sprintf("inode %d", e.Ino), "p "+field))
		_, value, _ := strings.Cut(out, " = ")
		return value
	}
	const local, extents, btree = "1 (local)", "2 (extents)", "3 (btree)"
	for _, tc := range []struct{ path, field, want string }{
		{"clones/base", "core.format", extents},
		{"clones/base", "v3.reflink", "1"},
		{"fragmented/holes", "core.format", btree},
		{"fragmented/left", "core.format", btree},
		{"fragmented/backwards", "core.format", btree},
		{"fragmented/punched", "core.format", btree},
		{"unwritten/stripes", "core.format", btree},
		{"unwritten/stripes", "core.nextents", "600"},
		{"unwritten/inside", "core.nextents", "5"},
		{"attrs/few", "core.aformat", local},
		{"attrs/many", "core.aformat", extents},
		{"attrs/fifo", "core.aformat", extents},
		{"attrs/symlink", "core.aformat", extents},
		{"symlinks/target0060", "core.format", local},
		{"symlinks/target1023", "core.format", extents},
		{"dirs/short", "core.format", local},
		{"dirs/block", "core.size", "4096"},
		{"sparse/nothing", "core.nblocks", "0"},
	} {
		assert.Equal(t, tc.want, inode(tc.path, tc.field), "%s %s", tc.path, tc.field)
	}
	// A node directory has a da node (magic XDA3) in its first leaf block, a
	// leaf directory a single leaf (XD2L); see xfs_da_format.h.
	magic := func(path string) string {
		e, ok := before.Get(path)
		require.True(t, ok)
		return strings.TrimSpace(xfsDB(t, fs.Image(), fmt.Sprintf("inode %d", e.Ino), "dblock 8388608", "type text", "p"))
	}
	assert.Contains(t, magic("dirs/leaf"), "3d f1")
	assert.Contains(t, magic("dirs/node"), "3e be")

	// Holes and unwritten extents read as zeros; everything else has none.
	for path, zeros := range map[string]bool{"special/large": false, "clones/depth8": false, "unwritten/inside": true, "sparse/head": true} {
		require.NoError(t, fs.Mount())
		data, err := os.ReadFile(fs.Path(path))
		require.NoError(t, err)
		assert.Equal(t, zeros, strings.Contains(string(data), "\x00"), path)
	}
}

func TestSampleIsRepeatable(t *testing.T) {
	lab.Require(t, lab.Root, lab.Loop)
	take := func(spec lab.SampleSpec) lab.Snapshot {
		fs := lab.NewLoopFS(t, lab.MkfsOptions{})
		require.NoError(t, lab.Sample(fs.Dir(), spec))
		s, err := lab.TakeSnapshot(fs.Dir())
		require.NoError(t, err)
		return s
	}
	first := take(lab.SampleSpec{Seed: 7, Files: 600, Extents: 4000})
	assert.Empty(t, lab.Diff(first, take(lab.SampleSpec{Seed: 7, Files: 600, Extents: 4000, Workers: 4})))
	other := lab.Diff(first, take(lab.SampleSpec{Seed: 8, Files: 600, Extents: 4000}))
	assert.Greater(t, len(other), 600, "another seed, other contents")
}

func TestSnapshotSeesEveryKindOfChange(t *testing.T) {
	lab.Require(t, lab.Root, lab.Loop)
	fs := lab.NewLoopFS(t, lab.MkfsOptions{})
	require.NoError(t, os.WriteFile(fs.Path("file"), []byte("contents"), 0o600))
	require.NoError(t, os.Mkdir(fs.Path("dir"), 0o755))
	require.NoError(t, os.Symlink("target", fs.Path("link")))
	take := func() lab.Snapshot {
		s, err := lab.TakeSnapshot(fs.Dir())
		require.NoError(t, err)
		return s
	}
	before := take()
	for _, tc := range []struct {
		name   string
		change func() error
		want   string
	}{
		{"mode", func() error { return os.Chmod(fs.Path("file"), 0o640) }, "file: mode 0600 -> 0640"},
		{"owner", func() error { return os.Chown(fs.Path("file"), 5, 6) }, "file: uid 0 -> 5, gid 0 -> 6"},
		{"link", func() error { return os.Link(fs.Path("file"), fs.Path("dir/second")) }, "dir/second: new\nfile: nlink 1 -> 2"},
		{"data", func() error { return os.WriteFile(fs.Path("file"), []byte("Contents"), 0) }, "file: data"},
		{"zeroed", func() error { return os.WriteFile(fs.Path("file"), make([]byte, 8), 0) }, "file: data"},
		{"size", func() error { return os.Truncate(fs.Path("file"), 9) }, "file: size 8 -> 9, data"},
		{"target", func() error {
			return os.Symlink("elsewhere", fs.Path("new"))
		}, "new: new"},
		{"target replaced", func() error { return os.Rename(fs.Path("new"), fs.Path("link")) }, "link: size 6 -> 9, target target -> elsewhere\nnew: gone"},
		{"attribute", func() error { return unix.Setxattr(fs.Path("dir"), "trusted.a", []byte{1}, 0) }, `dir: attribute "trusted.a" new`},
		{"attribute value", func() error { return unix.Setxattr(fs.Path("dir"), "trusted.a", make([]byte, 100), 0) }, `dir: attribute "trusted.a" 01 -> 100 bytes`},
		{"attribute removed", func() error { return unix.Removexattr(fs.Path("dir"), "trusted.a") }, `dir: attribute "trusted.a" gone`},
		{"gone", func() error { return os.Remove(fs.Path("dir/second")) }, "dir/second: gone"},
	} {
		before = take()
		require.NoError(t, tc.change(), tc.name)
		after := take()
		got := strings.Join(lab.Diff(before, after), "\n")
		want := tc.want
		for line := range strings.SplitSeq(want, "\n") {
			assert.Contains(t, got, line, tc.name)
		}
	}

	var saved strings.Builder
	require.NoError(t, before.Save(&saved))
	loaded, err := lab.LoadSnapshot(strings.NewReader(saved.String()))
	require.NoError(t, err)
	assert.Equal(t, before, loaded)
	e, ok := loaded.Get("file")
	require.True(t, ok)
	assert.Equal(t, []string{"dir/second", "file"}, loaded.PathsOf(e.Ino))
	_, err = lab.TakeSnapshot(filepath.Join(t.TempDir(), "none"))
	require.ErrorIs(t, err, os.ErrNotExist)
}
