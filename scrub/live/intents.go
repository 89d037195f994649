package live

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/scrubd/scrubd/ioctl"
)

// ErrNoTracing means that there is no tracefs, or not these tracepoints, or no right to
// use them. What depends on them has to be settled otherwise.
var ErrNoTracing = errors.New("the kernel's tracepoints cannot be used")

// tracefs is where tracefs is mounted, newest place first.
var tracefs = []string{"/sys/kernel/tracing", "/sys/kernel/debug/tracing"}

// instancePrefix begins the names of our tracing instances; the process id
// follows, so that one that a crash left behind can be told and removed.
const instancePrefix = "scrubd-"

// holdEvent fires before the count of pending intents of a group goes up:
// whoever will finish a chain of transactions there announces it first.
//
// Source: fs/xfs/xfs_drain.c, fs/xfs/xfs_trace.h (xfs_group_intent_hold).
const holdEvent = "events/xfs/xfs_group_intent_hold"

// Intents watches the intents of one filesystem's allocation groups through a
// tracing instance of its own. It is used by one goroutine.
type Intents struct {
	dir string
}

// WatchIntents starts to watch the filesystem on the device dev (dev_t).
// Errors: [ErrNoTracing].
func WatchIntents(major, minor uint32) (*Intents, error) {
	root, err := findTracefs()
	if err != nil {
		return nil, err
	}
	removeStale(root)
	w := &Intents{dir: filepath.Join(root, "instances", instancePrefix+strconv.Itoa(os.Getpid()))}
	if err := os.Mkdir(w.dir, 0o700); err != nil {
		return nil, fmt.Errorf("make a tracing instance: %w: %w", ErrNoTracing, err)
	}
	// The kernel's own form of a device number, not that of stat(2).
	filter := fmt.Sprintf("dev == %d", uint64(major)<<20|uint64(minor))
	for _, set := range [][2]string{
		{"buffer_size_kb", "256"},
		{"options/overwrite", "0"},
		{holdEvent + "/filter", filter},
		{holdEvent + "/enable", "1"},
	} {
		if err := os.WriteFile(filepath.Join(w.dir, set[0]), []byte(set[1]), 0); err != nil {
			return nil, errors.Join(fmt.Errorf("set up tracing: %w: %w", ErrNoTracing, err), w.Close())
		}
	}
	return w, nil
}

func findTracefs() (string, error) {
	for _, dir := range tracefs {
		if _, err := os.Stat(filepath.Join(dir, holdEvent)); err == nil {
			return dir, nil
		}
	}
	return "", fmt.Errorf("look for %s: %w", holdEvent, ErrNoTracing)
}

// removeStale removes instances whose process is gone.
func removeStale(root string) {
	stale, err := filepath.Glob(filepath.Join(root, "instances", instancePrefix+"*"))
	if err != nil {
		return
	}
	for _, dir := range stale {
		pid := strings.TrimPrefix(filepath.Base(dir), instancePrefix)
		if _, err := os.Stat(filepath.Join("/proc", pid)); errors.Is(err, os.ErrNotExist) {
			_ = os.Remove(dir) // somebody else may be as quick
		}
	}
}

// Close ends the watch and removes the instance.
func (w *Intents) Close() error {
	if err := os.Remove(w.dir); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("remove tracing instance: %w", err)
	}
	return nil
}

// Quiet makes one observation of a group and tells whether no chain of
// transactions was under way there while it was made. drain has to wait for a
// moment without pending intents in the group ([kernel.Scrubber.Drain]): if no
// intent was announced from before that moment until after the observation,
// there was none in between.
//
// Errors: drain's and observe's; those of reading the trace.
func (w *Intents) Quiet(ctx context.Context, agno ioctl.AGNumber, drain func(context.Context, ioctl.AGNumber) error, observe func() error) (bool, error) {
	if err := os.WriteFile(filepath.Join(w.dir, "trace"), nil, 0); err != nil {
		return false, fmt.Errorf("clear the trace: %w", err)
	}
	if err := drain(ctx, agno); err != nil {
		return false, err
	}
	if err := observe(); err != nil {
		return false, err
	}
	return w.nothingHeld(agno)
}

// nothingHeld reads the trace. Events that did not fit count as seen.
func (w *Intents) nothingHeld(agno ioctl.AGNumber) (bool, error) {
	trace, err := os.ReadFile(filepath.Join(w.dir, "trace"))
	if err != nil {
		return false, fmt.Errorf("read the trace: %w", err)
	}
	held, err := parseHolds(trace, agno)
	if err != nil || held {
		return false, err
	}
	lost, err := w.lost()
	return err == nil && !lost, err
}

// parseHolds tells whether the trace has an intent of this group, or an event
// of which it cannot be told.
//
// The event's text: "dev 7:0 agno 0x1 intents 2 caller …" (the word for the
// group is that of its type, or "gno").
func parseHolds(trace []byte, agno ioctl.AGNumber) (bool, error) {
	lines := bufio.NewScanner(bytes.NewReader(trace))
	for lines.Scan() {
		line := lines.Text()
		if strings.HasPrefix(line, "#") || strings.TrimSpace(line) == "" {
			continue
		}
		number, ok := groupOf(line)
		if !ok || number == uint64(agno) {
			return true, nil
		}
	}
	if err := lines.Err(); err != nil {
		return true, fmt.Errorf("read the trace: %w", err)
	}
	return false, nil
}

// groupOf finds the group number in an event's text.
func groupOf(line string) (uint64, bool) {
	words := strings.Fields(line)
	for i := 0; i+1 < len(words); i++ {
		if strings.HasSuffix(words[i], "gno") {
			n, err := strconv.ParseUint(words[i+1], 0, 64)
			return n, err == nil
		}
	}
	return 0, false
}

// lost tells whether the ring buffers had no room for an event.
func (w *Intents) lost() (bool, error) {
	stats, err := filepath.Glob(filepath.Join(w.dir, "per_cpu", "cpu*", "stats"))
	if err != nil {
		return true, fmt.Errorf("list the trace's statistics: %w", err)
	}
	for _, file := range stats {
		text, err := os.ReadFile(file)
		if err != nil {
			return true, fmt.Errorf("read the trace's statistics: %w", err)
		}
		for line := range strings.Lines(string(text)) {
			name, value, ok := strings.Cut(strings.TrimSpace(line), ": ")
			if !ok || name != "overrun" && name != "commit overrun" && name != "dropped events" {
				continue
			}
			if value != "0" {
				return true, nil
			}
		}
	}
	return false, nil
}
