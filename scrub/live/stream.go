package live

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/scrubd/scrubd/ioctl"
)

// Options say what a stream delivers.
type Options struct {
	// Feed gets the changes; nil if only quiet moments are wanted.
	Feed Feed
	// Foreign is told of scrubs and repairs that are not of this process, from
	// the stream's goroutine; may be nil.
	Foreign func(Foreign)
	// BufferKiB is the size of the buffer of each CPU; 0 means as the machine
	// allows.
	BufferKiB int
}

// Stats count what a stream has done.
type Stats struct {
	Changes uint64 // delivered
	Losses  uint64 // times that events were lost
	Repairs uint64 // repairs seen, of anybody
}

// Stream is the live stream of one filesystem's space metadata. Its methods
// may be called by several goroutines.
type Stream struct {
	inst   *instance
	pages  *pageFormat
	dec    *decoder
	dev    uint64 // as the kernel has it
	opts   Options
	groups func() (ags, rtgroups uint32) // how many there are
	native bool                          // process ids of events are those that we see

	mu      sync.Mutex // one round at a time
	buffers []*cpuBuffer
	batch   []Change
	last    instant
	err     error // why nothing is delivered any more
	closed  bool

	intents   bool // their events are on
	watches   map[*watch]bool
	watchLoss uint64 // times that events were lost, for watches

	foreignMu sync.Mutex
	foreign   []Foreign

	changes, losses, repairs atomic.Uint64

	stop context.CancelFunc
	done chan struct{}
}

// roundPause is how long the buffers are left alone. They have to hold what
// happens meanwhile, also when this process has to wait for a CPU.
const roundPause = 50 * time.Millisecond

// batchLen is how many changes a Feed gets at once.
const batchLen = 512

// Start begins to listen to a filesystem. Everything that is done to it after
// Start has returned is delivered.
//
// Cost: a fraction of a microsecond for each change that a writer makes; up to
// 32 MiB of kernel memory. Needs: tracefs, and the right to make an instance
// in it.
// Errors: [ErrNoTracing], whatever the reason.
func Start(x *ioctl.FS, o Options) (*Stream, error) {
	dev := x.Device()
	s := &Stream{
		dev:     uint64(unix.Major(dev))<<20 | uint64(unix.Minor(dev)),
		opts:    o,
		groups:  func() (ags, rtgroups uint32) { return x.Geometry().AGCount, x.Geometry().RTGroups() },
		native:  seesTracedPIDs(),
		watches: make(map[*watch]bool),
		batch:   make([]Change, 0, batchLen),
		done:    make(chan struct{}),
	}
	root, err := findTracefs(changeSources[0].path)
	if err != nil {
		return nil, err
	}
	if s.inst, err = newInstance(root); err != nil {
		return nil, err
	}
	if err := s.setUp(); err != nil {
		closeBuffers(s.buffers)
		if !errors.Is(err, ErrNoTracing) {
			err = fmt.Errorf("%w: %w", ErrNoTracing, err)
		}
		return nil, errors.Join(err, s.inst.remove())
	}
	ctx, stop := context.WithCancel(context.Background())
	s.stop = stop
	go s.loop(ctx)
	return s, nil
}

// Probe tells whether a stream of a filesystem can be had, by trying.
// Errors: [ErrNoTracing].
func Probe(x *ioctl.FS) error {
	s, err := Start(x, Options{Feed: nobody{}, BufferKiB: 8})
	if err != nil {
		return err
	}
	return s.Close()
}

// nobody is a Feed that does not listen.
type nobody struct{}

func (nobody) Add([]Change) error { return nil }
func (nobody) Lost()              {}
func (nobody) Invalidate(Group)   {}

// setUp readies the instance and switches its events on.
func (s *Stream) setUp() error {
	text, err := os.ReadFile(filepath.Join(s.inst.events, "header_page"))
	if err != nil {
		return fmt.Errorf("read how pages are described: %w", err)
	}
	if s.pages, err = parsePageFormat(string(text)); err != nil {
		return fmt.Errorf("understand how pages are described: %w", err)
	}
	on, err := s.learn()
	if err != nil {
		return err
	}
	kib := s.opts.BufferKiB
	if kib == 0 {
		kib = bufferKiB()
	}
	for _, set := range [][2]string{
		{"trace_clock", traceClock},
		{"buffer_size_kb", strconv.Itoa(kib)},
		{"options/overwrite", "0"},
	} {
		if err := s.inst.set(set[0], set[1]); err != nil {
			return err
		}
	}
	if s.buffers, err = openBuffers(s.inst, s.pages.size); err != nil {
		return err
	}
	for i := range on {
		if err := s.inst.filter(&on[i], s.dev); err != nil {
			return err
		}
	}
	for i := range on {
		if err := s.inst.enable(&on[i], true); err != nil {
			return err
		}
	}
	return nil
}

// learn reads how the events are described, and returns those that are wanted
// from the beginning. A kernel that is built without scrub has no repairs, and
// does not count intents.
func (s *Stream) learn() (on []source, err error) {
	s.dec = newDecoder()
	for _, events := range []struct {
		sources        []source
		wanted, needed bool
	}{
		{changeSources, s.opts.Feed != nil, true},
		{scrubSources, true, false},
		{intentSources, false, false},
	} {
		err := s.dec.read(s.inst.events, events.sources)
		switch {
		case err != nil && (events.needed || !errors.Is(err, fs.ErrNotExist)):
			return nil, err
		case err == nil && events.wanted:
			on = append(on, events.sources...)
		}
	}
	return on, nil
}

// Sync returns when everything that was done before it was called has been
// delivered.
// Errors: ctx's; the Feed's; those of reading, after which nothing is
// delivered any more.
func (s *Stream) Sync(ctx context.Context) error {
	now := Now()
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		horizon, err := s.round()
		if err != nil || horizon >= now {
			return err
		}
	}
}

// Stats returns what the stream has done so far.
func (s *Stream) Stats() Stats {
	return Stats{Changes: s.changes.Load(), Losses: s.losses.Load(), Repairs: s.repairs.Load()}
}

// Close ends the stream and removes its instance. It can be called twice.
func (s *Stream) Close() error {
	s.stop()
	<-s.done
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil
	}
	s.closed = true
	if s.err == nil {
		s.err = errClosed
	}
	closeBuffers(s.buffers)
	return s.inst.remove()
}

var errClosed = errors.New("the live stream is closed")

// loop empties the buffers now and then, so that they do not run full.
func (s *Stream) loop(ctx context.Context) {
	defer close(s.done)
	tick := time.NewTicker(roundPause)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		if _, err := s.round(); err != nil {
			return
		}
	}
}

// bufferKiB is the size of each CPU's buffer: in all a hundredth of the
// machine's memory, and no more than 32 MiB.
func bufferKiB() int {
	total := uint64(32 << 20)
	var info unix.Sysinfo_t
	if unix.Sysinfo(&info) == nil {
		total = min(total, uint64(info.Totalram)*uint64(info.Unit)/100) //nolint:unconvert // 32 bits on 386
	}
	cpus := 1
	if dirs, err := filepath.Glob("/sys/devices/system/cpu/cpu[0-9]*"); err == nil && len(dirs) > 0 {
		cpus = len(dirs)
	}
	return int(max(64<<10, min(total/uint64(cpus), 4<<20)) >> 10)
}
