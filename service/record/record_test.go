package record

import (
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

const uuid = "0d0a5f11-5d5c-4a7e-9d0b-f0ddc0ffee00"

func run(i int) Run {
	began := time.Date(2026, 11, 1, 0, 0, 0, 0, time.UTC).Add(time.Duration(i) * time.Minute)
	return Run{
		RunID: fmt.Sprintf("%016x", i), UUID: uuid, Mount: "/srv", Device: "/dev/sda", Mode: "repair",
		Began: began, Ended: began.Add(time.Second), Complete: i%2 == 0, Findings: map[string]int{"held": i},
	}
}

func TestHistory(t *testing.T) {
	s := New(filepath.Join(t.TempDir(), "state"))
	runs, err := s.History(uuid)
	require.NoError(t, err)
	assert.Empty(t, runs)
	assert.Nil(t, LastComplete(runs))
	for i := 1; i <= 3; i++ {
		require.NoError(t, s.Add(run(i), []byte("report\n")))
	}
	runs, err = s.History(uuid)
	require.NoError(t, err)
	require.Len(t, runs, 3)
	want := run(2)
	want.Report = "20261101T000200Z-0000000000000002.jsonl"
	assert.Equal(t, want, runs[1])
	assert.Equal(t, want, *LastComplete(runs))
	text, err := os.ReadFile(filepath.Join(s.Reports(uuid), want.Report))
	require.NoError(t, err)
	assert.Equal(t, "report\n", string(text))
	list, err := s.Filesystems()
	require.NoError(t, err)
	assert.Equal(t, []string{uuid}, list)
}

func TestHistoryIsBounded(t *testing.T) {
	s := New(t.TempDir())
	s.main.keepRuns, s.main.keepReports = 12, 5
	for i := range s.main.keepRuns + 5 {
		var report []byte
		if i < s.main.keepReports+2 {
			report = []byte("x")
		}
		require.NoError(t, s.Add(run(i), report))
	}
	runs, err := s.History(uuid)
	require.NoError(t, err)
	require.Len(t, runs, s.main.keepRuns)
	assert.Equal(t, run(5).RunID, runs[0].RunID)
	reports, err := os.ReadDir(s.Reports(uuid))
	require.NoError(t, err)
	require.Len(t, reports, s.main.keepReports)
	assert.Contains(t, reports[0].Name(), run(2).RunID)

	old := filepath.Join(s.Reports(uuid), reports[3].Name())
	past := time.Now().Add(-2 * keepAge)
	require.NoError(t, os.Chtimes(old, past, past))
	require.NoError(t, s.Add(run(99), []byte("x")))
	assert.NoFileExists(t, old)
}

// What a crash or a person did to the file costs no more than the lines.
func TestHistoryThatIsDamaged(t *testing.T) {
	s := New(t.TempDir())
	require.NoError(t, s.Add(run(1), nil))
	name := filepath.Join(s.main.dir, uuid, historyFile)
	text, err := os.ReadFile(name)
	require.NoError(t, err)
	text = append(append([]byte("{\"uuid\":\n\x00garbage\n[]\n{}\n"), text...), []byte(`{"half":`)...)
	require.NoError(t, os.WriteFile(name, text, 0o600))
	require.NoError(t, s.Add(run(2), nil))
	runs, err := s.History(uuid)
	require.NoError(t, err)
	require.Len(t, runs, 2)
	assert.Equal(t, run(2), runs[1])
}

func TestNames(t *testing.T) {
	s := New(t.TempDir())
	for _, bad := range []string{"", "..", "a/b", ".hidden", "-x"} {
		r := run(1)
		r.UUID = bad
		require.ErrorIs(t, s.Add(r, nil), ErrName)
		r = run(1)
		r.RunID = bad
		require.ErrorIs(t, s.Add(r, nil), ErrName)
		_, err := s.History(bad)
		require.ErrorIs(t, err, ErrName)
	}
}

func TestManyAtOnce(t *testing.T) {
	s := New(t.TempDir())
	var wg sync.WaitGroup
	for i := range 20 {
		wg.Go(func() { assert.NoError(t, s.Add(run(i), nil)) })
	}
	wg.Wait()
	runs, err := s.History(uuid)
	require.NoError(t, err)
	assert.Len(t, runs, 20)
}

// A full disk: the error says so, and the history that was there is still there.
func TestNoRoom(t *testing.T) {
	dir := t.TempDir()
	s := New(dir)
	require.NoError(t, s.Add(run(1), nil))
	var was unix.Rlimit
	require.NoError(t, unix.Getrlimit(unix.RLIMIT_FSIZE, &was))
	// A limit on the size of files fails the write half way, as a full disk does.
	require.NoError(t, unix.Setrlimit(unix.RLIMIT_FSIZE, &unix.Rlimit{Cur: 100, Max: was.Max}))
	err := s.Add(run(2), make([]byte, 1000))
	require.NoError(t, unix.Setrlimit(unix.RLIMIT_FSIZE, &was))
	require.ErrorIs(t, err, unix.EFBIG)
	runs, err := s.History(uuid)
	require.NoError(t, err)
	assert.Equal(t, []Run{run(1)}, runs)
	left, err := filepath.Glob(filepath.Join(dir, uuid, ".new-*"))
	require.NoError(t, err)
	assert.Empty(t, left)
}
