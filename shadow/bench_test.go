package shadow

import (
	"runtime"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// cpuTime is what this process has used of the processors: unlike the clock, it
// does not count what other processes take.
func cpuTime(b *testing.B) time.Duration {
	b.Helper()
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_PROCESS_CPUTIME_ID, &ts); err != nil {
		b.Fatal(err)
	}
	return time.Duration(ts.Nano())
}

// contest runs the contenders in turns, so that all of them meet the same state
// of the machine, and gives the least processor time that each one took. What
// prepare returns is run; its preparation does not count.
func contest(b *testing.B, rounds int, prepare ...func() func()) []time.Duration {
	b.Helper()
	best := make([]time.Duration, len(prepare))
	for round := range rounds {
		for i, p := range prepare {
			run := p()
			runtime.GC()
			start := cpuTime(b)
			run()
			if d := cpuTime(b) - start; round == 0 || d < best[i] {
				best[i] = d
			}
		}
	}
	return best
}

// heapInUse is the size of the live objects of the Go heap.
func heapInUse() uint64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}
