package scrub

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/scrubd/scrubd/ioctl"
	"github.com/scrubd/scrubd/scrub/kernel"
	"github.com/scrubd/scrubd/scrub/state"
)

// What a checkpoint is good for: no pause may be longer than maxPause, so that a
// weekly window is none, and no check that is left out older than maxAge.
const (
	maxPause = 8 * 24 * time.Hour
	maxAge   = 28 * 24 * time.Hour
)

// clockSkew is how far in the future a checkpoint may have been written, by a
// clock that has been put right since.
const clockSkew = 5 * time.Minute

// Resumed is what a run has left out because an earlier one had checked it and
// found it well. The forks are read and compared anew by every run.
type Resumed struct {
	RunID string // of the last of the earlier runs
	// Since is when the oldest of the checks that are left out was made.
	Since  time.Time
	AGs    int    // of which some was checked
	Inodes uint64 // that are left out; at the start of a run, at most
	// Anew says why all of it was checked anew after all: something was found, and
	// no verdict rests on what an earlier run has seen. Empty if it was not.
	Anew string
}

// resumed is what a run goes on with.
type resumed struct {
	earlier *ledger             // what this pass leaves out; nil for nothing. It is only read
	carried []state.FoundBefore // faults that an earlier run knew of
}

// errAnew ends what a pass that left something out may not decide.
var errAnew = errors.New("a pass that goes on where an earlier run stopped has found something")

// loadCheckpoint reads what an earlier run has left, and decides what of it can
// be used. Nothing that is wrong with it keeps a run from starting.
func (r *run) loadCheckpoint() {
	if r.opts.Choice != nil || !r.coverage.KernelScrub {
		return
	}
	r.points.ledger = newLedger()
	c, err := state.ReadCheckpoint(r.opts.StateDir, r.fs)
	if err != nil {
		r.ignoreCheckpoint(err.Error())
		return
	}
	if c == nil {
		return
	}
	r.resume.carried, r.points.found = c.Found, slices.Clone(c.Found)
	if why := r.unusable(c, time.Now()); why != "" {
		r.ignoreCheckpoint(why)
		return
	}
	old, err := r.usable(c)
	if err != nil {
		r.ignoreCheckpoint(err.Error())
		return
	}
	groups, inodes := old.counts()
	if !r.opts.Resume || groups == 0 {
		return
	}
	r.resume.earlier, r.points.ledger = old, old.clone()
	r.sum.Resumed = &Resumed{RunID: c.RunID, Since: old.began, AGs: groups, Inodes: inodes}
}

func (r *run) ignoreCheckpoint(why string) {
	r.log.WithField("why", why).Info("the checkpoint of an earlier run is not used")
	if r.opts.Resume {
		r.sum.Notes = append(r.sum.Notes, "everything is checked, and not only what an earlier run has left: "+why)
	}
}

// unusable says why nothing of a checkpoint can be used, "" when some can.
func (r *run) unusable(c *state.Checkpoint, now time.Time) string {
	switch {
	case len(r.sum.Interrupted) > 0:
		return "a repair was interrupted"
	case c.Shape != state.ShapeOf(r.fs.Geometry()):
		return "the filesystem was changed since"
	case c.Written.After(now.Add(clockSkew)) || c.Began.After(c.Written.Add(clockSkew)):
		return "the clock was set since"
	case now.Sub(c.Written) > maxPause:
		return fmt.Sprintf("that was stopped %s ago", now.Sub(c.Written).Round(time.Hour))
	case now.Sub(c.Began) > maxAge:
		return fmt.Sprintf("its first checks were made %s ago", now.Sub(c.Began).Round(time.Hour))
	}
	return ""
}

// usable is what of a checkpoint still holds: AGs that are as long as they were
// and that the kernel has marked nothing in; no inodes where this kernel checks
// more of them than that one did.
func (r *run) usable(c *state.Checkpoint) (*ledger, error) {
	geo := r.fs.Geometry()
	l := ledgerOf(c, geo.AGCount, r.lengthOf)
	more := c.Release != r.fs.Release() && slices.ContainsFunc(c.Lacking, func(t ioctl.ScrubType) bool {
		return t < ioctl.ScrubTypeCount && t.Object() == ioctl.ScrubObjectInode && r.fs.Features().ScrubType(t) == nil
	})
	for agno, g := range l.groups {
		now, err := r.fs.AGGeometry(agno)
		switch {
		case errors.Is(err, ioctl.ErrCorrupt) || err == nil && now.Sick != 0:
			delete(l.groups, agno)
			continue
		case err != nil:
			return nil, err
		}
		if more {
			g.next, g.all, g.inodes, g.again = 0, false, 0, nil
		}
	}
	return l, nil
}

