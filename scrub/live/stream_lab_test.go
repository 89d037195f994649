package live

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/scrubd/scrubd/internal/lab"
	"github.com/scrubd/scrubd/ioctl"
	"github.com/scrubd/scrubd/scrub/witness"
	"github.com/scrubd/scrubd/shadow"
)

// cell is one block of a group as one owner has it: the dumb twin of an rmapbt
// is a set of them.
type cell struct {
	agno         ioctl.AGNumber
	block        uint32
	owner, place uint64
}

// twin is a Feed that keeps the rmapbts block by block.
type twin struct {
	mu      sync.Mutex
	cells   map[cell]bool
	misfits []string
	lost    int
	repairs map[ioctl.AGNumber]int
	ops     map[Op]int
}

func newTwin() *twin {
	return &twin{cells: make(map[cell]bool), repairs: make(map[ioctl.AGNumber]int), ops: make(map[Op]int)}
}

func eachCell(agno ioctl.AGNumber, r shadow.Rmap, do func(cell)) {
	for i := range r.BlockCount {
		c := cell{agno, r.StartBlock + i, r.Owner, r.Offset}
		if r.HasOffset() {
			c.place += uint64(i)
		}
		do(c)
	}
}

func (w *twin) Add(changes []Change) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, ch := range changes {
		w.ops[ch.Op]++
		eachCell(ch.AGNo, ch.Rmap, func(c cell) {
			if w.cells[c] != (ch.Op != OpMap) {
				w.misfits = append(w.misfits, fmt.Sprintf("%v AG %d %v: block %d", ch.Op, ch.AGNo, ch.Rmap, c.block))
			}
			delete(w.cells, c)
			if ch.Op == OpConvert {
				c.place ^= shadow.OffsetUnwritten
			}
			if ch.Op != OpUnmap {
				w.cells[c] = true
			}
		})
	}
	return nil
}

func (w *twin) Lost() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.lost++
}

func (w *twin) Invalidate(g Group) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.repairs[g.AGNo]++
}

// rmapbts reads all of them, block by block.
func rmapbts(t *testing.T, x *ioctl.FS) map[cell]bool {
	t.Helper()
	all := make(map[cell]bool)
	buf := ioctl.NewFSMapBuffer(2048)
	for agno := range ioctl.AGNumber(x.Geometry().AGCount) {
		for recs, err := range witness.RmapView(t.Context(), x, agno, buf) {
			require.NoError(t, err)
			for _, r := range recs {
				eachCell(agno, r, func(c cell) { all[c] = true })
			}
		}
	}
	return all
}

func requireCells(t *testing.T, want, got map[cell]bool) {
	t.Helper()
	var wrong []cell
	for c := range want {
		if !got[c] {
			wrong = append(wrong, c)
		}
	}
	missing := len(wrong)
	for c := range got {
		if !want[c] {
			wrong = append(wrong, c)
		}
	}
	require.Empty(t, wrong[:min(10, len(wrong))], "the first %d are missing, of %d that differ", missing, len(wrong))
}

func labFS(t *testing.T) (*lab.LoopFS, *ioctl.FS) {
	t.Helper()
	fs := lab.NewLoopFS(t, lab.MkfsOptions{Args: []string{"-d", "agcount=3", "-m", "rmapbt=1,reflink=1"}})
	x, err := ioctl.Open(fs.Dir())
	require.NoError(t, err)
	t.Cleanup(func() { _ = x.Close() })
	return fs, x
}

func startStream(t *testing.T, x *ioctl.FS, o Options) *Stream {
	t.Helper()
	s, err := Start(x, o)
	require.NoError(t, err)
	t.Cleanup(func() {
		require.NoError(t, s.Close())
		assert.NoDirExists(t, s.inst.dir)
	})
	return s
}

