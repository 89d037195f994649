package systemd

import (
	"context"
	"time"
)

// A Pulse is how far some work is, as the watchdog sees it.
type Pulse struct {
	// Work is any number that changes when something was done.
	Work uint64
	// Call names a call in flight, "" when there is none; while its age is less
	// than CallLimit, waiting for it is work too.
	Call      string
	CallAge   time.Duration
	CallLimit time.Duration
	// Idle says that nothing is to be done.
	Idle bool
}

// Watch pings the watchdog as long as the work goes on: pulse has changed
// within the last limit, or waits for a call that may take that long, or has
// nothing to do. It returns when ctx ends; without a watchdog at once.
//
// stalled, which may be nil, is called once each time that the pings stop, with
// the call that is to blame or "".
func (n *Notifier) Watch(ctx context.Context, limit time.Duration, pulse func() Pulse, stalled func(call string)) {
	if n.watchdog == 0 {
		return
	}
	// Half the interval is what sd_watchdog_enabled(3) recommends; a third
	// leaves room for one ping that comes late.
	tick := time.NewTicker(max(n.watchdog/3, time.Millisecond))
	defer tick.Stop()
	last, changed, quiet := pulse(), time.Now(), false
	for {
		now := pulse()
		if now.Work != last.Work || now.Idle {
			changed = time.Now()
		}
		last = now
		alive := time.Since(changed) < limit || now.Call != "" && now.CallAge < now.CallLimit
		if alive {
			// Nothing can be done about a manager that does not listen.
			_ = n.Ping()
		} else if !quiet && stalled != nil {
			stalled(now.Call)
		}
		quiet = !alive
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}
