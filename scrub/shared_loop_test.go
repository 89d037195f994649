package scrub

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/scrubd/scrubd/internal/lab"
	"github.com/scrubd/scrubd/ioctl"
	"github.com/scrubd/scrubd/scrub/verdict"
)

// makeSharers makes files with shared, partly shared, rewritten and unshared
// extents: GETBMAPX splits some, and whole records are marked for a part.
func makeSharers(t *testing.T, fs *lab.LoopFS) {
	t.Helper()
	data := make([]byte, 512<<10)
	for i := range data {
		data[i] = byte(i)
	}
	for _, name := range []string{"plain", "spacer", "source"} {
		require.NoError(t, os.WriteFile(fs.Path(name), data, 0o600))
	}
	require.NoError(t, fs.Sync())
	src, err := os.Open(fs.Path("source"))
	require.NoError(t, err)
	defer src.Close()
	for i, name := range []string{"whole", "rewritten", "part"} {
		dst, err := os.Create(fs.Path(name))
		require.NoError(t, err)
		defer dst.Close()
		r := unix.FileCloneRange{Src_fd: int64(src.Fd())}
		if i == 2 {
			r.Src_offset, r.Src_length = 128<<10, 64<<10
		}
		require.NoError(t, unix.IoctlFileCloneRange(int(dst.Fd()), &r))
		if i == 1 {
			_, err = dst.WriteAt(data[:32<<10], 64<<10)
			require.NoError(t, err)
			require.NoError(t, dst.Sync())
		}
	}
}

// sharedEvidence makes one pass and returns what it confirmed between forks and
// refcountbts.
func sharedEvidence(t *testing.T, dir string) []verdict.SharedPiece {
	t.Helper()
	p, done := passOver(t, dir)
	defer done()
	return p.shared
}

// passOver makes one pass over the filesystem mounted at dir; done lets go of it.
func passOver(t *testing.T, dir string) (p *pass, done func()) {
	t.Helper()
	fs, err := ioctl.Open(dir)
	require.NoError(t, err)
	r, err := newRun(t.Context(), fs, Options{Mode: ModeCheck, StateDir: t.TempDir()})
	require.NoError(t, err)
	p, err = r.check(t.Context(), 1)
	require.NoError(t, err)
	return p, func() {
		p.close()
		r.close()
		assert.NoError(t, fs.Close())
	}
}

// TestSharedEvidence damages the refcountbt and looks at what is found by forks
// and marks alone.
func TestSharedEvidence(t *testing.T) {
	lab.Require(t, lab.Root, lab.Loop)
	base := lab.NewLoopFS(t, lab.MkfsOptions{Args: []string{"-d", "agcount=2", "-m", "rmapbt=1,reflink=1"}})
	makeSharers(t, base)
	var plain unix.Stat_t
	require.NoError(t, unix.Stat(base.Path("plain"), &plain))
	require.NoError(t, base.Unmount())
	for name, c := range map[string]struct {
		class  lab.FaultClass
		ino    uint64 // whose blocks are drawn from
		marked bool   // a mark too many; otherwise too few
		none   bool   // a count of two or more shows nowhere
	}{
		"healthy":                      {none: true},
		"removed":                      {class: lab.FaultRefcountRemoved},
		"shorter":                      {class: lab.FaultRefcountLength},
		"staging":                      {class: lab.FaultRefcountCoW},
		"stray, file with the flag":    {class: lab.FaultRefcountAdded, marked: true},
		"stray, file without the flag": {class: lab.FaultRefcountAdded, ino: plain.Ino, marked: true},
		"value":                        {class: lab.FaultRefcountValue, none: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			image := filepath.Join(t.TempDir(), "fs.img")
			require.NoError(t, lab.CopyImage(image, base.Image()))
			var done lab.Injected
			if c.class != "" {
				var err error
				done, err = lab.InjectImage(image, lab.Fault{Class: c.class, Seed: 3, Ino: ioctl.Ino(c.ino)})
				require.NoError(t, err)
				t.Log(done.Describe())
			}
			fs, err := lab.OpenLoopFS(image, filepath.Join(filepath.Dir(image), "mnt"), "nouuid")
			require.NoError(t, err)
			require.NoError(t, fs.Mount())
			defer fs.Close()
			pieces := sharedEvidence(t, fs.Dir())
			if c.none {
				assert.Empty(t, pieces)
				return
			}
			require.Len(t, pieces, 1)
			p := &pieces[0]
			t.Logf("%+v", *p)
			assert.Equal(t, c.marked, p.Marked)
			assert.Equal(t, done.AGNo, p.AGNo)
			assert.GreaterOrEqual(t, ioctl.AGBlock(p.Start)+ioctl.AGBlock(p.Count), done.AGBno)
			assert.Len(t, p.Records, len(p.Claims), "forks and rmapbt are well")
			assert.Equal(t, c.ino != 0, p.Coarse)
			if c.marked {
				assert.Len(t, p.Claims, 1)
			} else {
				assert.Greater(t, len(p.Claims), 1)
			}
		})
	}
}
