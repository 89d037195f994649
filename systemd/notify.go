package systemd

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"
)

// Notifier tells the service manager how the service is. Without one, its
// methods do nothing and return nil. It may be used by several goroutines.
//
// Source: sd_notify(3), sd_watchdog_enabled(3).
type Notifier struct {
	send     func(state string) error
	watchdog time.Duration
	warn     error
}

// NewNotifier reads from the environment where notifications go to, and how
// often the watchdog wants to hear of us.
func NewNotifier() *Notifier {
	n := &Notifier{}
	if os.Getenv("NOTIFY_SOCKET") == "" {
		return n
	}
	n.send = func(state string) error {
		_, err := daemon.SdNotify(false, state)
		if err != nil {
			return fmt.Errorf("notify the service manager: %w", err)
		}
		return nil
	}
	n.watchdog, n.warn = watchdogOf(os.Getenv("WATCHDOG_USEC"), os.Getenv("WATCHDOG_PID"), os.Getpid())
	return n
}

// watchdogOf reads the variables of the watchdog; 0 means that there is none
// for this process.
func watchdogOf(usec, pid string, self int) (time.Duration, error) {
	if usec == "" || pid != "" && pid != strconv.Itoa(self) {
		return 0, nil
	}
	n, err := strconv.ParseInt(usec, 10, 64)
	if err != nil || n <= 0 || n > int64(time.Duration(1<<62)/time.Microsecond) {
		return 0, fmt.Errorf("WATCHDOG_USEC is %q, not a number of microseconds", usec)
	}
	return time.Duration(n) * time.Microsecond, nil
}

// Active tells whether there is a service manager that listens.
func (n *Notifier) Active() bool { return n.send != nil }

// Ready says that the service works, or works again after [Notifier.Reloading].
func (n *Notifier) Ready(status string) error {
	return n.notify(daemon.SdNotifyReady, statusLine(status))
}

// Status shows one line in systemctl status.
func (n *Notifier) Status(status string) error { return n.notify(statusLine(status)) }

// Reloading says that the configuration is read anew; [Notifier.Ready] ends it.
func (n *Notifier) Reloading() error {
	now, err := monotonic()
	if err != nil {
		return err
	}
	return n.notify(daemon.SdNotifyReloading, "MONOTONIC_USEC="+strconv.FormatInt(now.Microseconds(), 10))
}

// Stopping says that the service is about to end.
func (n *Notifier) Stopping(status string) error {
	return n.notify(daemon.SdNotifyStopping, statusLine(status))
}

// Extend asks for that much more time to start or stop, from now on.
func (n *Notifier) Extend(d time.Duration) error {
	return n.notify("EXTEND_TIMEOUT_USEC=" + strconv.FormatInt(d.Microseconds(), 10))
}

// Ping tells the watchdog that work goes on.
func (n *Notifier) Ping() error { return n.notify(daemon.SdNotifyWatchdog) }

// WatchdogInterval is how long the watchdog waits for a ping; 0 means that there
// is no watchdog.
func (n *Notifier) WatchdogInterval() time.Duration { return n.watchdog }

// Warning is what is wrong with the environment that systemd passed.
func (n *Notifier) Warning() error { return n.warn }

func (n *Notifier) notify(lines ...string) error {
	if n.send == nil {
		return nil
	}
	return n.send(strings.Join(lines, "\n"))
}

// statusMax bounds the status line; systemd takes 4096 bytes a datagram.
const statusMax = 256

// statusLine makes one assignment of what could look like several.
func statusLine(status string) string {
	return "STATUS=" + cut(printable(status), statusMax)
}
