package xfile

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/scrubd/scrubd/internal/lab"
)

// Some tests need a process of their own, in a memory cgroup of its own: the
// test program starts itself with childEnv naming what to do.
const (
	childEnv  = "XFILE_TEST_CHILD"
	cgroupEnv = "XFILE_TEST_CGROUP" // the file to write the process id to
	dirEnv    = "XFILE_TEST_DIR"
)

// childLimit is the memory of the children's cgroup, and childData what they
// try to hold: far more.
const (
	childLimit = 64 << 20
	childData  = 4 * childLimit
)

// runChild does a job in a child and returns its exit status: 0 if all went as
// the parent expects.
func runChild(job string) int {
	if err := os.WriteFile(os.Getenv(cgroupEnv), []byte(strconv.Itoa(os.Getpid())), 0); err != nil {
		fmt.Fprintln(os.Stderr, "enter the cgroup:", err)
		return 2
	}
	jobs := map[string]func() error{
		"budget":   childWithBudget,
		"greedy":   childWithoutBudget,
		"sort":     childSort,
		"neighbor": childNeighbor,
	}
	if err := jobs[job](); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

// fillArray appends records until childData bytes are held or an append fails.
func fillArray(a *Array[rmapRecord]) error {
	batch := make([]rmapRecord, 1024)
	for i := uint32(0); a.Len()*24 < childData; i++ {
		for k := range batch {
			batch[k] = rmapRecord{StartBlock: (i<<10 + uint32(k)) * 2654435761, BlockCount: 1}
		}
		if err := a.Append(batch); err != nil {
			return err
		}
	}
	return nil
}

// childWithoutBudget takes memory until it is killed.
func childWithoutBudget() error {
	a, err := NewArray[rmapRecord](Options{Name: "greedy"})
	if err != nil {
		return err
	}
	return fillArray(a)
}

// childWithBudget takes memory until the budget of the system refuses, goes on
// with what it has, and with disk where the budget advises it.
func childWithBudget() error {
	b, err := SystemBudget()
	if err != nil {
		return err
	}
	a, err := NewArray[rmapRecord](Options{Name: "claims", Budget: b})
	if err != nil {
		return err
	}
	err = fillArray(a)
	var over *BudgetError
	if !errors.As(err, &over) {
		return fmt.Errorf("filled %d bytes: %w", a.Allocated(), err)
	}
	fmt.Println(over)
	if a.Allocated() < childLimit/4 {
		return fmt.Errorf("refused after %d bytes already", a.Allocated())
	}
	if b.WouldFit(childData) {
		return errors.New("all would fit, it says")
	}
	if err := a.Sort(context.Background(), compareRmap); err != nil {
		return err
	}
	advice, err := b.Advise(childData, childData/10, os.Getenv(dirEnv))
	if err != nil {
		return err
	}
	if advice.Place != Disk || advice.AtOnce != childData {
		return fmt.Errorf("advice: %+v", advice)
	}
	if err := a.Close(); err != nil {
		return err
	}
	d, err := NewArray[rmapRecord](Options{Name: "claims", Budget: b, Dir: advice.Dir})
	if err != nil {
		return err
	}
	if err := fillArray(d); err != nil {
		return err
	}
	return d.Close()
}

// childNeighbor has someone else in the cgroup take what the budget saw as
// free: the next readings notice.
func childNeighbor() error {
	b, err := SystemBudget()
	if err != nil {
		return err
	}
	other, err := New(Options{Name: "neighbor"})
	if err != nil {
		return err
	}
	if _, err := other.AllocPages(childLimit / 3 / PageSize); err != nil {
		return err
	}
	a, err := NewArray[rmapRecord](Options{Name: "claims", Budget: b})
	if err != nil {
		return err
	}
	if err := fillArray(a); !errors.Is(err, ErrBudget) {
		return fmt.Errorf("filled %d bytes: %w", a.Allocated(), err)
	}
	if a.Allocated() > childLimit*2/3 {
		return fmt.Errorf("%d bytes taken beside the neighbor's", a.Allocated())
	}
	return nil
}

// childSort sorts four times what its cgroup lets it hold, on disk.
func childSort() error {
	a, err := NewArray[rmapRecord](Options{Name: "sorted", Dir: os.Getenv(dirEnv)})
	if err != nil {
		return err
	}
	if err := fillArray(a); err != nil {
		return err
	}
	n := a.Len()
	start := time.Now()
	key := func(r *rmapRecord) uint64 { return uint64(r.StartBlock) }
	if err := a.SortKeyed(context.Background(), key, compareRmap); err != nil {
		return err
	}
	fmt.Printf("sorted %d MiB within %d MiB in %v\n", n*24>>20, childLimit>>20, time.Since(start).Round(time.Millisecond))
	var last uint32
	for c, err := range a.Chunks(context.Background()) {
		if err != nil {
			return err
		}
		for i := range c {
			if c[i].StartBlock < last {
				return fmt.Errorf("not sorted: %d after %d", c[i].StartBlock, last)
			}
			last = c[i].StartBlock
		}
		n -= int64(len(c))
	}
	if n != 0 {
		return fmt.Errorf("%d records lost", n)
	}
	return a.Close()
}

// memoryCgroup makes a memory cgroup with a hard limit and no swap, and returns
// the file that takes the ids of its members. It lies at the top of the
// hierarchy, where the rule that only leaves have members does not stand in the
// way.
func memoryCgroup(t *testing.T, limit int64) string {
	t.Helper()
	groups, err := memoryGroups(os.DirFS("/"))
	require.NoError(t, err)
	var top string
	var v1 bool
	for _, g := range groups {
		// The last level that belongs to a controller that works here.
		dir := "/" + g.dir
		if b, err := os.ReadFile(filepath.Join(dir, "cgroup.subtree_control")); g.v1 || err == nil && strings.Contains(string(b), "memory") {
			top, v1 = dir, g.v1
		}
	}
	require.NotEmpty(t, top, "this test needs a memory cgroup controller")
	dir := filepath.Join(top, fmt.Sprintf("xfile-test-%d", os.Getpid()))
	require.NoError(t, os.Mkdir(dir, 0o755))
	t.Cleanup(func() {
		// The kernel lets go of the members a moment after they are reaped.
		require.Eventually(t, func() bool { return syscall.Rmdir(dir) == nil }, 5*time.Second, 10*time.Millisecond)
	})
	set := func(name string, n int64) error {
		return os.WriteFile(filepath.Join(dir, name), []byte(strconv.FormatInt(n, 10)), 0)
	}
	if v1 {
		require.NoError(t, set("memory.limit_in_bytes", limit))
		_ = set("memory.memsw.limit_in_bytes", limit) // not there without swap accounting
	} else {
		require.NoError(t, set("memory.max", limit))
		_ = set("memory.swap.max", 0)
	}
	return filepath.Join(dir, "cgroup.procs")
}

// child runs a job in a cgroup of childLimit bytes.
func child(t *testing.T, job string) (out string, state *os.ProcessState) {
	t.Helper()
	lab.Require(t, lab.Root)
	self, err := os.Executable()
	require.NoError(t, err)
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, self)
	cmd.Env = append(os.Environ(), childEnv+"="+job, cgroupEnv+"="+memoryCgroup(t, childLimit), dirEnv+"="+t.TempDir(), "GOCOVERDIR="+t.TempDir())
	b, err := cmd.CombinedOutput()
	require.NotNil(t, cmd.ProcessState, "%v", err)
	require.NoError(t, ctx.Err())
	return string(b), cmd.ProcessState
}

// TestCgroupKills shows what the budget is for: a memfd over the limit of its
// cgroup is no error, it is the end.
func TestCgroupKills(t *testing.T) {
	out, state := child(t, "greedy")
	status, ok := state.Sys().(syscall.WaitStatus)
	require.True(t, ok)
	require.True(t, status.Signaled(), "%v: %s", state, out)
	require.Equal(t, syscall.SIGKILL, status.Signal())
}

// TestBudgetRefuses is the same with a budget: an error with the numbers, and
// the process goes on, to disk.
func TestBudgetRefuses(t *testing.T) {
	out, state := child(t, "budget")
	require.Zero(t, state.ExitCode(), "%v: %s", state, out)
	require.Contains(t, out, "for claims: over the memory budget: ")
	require.Contains(t, out, "xfile-test-")
	t.Log(out)
}

func TestBudgetSeesNeighbors(t *testing.T) {
	out, state := child(t, "neighbor")
	require.Zero(t, state.ExitCode(), "%v: %s", state, out)
}

// TestSortOutOfCore sorts four times its memory.
func TestSortOutOfCore(t *testing.T) {
	out, state := child(t, "sort")
	require.Zero(t, state.ExitCode(), "%v: %s", state, out)
	t.Log(out)
}
