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
	query := url.Values{}
	if mount != "" {
		query.Set("path", mount)
	}
	request, err := http.NewRequestWithContext(ctx, method, "http://scrubd"+path+"?"+query.Encode(), http.NoBody)
	if err != nil {
		return fmt.Errorf("ask the daemon: %w", err)
	}
	answer, err := c.http.Do(request)
	if err != nil {
		var dial *net.OpError
		if errors.As(err, &dial) && dial.Op == "dial" {
			return fmt.Errorf("ask the daemon at %s: %w: %w", c.socket, ErrNoDaemon, dial.Err)
		}
		return fmt.Errorf("ask the daemon: %w", err)
	}
	defer func() { _ = answer.Body.Close() }()
	decoder := json.NewDecoder(io.LimitReader(answer.Body, maxAnswer))
	if answer.StatusCode != http.StatusOK {
		var e apiError
		if err := decoder.Decode(&e); err != nil || e.Error == "" {
			e.Error = answer.Status
		}
		return &RequestError{answer.StatusCode, e.Error}
	}
	if err := decoder.Decode(out); err != nil {
		return fmt.Errorf("read the daemon's answer: %w", err)
	}
	return nil
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

func (c *Client) post(ctx context.Context, path, mount string) error {
	var none struct{}
	return c.do(ctx, http.MethodPost, path, mount, &none)
}
