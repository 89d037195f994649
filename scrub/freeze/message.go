package freeze

import (
	"encoding/json"
	"errors"
	"net"
	"time"
)

// MaxLimit is the longest that writers are ever stopped.
const MaxLimit = 2 * time.Second

// thawReserve is what the supervisor keeps of [MaxLimit] for the thaw itself.
const thawReserve = 250 * time.Millisecond

// Why a freeze was no good, or never was. What was seen in one that did not last
// until it was asked to end proves nothing.
var (
	// ErrBusy: it is frozen already, by somebody else, who is left alone.
	ErrBusy = errors.New("somebody else has frozen it")
	// ErrSlow: so much is being written that freezing it would take too long.
	ErrSlow = errors.New("it cannot be frozen quickly, because too much is being written")
	// ErrLate: the time was up before the look was over.
	ErrLate = errors.New("the look took longer than the freeze may last")
	// ErrBroken: somebody else thawed it in the meantime.
	ErrBroken = errors.New("somebody else thawed it")
	// ErrGone: the supervisor ended or does not answer.
	ErrGone = errors.New("the freeze's supervisor is gone")
)

// What is asked of a supervisor.
const (
	doArm    = "arm"  // once, first: get ready
	doCalm   = "calm" // write back what is dirty, so that the freeze is short
	doFreeze = "freeze"
	doThaw   = "thaw"
)

// request is one line to the supervisor.
type request struct {
	Do    string        `json:"do"`
	Limit time.Duration `json:"limit_ns,omitempty"`
}

// What a supervisor says.
const (
	isReady  = "ready" // what was asked for is done
	isFrozen = "frozen"
	isThawed = "thawed" // and was frozen until then
	isFailed = "failed" // is not frozen; Code says why
)

// reply is one line from the supervisor.
type reply struct {
	Is string `json:"is"`
	// Left is how long it stays frozen.
	Left time.Duration `json:"left_ns,omitempty"`
	Code string        `json:"code,omitempty"`
	Why  string        `json:"why,omitempty"`
}

// codes carry the errors above over the connection.
var codes = map[string]error{"busy": ErrBusy, "slow": ErrSlow, "late": ErrLate, "broken": ErrBroken}

// failure is the reply that says err.
func failure(err error) reply {
	for code, is := range codes {
		if errors.Is(err, is) {
			return reply{Is: isFailed, Code: code}
		}
	}
	return reply{Is: isFailed, Why: err.Error()}
}

// err is the error that a failure says.
func (r *reply) err() error {
	if err, ok := codes[r.Code]; ok {
		return err
	}
	return errors.New(r.Why)
}

// errOr is err, or the error that the failure r says where there is none.
func (r *reply) errOr(err error) error {
	if err != nil {
		return err
	}
	return r.err()
}

// send writes one line.
func send(conn net.Conn, message any) error {
	line, err := json.Marshal(message)
	if err != nil {
		return err
	}
	_, err = conn.Write(append(line, '\n'))
	return err
}
