package record

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func day(n int) time.Time { return time.Date(2026, 1, n, 0, 0, 0, 0, time.UTC) }

// When each group was last found well: of those that a run says nothing of, what was
// known before stays.
func TestWellAGs(t *testing.T) {
	for _, c := range []struct {
		name      string
		old, more []WellAGs
		ags       uint32
		want      []WellAGs
		oldest    int
		unproven  uint32
	}{
		{"the first", nil, []WellAGs{{0, 9, day(1)}}, 10, []WellAGs{{0, 9, day(1)}}, 1, 0},
		{"all anew", []WellAGs{{0, 9, day(1)}}, []WellAGs{{0, 9, day(2)}}, 10, []WellAGs{{0, 9, day(2)}}, 2, 0},
		{
			"one is not well",
			[]WellAGs{{0, 9, day(1)}},
			[]WellAGs{{0, 3, day(2)}, {5, 9, day(2)}},
			10,
			[]WellAGs{{0, 3, day(2)}, {4, 4, day(1)}, {5, 9, day(2)}},
			1, 0,
		},
		{"one never was", nil, []WellAGs{{0, 3, day(2)}, {5, 9, day(2)}}, 10, []WellAGs{{0, 3, day(2)}, {5, 9, day(2)}}, 2, 1},
		{"grown", []WellAGs{{0, 9, day(1)}}, []WellAGs{{0, 11, day(2)}}, 12, []WellAGs{{0, 11, day(2)}}, 2, 0},
		{"shrunk", []WellAGs{{0, 9, day(1)}}, []WellAGs{{0, 2, day(2)}}, 5, []WellAGs{{0, 2, day(2)}, {3, 4, day(1)}}, 1, 0},
		{"older is no news", []WellAGs{{0, 9, day(3)}}, []WellAGs{{0, 9, day(2)}}, 10, []WellAGs{{0, 9, day(3)}}, 3, 0},
		{"a run that did not get through", []WellAGs{{0, 9, day(3)}}, nil, 0, []WellAGs{{0, 9, day(3)}}, 3, 0},
		{"nonsense", nil, []WellAGs{{5, 4, day(1)}, {3, 1<<32 - 1, day(1)}, {0, 2, time.Time{}}}, 10, []WellAGs{{3, 9, day(1)}}, 1, 3},
	} {
		t.Run(c.name, func(t *testing.T) {
			totals := &Totals{AGs: 10, Well: c.old}
			totals.addWell(c.ags, c.more)
			assert.Equal(t, c.want, totals.Well)
			assert.Equal(t, day(c.oldest), totals.OldestWell())
			assert.Equal(t, c.unproven, totals.UnprovenAGs())
		})
	}
	assert.True(t, (&Totals{}).OldestWell().IsZero(), "nothing is known")
}

// What is well is in the totals, also of runs whose records were aside.
func TestWellAGsAreKept(t *testing.T) {
	dir, aside := t.TempDir(), t.TempDir()
	s := New(dir).WithAside(aside)
	run := func(n int, well ...WellAGs) Run {
		return Run{RunID: "r" + string(rune('0'+n)), UUID: "u", Began: day(n), Ended: day(n), Complete: true, AGs: 4, Well: well}
	}
	require.NoError(t, s.Add(run(1, WellAGs{0, 3, day(1)}), nil))
	require.NoError(t, s.AddAside(run(2, WellAGs{0, 1, day(2)}), nil))
	got, err := s.Totals("u")
	require.NoError(t, err)
	assert.Equal(t, []WellAGs{{0, 1, day(2)}, {2, 3, day(1)}}, got.Well)
	require.NoError(t, s.Add(run(3, WellAGs{3, 3, day(3)}), nil))
	got, err = s.Totals("u")
	require.NoError(t, err)
	assert.Equal(t, []WellAGs{{0, 1, day(2)}, {2, 2, day(1)}, {3, 3, day(3)}}, got.Well)
	text, err := os.ReadFile(filepath.Join(dir, "u", historyFile))
	require.NoError(t, err)
	assert.NotContains(t, string(text), "well", "the history says it once")
}

// A run that went on where another had been stopped is as old as its oldest check.
func TestProvenSince(t *testing.T) {
	assert.Equal(t, day(5), (&Run{Began: day(5)}).ProvenSince())
	assert.Equal(t, day(2), (&Run{Began: day(5), CheckedSince: day(2)}).ProvenSince())
	assert.Equal(t, day(5), (&Run{Began: day(5), CheckedSince: day(7)}).ProvenSince(), "a clock was set")
}