// TestLabStream: what the stream delivers, applied to what the rmapbts were,
// gives what they are: block by block, all owners. Two filesystems are told
// apart; nothing of it needs luck with the scheduler.
func TestLabStream(t *testing.T) {
	lab.InKernel(t, func(t *testing.T) {
		fs, x := labFS(t)
		_, other := labFS(t)
		w, idle := newTwin(), newTwin()
		s := startStream(t, x, Options{Feed: w})
		quiet := startStream(t, other, Options{Feed: idle})
		require.NoError(t, fs.Sync())
		require.NoError(t, x.FlushInodegc())
		require.NoError(t, s.Sync(t.Context()))
		w.cells, w.misfits = rmapbts(t, x), nil

		t.Run("what was just done", func(t *testing.T) { told(t, fs, s, w) })
		t.Run("busy", func(t *testing.T) {
			var wg sync.WaitGroup
			for seed := range uint64(4) {
				wg.Go(func() { assert.NoError(t, write(fs.Path(fmt.Sprintf("w%d", seed)), seed, 100)) })
			}
			wg.Wait()
			require.NoError(t, fs.Sync())
			require.NoError(t, x.FlushInodegc())
			require.NoError(t, s.Sync(t.Context()))
			assert.Empty(t, w.misfits[:min(len(w.misfits), 10)])
			assert.Zero(t, w.lost)
			requireCells(t, rmapbts(t, x), w.cells)
			t.Logf("%v; %+v", w.ops, s.Stats())
			for _, op := range []Op{OpMap, OpUnmap, OpConvert} {
				assert.Greater(t, w.ops[op], 30, "%v", op)
			}
		})
		require.NoError(t, quiet.Sync(t.Context()))
		assert.Empty(t, idle.ops, "another filesystem's")
		t.Run("foreign", func(t *testing.T) { foreign(t, x, s, w) })
		t.Run("loss", func(t *testing.T) { loss(t, fs, x) })
		t.Run("quiet moments", func(t *testing.T) { moments(t, fs, x, s) })
		t.Run("left behind", func(t *testing.T) { leftBehind(t, x) })
	})
}

// told: the events are those of what the test has just done to one file.
func told(t *testing.T, fs *lab.LoopFS, s *Stream, w *twin) {
	file, err := os.Create(fs.Path("told"))
	require.NoError(t, err)
	defer file.Close()
	var st unix.Stat_t
	require.NoError(t, unix.Fstat(int(file.Fd()), &st))
	fd := int(file.Fd())
	// blocks of the file by state, as the twin has it
	blocks := func() (written, unwritten int) {
		require.NoError(t, file.Sync())
		require.NoError(t, s.Sync(t.Context()))
		w.mu.Lock()
		defer w.mu.Unlock()
		for c := range w.cells {
			switch {
			case c.owner != st.Ino:
			case c.place&shadow.OffsetUnwritten != 0:
				unwritten++
			default:
				written++
			}
		}
		return written, unwritten
	}
	expect := func(what string, wantWritten, wantUnwritten int) {
		t.Helper()
		written, unwritten := blocks()
		assert.Equal(t, [2]int{wantWritten, wantUnwritten}, [2]int{written, unwritten}, what)
	}
	expect("created", 0, 0)
	require.NoError(t, unix.Fallocate(fd, 0, 0, 16<<12))
	expect("allocated", 0, 16)
	_, err = file.WriteAt(make([]byte, 4<<12), 0)
	require.NoError(t, err)
	expect("4 blocks written", 4, 12)
	require.NoError(t, unix.Fallocate(fd, unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, 1<<12, 7<<12))
	expect("7 blocks punched", 1, 8)

	clone, err := os.Create(fs.Path("clone"))
	require.NoError(t, err)
	defer clone.Close()
	require.NoError(t, unix.IoctlFileClone(int(clone.Fd()), fd))
	require.NoError(t, unix.Fstat(int(clone.Fd()), &st))
	expect("the clone has what was written", 1, 0)
	require.NoError(t, file.Close())
	require.NoError(t, os.Remove(file.Name()))
	require.NoError(t, os.Remove(clone.Name()))
	require.NoError(t, clone.Close())
	require.NoError(t, fs.Sync())
}

// write makes rounds of random changes in a directory.
func write(dir string, seed uint64, rounds int) error {
	if err := os.Mkdir(dir, 0o755); err != nil {
		return err
	}
	rng := rand.New(rand.NewPCG(seed, 3))
	data := make([]byte, 1<<20)
	for i := range data {
		data[i] = byte(rng.Uint32())
	}
	base := filepath.Join(dir, "base")
	if err := os.WriteFile(base, data, 0o644); err != nil {
		return err
	}
	from, err := os.Open(base)
	if err != nil {
		return err
	}
	defer from.Close()
	if err := from.Sync(); err != nil { // clones take what is on the disk
		return err
	}
	for range rounds {
		name := filepath.Join(dir, fmt.Sprint(rng.IntN(12)))
		if rng.IntN(4) == 0 {
			if err := os.Remove(name); err != nil && !errors.Is(err, os.ErrNotExist) {
				return err
			}
			continue
		}
		if err := change(name, int(from.Fd()), rng, data); err != nil {
			return err
		}
	}
	return nil
}

