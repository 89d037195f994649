package scrub

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/scrubd/scrubd/ioctl"
	"github.com/scrubd/scrubd/scrub/live"
)

// ErrForeign means that somebody else scrubs or repairs the filesystem, and did
// not come to an end in the time that a run waits for it.
var ErrForeign = errors.New("another program scrubs or repairs this filesystem")

// ForeignError says who it is.
type ForeignError struct {
	Path string
	Who  []string
	// Waited is how long the run stood back for them.
	Waited time.Duration
}

// Error names the filesystem and the others.
func (e *ForeignError) Error() string {
	return fmt.Sprintf("%s: %v (%s), and still does after %s", e.Path, ErrForeign, strings.Join(e.Who, ", "), e.Waited.Round(time.Second))
}

// Is reports whether target is [ErrForeign].
func (e *ForeignError) Is(target error) bool { return target == ErrForeign }

// defaultPatience is how long a run stands back at one time, askAgain how often
// it looks.
const (
	defaultPatience = 10 * time.Minute
	askAgain        = 2 * time.Second
)

// maxDisturbed bounds the passes that are repeated because somebody else
// repaired something meanwhile.
const maxDisturbed = 3

// standBack waits while somebody else scrubs or repairs the filesystem, and
// tells whether it had to.
//
// Errors: [ErrForeign]; ctx's.
func (r *run) standBack(ctx context.Context) (waited bool, err error) {
	if r.opts.Others == nil {
		return false, nil
	}
	patience := r.opts.Patience
	if patience == 0 {
		patience = defaultPatience
	}
	began := time.Now()
	for {
		who := r.opts.Others(ctx)
		if len(who) == 0 {
			return waited, ctx.Err()
		}
		if time.Since(began) >= patience {
			return waited, &ForeignError{Path: r.fs.Path(), Who: who, Waited: time.Since(began)}
		}
		if !waited {
			waited = true
			r.emit(&WaitEvent{Who: who, Patience: patience})
		}
		select {
		case <-ctx.Done():
			return waited, ctx.Err()
		case <-time.After(min(askAgain, patience)):
		}
	}
}

// disturbedBy names the repairs by others since the pass began: what the pass
// read before them is not what is there now, and its trees are polluted by the
// repair's own. A scrub by somebody else changes nothing.
func (p *pass) disturbedBy(ctx context.Context) []string {
	var who []string
	for _, s := range []*live.Stream{p.stream, p.moments} {
		if s == nil {
			continue
		}
		if err := s.Sync(ctx); err != nil {
			p.r.log.WithError(err).Info("catch up with the kernel's changes")
		}
		for _, f := range s.Foreign() {
			if !f.Repair {
				continue
			}
			what := fmt.Sprintf("repair of %s by thread %d", f.Type, f.PID)
			if f.Type.Object() == ioctl.ScrubObjectAG {
				what = fmt.Sprintf("repair of %s of AG %d by thread %d", f.Type, f.AGNo, f.PID)
			}
			who = append(who, what)
		}
	}
	if len(who) > 0 {
		return who
	}
	for i := range p.groups {
		g := &p.groups[i]
		if geo, err := p.r.fs.AGGeometry(g.agno); err == nil && p.marks[g.agno]&^geo.Sick != 0 {
			who = append(who, fmt.Sprintf("AG %d is no longer marked %s", g.agno, p.marks[g.agno]&^geo.Sick))
		}
	}
	return who
}

// noteMarks remembers what the kernel has marked sick at the end of the pass.
// From then on only somebody else takes a mark off.
func (p *pass) noteMarks() {
	p.marks = make(map[ioctl.AGNumber]ioctl.AGHealth)
	for i := range p.groups {
		g := &p.groups[i]
		if geo, err := p.r.fs.AGGeometry(g.agno); err == nil {
			p.marks[g.agno] = geo.Sick
		}
	}
}

// disturbed tells whether a pass is to be made again because somebody else
// repaired something while it lasted.
//
// Errors: [ErrForeign] when that happens again and again.
func (r *run) disturbed(ctx context.Context, p *pass) (bool, error) {
	who := p.disturbedBy(ctx)
	if len(who) == 0 {
		return false, nil
	}
	r.log.WithField("by", who).Info("somebody else repairs this filesystem: the pass is made again")
	r.anew("somebody else repaired something meanwhile")
	if r.repeated++; r.repeated > maxDisturbed {
		return false, &ForeignError{Path: r.fs.Path(), Who: who[:min(len(who), 3)], Waited: time.Since(r.sum.Began)}
	}
	return true, nil
}

// overtaken looks once more, right before the repairs, whether somebody else
// came first or is at work: then another pass is due and no repair.
func (r *run) overtaken(ctx context.Context, p *pass) (bool, error) {
	waited, err := r.standBack(ctx)
	if err != nil || waited {
		return waited, err
	}
	return r.disturbed(ctx, p)
}
