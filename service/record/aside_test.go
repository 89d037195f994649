package record

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

func aside(t *testing.T) (s *Store, main, other string) {
	t.Helper()
	main, other = filepath.Join(t.TempDir(), "state"), filepath.Join(t.TempDir(), "run")
	return New(main).WithAside(other), main, other
}

// What may not be written to the state directory is kept aside, is seen as if it
// were at home, and comes home with the next run that may.
func TestAside(t *testing.T) {
	s, main, other := aside(t)
	require.NoError(t, s.Add(run(1), []byte("one\n")))
	before := s.Stamp(uuid)
	require.NoError(t, s.AddAside(run(2), []byte("two\n")))
	assert.NotEqual(t, before, s.Stamp(uuid))

	here, err := New(main).History(uuid)
	require.NoError(t, err)
	assert.Len(t, here, 1, "nothing was written at home")
	runs, err := s.History(uuid)
	require.NoError(t, err)
	require.Len(t, runs, 2)
	assert.Equal(t, run(2).RunID, runs[1].RunID)
	assert.Equal(t, filepath.Join(other, uuid, reportsDir, runs[1].Report), s.Report(&runs[1]))
	totals, err := s.Totals(uuid)
	require.NoError(t, err)
	assert.Equal(t, uint64(1), totals.Runs[ResultClean])
	assert.Equal(t, uint64(1), totals.Runs[ResultIncomplete])

	require.NoError(t, s.Add(run(3), nil))
	here, err = New(main).History(uuid)
	require.NoError(t, err)
	require.Len(t, here, 3)
	for i, r := range here {
		assert.Equal(t, run(i+1).RunID, r.RunID, "in their order")
	}
	text, err := os.ReadFile(s.Report(&here[1]))
	require.NoError(t, err)
	assert.Equal(t, "two\n", string(text))
	assert.Equal(t, filepath.Join(main, uuid, reportsDir), filepath.Dir(s.Report(&here[1])))
	totals, err = New(main).Totals(uuid)
	require.NoError(t, err)
	assert.Equal(t, map[string]uint64{ResultClean: 1, ResultIncomplete: 2}, totals.Runs)
	left, err := filepath.Glob(filepath.Join(other, uuid, "*.json*"))
	require.NoError(t, err)
	assert.Empty(t, left)
}

// A crash on the way home leaves a run in both places: it counts as one.
func TestRunsInBothPlaces(t *testing.T) {
	s, main, _ := aside(t)
	require.NoError(t, s.AddAside(run(1), nil))
	require.NoError(t, New(main).Add(run(1), nil))
	runs, err := s.History(uuid)
	require.NoError(t, err)
	assert.Len(t, runs, 1)
	require.NoError(t, s.Add(run(2), nil))
	runs, err = New(main).History(uuid)
	require.NoError(t, err)
	assert.Len(t, runs, 2)
}

// A state directory that takes nothing: the error says why, and nothing is lost.
func TestAsideWhereThereIsNoRoom(t *testing.T) {
	s, main, other := aside(t)
	require.NoError(t, os.WriteFile(main, nil, 0o600)) // a file where the directory goes
	err := s.Add(run(1), []byte("one\n"))
	var moved *AsideError
	require.ErrorAs(t, err, &moved)
	assert.Equal(t, other, moved.Dir)
	require.ErrorIs(t, err, unix.ENOTDIR)
	runs, err := s.History(uuid)
	require.ErrorIs(t, err, unix.ENOTDIR, "what could not be read is said")
	require.Len(t, runs, 1, "and what could is there")
	assert.NotEmpty(t, s.Report(&runs[0]))

	require.NoError(t, os.Remove(main))
	require.NoError(t, s.Add(run(2), nil))
	runs, err = New(main).History(uuid)
	require.NoError(t, err)
	assert.Len(t, runs, 2)

	require.NoError(t, os.RemoveAll(main))
	require.NoError(t, os.RemoveAll(other))
	require.NoError(t, os.WriteFile(main, nil, 0o600))
	require.NoError(t, os.WriteFile(other, nil, 0o600))
	err = s.Add(run(3), nil)
	require.Error(t, err)
	assert.NotErrorAs(t, err, &moved, "kept nowhere is not kept aside")
	require.Error(t, New(main).AddAside(run(3), nil), "no place aside")
}

func TestReportNames(t *testing.T) {
	s := New(t.TempDir())
	for _, name := range []string{"", "../x", "a/b", "gone.jsonl"} {
		assert.Empty(t, s.Report(&Run{UUID: uuid, Report: name}))
	}
	assert.Empty(t, s.Report(&Run{UUID: "..", Report: "x"}))
	assert.Empty(t, s.Stamp(".."))
}
