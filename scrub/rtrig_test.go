package scrub_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/scrubd/scrubd/internal/lab"
)

// rtGeometry is how a filesystem with a realtime device is made.
type rtGeometry struct {
	args   []string
	extent int64 // bytes of a realtime extent
	clones bool
}

// Groups whose size is no power of two, so that addresses and block numbers in the
// kernel's encoding differ. Every file is a realtime file.
var (
	rtGroups = rtGeometry{
		args: []string{"-m", "metadir=1", "-r", "rgsize=24m", "-d", "agcount=2,rtinherit=1"}, extent: 4096, clones: true,
	}
	rtLarge = rtGeometry{
		args: []string{"-m", "metadir=1,reflink=0", "-r", "rgsize=24m,extsize=16384", "-d", "agcount=2,rtinherit=1"}, extent: 16384,
	}
	rtLegacy = rtGeometry{
		args: []string{"-m", "metadir=0,rmapbt=0,reflink=0", "-r", "extsize=16384", "-d", "agcount=2,rtinherit=1"}, extent: 16384,
	}
)

// envMakeRT has a directory: this process is inside of the lab to make the base
// image of the tests with realtime groups there.
const envMakeRT = "SCRUBD_TEST_MAKE_RT"

// rtBase is the filesystem that every fault of realtime groups is tried on.
var rtBase struct {
	once sync.Once
	dir  string
	err  error
}

// needRTBase makes it, once. The host's kernel need not know realtime devices, so
// that the lab's makes it.
func needRTBase(t *testing.T) {
	t.Helper()
	if lab.Inside() {
		return
	}
	lab.Require(t, lab.Kernel)
	rtBase.once.Do(func() {
		if rtBase.dir, rtBase.err = os.MkdirTemp("", "scrubd-rtbase-"); rtBase.err == nil {
			rtBase.err = bootForRTBase(rtBase.dir)
		}
	})
	require.NoError(t, rtBase.err)
	require.NoError(t, os.Setenv(envBase, rtBase.dir)) //nolint:usetesting // it is the same for all tests, parallel ones too
}

func bootForRTBase(dir string) error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	res, err := lab.Boot(context.Background(), lab.BootSpec{
		Argv: []string{self}, Env: append(os.Environ(), envMakeRT+"="+dir), Timeout: 3 * time.Minute, MemMiB: 1500,
	})
	switch {
	case err != nil:
		return err
	case res.ExitCode != 0:
		return fmt.Errorf("make the base image: exit status %d: %s", res.ExitCode, res.Output)
	}
	return res.Err()
}

