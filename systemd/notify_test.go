package systemd

import (
	"context"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// manager listens as systemd does.
func manager(t *testing.T) (receive func() string) {
	t.Helper()
	name := filepath.Join(t.TempDir(), "notify")
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: name, Net: "unixgram"})
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, conn.Close()) })
	t.Setenv("NOTIFY_SOCKET", name)
	return func() string {
		buf := make([]byte, 8192)
		n, _, err := conn.ReadFromUnix(buf)
		require.NoError(t, err)
		return string(buf[:n])
	}
}

func TestNotifier(t *testing.T) {
	receive := manager(t)
	t.Setenv("WATCHDOG_USEC", "30000000")
	t.Setenv("WATCHDOG_PID", strconv.Itoa(os.Getpid()))
	n := NewNotifier()
	require.True(t, n.Active())
	require.NoError(t, n.Warning())
	assert.Equal(t, 30*time.Second, n.WatchdogInterval())
	for _, c := range []struct {
		do   func() error
		want string
	}{
		{func() error { return n.Ready("walking") }, "READY=1\nSTATUS=walking"},
		{func() error { return n.Status("50%\nMAINPID=1") }, `STATUS=50%\x0aMAINPID=1`},
		{func() error { return n.Stopping("after the repair") }, "STOPPING=1\nSTATUS=after the repair"},
		{func() error { return n.Extend(90 * time.Second) }, "EXTEND_TIMEOUT_USEC=90000000"},
		{n.Ping, "WATCHDOG=1"},
	} {
		require.NoError(t, c.do())
		assert.Equal(t, c.want, receive())
	}
	require.NoError(t, n.Reloading())
	assert.Regexp(t, `^RELOADING=1\nMONOTONIC_USEC=[1-9]\d+$`, receive())
	require.NoError(t, n.Status(strings.Repeat("ü", 5000)))
	got := receive()
	assert.LessOrEqual(t, len(got), statusMax+len("STATUS="))
	assert.True(t, strings.HasSuffix(got, "ü…"), got)

	require.NoError(t, os.Remove(os.Getenv("NOTIFY_SOCKET")))
	require.ErrorContains(t, n.Ping(), "notify the service manager: ")
}

func TestNotifierWithoutManager(t *testing.T) {
	t.Setenv("NOTIFY_SOCKET", "")
	t.Setenv("WATCHDOG_USEC", "1000")
	n := NewNotifier()
	assert.False(t, n.Active())
	assert.Zero(t, n.WatchdogInterval())
	require.NoError(t, n.Ready("x"))
	n.Watch(t.Context(), time.Second, func() Pulse { t.Error("asked"); return Pulse{} }, nil)
}

func TestWatchdogVariables(t *testing.T) {
	for _, c := range []struct {
		usec, pid string
		want      time.Duration
		bad       bool
	}{
		{"", "", 0, false},
		{"1000000", "", time.Second, false},
		{"1000000", "7", time.Second, false},
		{"1000000", "8", 0, false}, // for another process
		{"0", "", 0, true},
		{"-5", "", 0, true},
		{"x", "", 0, true},
		{"9223372036854775807", "", 0, true},
	} {
		got, err := watchdogOf(c.usec, c.pid, 7)
		assert.Equal(t, c.want, got, c)
		assert.Equal(t, c.bad, err != nil, c)
	}
}

// watched is a run of Watch in a bubble: pings counts them.
func watched(t *testing.T, pulse func() Pulse) (pings *int, stalls *[]string) {
	t.Helper()
	pings, stalls = new(int), new([]string)
	n := &Notifier{watchdog: 30 * time.Second, send: func(s string) error {
		assert.Equal(t, "WATCHDOG=1", s)
		*pings++
		return nil
	}}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		n.Watch(ctx, time.Minute, pulse, func(call string) { *stalls = append(*stalls, call) })
		close(done)
	}()
	t.Cleanup(func() { cancel(); <-done })
	return pings, stalls
}

func TestWatch(t *testing.T) {
	t.Run("work goes on", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			var work uint64
			pings, stalls := watched(t, func() Pulse { work++; return Pulse{Work: work} })
			time.Sleep(10 * time.Minute)
			synctest.Wait()
			assert.Equal(t, 61, *pings)
			assert.Empty(t, *stalls)
		})
	})
	t.Run("idle", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			pings, _ := watched(t, func() Pulse { return Pulse{Idle: true} })
			time.Sleep(10 * time.Minute)
			synctest.Wait()
			assert.Equal(t, 61, *pings)
		})
	})
	t.Run("nothing goes on", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			began := time.Now()
			var work uint64 = 1
			pings, stalls := watched(t, func() Pulse {
				if time.Since(began) > 5*time.Minute {
					return Pulse{Work: work + 1}
				}
				return Pulse{Work: work}
			})
			time.Sleep(5 * time.Minute)
			synctest.Wait()
			assert.Equal(t, 6, *pings, "within the limit, and then no more")
			assert.Equal(t, []string{""}, *stalls)
			time.Sleep(30 * time.Second)
			synctest.Wait()
			assert.Greater(t, *pings, 6, "work again")
		})
	})
	t.Run("a call in flight", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			began := time.Now()
			pings, stalls := watched(t, func() Pulse {
				return Pulse{Call: "repair rmapbt AG 3", CallAge: time.Since(began), CallLimit: 10 * time.Minute}
			})
			time.Sleep(10*time.Minute - time.Second)
			synctest.Wait()
			assert.Equal(t, 60, *pings)
			time.Sleep(5 * time.Minute)
			synctest.Wait()
			assert.Equal(t, 60, *pings)
			assert.Equal(t, []string{"repair rmapbt AG 3"}, *stalls)
		})
	})
}
