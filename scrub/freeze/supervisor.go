package freeze

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"time"

	"github.com/scrubd/scrubd/ioctl"
)

// Filesystem is what is frozen and thawed: an [ioctl.FS].
type Filesystem interface {
	Freeze() error
	Thaw() error
	// LogHead is different in each freeze.
	LogHead() (ioctl.LogHead, error)
}

// logHead is "" where it is not known.
func logHead(fs Filesystem) ioctl.LogHead {
	head, err := fs.LogHead()
	if err != nil {
		return ""
	}
	return head
}

// Supervisor freezes and thaws one filesystem on behalf of the process at the
// other end of a connection.
type Supervisor struct {
	FS Filesystem
	// Sync writes back what is dirty, while writers still run.
	Sync func() error
	// Ready is called once, when the other end has put the process where it
	// belongs, and before anything is frozen.
	Ready func() error
	// Marker says that the freeze is ours while it lasts.
	Marker Marker
	// Stop ends the supervisor, after the thaw: a signal.
	Stop <-chan struct{}
}

// Serve does what it is asked to until the connection closes or Stop does. It
// never returns while the filesystem is frozen.
// Errors: Ready's.
func (s *Supervisor) Serve(conn net.Conn) error {
	requests := make(chan request)
	go func() {
		defer close(requests)
		lines := json.NewDecoder(conn)
		for {
			var r request
			if err := lines.Decode(&r); err != nil {
				return // also the other end's death
			}
			requests <- r
		}
	}()
	for {
		select {
		case <-s.Stop:
			return nil
		case r, ok := <-requests:
			if !ok {
				return nil
			}
			switch r.Do {
			case doArm:
				if err := s.Ready(); err != nil {
					_ = send(conn, failure(err)) // the other end may be gone
					return err
				}
				_ = send(conn, reply{Is: isReady})
			case doCalm:
				answer := reply{Is: isReady}
				if err := s.calm(limitOf(r) / 2); err != nil {
					answer = failure(err)
				}
				_ = send(conn, answer)
			case doFreeze:
				answer, end := s.freeze(conn, requests, limitOf(r))
				_ = send(conn, answer)
				if end {
					return nil
				}
			case doThaw: // the time was up before
			}
		}
	}
}

// limitOf is how long a freeze may last that was asked for.
func limitOf(r request) time.Duration { return min(r.Limit, MaxLimit-thawReserve) }

// freeze is one freeze up to its thaw. It returns what to say about it, and
// whether nobody is there any more.
func (s *Supervisor) freeze(conn net.Conn, requests <-chan request, limit time.Duration) (answer reply, end bool) {
	held, err := s.Marker.set(limit, logHead(s.FS))
	if err != nil {
		return failure(err), false
	}
	// Writers wait from here on, also while the call is still flushing.
	up := time.NewTimer(limit)
	defer up.Stop()
	began := time.Now()
	froze := make(chan error, 1)
	go func() { froze <- s.FS.Freeze() }()
	var over error // why it is to end; errAsked if that was asked for
	for frozen := false; !frozen || over == nil; {
		select {
		case err := <-froze:
			froze = nil
			if err != nil {
				held.remove()
				if errors.Is(err, ioctl.ErrFrozen) {
					err = ErrBusy
				}
				return failure(err), end
			}
			frozen = true
			if err := s.Marker.claim(held, logHead(s.FS)); err != nil && over == nil {
				over = err // one that nobody could end after this process
			}
			if over == nil {
				_ = send(conn, reply{Is: isFrozen, Left: limit - time.Since(began)})
			}
		case r, ok := <-requests:
			switch {
			case !ok:
				requests, end = nil, true
				over = errAsked
			case r.Do == doThaw:
				over = errAsked
			}
		case <-up.C:
			over = ErrLate
		case <-s.Stop:
			over, end = ErrGone, true
		}
	}
	err = s.thaw()
	held.remove()
	switch {
	case err != nil:
		return failure(ErrBroken), end
	case errors.Is(over, errAsked): // and frozen until then
		return reply{Is: isThawed}, end
	}
	return failure(over), end
}

var errAsked = errors.New("it was asked for")

// calmTries is how often what is dirty is written back before a freeze.
const calmTries = 3

// calm writes back what is dirty while writers still run, so that the freeze
// itself, which does so too and cannot be given up, is short.
func (s *Supervisor) calm(limit time.Duration) error {
	for range calmTries {
		began := time.Now()
		if err := s.Sync(); err != nil {
			return fmt.Errorf("write back before the freeze: %w", err)
		}
		if time.Since(began) <= limit {
			return nil
		}
	}
	return ErrSlow
}

// thawPause is between two attempts at a thaw.
const thawPause = 10 * time.Millisecond

// thaw does not give up. Its error is [ioctl.ErrNotFrozen]: somebody was first.
func (s *Supervisor) thaw() error {
	for {
		err := s.FS.Thaw()
		if err == nil || errors.Is(err, ioctl.ErrNotFrozen) {
			return err
		}
		time.Sleep(thawPause)
	}
}
