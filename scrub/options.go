package scrub

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/sirupsen/logrus"

	"github.com/scrubd/scrubd/scrub/confirm"
	"github.com/scrubd/scrubd/scrub/throttle"
)

// Mode is how far a run may go.
type Mode int

// The modes, each allowing what the ones before it do.
const (
	ModeCheck    Mode = iota + 1 // read only
	ModeOptimize                 // and PREEN repairs
	ModeRepair                   // and repairs of corruption whose verdict is decisive
)

// String returns the mode's name as flags and reports spell it.
func (m Mode) String() string {
	switch m {
	case ModeCheck:
		return "check"
	case ModeOptimize:
		return "optimize"
	case ModeRepair:
		return "repair"
	default:
		return fmt.Sprintf("Mode(%d)", int(m))
	}
}

// ParseMode is the inverse of [Mode.String].
func ParseMode(s string) (Mode, error) {
	for _, m := range []Mode{ModeCheck, ModeOptimize, ModeRepair} {
		if strings.EqualFold(s, m.String()) {
			return m, nil
		}
	}
	return 0, fmt.Errorf("mode %q is none of check, optimize, repair", s)
}

// Options of a run. The zero value repairs what the autofsck property allows.
type Options struct {
	// Mode is what the caller asks for; 0 means what the filesystem's
	// autofsck property allows, repair when it is unset. The property is a
	// ceiling in any case, unless IgnoreAutofsck is set.
	Mode           Mode
	IgnoreAutofsck bool
	// AcceptLoss allows repairs that salvage, zap or rewrite (DIR, XATTR,
	// PARENT, SYMLINK): a person has asked for them.
	AcceptLoss bool
	// Workers bounds the parallel walkers and scrubbers; 0 means one a CPU.
	Workers int
	// Throttle makes it a run in the background, that stays out of everybody's way;
	// nil one in the foreground, as fast as it can. What is confirmed, repaired and
	// proven is never slowed down.
	Throttle *throttle.Throttle
	// StateDir takes evidence; "" means /var/lib/scrubd, and /run/scrubd when
	// that lies on the filesystem under repair.
	StateDir string
	// Resume leaves out what the kernel had found well when an earlier run was
	// stopped. If anything is found, everything is checked anew.
	Resume bool
	// CheckpointEvery is how often it is written down how far a run is; 0 means
	// every ten seconds.
	CheckpointEvery time.Duration
	// NoLive reads without listening to what writers do meanwhile: on a busy
	// filesystem more has to be looked at again, with the same result.
	NoLive bool
	// SpillDir takes the shadow's records (O_TMPFILE) when memory does not
	// suffice; "" means that the run fails instead.
	SpillDir string
	// Require names parts of the coverage without which the run is not to
	// start: "kernel-scrub", "repair", "rmapbt".
	Require []string
	// BeforeRepair, when set, is asked once before the first repair of a run
	// with the plan in words; an error is a veto.
	BeforeRepair func(ctx context.Context, plan []string) error
	// Choice makes it a run that carries out one decision of a person, and no
	// other repair. Mode and the autofsck property do not bind it.
	Choice *Choice
	// Only makes it a check of a few places by the kernel's own scrub, and of
	// nothing else: it decides nothing and repairs nothing, whatever Mode says.
	Only *Places
	// Others, when set, names other programs that scrub or repair this filesystem
	// now. A run stands back for them before each pass, for Patience at most (0:
	// ten minutes).
	Others   func(ctx context.Context) []string
	Patience time.Duration
	// Freeze, when set, may be used to stop all writers of the filesystem for a
	// moment: what could not be settled, and what a repair that frees blocks would
	// rest on, is looked at once more then. See [confirm.FreezeFunc].
	Freeze confirm.FreezeFunc
	// Events receives every event, one at a time; nil drops them.
	Events func(Event)
	// Log receives what an operator may want to know and a report does not
	// need; nil discards.
	Log logrus.FieldLogger
}
