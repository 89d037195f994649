package scrub

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/scrubd/scrubd/ioctl"
	"github.com/scrubd/scrubd/scrub/kernel"
	"github.com/scrubd/scrubd/scrub/verdict"
)

// Places are the parts of a filesystem that a run looks at when it is not to
// look at all of it.
type Places struct {
	AGs      []ioctl.AGNumber
	RTGroups []ioctl.RGNumber
	Inodes   []InodeRef
}

// InodeRef is an inode by number. Gen 0 is whatever generation it has.
type InodeRef struct {
	Ino ioctl.Ino
	Gen ioctl.Gen
}

// ErrNoPlace is a place that the filesystem does not have.
var ErrNoPlace = errors.New("there is no such place")

// check refuses groups that are not there. Whether an inode is, its check tells.
func (o *Places) check(geo *ioctl.Geometry) error {
	for _, agno := range o.AGs {
		if uint32(agno) >= geo.AGCount {
			return fmt.Errorf("%w: AG %d of %d", ErrNoPlace, agno, geo.AGCount)
		}
	}
	for _, rgno := range o.RTGroups {
		if geo.RTBlocks == 0 || uint32(rgno) >= max(geo.RGCount, 1) {
			return fmt.Errorf("%w: realtime group %d of %d", ErrNoPlace, rgno, geo.RGCount)
		}
	}
	return nil
}

// names are the places in words; none for nil.
func (o *Places) names() []string {
	if o == nil {
		return nil
	}
	var out []string
	for _, agno := range o.AGs {
		out = append(out, fmt.Sprintf("AG %d", agno))
	}
	for _, rgno := range o.RTGroups {
		out = append(out, fmt.Sprintf("realtime group %d", rgno))
	}
	for _, i := range o.Inodes {
		out = append(out, fmt.Sprintf("inode %d", i.Ino))
	}
	return out
}

// cover says in c that nothing but the places is checked.
func (o *Places) cover(c *Coverage) {
	c.Checked = []string{PartKernelScrub + " of " + strings.Join(o.names(), ", ")}
	c.NotChecked = []Uncovered{{"everything else", "this run looks only at what it was given"}}
	c.Live, c.LiveWhy = false, "nothing is compared with forks"
}

// lookAt has the kernel check the places.
func (r *run) lookAt(ctx context.Context, places *Places) error {
	if _, err := r.standBack(ctx); err != nil {
		return err
	}
	total := uint64(len(places.AGs) + len(places.RTGroups) + len(places.Inodes))
	r.progress.enter(PhaseMetadata, 1)
	for _, agno := range places.AGs {
		results, err := r.kern.AG(ctx, agno)
		if err != nil {
			return err
		}
		r.place(fmt.Sprintf("AG %d", agno), results, &Finding{HasAG: true, AGNo: agno})
		r.progress.one(total)
	}
	for _, rgno := range places.RTGroups {
		results, err := r.kern.RTGroup(ctx, rgno)
		if err != nil {
			return err
		}
		r.place(fmt.Sprintf("realtime group %d", rgno), results, &Finding{Realtime: true, AGNo: ioctl.AGNumber(rgno)})
		r.progress.one(total)
	}
	r.progress.enter(PhaseInodes, 1)
	for _, i := range places.Inodes {
		if err := r.lookAtInode(ctx, i); err != nil {
			return err
		}
		r.progress.one(total)
	}
	r.sum.AGs, r.sum.Inodes = uint64(len(places.AGs)), uint64(len(places.Inodes))
	if !r.fs.Geometry().Has(ioctl.FlagParent) {
		return nil // a path would have to be looked for in all directories
	}
	return r.name(ctx)
}

func (r *run) lookAtInode(ctx context.Context, i InodeRef) error {
	results, err := r.kern.Number(ctx, i.Ino, i.Gen)
	if err != nil {
		return err
	}
	if !slices.ContainsFunc(results, func(res kernel.Result) bool { return !res.Absent }) {
		r.sum.Notes = append(r.sum.Notes, fmt.Sprintf("inode %d is not in use", i.Ino))
		return nil
	}
	agno, agbno, _ := r.fs.Geometry().InoToAG(i.Ino)
	r.place(fmt.Sprintf("inode %d", i.Ino), results, &Finding{
		HasAG: true, AGNo: agno, Extents: []Extent{{agno, agbno, 1}}, Files: []File{{Ino: i.Ino, Gen: results[0].Gen}},
	})
	return nil
}

// place makes a finding of what the kernel has found wrong in one place, if
// anything. Which structure is at fault it leaves open, and so is held: a
// structure that disagrees with another is marked whichever of the two is wrong.
func (r *run) place(name string, results []kernel.Result, f *Finding) {
	var bad, open []string
	for i := range results {
		res := &results[i]
		switch {
		case res.Bad():
			bad = append(bad, res.Object.String())
			f.ScrubTypes = append(f.ScrubTypes, res.Type)
			f.Witnesses = append(f.Witnesses, Witness{"kernel scrub", fmt.Sprintf("%s: %s", res.Type, res.Flags)})
		case res.Absent, res.Unknown, res.Clean():
		default:
			open = append(open, res.String())
		}
	}
	if len(open) > 0 && len(bad) == 0 { // else they may be a consequence
		r.sum.Unchecked += uint64(len(open))
		r.sum.Notes = append(r.sum.Notes, fmt.Sprintf("%s could not be checked in full: %s", name, open[0]))
	}
	if len(bad) == 0 {
		return
	}
	f.AtFault, f.Severity, f.Outcome = string(verdict.Undecided), Corruption, Held
	f.Summary = fmt.Sprintf("the kernel finds %s corrupt", strings.Join(bad, ", "))
	f.Reason = "a check of one place cannot tell what is at fault"
	f.WaysOut = []WayOut{{
		Trust: "kernel", Effect: "check the whole filesystem, and repair what is decided then",
		Command: "scrubd run --now " + r.fs.Path(),
	}}
	f.ID = (&pass{r: r}).placeOf(&finding{Finding: f})
	r.order = append(r.order, f.ID)
	r.known[f.ID] = f
	r.publish(f)
}
