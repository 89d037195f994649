package freeze

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"time"
)

// Client asks a supervisor. It is used by one goroutine.
type Client struct {
	conn    net.Conn
	replies chan reply
	gone    chan struct{} // closed with the connection
	// staleErr is what Stale gave last.
	staleErr error
	// Wake lets a supervisor that was stopped go on.
	Wake func()
	// Kill kills a supervisor that does not do its work, and returns when it is
	// gone or will not go. Stale then ends the freeze that it leaves, if any; and
	// Thaw one that is known to be there where Stale could not.
	Kill  func()
	Stale func() error
	Thaw  func() error
}

// answerTime is how long a supervisor has for a thaw before it is given up.
const answerTime = 300 * time.Millisecond

// armPatience is how long it has to get ready.
const armPatience = 10 * time.Second

// calmPatience is how long writing back what is dirty may take, writers running.
const calmPatience = time.Minute

// NewClient returns a client on a connection. Its functions are to be set.
func NewClient(conn net.Conn) *Client {
	c := &Client{conn: conn, replies: make(chan reply, 8), gone: make(chan struct{})}
	go func() {
		defer close(c.gone)
		lines := json.NewDecoder(conn)
		for {
			var r reply
			if err := lines.Decode(&r); err != nil {
				return
			}
			c.replies <- r
		}
	}()
	return c
}

// Arm has the supervisor get ready and waits until it is.
// Errors: why it cannot; [ErrGone]; ctx's.
func (c *Client) Arm(ctx context.Context) error {
	r, err := c.ask(ctx, request{Do: doArm}, armPatience)
	if err != nil || r.Is != isReady {
		return r.errOr(err)
	}
	return nil
}

// Frozen calls look while the filesystem is frozen, for limit at most, the time
// that the freeze itself takes included. look has to return soon after its
// context ends. quiet is called just before, and the function that it returns
// after the thaw: in between nothing may be written by this process.
//
// Errors: nil only if it was frozen from before look began until it was over;
// otherwise what look saw proves nothing. [ErrBusy], [ErrSlow], [ErrLate],
// [ErrBroken], [ErrGone], ctx's.
func (c *Client) Frozen(ctx context.Context, limit time.Duration, quiet func() func(), look func(ctx context.Context)) error {
	if r, err := c.ask(ctx, request{Do: doCalm, Limit: limit}, calmPatience); err != nil || r.Is != isReady {
		return r.errOr(err)
	}
	defer quiet()()
	r, err := c.ask(ctx, request{Do: doFreeze, Limit: limit}, limit+answerTime)
	if err != nil || r.Is != isFrozen {
		return r.errOr(err)
	}
	c.inside(ctx, r.Left, look)
	if err = send(c.conn, request{Do: doThaw}); err == nil {
		late := time.NewTimer(answerTime)
		defer late.Stop()
		r, err = c.wait(context.WithoutCancel(ctx), late.C)
	}
	switch {
	case err != nil:
		return c.rescue(err)
	case r.Is != isThawed:
		return r.err()
	}
	return ctx.Err()
}

// inside calls look with a context that leaves time for the way back, and ends
// with the supervisor.
func (c *Client) inside(ctx context.Context, left time.Duration, look func(ctx context.Context)) {
	ctx, cancel := context.WithTimeout(ctx, left-left/10)
	defer cancel()
	over := make(chan struct{})
	defer close(over)
	go func() {
		select {
		case <-c.gone:
			cancel()
		case <-over:
		}
	}()
	look(ctx)
}

// ask makes one request and waits for the reply. Where it gives up, the
// supervisor does so too as soon as the kernel lets it go: killed in the midst
// of a freeze, it would leave it frozen.
func (c *Client) ask(ctx context.Context, what request, patience time.Duration) (reply, error) {
	if err := send(c.conn, what); err != nil {
		return reply{}, c.abandon(err)
	}
	late := time.NewTimer(patience)
	defer late.Stop()
	r, err := c.wait(ctx, late.C)
	switch {
	case errors.Is(err, errSilent), ctx.Err() != nil:
		c.Wake()
		_ = c.conn.Close()
	case err != nil:
		err = c.abandon(err)
	}
	return r, err
}

var errSilent = errors.New("it does not answer")

// wait waits for the next reply.
func (c *Client) wait(ctx context.Context, late <-chan time.Time) (reply, error) {
	select {
	case r := <-c.replies:
		return r, nil
	case <-c.gone:
		select { // its last word
		case r := <-c.replies:
			return r, nil
		default:
			return reply{}, ErrGone
		}
	case <-late:
		return reply{}, fmt.Errorf("%w: %w", ErrGone, errSilent)
	case <-ctx.Done():
		return reply{}, ctx.Err()
	}
}

// rescue ends a freeze that is known to be ours when its supervisor does not.
func (c *Client) rescue(why error) error {
	err := c.abandon(why)
	if c.staleErr != nil {
		_ = c.Thaw() // not frozen any more: so much the better
	}
	return err
}

// abandon kills the supervisor and ends what it may have left frozen: whether it
// had frozen is for its marker to say.
func (c *Client) abandon(why error) error {
	if !errors.Is(why, ErrGone) {
		why = ErrGone // it cannot be written to
	}
	c.Kill()
	_ = c.conn.Close()
	c.staleErr = c.Stale()
	return errors.Join(why, c.staleErr)
}

// Close ends the supervisor.
func (c *Client) Close() error { return c.conn.Close() }
