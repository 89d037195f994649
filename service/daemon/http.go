package daemon

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os/user"
	"strconv"

	"golang.org/x/sys/unix"

	"github.com/scrubd/scrubd/service/record"
)

// Socket is where the daemon listens.
const Socket = "/run/scrubd.sock"

// The paths of the interface: HTTP with JSON over the socket. Errors are
// objects with the field "error".
const (
	pathStatus  = "/v1/status"
	pathRun     = "/v1/run"
	pathPause   = "/v1/pause"
	pathResume  = "/v1/resume"
	pathCancel  = "/v1/cancel"
	pathWait    = "/v1/wait"
	pathHistory = "/v1/history"
)

// peer is who is at the other end of a connection.
type peer struct {
	uid uint32
	err error
}

type peerKey struct{}

// ConnContext notes who is at the other end, for http.Server.
//
// Source: man 7 unix (SO_PEERCRED): the credentials at the time of connect(2).
func ConnContext(ctx context.Context, conn net.Conn) context.Context {
	p := peer{err: errors.New("not a connection of a unix socket")}
	if c, ok := conn.(*net.UnixConn); ok {
		raw, err := c.SyscallConn()
		if err == nil {
			err = raw.Control(func(fd uintptr) {
				var cred *unix.Ucred
				if cred, p.err = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED); p.err == nil {
					p.uid = cred.Uid
				}
			})
		}
		if err != nil {
			p.err = err
		}
	}
	return context.WithValue(ctx, peerKey{}, p)
}

// Handler answers requests. Root may do everything, members of the configured
// group may ask how things are, others nothing.
func (d *Daemon) Handler() http.Handler {
	mux := http.NewServeMux()
	ask := func(pattern string, change bool, answer func(*http.Request) (any, error)) {
		mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
			if err := d.allowed(r, change); err != nil {
				reply(w, http.StatusForbidden, apiError{err.Error()})
				return
			}
			out, err := answer(r)
			switch {
			case errors.Is(err, ErrUnknown), errors.Is(err, ErrNoRun):
				reply(w, http.StatusNotFound, apiError{err.Error()})
			case errors.Is(err, ErrPaused):
				reply(w, http.StatusConflict, apiError{err.Error()})
			case err != nil:
				reply(w, http.StatusInternalServerError, apiError{err.Error()})
			default:
				reply(w, http.StatusOK, out)
			}
		})
	}
	path := func(r *http.Request) string { return r.FormValue("path") }
	done := struct{}{}
	ask("GET "+pathStatus, false, func(*http.Request) (any, error) { return d.Status(d.o.Now()), nil })
	ask("GET "+pathHistory, false, func(r *http.Request) (any, error) {
		runs, err := d.History(path(r))
		if runs == nil {
			runs = []record.Run{} // [] and not null
		}
		return runs, err
	})
	ask("GET "+pathWait, false, func(r *http.Request) (any, error) { return d.Wait(r.Context(), path(r)) })
	ask("POST "+pathRun, true, func(r *http.Request) (any, error) { return done, d.Ask(path(r), d.o.Now()) })
	ask("POST "+pathPause, true, func(r *http.Request) (any, error) { return done, d.Pause(r.Context(), path(r)) })
	ask("POST "+pathResume, true, func(r *http.Request) (any, error) { return done, d.Resume(path(r)) })
	ask("POST "+pathCancel, true, func(r *http.Request) (any, error) {
		return done, d.Cancel(r.Context(), path(r), d.o.Now())
	})
	return mux
}

type apiError struct {
	Error string `json:"error"`
}

func reply(w http.ResponseWriter, status int, body any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(body) // whoever asked is gone
}

// allowed tells whether who asks may.
func (d *Daemon) allowed(r *http.Request, change bool) error {
	p, ok := r.Context().Value(peerKey{}).(peer)
	switch {
	case !ok:
		return errors.New("who asks is not known")
	case p.err != nil:
		return fmt.Errorf("who asks is not known: %w", p.err)
	case p.uid == 0:
		return nil
	case change:
		return fmt.Errorf("user %d may not change anything: only root may", p.uid)
	}
	d.mu.Lock()
	group := d.config.StatusGroup
	d.mu.Unlock()
	if group == "" {
		return fmt.Errorf("user %d may not ask: only root may (control.status_group is not set)", p.uid)
	}
	member, err := isMember(p.uid, group)
	if err != nil {
		return fmt.Errorf("whether user %d is in group %s is not known: %w", p.uid, group, err)
	}
	if !member {
		return fmt.Errorf("user %d may not ask: only root and the group %s may", p.uid, group)
	}
	return nil
}

func isMember(uid uint32, group string) (bool, error) {
	g, err := user.LookupGroup(group)
	if err != nil {
		return false, err
	}
	u, err := user.LookupId(strconv.FormatUint(uint64(uid), 10))
	if err != nil {
		return false, err
	}
	ids, err := u.GroupIds()
	if err != nil {
		return false, err
	}
	for _, id := range append(ids, u.Gid) {
		if id == g.Gid {
			return true, nil
		}
	}
	return false, nil
}