func change(name string, from int, rng *rand.Rand, data []byte) error {
	file, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		return err
	}
	defer file.Close()
	fd := int(file.Fd())
	at, n := int64(rng.IntN(64))<<12, int64(1+rng.IntN(32))<<12
	switch rng.IntN(7) {
	case 0:
		_, err = file.WriteAt(data[:n], at)
	case 1:
		if _, err = file.WriteAt(data[:n], at); err == nil {
			err = file.Sync()
		}
	case 2:
		err = unix.Fallocate(fd, 0, at, n)
	case 3:
		err = unix.Fallocate(fd, unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, at, n)
	case 4:
		err = unix.IoctlFileCloneRange(fd, &unix.FileCloneRange{Src_fd: int64(from), Src_offset: uint64(at), Src_length: uint64(n), Dest_offset: uint64(at)})
	case 5:
		err = unix.Fsetxattr(fd, "user.x", data[:200+rng.IntN(3000)], 0)
	case 6:
		err = file.Truncate(at)
	}
	return err
}

// helperEnv makes the test binary do one thing for a test, as a process of its own.
const helperEnv = "SCRUBD_LIVE_TEST_HELPER"

// TestMain is the way in for the helpers.
func TestMain(m *testing.M) {
	what, path, ok := cutHelper(os.Getenv(helperEnv))
	if !ok {
		os.Exit(m.Run())
	}
	if err := help(what, path); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(0)
}

func cutHelper(s string) (what, path string, ok bool) {
	for i := range s {
		if s[i] == ':' {
			return s[:i], s[i+1:], true
		}
	}
	return "", "", false
}

func help(what, path string) error {
	x, err := ioctl.Open(path)
	if err != nil {
		return err
	}
	defer x.Close()
	switch what {
	case "repair":
		if _, err := x.Scrub(ioctl.ScrubRequest{Type: ioctl.ScrubTypeAGFL, AGNo: 1, Flags: ioctl.ScrubRepair | ioctl.ScrubForceRebuild}); err != nil {
			return err
		}
		_, err = x.Scrub(ioctl.ScrubRequest{Type: ioctl.ScrubTypeINODE})
		return err
	case "listen":
		s, err := Start(x, Options{Feed: newTwin()})
		if err != nil {
			return err
		}
		fmt.Fprintln(os.Stderr, s.inst.dir)
		select {} // until it is killed
	}
	return fmt.Errorf("cannot help with %q", what)
}

func helper(t *testing.T, what, path string) *exec.Cmd {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), os.Args[0])
	cmd.Env = append(os.Environ(), helperEnv+"="+what+":"+path)
	return cmd
}

// foreign: somebody else repairs and scrubs; we do too.
func foreign(t *testing.T, x *ioctl.FS, s *Stream, w *twin) {
	_, err := x.Scrub(ioctl.ScrubRequest{Type: ioctl.ScrubTypeAGF, AGNo: 2})
	require.NoError(t, err)
	out, err := helper(t, "repair", x.Path()).CombinedOutput()
	require.NoError(t, err, "%s", out)
	require.NoError(t, s.Sync(t.Context()))
	assert.Equal(t, map[ioctl.AGNumber]int{1: 1}, w.repairs)
	var all []Foreign
	for _, f := range s.Foreign() {
		assert.NotZero(t, f.PID)
		assert.NotZero(t, f.Time)
		f.PID, f.Time = 0, 0
		all = append(all, f)
	}
	assert.Equal(t, []Foreign{
		{Type: ioctl.ScrubTypeAGFL, AGNo: 1},
		{Type: ioctl.ScrubTypeAGFL, AGNo: 1, Repair: true},
	}, all)
}