// makeRTBase is the body of that boot.
func makeRTBase(dir string) int {
	err := func() error {
		tmp, err := os.MkdirTemp("", "rtbase-")
		if err != nil {
			return err
		}
		fs, clean, err := makeRT(context.Background(), tmp, rtGroups)
		if err != nil {
			return err
		}
		image := fs.Image()
		out, err := os.Create(filepath.Join(dir, "clean.json"))
		if err != nil {
			return err
		}
		return errors.Join(clean.Save(out), out.Close(), fs.Close(),
			lab.CopyImage(filepath.Join(dir, "base.img"), image),
			lab.CopyImage(filepath.Join(dir, "base.img.rt"), lab.RTImage(image)))
	}()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

// makeRT makes and fills a filesystem and leaves it unmounted.
func makeRT(ctx context.Context, dir string, g rtGeometry) (*lab.LoopFS, lab.Snapshot, error) {
	bin, err := lab.SidBin()
	if err != nil {
		return nil, lab.Snapshot{}, err
	}
	fs, err := lab.CreateLoopFS(ctx, lab.MkfsOptions{Dir: dir, RTSize: 96 << 20, Args: g.args, Binary: filepath.Join(bin, "mkfs.xfs")})
	if err != nil {
		return nil, lab.Snapshot{}, err
	}
	err = fillRT(fs, g)
	var clean lab.Snapshot
	if err == nil {
		clean, err = lab.TakeSnapshot(fs.Dir())
	}
	if err = errors.Join(err, fs.Unmount()); err != nil {
		return nil, clean, errors.Join(err, fs.Close())
	}
	return fs, clean, nil
}

// fillRT makes files of every kind that matters to the space of realtime groups:
// of one extent and of many, with blocks that were never written, with holes, and
// clones that share all or some of their blocks.
func fillRT(fs *lab.LoopFS, g rtGeometry) error {
	rng := rand.New(rand.NewPCG(1, 2))
	content := func(n int64) []byte {
		b := make([]byte, n)
		for i := range b {
			b[i] = byte(rng.Uint32()) | 1
		}
		return b
	}
	unit := g.extent
	for i := range int64(8) {
		if err := os.WriteFile(fs.Path(fmt.Sprintf("plain%d", i)), content(unit*(1+7*i)+100*i), 0o644); err != nil {
			return err
		}
	}
	// Written in turns, so that neither gets two extents in a row.
	var open [2]*os.File
	for i := range open {
		var err error
		if open[i], err = os.Create(fs.Path(fmt.Sprintf("turns%d", i))); err != nil {
			return err
		}
		defer open[i].Close()
	}
	for at := range int64(90) {
		for _, f := range open {
			if _, err := f.WriteAt(content(unit), at*unit*2); err != nil {
				return err
			}
			if err := f.Sync(); err != nil {
				return err
			}
		}
	}
	prealloc, err := os.Create(fs.Path("prealloc"))
	if err != nil {
		return err
	}
	defer prealloc.Close()
	err = errors.Join(unix.Fallocate(int(prealloc.Fd()), 0, 0, 40*unit), write(prealloc, content(3*unit), 8*unit), prealloc.Sync())
	if err != nil {
		return err
	}
	if g.clones {
		if err := clonesRT(fs, content(64*unit), content(unit), unit); err != nil {
			return err
		}
	}
	return fs.Sync()
}

func write(f *os.File, b []byte, at int64) error {
	_, err := f.WriteAt(b, at)
	return err
}

func clonesRT(fs *lab.LoopFS, whole, changed []byte, unit int64) error {
	if err := os.WriteFile(fs.Path("cloned"), whole, 0o644); err != nil {
		return err
	}
	src, err := os.Open(fs.Path("cloned"))
	if err != nil {
		return err
	}
	defer src.Close()
	for i := range int64(3) {
		dst, err := os.Create(fs.Path(fmt.Sprintf("clone%d", i)))
		if err != nil {
			return err
		}
		err = unix.IoctlFileClone(int(dst.Fd()), int(src.Fd()))
		if err == nil && i > 0 {
			err = write(dst, bytes.Clone(changed), 10*i*unit)
		}
		if err := errors.Join(err, dst.Sync(), dst.Close()); err != nil {
			return err
		}
	}
	return nil
}

// newRTRig is a copy of the base image inside the lab.
func newRTRig(t *testing.T) *rig {
	t.Helper()
	r := newRig(t)
	require.NoError(t, lab.CopyImage(lab.RTImage(r.image), filepath.Join(os.Getenv(envBase), "base.img.rt")))
	return r
}

// newRTRigOf makes a filesystem of another geometry.
func newRTRigOf(t *testing.T, g rtGeometry) *rig {
	t.Helper()
	dir := t.TempDir()
	fs, clean, err := makeRT(t.Context(), dir, g)
	require.NoError(t, err)
	require.NoError(t, fs.Close())
	return &rig{t: t, image: fs.Image(), clean: clean, state: filepath.Join(dir, "state")}
}

// offlineRT is offline with the realtime device.
func (r *rig) offlineRT() string {
	r.t.Helper()
	require.NoError(r.t, r.fs.Unmount())
	out, err := lab.SidCommand(r.t.Context(), "xfs_repair", "-n", "-r", lab.RTImage(r.image), r.image).CombinedOutput()
	if err == nil {
		return ""
	}
	return fmt.Sprintf("%v: %s", err, out)
}
