package soak

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"
)

// figures are the runs of one filesystem, with live updates or without, added up.
type figures struct {
	runs, unsettled, repairs, findings, notZero int
	candidates, caughtUp, extents               uint64
	elapsed, longest, confirm                   float64
	looks                                       []uint64
}

func (f *figures) add(s *Scrub) {
	f.runs++
	f.candidates += s.Candidates
	f.caughtUp += s.CaughtUp
	f.extents += s.Extents
	f.repairs += s.Repairs
	f.elapsed += s.Elapsed
	f.confirm += s.Confirm
	f.longest = max(f.longest, s.Elapsed)
	if s.ExitStatus != 0 || s.Lost != "" {
		f.notZero++
	}
	for outcome, n := range s.Findings {
		if outcome == unsettled {
			f.unsettled += n
		} else {
			f.findings += n
		}
	}
	for i, n := range s.DroppedAtLook {
		for len(f.looks) <= i {
			f.looks = append(f.looks, 0)
		}
		f.looks[i] += n
	}
}

// toConfirm is how many candidates had to be looked at again.
func (f *figures) toConfirm() uint64 { return f.candidates - min(f.caughtUp, f.candidates) }

// PrintTable prints what was measured, a line for each filesystem, or two where
// some runs were without live updates; and then everything that should not be.
func PrintTable(w io.Writer, reports []Report) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "geometry\tlive\truns\tnot 0\tfindings\trepairs\tunsettled\tcandidates/run\tto confirm\tof extents\tdropped at look 1, 2, ...\ts/run\tlongest\tconfirm s/run\tother faults")
	for i := range reports {
		r := &reports[i]
		for _, live := range []string{"on", "off", "-"} {
			var f figures
			for j := range r.Scrubs {
				if s := &r.Scrubs[j]; liveWord(s) == live {
					f.add(s)
				}
			}
			if f.runs == 0 {
				continue
			}
			n := float64(f.runs)
			fmt.Fprintf(t, "%s\t%s\t%d\t%d\t%d\t%d\t%d\t%.0f\t%.0f\t%.2f %%\t%s\t%.1f\t%.1f\t%.1f\t%d\n",
				r.Geometry, live, f.runs, f.notZero, f.findings, f.repairs, f.unsettled, float64(f.candidates)/n,
				float64(f.toConfirm())/n, 100*float64(f.toConfirm())/float64(max(f.extents, 1)), looksText(f.looks), f.elapsed/n, f.longest, f.confirm/n, len(r.Wrong))
		}
		if len(r.Scrubs) == 0 {
			fmt.Fprintf(t, "%s\t\t0\n", r.Geometry)
		}
	}
	if err := t.Flush(); err != nil {
		return err
	}
	for i := range reports {
		for _, wrong := range reports[i].Wrong {
			if _, err := fmt.Fprintf(w, "%s: %s\n", reports[i].Geometry, wrong); err != nil {
				return err
			}
		}
	}
	return nil
}

func liveWord(s *Scrub) string {
	switch {
	case s.Live == nil:
		return "-"
	case *s.Live:
		return "on"
	}
	return "off"
}

// looksText lists how many were dropped at each look.
func looksText(looks []uint64) string {
	var words []string
	for _, n := range looks {
		words = append(words, fmt.Sprint(n))
	}
	return strings.Join(words, " ")
}

// Well says whether nothing was wrong anywhere.
func Well(reports []Report) bool {
	return !slices.ContainsFunc(reports, func(r Report) bool { return len(r.Wrong) > 0 || len(r.Scrubs) == 0 })
}