// loss: a buffer that is too small for what is written is noticed, and the
// stream goes on.
func loss(t *testing.T, fs *lab.LoopFS, x *ioctl.FS) {
	w := newTwin()
	s := startStream(t, x, Options{Feed: w, BufferKiB: 8})
	s.mu.Lock() // nobody reads meanwhile
	err := errors.Join(write(fs.Path("loss"), 9, 1500), fs.Sync())
	s.mu.Unlock()
	require.NoError(t, err)
	require.NoError(t, s.Sync(t.Context()))
	assert.Positive(t, w.lost)
	assert.Positive(t, s.Stats().Losses)

	lost := w.lost
	require.NoError(t, s.Sync(t.Context()))
	require.NoError(t, os.WriteFile(fs.Path("after"), []byte("x"), 0o644))
	require.NoError(t, fs.Sync())
	require.NoError(t, s.Sync(t.Context()))
	assert.Equal(t, lost, w.lost, "nothing is lost any more")
}

// moments: an observation in which a file gets and loses blocks is not quiet;
// one in which nothing happens is, however busy the filesystem was before, and
// is among other groups.
func moments(t *testing.T, fs *lab.LoopFS, x *ioctl.FS, s *Stream) {
	drain := func(_ context.Context, agno ioctl.AGNumber) error {
		_, err := x.Scrub(ioctl.ScrubRequest{Type: ioctl.ScrubTypeAGFL, AGNo: agno})
		return err
	}
	file, err := os.Create(fs.Path("moments"))
	require.NoError(t, err)
	defer file.Close()
	var st unix.Stat_t
	require.NoError(t, unix.Fstat(int(file.Fd()), &st))
	geo := x.Geometry()
	var home ioctl.AGNumber // files have their blocks near their inodes
	for st.Ino >= uint64(geo.AGToIno(home+1, 0, 0)) {
		home++
	}
	busily := func() error {
		for range 20 {
			if err := unix.Fallocate(int(file.Fd()), 0, 0, 1<<20); err != nil {
				return err
			}
			if err := file.Truncate(0); err != nil {
				return err
			}
		}
		return nil
	}
	quiet, err := s.Quiet(t.Context(), Group{AGNo: home}, drain, busily)
	require.NoError(t, err)
	assert.False(t, quiet)
	quiet, err = s.Quiet(t.Context(), Group{AGNo: (home + 1) % 3}, drain, busily)
	require.NoError(t, err)
	assert.True(t, quiet, "another group")

	ctx, stop := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() {
		for ctx.Err() == nil && busily() == nil {
		}
	})
	found, tries := 0, 0
	for ; tries < 300 && found < 5; tries++ {
		quiet, err = s.Quiet(t.Context(), Group{AGNo: home}, drain, func() error { return nil })
		require.NoError(t, err)
		if quiet {
			found++
		}
	}
	stop()
	wg.Wait()
	t.Logf("%d quiet moments in %d tries beside a writer of the group", found, tries)
	require.NoError(t, fs.Sync())
	quiet, err = s.Quiet(t.Context(), Group{AGNo: home}, drain, func() error { return nil })
	require.NoError(t, err)
	assert.True(t, quiet)
}

// leftBehind: a process that is killed leaves its instance; the next one
// removes it, and not those that are in use. Where tracefs cannot be used a
// stream says so.
func leftBehind(t *testing.T, x *ioctl.FS) {
	cmd := helper(t, "listen", x.Path())
	stderr, err := cmd.StderrPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	line, err := bufio.NewReader(stderr).ReadString('\n')
	require.NoError(t, err)
	dir := line[:len(line)-1]
	require.DirExists(t, dir)
	assert.Zero(t, RemoveStale(), "it lives")
	require.Error(t, os.Remove(dir), "the kernel keeps one that is open")
	require.NoError(t, cmd.Process.Kill())
	require.Error(t, cmd.Wait())
	require.DirExists(t, dir)
	assert.Equal(t, 1, RemoveStale())
	assert.NoDirExists(t, dir)

	require.NoError(t, unix.Mount("", tracefs[0], "", unix.MS_REMOUNT|unix.MS_RDONLY, ""))
	_, err = Start(x, Options{})
	require.ErrorIs(t, err, ErrNoTracing)
	require.NoError(t, unix.Mount("", tracefs[0], "", unix.MS_REMOUNT, ""))
}
