package scrub_test

import (
	"cmp"
	"context"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/sirupsen/logrus"
	"github.com/stretchr/testify/require"

	"github.com/scrubd/scrubd/internal/lab"
	"github.com/scrubd/scrubd/ioctl"
	"github.com/scrubd/scrubd/scrub"
)

// envBase names the directory of the base image for the body of a test that
// runs inside the lab kernel.
const envBase = "SCRUBD_TEST_BASE"

var base baseImage

// small is for tests that make many runs and need no variety.
var small = baseImage{files: 20}

// baseImage is made once, outside of the lab.
type baseImage struct {
	files int // 0 for 200
	once  sync.Once
	dir   string
	err   error
}

// TestMain removes the base image, which outlives the test that made it.
func TestMain(m *testing.M) {
	if dir, ok := os.LookupEnv(envMakeRT); ok {
		os.Exit(makeRTBase(dir))
	}
	code := m.Run()
	for _, dir := range []string{base.dir, small.dir, rtBase.dir, many.dir} {
		if dir != "" {
			_ = os.RemoveAll(dir)
		}
	}
	os.Exit(code)
}

// needBase makes the image that every fault is tried on, once, outside of the
// lab, where it is fast: a varied sample in two AGs and a snapshot of what its
// files read. To be called before [lab.InKernel].
func needBase(t *testing.T) {
	t.Helper()
	if dir := base.make(t); dir != "" {
		require.NoError(t, os.Setenv(envBase, dir)) //nolint:usetesting // it is the same for all tests, parallel ones too
	}
}

// needSmall is needBase for a test that does not run in parallel.
func needSmall(t *testing.T) {
	t.Helper()
	if dir := small.make(t); dir != "" {
		t.Setenv(envBase, dir)
	}
}

// make returns the directory of the image, "" inside of the lab.
func (b *baseImage) make(t *testing.T) string {
	t.Helper()
	if lab.Inside() {
		return ""
	}
	lab.Require(t, lab.Kernel)
	b.once.Do(func() {
		if b.dir, b.err = os.MkdirTemp("", "scrubd-base-"); b.err != nil {
			return
		}
		b.err = makeBase(t.Context(), b.dir, cmp.Or(b.files, 200))
	})
	require.NoError(t, b.err)
	return b.dir
}

func makeBase(ctx context.Context, dir string, files int) (err error) {
	fs, err := lab.CreateLoopFS(ctx, lab.MkfsOptions{
		Dir: dir, Args: []string{"-d", "agcount=2", "-m", "rmapbt=1,reflink=1"},
	})
	if err != nil {
		return err
	}
	defer func() {
		if err == nil {
			err = os.Rename(fs.Image(), filepath.Join(dir, "base.img"))
		}
		_ = fs.Close()
	}()
	if err := lab.Sample(fs.Dir(), lab.SampleSpec{Files: files}); err != nil {
		return err
	}
	snap, err := lab.TakeSnapshot(fs.Dir())
	if err != nil {
		return err
	}
	out, err := os.Create(filepath.Join(dir, "clean.json"))
	if err != nil {
		return err
	}
	if err := snap.Save(out); err != nil {
		return err
	}
	if err := out.Close(); err != nil {
		return err
	}
	return fs.Unmount()
}

// rig is one copy of the base image inside the lab.
type rig struct {
	t     *testing.T
	fs    *lab.LoopFS
	image string
	clean lab.Snapshot
	state string
}

func newRig(t *testing.T) *rig {
	t.Helper()
	dir := t.TempDir()
	r := &rig{t: t, image: filepath.Join(dir, "fs.img"), state: filepath.Join(dir, "state")}
	require.NoError(t, lab.CopyImage(r.image, filepath.Join(os.Getenv(envBase), "base.img")))
	in, err := os.Open(filepath.Join(os.Getenv(envBase), "clean.json"))
	require.NoError(t, err)
	defer in.Close()
	r.clean, err = lab.LoadSnapshot(in)
	require.NoError(t, err)
	return r
}

func (r *rig) mount() {
	r.t.Helper()
	var err error
	r.fs, err = lab.OpenLoopFS(r.image, filepath.Join(filepath.Dir(r.image), "mnt"))
	require.NoError(r.t, err)
	require.NoError(r.t, r.fs.Mount())
	r.t.Cleanup(func() { _ = r.fs.Close() })
}

func (r *rig) snapshot() lab.Snapshot {
	r.t.Helper()
	snap, err := lab.TakeSnapshot(r.fs.Dir())
	require.NoError(r.t, err)
	return snap
}

// run makes one run and logs its findings.
func (r *rig) run(o scrub.Options) *scrub.Summary {
	r.t.Helper()
	fs, err := ioctl.Open(r.fs.Dir())
	require.NoError(r.t, err)
	defer fs.Close()
	o.StateDir = r.state
	log := logrus.New()
	log.SetOutput(r.t.Output())
	o.Log = log
	sum, err := scrub.Run(r.t.Context(), fs, o)
	require.NoError(r.t, err)
	for _, f := range sum.Findings {
		r.t.Logf("finding %s %s %s row %d: %s; reason %q; %v; done %v; scrubs %v", f.ID, f.Outcome, f.AtFault, f.Row, f.Summary, f.Reason, f.Witnesses, f.Done, f.ScrubTypes)
	}
	r.t.Logf("exit status %d, notes %v, %d candidates, %d dropped, %d repairs", sum.ExitStatus(), sum.Notes, sum.Candidates, sum.Dropped, sum.Repairs)
	return sum
}

// offline unmounts and runs the newest xfs_repair -n; it returns what it says,
// nothing when it is content.
func (r *rig) offline() string {
	r.t.Helper()
	require.NoError(r.t, r.fs.Unmount())
	out, err := lab.SidCommand(r.t.Context(), "xfs_repair", "-n", r.image).CombinedOutput()
	if err == nil {
		return ""
	}
	var said []string
	for line := range strings.Lines(string(out)) {
		if !strings.Contains(line, "host filesystem") && !strings.Contains(line, "the image and") && !strings.HasPrefix(line, "Phase") && !strings.HasPrefix(line, "        - ") && !strings.Contains(line, "Maximum metadata LSN") {
			said = append(said, strings.TrimSpace(line))
		}
	}
	return err.Error() + ": " + strings.Join(said, " | ")
}

// harmed lists the files that read neither as before the run nor as in the
// clean image.
func harmed(clean, before, after lab.Snapshot) []string {
	broken := make(map[string]bool)
	for _, line := range lab.Diff(before, after) {
		broken[line] = true
	}
	var out []string
	for _, line := range lab.Diff(clean, after) {
		path, _, _ := strings.Cut(line, ": ")
		for b := range broken {
			if bp, _, _ := strings.Cut(b, ": "); bp == path {
				out = append(out, b+" / "+line)
			}
		}
	}
	return out
}

// cold tells whether ino is a file of the sample, which no writer touches.
func (r *rig) cold(ino ioctl.Ino) bool { return len(r.clean.PathsOf(uint64(ino))) > 0 }

// harmedCold lists the files of the sample that read otherwise than before.
func (r *rig) harmedCold(before lab.Snapshot) []string {
	r.t.Helper()
	after := r.snapshot()
	var out []string
	for _, line := range lab.Diff(before, after) {
		path, _, _ := strings.Cut(line, ": ")
		if _, ok := r.clean.Get(path); ok && path != "." {
			out = append(out, line)
		}
	}
	return out
}
