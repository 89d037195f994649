package daemon

import (
	"context"
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/scrubd/scrubd/service/config"
	"github.com/scrubd/scrubd/service/record"
)

// A run that a person started is seen, is in the way of others on its disks, and
// its record counts for the period.
func TestRunsByHand(t *testing.T) {
	w := newWorld(t, t.TempDir(), config.Default())
	w.mount("/a", "sda")
	w.mount("/b", "sda")
	w.step(0)
	stop, leave, err := w.d.Attend("/a", 42)
	require.NoError(t, err)
	require.NoError(t, w.d.Ask("/b", w.now))
	w.step(time.Second)
	assert.Equal(t, StateRunning, w.state("/a").State)
	assert.Equal(t, "started by hand, process 42", w.state("/a").Progress)
	assert.Equal(t, "the run of /a on the same disks", w.state("/b").Waits)
	assert.Empty(t, w.started)

	waited := make(chan Status, 1)
	go func() {
		s, err := w.d.Wait(t.Context(), "/a")
		assert.NoError(t, err)
		waited <- s
	}()
	w.end("/a", record.Run{Complete: true, Trigger: "person"})
	leave()
	w.step(time.Second)
	assert.Equal(t, "person", (<-waited).Last.Trigger)
	assert.Equal(t, []string{"/b"}, w.started, "the disk is free")
	w.end("/b", record.Run{Complete: true})
	w.step(week)
	w.step(0)
	assert.Empty(t, stop, "nobody wanted it to end")

	// One that ends without a record is no failure of the schedule.
	_, leave, err = w.d.Attend("/a", 43)
	require.NoError(t, err)
	w.step(time.Second)
	leave()
	w.step(time.Second)
	assert.Zero(t, w.d.targets[uuidOf("/a")].fails)

	_, _, err = w.d.Attend("/nowhere", 1)
	require.ErrorIs(t, err, ErrUnknown)
}

// Who wants a run to end need not know who started it.
func TestRunsByHandAreStopped(t *testing.T) {
	w := newWorld(t, t.TempDir(), config.Default())
	w.mount("/a", "sda")
	w.step(0)
	stop, leave, err := w.d.Attend("/a", 42)
	require.NoError(t, err)
	defer leave()
	w.step(0)
	require.NoError(t, w.d.Cancel(t.Context(), "/a", w.now))
	assert.Equal(t, "it was cancelled", <-stop)
	require.NoError(t, w.d.Pause(t.Context(), "/a"))
	assert.Equal(t, "it was paused", <-stop)
	assert.Empty(t, w.stopped, "there is no unit")
}

// A record that nobody told of is seen all the same.
func TestRecordsOfOthersAreSeen(t *testing.T) {
	w := newWorld(t, t.TempDir(), config.Default())
	w.mount("/a", "sda")
	w.step(0)
	w.now = w.now.Add(week)
	w.end("/a", record.Run{Complete: true})
	w.step(time.Second)
	assert.Empty(t, w.started, "it was done in this period")
	assert.NotNil(t, w.state("/a").LastComplete)
}

func TestAttendOverTheSocket(t *testing.T) {
	w := newWorld(t, t.TempDir(), config.Default())
	w.mount("/a", "sda")
	w.step(0)
	c := serve(t, w.d)
	ctx, cancel := context.WithCancel(t.Context())
	if os.Geteuid() != 0 {
		require.ErrorIs(t, c.Attend(ctx, "/a", 1, nil), ErrForbidden)
		cancel()
		return
	}
	ended, stops := make(chan error, 1), make(chan string, 1)
	go func() { ended <- c.Attend(ctx, "/a", os.Getpid(), func(why string) { stops <- why }) }()
	running := func() bool { return w.state("/a").State == StateRunning }
	require.Eventually(t, running, 10*time.Second, time.Millisecond)
	require.NoError(t, NewClient(c.socket).Cancel(t.Context(), "/a"))
	assert.Equal(t, "it was cancelled", <-stops)
	// That the process is gone shows by its connection.
	cancel()
	require.Error(t, <-ended)
	require.Eventually(t, func() bool {
		w.d.mu.Lock()
		defer w.d.mu.Unlock()
		return len(w.d.targets[uuidOf("/a")].hands) == 0
	}, 10*time.Second, time.Millisecond)
	w.step(0)
	assert.False(t, running())

	var refused *RequestError
	require.ErrorAs(t, c.Attend(t.Context(), "/nowhere", 1, nil), &refused)
	assert.Equal(t, "/nowhere: no XFS filesystem is mounted there", refused.Message)
}
