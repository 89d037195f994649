package scrub

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/scrubd/scrubd/ioctl"
)

// The names of what a run covers, as --require and reports spell them.
const (
	PartKernelScrub = "kernel-scrub"
	PartRepair      = "repair"
	PartRmapbt      = "rmapbt"
)

// cover finds out what this kernel and filesystem let a run check, and opens
// the view of the free space.
func (r *run) cover() error {
	c := &r.coverage
	feats := r.fs.Features()
	r.multigrain = feats.Has(ioctl.FeatureMultigrainCtime)

	check := func(f ioctl.Feature, what string) bool {
		err := feats.Check(f)
		if err == nil {
			c.Checked = append(c.Checked, what)
			return true
		}
		c.NotChecked = append(c.NotChecked, Uncovered{what, reason(err)})
		return false
	}
	if err := feats.Check(ioctl.FeatureScrub); errors.Is(err, ioctl.ErrPrivilege) || errors.Is(err, ioctl.ErrShutdown) {
		return err
	}
	c.KernelScrub = check(ioctl.FeatureScrub, PartKernelScrub)
	if err := feats.Check(ioctl.FeatureRmapbt); err != nil {
		c.NotChecked = append(c.NotChecked, Uncovered{PartRmapbt, reason(err)})
	} else if err := feats.Check(ioctl.FeatureRmapView); errors.Is(err, ioctl.ErrCorrupt) {
		// It is there and cannot be read: a finding, not a gap.
		c.Rmapbt = true
		c.Checked = append(c.Checked, PartRmapbt)
	} else {
		c.Rmapbt = check(ioctl.FeatureRmapView, PartRmapbt)
	}
	switch err := feats.Check(ioctl.FeatureRepair); {
	case !c.Rmapbt:
		c.NotChecked = append(c.NotChecked, Uncovered{PartRepair, "it needs the rmapbt as its source"})
	case err != nil:
		c.NotChecked = append(c.NotChecked, Uncovered{PartRepair, reason(err)})
	default:
		if err := feats.Check(ioctl.FeatureForceRebuild); err != nil {
			c.NotChecked = append(c.NotChecked, Uncovered{PartRepair, reason(err)})
		} else {
			c.Repair = true
		}
	}
	view, err := r.fs.OpenBnobtView()
	if err != nil {
		c.NotChecked = append(c.NotChecked, Uncovered{"bnobt", reason(err)})
	} else {
		r.bnobt = view
		c.Checked = append(c.Checked, "bnobt")
	}
	r.probeLive()
	r.coverRealtime()
	return nil
}

// reason shortens an error to the part that says why.
func reason(err error) string {
	var missing *ioctl.UnsupportedFeatureError
	if errors.As(err, &missing) {
		return missing.Error()
	}
	return err.Error()
}

// missing lists what the caller requires and this run would not have.
func (r *run) missing() []Uncovered {
	has := map[string]bool{
		PartKernelScrub: r.coverage.KernelScrub, PartRepair: r.coverage.Repair, PartRmapbt: r.coverage.Rmapbt,
	}
	var out []Uncovered
	for _, part := range r.opts.Require {
		if has[part] {
			continue
		}
		why := "it is not a part that can be required"
		for _, u := range r.coverage.NotChecked {
			if u.What == part {
				why = u.Why
			}
		}
		out = append(out, Uncovered{part, why})
	}
	return out
}

// deviceName is the data device by its kernel name, or by number where /sys
// does not tell.
func deviceName(dev uint64) string {
	number := fmt.Sprintf("%d:%d", unix.Major(dev), unix.Minor(dev))
	link, err := os.Readlink(filepath.Join("/sys/dev/block", number))
	if err != nil {
		return number
	}
	return filepath.Join("/dev", filepath.Base(link))
}
