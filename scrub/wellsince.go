package scrub

import (
	"time"

	"github.com/scrubd/scrubd/ioctl"
)

// WellAGs are the AGs from First to Last in which a run has found everything well,
// or has proven it to be well again. Since is before their oldest check: what an
// earlier run had checked makes them as old as that.
type WellAGs struct {
	First, Last ioctl.AGNumber
	Since       time.Time
}

// noteWellAGs says which AGs this run, which got through, has found well. Of one
// that could not check everything nothing is said.
func (r *run) noteWellAGs() {
	if r.opts.Choice != nil || r.sum.Unchecked > 0 {
		return
	}
	bad := make(map[ioctl.AGNumber]bool)
	for _, f := range r.known {
		if !f.Left() && f.Outcome != Unsettled {
			continue
		}
		if !f.HasAG && len(f.Extents)+len(f.Files) == 0 {
			return // it may be about any
		}
		if f.HasAG {
			bad[f.AGNo] = true
		}
		for i := range f.Extents {
			bad[f.Extents[i].AGNo] = true
		}
		for i := range f.Files {
			bad[agOf(r.fs, f.Files[i].Ino)] = true
		}
	}
	for agno := range ioctl.AGNumber(r.fs.Geometry().AGCount) {
		since := r.sum.Began
		if r.partial() && r.resume.earlier.groups[agno] != nil {
			since = r.resume.earlier.began
		}
		n := len(r.sum.Well)
		switch {
		case bad[agno]:
		case n > 0 && r.sum.Well[n-1].Last+1 == agno && r.sum.Well[n-1].Since.Equal(since):
			r.sum.Well[n-1].Last = agno
		default:
			r.sum.Well = append(r.sum.Well, WellAGs{First: agno, Last: agno, Since: since})
		}
	}
}
