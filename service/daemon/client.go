package daemon

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"

	"github.com/scrubd/scrubd/service/record"
)

// Client asks the daemon.
type Client struct {
	socket string
	http   *http.Client
}

// ErrNoDaemon means that no daemon listens.
var ErrNoDaemon = errors.New("the daemon is not running")

// NewClient makes a client of the daemon at a socket.
func NewClient(socket string) *Client {
	var dialer net.Dialer
	return &Client{socket, &http.Client{Transport: &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return dialer.DialContext(ctx, "unix", socket)
		},
	}}}
}

// RequestError is the daemon's refusal.
type RequestError struct {
	Status  int // of HTTP
	Message string
}

// Error is the daemon's own sentence.
func (e *RequestError) Error() string { return e.Message }

// Is reports whether target is the error that the daemon answered with.
func (e *RequestError) Is(target error) bool {
	return e.Status == http.StatusForbidden && target == ErrForbidden
}

// ErrForbidden means that the daemon does not do that for this user.
var ErrForbidden = errors.New("not allowed")

// maxAnswer bounds what is read of an answer.
const maxAnswer = 64 << 20

func (c *Client) do(ctx context.Context, method, path, mount string, out any) error {
	answer, err := c.send(ctx, method, path, mount, nil)
	if err != nil {
		return err
	}
	defer func() { _ = answer.Body.Close() }()
	if err := json.NewDecoder(io.LimitReader(answer.Body, maxAnswer)).Decode(out); err != nil {
		return fmt.Errorf("read the daemon's answer: %w", err)
	}
	return nil
}

// send returns an answer that is none of an error. The caller closes its body.
func (c *Client) send(ctx context.Context, method, path, mount string, query url.Values) (*http.Response, error) {
	if query == nil {
		query = url.Values{}
	}
	if mount != "" {
		query.Set("path", mount)
	}
	request, err := http.NewRequestWithContext(ctx, method, "http://scrubd"+path+"?"+query.Encode(), http.NoBody)
	if err != nil {
		return nil, fmt.Errorf("ask the daemon: %w", err)
	}
	answer, err := c.http.Do(request)
	if err != nil {
		var dial *net.OpError
		if errors.As(err, &dial) && dial.Op == "dial" {
			return nil, fmt.Errorf("ask the daemon at %s: %w: %w", c.socket, ErrNoDaemon, dial.Err)
		}
		return nil, fmt.Errorf("ask the daemon: %w", err)
	}
	if answer.StatusCode == http.StatusOK {
		return answer, nil
	}
	defer func() { _ = answer.Body.Close() }()
	var e apiError
	if err := json.NewDecoder(io.LimitReader(answer.Body, maxAnswer)).Decode(&e); err != nil || e.Error == "" {
		e.Error = answer.Status
	}
	return nil, &RequestError{answer.StatusCode, e.Error}
}

// Status is [Daemon.Status].
func (c *Client) Status(ctx context.Context) (list []Status, err error) {
	err = c.do(ctx, http.MethodGet, pathStatus, "", &list)
	return list, err
}

// History is [Daemon.History].
func (c *Client) History(ctx context.Context, mount string) (runs []record.Run, err error) {
	err = c.do(ctx, http.MethodGet, pathHistory, mount, &runs)
	return runs, err
}

// Wait is [Daemon.Wait].
func (c *Client) Wait(ctx context.Context, mount string) (s Status, err error) {
	err = c.do(ctx, http.MethodGet, pathWait, mount, &s)
	return s, err
}

// Ask is [Daemon.Ask].
func (c *Client) Ask(ctx context.Context, mount string) error { return c.post(ctx, pathRun, mount) }

// Pause is [Daemon.Pause].
func (c *Client) Pause(ctx context.Context, mount string) error { return c.post(ctx, pathPause, mount) }

// Resume is [Daemon.Resume].
func (c *Client) Resume(ctx context.Context, mount string) error {
	return c.post(ctx, pathResume, mount)
}

// Cancel is [Daemon.Cancel].
func (c *Client) Cancel(ctx context.Context, mount string) error {
	return c.post(ctx, pathCancel, mount)
}

// Due is [Daemon.Due].
func (c *Client) Due(ctx context.Context, mount string) (answers []Answer, err error) {
	err = c.do(ctx, http.MethodPost, pathDue, mount, &answers)
	return answers, err
}

// Attend tells the daemon of a run of this process, until ctx ends or the daemon
// does. Each time that the daemon wants the run to end, stop is called with the
// reason.
//
// Errors: as of the others, and what ended the connection; never nil.
func (c *Client) Attend(ctx context.Context, mount string, pid int, stop func(why string)) error {
	answer, err := c.send(ctx, http.MethodPost, pathAttend, mount, url.Values{"pid": {strconv.Itoa(pid)}})
	if err != nil {
		return err
	}
	defer func() { _ = answer.Body.Close() }()
	lines := json.NewDecoder(answer.Body)
	for {
		var a attendance
		if err := lines.Decode(&a); err != nil {
			return fmt.Errorf("listen to the daemon: %w", err)
		}
		if a.Stop != "" {
			stop(a.Stop)
		}
	}
}

func (c *Client) post(ctx context.Context, path, mount string) error {
	var none struct{}
	return c.do(ctx, http.MethodPost, path, mount, &none)
}

// Close lets go of connections that are not in use.
func (c *Client) Close() { c.http.CloseIdleConnections() }
