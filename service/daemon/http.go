package daemon

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os/user"
	"slices"
	"strconv"

	"golang.org/x/sys/unix"

	"github.com/scrubd/scrubd/service/metrics"
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
	pathDue     = "/v1/due"
	pathAttend  = "/v1/attend"
	pathMetrics = "/metrics"
)

// peer is who is at the other end of a connection.
type peer struct {
	uid, gid uint32
	err      error
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
					p.uid, p.gid = cred.Uid, cred.Gid
				}
			})
		}
		if err != nil {
			p.err = err
		}
	}
	return context.WithValue(ctx, peerKey{}, p)
}

// Endpoint is one request that the daemon answers.
type Endpoint struct {
	Method, Path string
	// Change: only root may.
	Change bool
	// Text says what it does, and with which parameters.
	Text string
}

type route struct {
	Endpoint
	answer http.HandlerFunc
}

// Endpoints lists all requests, for the documentation.
func Endpoints() []Endpoint {
	routes := (&Daemon{}).routes()
	list := make([]Endpoint, len(routes))
	for i := range routes {
		list[i] = routes[i].Endpoint
	}
	return list
}

// Handler answers requests. Root may do everything, members of the configured
// group may ask how things are, others nothing.
func (d *Daemon) Handler() http.Handler {
	mux := http.NewServeMux()
	for _, r := range d.routes() {
		mux.HandleFunc(r.Method+" "+r.Path, func(w http.ResponseWriter, request *http.Request) {
			if err := d.allowed(request, r.Change); err != nil {
				reply(w, http.StatusForbidden, apiError{err.Error()})
				return
			}
			r.answer(w, request)
		})
	}
	return mux
}

// routes are the requests with what answers them.
func (d *Daemon) routes() []route {
	answer := func(f func(*http.Request) (any, error)) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			out, err := f(r)
			if err != nil {
				refuse(w, err)
				return
			}
			reply(w, http.StatusOK, out)
		}
	}
	path := func(r *http.Request) string { return r.FormValue("path") }
	done := struct{}{}
	get := func(p, text string, h http.HandlerFunc) route {
		return route{Endpoint{http.MethodGet, p, false, text}, h}
	}
	post := func(p, text string, h http.HandlerFunc) route {
		return route{Endpoint{http.MethodPost, p, true, text}, h}
	}
	return []route{
		get(pathStatus, "how all filesystems are", answer(func(*http.Request) (any, error) {
			return d.Status(d.o.Now()), nil
		})),
		get(pathHistory, "path=: the runs of a filesystem", answer(func(r *http.Request) (any, error) {
			runs, err := d.History(path(r))
			if runs == nil {
				runs = []record.Run{} // [] and not null
			}
			return runs, err
		})),
		get(pathWait, "path=: how a filesystem is, once no run of it is there or queued", answer(func(r *http.Request) (any, error) {
			return d.Wait(r.Context(), path(r))
		})),
		get(pathMetrics, "the metrics, in the text format of Prometheus or as OpenMetrics", metrics.Handler(func() metrics.Snapshot {
			return d.Metrics(d.o.Now())
		}).ServeHTTP),
		post(pathRun, "path=: queue a run", answer(func(r *http.Request) (any, error) {
			return done, d.Ask(path(r), d.o.Now())
		})),
		post(pathPause, "path=: stop the run, and begin none until resume", answer(func(r *http.Request) (any, error) {
			return done, d.Pause(r.Context(), path(r))
		})),
		post(pathResume, "path=: take back pause", answer(func(r *http.Request) (any, error) {
			return done, d.Resume(path(r))
		})),
		post(pathCancel, "path=: end the run, or take it out of the queue", answer(func(r *http.Request) (any, error) {
			return done, d.Cancel(r.Context(), path(r), d.o.Now())
		})),
		post(pathDue, "path=, or all without: a timer's request; what came of it, for each filesystem", answer(func(r *http.Request) (any, error) {
			return d.Due(path(r), d.o.Now())
		})),
		post(pathAttend, "path=, pid=: a run of somebody else, which lasts as long as the connection; "+
			"the answer goes on with a line when it is to end", d.attend),
	}
}

// refuse answers with an error.
func refuse(w http.ResponseWriter, err error) {
	status := http.StatusInternalServerError
	var twin *CopyError
	switch {
	case errors.Is(err, ErrUnknown), errors.Is(err, ErrNoRun):
		status = http.StatusNotFound
	case errors.Is(err, ErrPaused), errors.Is(err, ErrForbids), errors.As(err, &twin):
		status = http.StatusConflict
	}
	reply(w, status, apiError{err.Error()})
}

// attend lasts as long as the run that asks does: the answer begins at once, and
// goes on when the run is to end.
func (d *Daemon) attend(w http.ResponseWriter, r *http.Request) {
	pid, err := strconv.Atoi(r.FormValue("pid"))
	if err != nil {
		reply(w, http.StatusBadRequest, apiError{"attend: pid is no number"})
		return
	}
	stop, leave, err := d.Attend(r.FormValue("path"), pid)
	if err != nil {
		refuse(w, err)
		return
	}
	defer leave()
	w.Header().Set("Content-Type", "application/json")
	say := func(s attendance) {
		_ = json.NewEncoder(w).Encode(s) // that it is gone shows by its connection
		_ = http.NewResponseController(w).Flush()
	}
	say(attendance{})
	for {
		select {
		case <-r.Context().Done():
			return
		case why := <-stop:
			say(attendance{why})
		}
	}
}

// attendance is a line of the answer to a run that attends.
type attendance struct {
	// Stop is why the run is to end, "" when it is not.
	Stop string `json:"stop,omitempty"`
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
	member, err := p.isMember(group)
	if err != nil {
		return fmt.Errorf("whether user %d is in group %s is not known: %w", p.uid, group, err)
	}
	if !member {
		return fmt.Errorf("user %d may not ask: only root and the group %s may", p.uid, group)
	}
	return nil
}

// isMember tells whether the process has the group as its own, or its user is a
// member of it.
func (p *peer) isMember(group string) (bool, error) {
	g, err := user.LookupGroup(group)
	if err != nil {
		return false, err
	}
	id := func(n uint32) string { return strconv.FormatUint(uint64(n), 10) }
	if id(p.gid) == g.Gid {
		return true, nil // a service may have a user that no list knows
	}
	u, err := user.LookupId(id(p.uid))
	if err != nil {
		return false, err
	}
	ids, err := u.GroupIds()
	return slices.Contains(append(ids, u.Gid), g.Gid), err
}
