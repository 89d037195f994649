package lab

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

// EnvSlots is how many lab kernels the machine may run at once.
const EnvSlots = "SCRUBD_LAB_SLOTS"

// slotPoll is how often those who wait look for a free slot.
const slotPoll = 50 * time.Millisecond

// takeSlot waits for one of the machine's slots for a running kernel. Slots are
// locked files, so a process that dies gives its slot back.
func takeSlot(ctx context.Context) (release func(), err error) {
	count := runtime.NumCPU()
	if text := os.Getenv(EnvSlots); text != "" {
		count, err = strconv.Atoi(text)
		if err != nil || count < 1 {
			return nil, fmt.Errorf("$%s is %q: want a count from 1", EnvSlots, text)
		}
	}
	dir := filepath.Join(CacheDir(), "slots")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, fmt.Errorf("create the lab's slots: %w", err)
	}
	for {
		for i := range count {
			file, err := os.OpenFile(filepath.Join(dir, strconv.Itoa(i)), os.O_CREATE|os.O_RDWR, 0o644)
			if err != nil {
				return nil, fmt.Errorf("take a slot of the lab: %w", err)
			}
			err = unix.Flock(int(file.Fd()), unix.LOCK_EX|unix.LOCK_NB)
			if err == nil {
				return func() {
					_ = file.Close()
					// Who runs boot after boot would take it again before anybody who
					// waits has looked.
					time.Sleep(2 * slotPoll)
				}, nil
			}
			_ = file.Close()
			if !errors.Is(err, unix.EWOULDBLOCK) && !errors.Is(err, unix.EINTR) {
				return nil, fmt.Errorf("take a slot of the lab: %w", err)
			}
		}
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("wait for a slot of the lab: %w", ctx.Err())
		case <-time.After(slotPoll):
		}
	}
}
