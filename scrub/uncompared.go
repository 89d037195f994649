package scrub

import (
	"fmt"
	"slices"

	"github.com/scrubd/scrubd/ioctl"
	"github.com/scrubd/scrubd/scrub/kernel"
	"github.com/scrubd/scrubd/scrub/verdict"
)

// uncompared counts the kernel's scrubs of inodes of a pass that found nothing
// wrong and did not look at everything either: a btree that is marked as sick
// leaves every inode without a comparison. They prove nothing.
type uncompared struct {
	parts        uint64 // of inodes, whatever was not looked at
	forks, cores uint64 // of these, scrubs of forks and cores that left a comparison out
	unfinished   uint64 // and those that gave no verdict, for no reason that a repair takes away
	// before are the marks of each AG when the scrubs began, marks those that each
	// had before, between or after them.
	before, marks []ioctl.AGHealth
}

// note counts a scrub that found nothing wrong and is not clean.
func (u *uncompared) note(res kernel.Result) {
	fork := res.Type == ioctl.ScrubTypeBMBTD || res.Type == ioctl.ScrubTypeBMBTA || slices.Contains(privateTypes, res.Type)
	u.parts++
	switch {
	case !fork && res.Type != ioctl.ScrubTypeINODE:
	case res.Because != 0: // it is asked for by itself, see askSpoiled
	case !res.Ran || res.Flags.Has(ioctl.ScrubIncomplete):
		u.unfinished++
	case fork:
		u.forks++
	default:
		u.cores++
	}
}

// uncomparedForks is for what a repair needs of the comparisons with any AG.
func (u *uncompared) uncomparedForks() verdict.Uncompared {
	all := u.allMarks()
	return verdict.Uncompared{Count: u.forks, Marks: all, Here: all}
}

// uncomparedForksIn is for what it needs of those with agno: each extent of a fork
// is compared with the btrees of its own AG.
func (u *uncompared) uncomparedForksIn(agno ioctl.AGNumber) verdict.Uncompared {
	out := u.uncomparedForks()
	if int(agno) < len(u.marks) {
		out.Here = u.marks[agno]
	}
	return out
}

func (u *uncompared) uncomparedCores() verdict.Uncompared {
	return verdict.Uncompared{Count: u.cores, Marks: u.allMarks()}
}

func (u *uncompared) allMarks() (all ioctl.AGHealth) {
	for _, m := range u.marks {
		all |= m
	}
	return all
}

// notFinished says how many scrubs gave no verdict.
func (u *uncompared) notFinished() []string {
	if u.unfinished == 0 {
		return nil
	}
	return []string{fmt.Sprintf("%d checks of inodes came to no end", u.unfinished)}
}

// marked returns what the kernel has marked as sick now, by AG. Everything may
// be where it does not tell.
func (p *pass) marked() []ioctl.AGHealth {
	out := make([]ioctl.AGHealth, len(p.groups))
	for i := range p.groups {
		geo, err := p.r.fs.AGGeometry(p.groups[i].agno)
		if out[i] = geo.Sick; err != nil {
			out[i] = ^ioctl.AGHealth(0)
		}
	}
	return out
}

// addMarks takes the marks of now over into those under which inodes were scrubbed.
func (p *pass) addMarks() []ioctl.AGHealth {
	now := p.marked()
	if len(p.open.marks) == 0 {
		p.open.marks = make([]ioctl.AGHealth, len(now))
	}
	for i, m := range now {
		p.open.marks[i] |= m
	}
	return now
}

// marksGone tells whether a mark that was there when the inodes were scrubbed is
// not there any more.
func (p *pass) marksGone() bool {
	for i, now := range p.marked() {
		if i < len(p.open.before) && p.open.before[i]&^now != 0 {
			return true
		}
	}
	return false
}
