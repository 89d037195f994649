package soak

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// place is what a writer works with: its directory, its random numbers, and
// what the filesystem is like.
type place struct {
	dir    string
	rng    *rand.Rand
	block  int   // units of a block, or of a realtime extent: the grain of clones and shifts
	golden *file // never written: for everybody to clone from; nil without reflink
	tools  tools
}

// writer changes things in its directory.
type writer interface {
	// turn makes a few changes. Where space or quota are used up it returns
	// that error, and room is called.
	turn(ctx context.Context) error
	// room gives some space back.
	room() error
	// close closes all files.
	close() error
	// check compares what is there now with what the writer remembers. It is
	// called after close, on another mount.
	check() error
}

// kind is one kind of writer.
type kind struct {
	name    string
	reflink bool // it needs that
	open    func(p *place) (writer, error)
}

// kinds are the writers that work on each filesystem at once.
var kinds = []kind{
	{"files", false, newFileWriter},
	{"more files", false, newFileWriter},
	{"falloc and punch", false, newFallocPunch},
	{"append and truncate", false, newAppendTruncate},
	{"small files", false, newSmallFiles},
	{"attributes", false, newAttributes},
	{"set and remove", false, newSetRemove},
	{"names", false, newNames},
	{"big directory", false, newBigDirectory},
	{"nameless", false, newNameless},
	{"clone and punch", true, newClonePunch},
	{"snapshots", true, newSnapshots},
}

// crew are the writers of one filesystem at work.
type crew struct {
	cancel  context.CancelFunc
	running sync.WaitGroup
	members []*member
}

// member is one writer and how it got on.
type member struct {
	kind
	writer writer
	turns  int
	full   int // turns that found no space
	err    error
}

// hire opens every kind of writer below dir. Their random numbers follow from seed and their names.
func hire(dir string, seed uint64, p place) (*crew, error) {
	c := &crew{}
	for i, k := range kinds {
		if k.reflink && p.golden == nil {
			continue
		}
		own := p
		own.dir = filepath.Join(dir, fmt.Sprintf("writer%02d", i))
		if err := os.Mkdir(own.dir, 0o755); err != nil {
			return nil, err
		}
		hash := fnv.New64a()
		_, _ = hash.Write([]byte(k.name))
		own.rng = rand.New(rand.NewPCG(seed, hash.Sum64()))
		w, err := k.open(&own)
		if err != nil {
			return nil, fmt.Errorf("writer %q: %w", k.name, err)
		}
		c.members = append(c.members, &member{kind: k, writer: w})
	}
	return c, nil
}

// A writer works in bursts: without naps a machine with few processors has
// none left for scrubd.
const (
	maxBurst = 5 * time.Millisecond
	maxNap   = 30 * time.Millisecond
)

// start lets all of them work until stop. The first error of one ends it and calls failed.
func (c *crew) start(ctx context.Context, failed func(error)) {
	ctx, c.cancel = context.WithCancel(ctx)
	for _, m := range c.members {
		c.running.Go(func() {
			burst := time.Now()
			for ctx.Err() == nil {
				if time.Since(burst) > maxBurst {
					// Not from the writer's own numbers: the moment must not change what it does.
					time.Sleep(rand.N(maxNap))
					burst = time.Now()
				}
				err := m.writer.turn(ctx)
				m.turns++
				if noSpace(err) {
					m.full++
					err = m.writer.room()
					time.Sleep(time.Millisecond)
				}
				if err != nil && !noSpace(err) {
					m.err = fmt.Errorf("writer %q in turn %d: %w", m.name, m.turns, err)
					failed(m.err)
					return
				}
			}
		})
	}
}

// stop waits for the end of every turn and closes all files.
func (c *crew) stop() error {
	if c.cancel != nil {
		c.cancel()
	}
	c.running.Wait()
	var errs []error
	for _, m := range c.members {
		errs = append(errs, m.err)
		if err := m.writer.close(); err != nil {
			errs = append(errs, fmt.Errorf("writer %q: close: %w", m.name, err))
		}
	}
	return errors.Join(errs...)
}

// check has every writer look at what is left of its work.
func (c *crew) check() error {
	var errs []error
	for _, m := range c.members {
		if m.err != nil {
			continue // it stopped in the middle of something
		}
		if err := m.writer.check(); err != nil {
			errs = append(errs, fmt.Errorf("writer %q: %w", m.name, err))
		}
	}
	return errors.Join(errs...)
}

// turns says how often each writer had its turn.
func (c *crew) turns() map[string]int {
	n := make(map[string]int, len(c.members))
	for _, m := range c.members {
		n[m.name] = m.turns
	}
	return n
}

// noSpace tells the errors of a filesystem, or a quota, that is used up.
func noSpace(err error) bool {
	return errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT)
}
