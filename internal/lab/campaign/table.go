package campaign

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"
)

// maxLines is how many lines of text a finding may take.
const maxLines = 6

// Tally is what became of many cases under one program.
type Tally struct {
	Cases, Noticed, Right, Healed, HeldRightly, HeldWrongly int
	CasesHarmed, FilesHarmed, FilesRecovered                int
	Hung, Crashed, Shutdown                                 int
	Clean, FalseAlarms                                      int
	Findings, Lines, LinesMost                              int
	Errors                                                  int
	Redrawn, DownAtALook                                    int
}

// count adds up the outcomes that pick picks.
func count(results []Result, pick func(*Result) *Outcome) Tally {
	var t Tally
	for i := range results {
		r := &results[i]
		t.Redrawn += len(r.Redrawn)
		for _, why := range r.Redrawn {
			t.DownAtALook += one(strings.HasPrefix(why, downAtALook))
		}
		o := pick(r)
		if o == nil {
			if r.Error != "" {
				t.Errors++
			}
			continue
		}
		if o.Harm() {
			t.CasesHarmed++
		}
		t.FilesHarmed += len(o.Harmed)
		t.FilesRecovered += len(o.Recovered)
		t.Hung += one(o.Hung != "")
		t.Crashed += one(o.Crashed != "")
		t.Shutdown += one(o.Shutdown != "")
		t.Findings += len(o.Findings)
		if r.Case.Kind == Clean {
			t.Clean++
			t.FalseAlarms += one(!o.Right)
			continue
		}
		t.Cases++
		t.Noticed += one(o.Noticed)
		t.Right += one(o.Right)
		t.Healed += one(o.Healed)
		if o.Held && !o.Healed {
			t.HeldRightly += one(o.Right)
			t.HeldWrongly += one(!o.Right)
		}
		if len(o.Findings) == 0 {
			t.Lines += len(o.Said)
			t.LinesMost = max(t.LinesMost, len(o.Said))
		}
		for _, f := range o.Findings {
			t.Lines += f.Lines
			t.LinesMost = max(t.LinesMost, f.Lines)
		}
	}
	return t
}

func one(yes bool) int {
	if yes {
		return 1
	}
	return 0
}

// Table prints what became of the cases under both programs.
func Table(w io.Writer, results []Result) error {
	ours := count(results, func(r *Result) *Outcome { return r.Scrubd })
	theirs := count(results, func(r *Result) *Outcome { return r.Peer })
	peer := slices.ContainsFunc(results, func(r Result) bool { return r.Peer != nil })
	tab := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	row := func(name string, get func(*Tally) string) {
		if peer {
			fmt.Fprintf(tab, "%s\t%s\t%s\n", name, get(&ours), get(&theirs))
		} else {
			fmt.Fprintf(tab, "%s\t%s\n", name, get(&ours))
		}
	}
	of := func(n, all int) string {
		if all == 0 {
			return "-"
		}
		return fmt.Sprintf("%d of %d (%.0f %%)", n, all, 100*float64(n)/float64(all))
	}
	if peer {
		fmt.Fprintf(tab, "\tscrubd\txfs_scrub\n")
	} else {
		fmt.Fprintf(tab, "\tscrubd\n")
	}
	verdicts := func(get func(*Tally) string) func(*Tally) string {
		return func(t *Tally) string {
			if t == &theirs {
				return "-" // it gives none
			}
			return get(t)
		}
	}
	row("faults noticed", func(t *Tally) string { return of(t.Noticed, t.Cases) })
	row("verdict right", verdicts(func(t *Tally) string { return of(t.Right, t.Cases) }))
	row("healed", func(t *Tally) string { return of(t.Healed, t.Cases) })
	row("rightly held", verdicts(func(t *Tally) string { return of(t.HeldRightly, t.Cases) }))
	row("wrongly held", verdicts(func(t *Tally) string { return of(t.HeldWrongly, t.Cases) }))
	row("cases with harm", func(t *Tally) string { return of(t.CasesHarmed, t.Cases+t.Clean) })
	row("files harmed", func(t *Tally) string { return fmt.Sprint(t.FilesHarmed) })
	row("files recovered", func(t *Tally) string { return fmt.Sprint(t.FilesRecovered) })
	row("kernels hung", func(t *Tally) string { return fmt.Sprint(t.Hung) })
	row("kernels crashed", func(t *Tally) string { return fmt.Sprint(t.Crashed) })
	row("filesystems shut down", func(t *Tally) string { return fmt.Sprint(t.Shutdown) })
	row("false alarms", func(t *Tally) string { return of(t.FalseAlarms, t.Clean) })
	row("lines of text for each fault", func(t *Tally) string {
		if t.Cases == 0 {
			return "-"
		}
		return fmt.Sprintf("%.1f, at most %d a finding", float64(t.Lines)/float64(t.Cases), t.LinesMost)
	})
	fmt.Fprintf(tab, "drawn anew, for there was no fault\t%d\n", ours.Redrawn-ours.DownAtALook)
	fmt.Fprintf(tab, "drawn anew, for a mere look shuts it down\t%d\n", ours.DownAtALook)
	if ours.Errors > 0 {
		fmt.Fprintf(tab, "cases that could not be run\t%d\n", ours.Errors)
	}
	return tab.Flush()
}

// Targets returns the targets that scrubd missed in a campaign, none when all
// were met. They are those of docs/campaign.md.
func Targets(kind Kind, results []Result) []string {
	t := count(results, func(r *Result) *Outcome { return r.Scrubd })
	var missed []string
	want := func(ok bool, format string, args ...any) {
		if !ok {
			missed = append(missed, fmt.Sprintf(format, args...))
		}
	}
	share := func(n int) float64 {
		if t.Cases == 0 {
			return 0
		}
		return float64(n) / float64(t.Cases)
	}
	want(t.Errors == 0, "%d cases could not be run", t.Errors)
	want(t.CasesHarmed == 0, "harm in %d cases", t.CasesHarmed)
	want(t.Noticed == t.Cases, "%d faults were not noticed", t.Cases-t.Noticed)
	want(t.FalseAlarms == 0, "%d filesystems without a fault were not clean", t.FalseAlarms)
	switch kind {
	case Single:
		want(share(t.Healed) >= 0.90, "healed %.1f %%, less than 90 %%", 100*share(t.Healed))
		want(share(t.HeldRightly) <= 0.08, "held %.1f %%, more than 8 %%", 100*share(t.HeldRightly))
		want(t.LinesMost <= maxLines, "%d lines for one finding", t.LinesMost)
	case Double:
		want(share(t.Healed) >= 0.80, "healed %.1f %%, less than 80 %%", 100*share(t.Healed))
		want(share(t.Healed+t.HeldRightly) >= 0.90, "healed or rightly held %.1f %%, less than 90 %%", 100*share(t.Healed+t.HeldRightly))
	}
	return missed
}
