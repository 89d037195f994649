package record

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

func TestResult(t *testing.T) {
	for _, c := range []struct {
		run     Run
		want    string
		success bool
	}{
		{Run{Complete: true}, ResultClean, true},
		{Run{Complete: true, ExitStatus: 2}, ResultWarnings, true},
		{Run{Complete: true, ExitStatus: 1}, ResultCorruption, false},
		{Run{Complete: true, ExitStatus: 3}, ResultCorruption, false},
		{Run{Complete: true, ExitStatus: 4}, ResultIncomplete, false}, // objects that were not checked
		{Run{Complete: true, ExitStatus: 5}, ResultIncomplete, false},
		{Run{ExitStatus: 0}, ResultIncomplete, false},
		{Run{Stopped: true, ExitStatus: 4}, ResultStopped, false},
	} {
		assert.Equal(t, c.want, c.run.Result(), "%+v", c.run)
		assert.Equal(t, c.success, c.run.Succeeded(), "%+v", c.run)
		assert.Contains(t, Results(), c.want)
	}
	runs := []Run{run(1), run(2), run(4)}
	runs[2].ExitStatus = 1
	assert.Equal(t, runs[1], *LastSuccess(runs))
	assert.Equal(t, runs[2], *LastComplete(runs))

	places := run(5)
	places.Complete, places.Only = false, []string{"agno 1"}
	assert.Equal(t, runs[2], *Last(append(runs, places)), "a look at a place says nothing of the rest")
	assert.Nil(t, Last([]Run{places}))
}

func calls(typ string, repair bool, buckets ...uint64) KernelCalls {
	c := KernelCalls{ScrubType: typ, Repair: repair, Bounds: []float64{0.1, 1}, Buckets: buckets}
	for _, n := range buckets {
		c.Count += n
		c.Seconds += float64(n)
	}
	return c
}

// Totals are sums over all runs, however many of them the history has dropped.
func TestTotalsNeverGoDown(t *testing.T) {
	s := New(t.TempDir())
	s.main.keepRuns = 3
	for i := range 10 {
		r := run(i)
		r.Inodes, r.CheckedBytes, r.ThrottledSeconds = 100, 1<<20, 0.5
		r.Repairs, r.RepairsFailed = 3, 1
		r.Verdicts = map[string]map[string]int{"rmapbt": {"repaired": 2, "held": i % 2}}
		r.KernelCalls = []KernelCalls{calls("rmapbt", true, 0, 1), calls("inode", false, 5, 1)}
		require.NoError(t, s.Add(r, nil))
		got, err := s.Totals(uuid)
		require.NoError(t, err)
		n := uint64(i + 1)
		assert.Equal(t, 100*n, got.Inodes)
		assert.Equal(t, n<<20, got.CheckedBytes)
		assert.Equal(t, 2*n, got.RepairsDone)
		assert.Equal(t, n, got.RepairsFailed)
		assert.Equal(t, 2*n, got.Verdicts["rmapbt"]["repaired"])
		assert.Equal(t, n/2, got.Verdicts["rmapbt"]["held"])
		assert.InDelta(t, float64(n), got.RunSeconds, 1e-9)
		assert.InDelta(t, 0.5*float64(n), got.ThrottledSeconds, 1e-9)
		require.Len(t, got.KernelCalls, 2)
		assert.Equal(t, "inode", got.KernelCalls[0].ScrubType)
		assert.Equal(t, []uint64{5 * n, n}, got.KernelCalls[0].Buckets)
		assert.Equal(t, []uint64{0, n}, got.KernelCalls[1].Buckets)
	}
	runs, err := s.History(uuid)
	require.NoError(t, err)
	assert.Len(t, runs, 3)

	// Without the file, or with one that is none, the history is what there is.
	require.NoError(t, os.WriteFile(filepath.Join(s.main.dir, uuid, totalsFile), []byte("{"), 0o600))
	got, err := s.Totals(uuid)
	require.NoError(t, err)
	assert.Equal(t, uint64(300), got.Inodes)
	_, err = s.Totals("..")
	require.ErrorIs(t, err, ErrName)
}

// Calls that another version counted with other bounds are not lost, and those
// that make no sense do no harm.
func TestKernelCallsOfOtherBounds(t *testing.T) {
	old := KernelCalls{ScrubType: "inode", Count: 7, Seconds: 7, Bounds: []float64{5}, Buckets: []uint64{7}}
	bad := KernelCalls{ScrubType: "inode", Count: 1, Bounds: []float64{5}}
	got := AddKernelCalls(nil, []KernelCalls{calls("inode", false, 1, 2), old, bad})
	require.Len(t, got, 1)
	assert.Equal(t, uint64(10), got[0].Count)
	assert.Equal(t, []uint64{1, 2}, got[0].Buckets)
}

// Against a twin that keeps a map: any order gives the same sums, and the lists
// added are not changed.
func TestAddKernelCalls(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var list []KernelCalls
		type key struct {
			typ    string
			repair bool
		}
		want := map[key][2]uint64{}
		for range rapid.IntRange(0, 20).Draw(t, "n") {
			k := key{rapid.SampledFrom([]string{"agf", "inode", "rmapbt"}).Draw(t, "type"), rapid.Bool().Draw(t, "repair")}
			a, b := rapid.Uint64Range(0, 9).Draw(t, "a"), rapid.Uint64Range(0, 9).Draw(t, "b")
			more := []KernelCalls{calls(k.typ, k.repair, a, b)}
			list = AddKernelCalls(list, more)
			require.Equal(t, []uint64{a, b}, more[0].Buckets)
			w := want[k]
			want[k] = [2]uint64{w[0] + a, w[1] + b}
		}
		require.Len(t, list, len(want))
		for i, c := range list {
			w := want[key{c.ScrubType, c.Repair}]
			require.Equal(t, []uint64{w[0], w[1]}, c.Buckets)
			if i > 0 {
				p := list[i-1]
				require.True(t, p.ScrubType < c.ScrubType || p.ScrubType == c.ScrubType && !p.Repair)
			}
		}
	})
}
