package main

import (
	"runtime"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// A thread gets the low priority once, and keeps one that is lower.
func TestLowerThread(t *testing.T) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread() // and never unlocked: the thread ends with its priority
		tid := unix.Gettid()
		if !assert.NoError(t, lowerThread(tid)) {
			return
		}
		is, err := unix.SchedGetAttr(tid, 0)
		if !assert.NoError(t, err) {
			return
		}
		assert.EqualValues(t, unix.SCHED_BATCH, is.Policy)
		assert.EqualValues(t, politeNice, is.Nice)
		is.Nice = 19
		assert.NoError(t, unix.SchedSetAttr(tid, is, 0))
		assert.NoError(t, lowerThread(tid))
		is, err = unix.SchedGetAttr(tid, 0)
		assert.NoError(t, err)
		assert.EqualValues(t, 19, is.Nice)
	}()
	<-done
	own, err := unix.SchedGetAttr(0, 0)
	require.NoError(t, err)
	assert.NotEqualValues(t, unix.SCHED_BATCH, own.Policy, "other threads are as they were")
}
