package live

import (
	"errors"
	"fmt"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// cpuBuffer is the ring buffer of one CPU.
type cpuBuffer struct {
	fd, stats int
	page      []byte
	at        pageReader
	next      event // decoded, not delivered
	has       bool  // next is there
	read      bool  // something was read in this round
	drained   bool  // found empty in this round
	lost      uint64
}

// openBuffers opens the buffers of all CPUs, also of those that are not online
// and may come.
func openBuffers(i *instance, pageSize int) ([]*cpuBuffer, error) {
	dirs, err := filepath.Glob(i.path("per_cpu", "cpu*"))
	if err != nil || len(dirs) == 0 {
		return nil, fmt.Errorf("look for the ring buffers: %w", ErrNoTracing)
	}
	var all []*cpuBuffer
	for _, dir := range dirs {
		b := &cpuBuffer{fd: -1, stats: -1, page: make([]byte, pageSize)}
		all = append(all, b)
		open := func(file string) (int, error) {
			fd, err := unix.Open(filepath.Join(dir, file), unix.O_RDONLY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
			if err != nil {
				return -1, fmt.Errorf("open %s of a ring buffer: %w: %w", file, ErrNoTracing, err)
			}
			return fd, nil
		}
		if b.fd, err = open("trace_pipe_raw"); err == nil {
			b.stats, err = open("stats")
		}
		if err == nil {
			_, err = b.newlyLost()
		}
		if err != nil {
			closeBuffers(all)
			return nil, err
		}
	}
	return all, nil
}

func closeBuffers(all []*cpuBuffer) {
	for _, b := range all {
		for _, fd := range []int{b.fd, b.stats} {
			if fd >= 0 {
				_ = unix.Close(fd)
			}
		}
	}
}

// fill makes b.next the next event of interest, reading on where a page ends.
// Without one the buffer is drained for this round.
//
// Errors: those of reading; what is not as described. Both end the stream.
func (b *cpuBuffer) fill(f *pageFormat, d *decoder) (missed bool, err error) {
	for !b.has && !b.drained {
		rec, time, err := b.at.next()
		if err != nil {
			return missed, err
		}
		if rec != nil {
			if b.has, err = d.decode(rec, &b.next); err != nil {
				return missed, err
			}
			b.next.time = time
			continue
		}
		n, err := readAgain(b.fd, b.page)
		switch {
		case errors.Is(err, unix.EAGAIN) || err == nil && n == 0:
			b.drained = true
			return missed, nil
		case err != nil:
			return missed, fmt.Errorf("read a ring buffer: %w", err)
		}
		b.read = true
		if b.at, err = f.open(b.page[:n]); err != nil {
			return missed, err
		}
		missed = missed || b.at.missed
	}
	return missed, nil
}

// readAgain reads, also where a signal comes in between.
func readAgain(fd int, p []byte) (int, error) {
	for {
		n, err := unix.Read(fd, p)
		if !errors.Is(err, unix.EINTR) {
			return n, err
		}
	}
}

// newlyLost tells whether the buffer had no room for an event since the last
// time.
func (b *cpuBuffer) newlyLost() (bool, error) {
	var text [512]byte
	n, err := unix.Pread(b.stats, text[:], 0)
	if err != nil {
		return true, fmt.Errorf("read the statistics of a ring buffer: %w", err)
	}
	lost := parseStats(string(text[:n]))
	more := lost != b.lost
	b.lost = lost
	return more, nil
}

// parseStats adds up what a buffer had no room for.
//
// Source: kernel/trace/trace.c (tracing_stats_read).
func parseStats(text string) uint64 {
	var sum uint64
	for line := range strings.Lines(text) {
		name, value, ok := strings.Cut(strings.TrimSpace(line), ": ")
		if !ok || name != "overrun" && name != "commit overrun" && name != "dropped events" {
			continue
		}
		if n, err := strconv.ParseUint(value, 10, 64); err == nil {
			sum += n
		}
	}
	return sum
}
