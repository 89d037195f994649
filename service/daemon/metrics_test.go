package daemon

import (
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/scrubd/scrubd/service/config"
	"github.com/scrubd/scrubd/service/metrics"
	"github.com/scrubd/scrubd/service/record"
)

func TestMetrics(t *testing.T) {
	skip := true
	c := config.Default()
	c.Filesystems = []config.Filesystem{{Mount: "/c", Skip: &skip}}
	w := newWorld(t, t.TempDir(), c)
	for _, p := range []string{"/a", "/b", "/c"} {
		w.mount(p, "sd"+p)
	}
	w.end("/a", record.Run{Complete: true, Inodes: 5})
	w.step(0)
	known := w.now
	w.step(4 * week)
	s := w.d.Metrics(w.now)
	require.Len(t, s.Filesystems, 3)
	a, b, skipped := s.Filesystems[0], s.Filesystems[1], s.Filesystems[2]
	assert.Equal(t, uint64(5), a.Totals.Inodes)
	assert.Equal(t, StateQueued, a.State)
	assert.True(t, a.Overdue)
	assert.Equal(t, known, a.Since)
	assert.NotNil(t, a.LastSuccess)
	assert.Equal(t, known, b.Since, "since it is known")
	assert.Nil(t, b.Last)
	assert.Equal(t, StateRunning, b.State)
	assert.Equal(t, 3*week, b.OverdueAfter)
	assert.Zero(t, skipped.OverdueAfter, "nobody expects a check")
	assert.False(t, skipped.Overdue)
	for _, f := range s.Filesystems {
		assert.Contains(t, metrics.States, f.State)
	}
}

// All states of the daemon are known to the metrics.
func TestStatesOfMetrics(t *testing.T) {
	assert.Equal(t, []string{StateIdle, StateQueued, StateRunning, StatePaused, StateSkipped}, metrics.States)
}

func TestTextfileIsWritten(t *testing.T) {
	c := config.Default()
	c.TextfileDir = t.TempDir()
	name := filepath.Join(c.TextfileDir, metrics.Textfile)
	w := newWorld(t, t.TempDir(), c)
	w.mount("/a", "sda")
	w.step(0)
	require.NotEmpty(t, w.d.tell, "what was read is news")
	w.d.WriteTextfile()
	text, err := os.ReadFile(name)
	require.NoError(t, err)
	assert.Contains(t, string(text), `mountpoint="/a",state="idle"`)

	// Not while a run is at work where the file lies.
	require.NoError(t, os.Remove(name))
	number, err := deviceOf(c.TextfileDir)
	require.NoError(t, err)
	w.mounts[0].Number = number
	w.disks[number] = []string{"sda"}
	w.step(time.Second)
	require.NoError(t, w.d.Ask("/a", w.now))
	w.step(time.Second)
	w.d.WriteTextfile()
	assert.NoFileExists(t, name)
	<-w.d.tell
	w.end("/a", record.Run{Complete: true})
	w.step(time.Second)
	require.NotEmpty(t, w.d.tell, "the end of a run is news")
	w.d.WriteTextfile()
	assert.FileExists(t, name)

	// What cannot be written is said once.
	c.TextfileDir = filepath.Join(c.TextfileDir, "none")
	for range 3 {
		w.d.WriteTextfile()
	}
	assert.Equal(t, 1, strings.Count(w.log.String(), "the metrics file is not up to date"))
}

func TestMetricsOverTheSocket(t *testing.T) {
	w := newWorld(t, t.TempDir(), config.Default())
	w.mount("/a", "sda")
	w.step(0)
	c := serve(t, w.d)
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://scrubd"+pathMetrics, http.NoBody)
	require.NoError(t, err)
	answer, err := c.http.Do(r)
	require.NoError(t, err)
	defer func() { _ = answer.Body.Close() }()
	body, err := io.ReadAll(answer.Body)
	require.NoError(t, err)
	if os.Geteuid() != 0 { // as for the status
		assert.Equal(t, http.StatusForbidden, answer.StatusCode)
		return
	}
	assert.Contains(t, string(body), `scrubd_filesystem_info{device="/dev/x",mountpoint="/a"`)
}