func (r *run) lengthOf(agno ioctl.AGNumber) uint32 { return uint32(r.fs.Geometry().AGLength(agno)) }

// partial tells whether this pass leaves something out.
func (r *run) partial() bool { return r.resume.earlier != nil }

// anew has the next pass check everything.
func (r *run) anew(why string) {
	if r.points.ledger != nil {
		r.points.ledger.reset()
	}
	if !r.partial() {
		return
	}
	r.log.WithField("why", why).Info("everything is checked anew")
	r.resume.earlier = nil
	r.sum.Resumed.Anew, r.sum.Resumed.Inodes, r.sum.Resumed.AGs = why, 0, 0
}

// tooMuchLeftOut has a pass made again that has found something and left
// something out. What could not be settled was looked at in this pass.
func (r *run) tooMuchLeftOut(p *pass) bool {
	if !r.partial() {
		return false
	}
	why := ""
	for _, f := range p.findings {
		if f.Outcome != Unsettled {
			r.noteFound(f.Finding) // should the next pass not come to its end
			if why == "" {
				why = "something was found: " + f.Summary
			}
		}
	}
	if why != "" {
		r.anew(why)
	}
	return why != ""
}

// noteCarried says what has become of the faults that an earlier run knew of and
// could not report at its end.
func (r *run) noteCarried() {
	for _, f := range r.resume.carried {
		switch {
		case r.known[f.ID] != nil:
		case r.judgedAll:
			r.sum.Notes = append(r.sum.Notes, fmt.Sprintf("an earlier run, which was stopped, had found what is not there any more, or shows as something else now: %s", f.Summary))
		default:
			r.sum.Notes = append(r.sum.Notes, fmt.Sprintf("an earlier run, which was stopped, had found what this one did not come to: %s", f.Summary))
		}
	}
}

// judged is what a summary says of what was found, apart from findings.
type judged struct {
	unchecked, possible, optimized, warnings uint64
	notes                                    int
}

func (s *Summary) judged() judged {
	return judged{s.Unchecked, s.OptimizationsPossible, s.Optimized, s.Warnings, len(s.Notes)}
}

// forget takes it back to what it was.
func (s *Summary) forget(j judged) {
	s.Unchecked, s.OptimizationsPossible, s.Optimized, s.Warnings = j.unchecked, j.possible, j.optimized, j.warnings
	s.Notes = s.Notes[:j.notes]
}

// skips tells whether an earlier run has found a type of metadata of an AG well,
// and nothing speaks against it now.
func (p *pass) skips(g *group, t ioctl.ScrubType) bool {
	if !p.r.partial() || g.sick != 0 || g.suspicious() {
		return false
	}
	e := p.r.resume.earlier.groups[g.agno]
	return e != nil && e.types.has(t)
}

// noteChecked remembers how a type of metadata of an AG was found.
func (p *pass) noteChecked(g *group, res *kernel.Result) {
	if l := p.r.points.ledger; l != nil {
		l.note(g.agno, p.r.lengthOf(g.agno), res.Type, res.Well())
	}
}

// resumeInodes says what the scan of the inodes leaves out.
func (p *pass) resumeInodes() kernel.Resume {
	r := p.r
	if r.points.ledger == nil {
		return kernel.Resume{}
	}
	resume := kernel.Resume{
		Reached: func(agno ioctl.AGNumber, next ioctl.Ino, inodes uint64, all bool) {
			r.points.ledger.reached(agno, r.lengthOf(agno), next, inodes, all)
		},
	}
	if r.partial() {
		earlier, before := r.resume.earlier.groups, r.resume.earlier.began.Add(-ctimeGrain)
		resume.Earlier = func(rec *ioctl.BulkstatRecord) bool {
			e := earlier[agOf(r.fs, rec.Ino)]
			return e != nil && (e.all || rec.Ino < e.next) && rec.Sick == 0 && !slices.Contains(e.again, rec.Ino) &&
				time.Unix(rec.CTime, int64(rec.CTimeNsec)).Before(before)
		}
	}
	return resume
}

// noteLook remembers an inode that something was found in.
func (p *pass) noteLook(res *kernel.Result) {
	if l := p.r.points.ledger; l != nil {
		agno := agOf(p.r.fs, res.Ino)
		l.lookAgain(agno, p.r.lengthOf(agno), res.Ino)
	}
}

func clonePtr[T any](p *T) *T {
	if p == nil {
		return nil
	}
	v := *p
	return &v
}
