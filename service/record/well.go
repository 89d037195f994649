package record

import (
	"cmp"
	"slices"
	"time"
)

// WellAGs are the allocation groups from First to Last, which were last found well
// at the same time: before the oldest check that says so.
type WellAGs struct {
	First uint32    `json:"first_agno"`
	Last  uint32    `json:"last_agno"`
	Since time.Time `json:"since"`
}

// addWell takes over what a run has found well. What it says nothing of stays as it
// was; ags is how many groups there are now, 0 where that is not known.
func (t *Totals) addWell(ags uint32, more []WellAGs) {
	if ags == 0 {
		return
	}
	t.AGs = ags
	t.Well = newestWell(append(slices.Clone(t.Well), more...), ags)
}

// newestWell makes ranges that do not overlap, sorted, of those below ags: of several
// for the same groups the newest counts.
func newestWell(all []WellAGs, ags uint32) (out []WellAGs) {
	all = slices.DeleteFunc(all, func(w WellAGs) bool { return w.Last < w.First || w.First >= ags || w.Since.IsZero() })
	bounds := make([]uint32, 0, 2*len(all))
	for i := range all {
		all[i].Last = min(all[i].Last, ags-1)
		bounds = append(bounds, all[i].First, all[i].Last+1)
	}
	slices.Sort(bounds)
	bounds = slices.Compact(bounds)
	slices.SortFunc(all, func(a, b WellAGs) int { return cmp.Or(b.Since.Compare(a.Since), cmp.Compare(a.First, b.First)) })
	for i := 0; i+1 < len(bounds); i++ {
		first, last := bounds[i], bounds[i+1]-1
		at := slices.IndexFunc(all, func(w WellAGs) bool { return w.First <= first && last <= w.Last })
		if at < 0 {
			continue
		}
		since := all[at].Since.UTC()
		if n := len(out); n > 0 && out[n-1].Last+1 == first && out[n-1].Since.Equal(since) {
			out[n-1].Last = last
			continue
		}
		out = append(out, WellAGs{First: first, Last: last, Since: since})
	}
	return out
}

// OldestWell is when the group was last found well that this is longest ago of;
// zero where none was. Groups that never were do not count: see UnprovenAGs.
func (t *Totals) OldestWell() (oldest time.Time) {
	for i := range t.Well {
		if oldest.IsZero() || t.Well[i].Since.Before(oldest) {
			oldest = t.Well[i].Since
		}
	}
	return oldest
}

// UnprovenAGs is how many groups no run that is known of has found well.
func (t *Totals) UnprovenAGs() uint32 {
	left := t.AGs
	for i := range t.Well {
		left -= t.Well[i].Last - t.Well[i].First + 1
	}
	return left
}
