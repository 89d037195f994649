package lab_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/scrubd/scrubd/internal/lab"
)

func TestLoopFSLifecycle(t *testing.T) {
	lab.Require(t, lab.Root, lab.Loop)
	fs := lab.NewLoopFS(t, lab.MkfsOptions{Args: []string{"-d", "agcount=2"}, MountOpts: []string{"noatime"}})

	var st unix.Statfs_t
	require.NoError(t, unix.Statfs(fs.Dir(), &st))
	assert.EqualValues(t, unix.XFS_SUPER_MAGIC, st.Type)
	require.NoError(t, os.WriteFile(fs.Path("file"), []byte("still here"), 0o600))

	require.NoError(t, fs.Mount(), "mounting twice is fine")
	require.NoError(t, fs.Freeze())
	require.ErrorIs(t, fs.Freeze(), unix.EBUSY)
	require.NoError(t, fs.Thaw())
	require.ErrorIs(t, fs.Thaw(), unix.EINVAL)
	require.NoError(t, fs.DropCaches())

	require.NoError(t, fs.Remount("ro"))
	got, err := os.ReadFile(fs.Path("file"))
	require.NoError(t, err)
	assert.Equal(t, "still here", string(got))
	require.ErrorIs(t, os.WriteFile(fs.Path("file"), nil, 0o600), unix.EROFS)

	require.NoError(t, fs.Unmount())
	require.NoError(t, fs.Unmount(), "unmounting twice is fine")
	assert.False(t, fs.Mounted())
	assert.NoFileExists(t, fs.Path("file"))
}

func TestLoopFSCloseIsRobust(t *testing.T) {
	lab.Require(t, lab.Root, lab.Loop)
	t.Run("frozen", func(t *testing.T) {
		fs, err := lab.CreateLoopFS(t.Context(), lab.MkfsOptions{})
		require.NoError(t, err)
		require.NoError(t, fs.Freeze())
		require.NoError(t, fs.Close())
		require.NoError(t, fs.Close(), "closing twice is fine")
		assert.NoFileExists(t, fs.Image())
	})
	t.Run("busy", func(t *testing.T) {
		fs, err := lab.CreateLoopFS(t.Context(), lab.MkfsOptions{})
		require.NoError(t, err)
		held, err := os.Create(fs.Path("held"))
		require.NoError(t, err)
		require.ErrorIs(t, fs.Close(), unix.EBUSY)
		require.NoError(t, held.Close())
		require.NoError(t, fs.Close())
		assert.NoFileExists(t, fs.Image())
	})
	t.Run("mkfs fails", func(t *testing.T) {
		_, err := lab.CreateLoopFS(t.Context(), lab.MkfsOptions{Size: 1 << 20})
		require.ErrorContains(t, err, "mkfs.xfs")
	})
	t.Run("no image", func(t *testing.T) {
		_, err := lab.OpenLoopFS(filepath.Join(t.TempDir(), "none"), t.TempDir())
		require.ErrorIs(t, err, os.ErrNotExist)
	})
}

func TestCopyImageMountsBesideTheOriginal(t *testing.T) {
	lab.Require(t, lab.Root, lab.Loop)
	fs := lab.NewLoopFS(t, lab.MkfsOptions{})
	require.NoError(t, os.WriteFile(fs.Path("file"), []byte("copied"), 0o600))
	require.NoError(t, fs.Unmount())

	dup := filepath.Join(t.TempDir(), "copy.img")
	require.NoError(t, lab.CopyImage(dup, fs.Image()))
	var orig, copied unix.Stat_t
	require.NoError(t, unix.Stat(fs.Image(), &orig))
	require.NoError(t, unix.Stat(dup, &copied))
	assert.Equal(t, orig.Size, copied.Size)
	assert.LessOrEqual(t, copied.Blocks, orig.Blocks+256, "the copy is as sparse as the original")

	require.NoError(t, fs.Mount())
	second, err := lab.OpenLoopFS(dup, filepath.Join(t.TempDir(), "mnt"), "nouuid")
	require.NoError(t, err)
	require.NoError(t, second.Mount())
	got, err := os.ReadFile(second.Path("file"))
	require.NoError(t, err)
	assert.Equal(t, "copied", string(got))
	require.NoError(t, second.Close())
	assert.FileExists(t, dup)
}

func TestMkfsFeatures(t *testing.T) {
	t.Parallel()
	both := []string{"-m", "rmapbt=1", "-m", "reflink=1"}
	tests := []struct {
		name string
		args []string
		want []string
	}{
		{"nothing said", nil, both},
		{"other sections", []string{"-d", "agcount=2", "-n", "size=8192"}, both},
		{"one said", []string{"-m", "reflink=0"}, both[:2]},
		{"both said in one word", []string{"-mrmapbt=0,reflink=1,bigtime=1"}, nil},
		{"V4", []string{"-m", "crc=0"}, nil},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			assert.Equal(t, tc.want, lab.MkfsFeatures(tc.args))
		})
	}
}

func TestParseMountOpts(t *testing.T) {
	t.Parallel()
	flags, data := lab.ParseMountOpts([]string{"ro,norecovery", "noatime", "loop", "nouuid"})
	assert.EqualValues(t, unix.MS_RDONLY|unix.MS_NOATIME, flags)
	assert.Equal(t, "norecovery,nouuid", data)
}

func TestAdoptLoopFS(t *testing.T) {
	lab.Require(t, lab.Root, lab.Loop)
	fs := lab.NewLoopFS(t, lab.MkfsOptions{})
	adopted, err := lab.AdoptLoopFS(fs.Image(), fs.Dir())
	require.NoError(t, err)
	require.NoError(t, adopted.Unmount())
	require.NoError(t, fs.Unmount(), "somebody else has unmounted it")
	_, err = lab.AdoptLoopFS(fs.Image(), fs.Dir())
	require.ErrorIs(t, err, unix.ENODEV)
}
