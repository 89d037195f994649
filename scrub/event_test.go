package scrub_test

import (
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/scrubd/scrubd/scrub"
)

// A finding's part in the exit status, by how it stands and how bad it is.
func TestExitStatusOfFinding(t *testing.T) {
	const damage, odd, unfinished = 1, 2, 4
	for _, c := range []struct {
		outcome scrub.Outcome
		// corrupt is the status for severities Critical and Corruption, lesser
		// for Warning and Optimization.
		corrupt, lesser int
	}{
		{scrub.Repaired, 0, 0},
		{scrub.Repairable, damage, odd},
		{scrub.Optimizable, odd, odd},
		{scrub.Noted, odd, odd},
		{scrub.Held, damage, odd},
		{scrub.Unsettled, unfinished, unfinished},
		{scrub.Failed, damage, odd},
	} {
		for severity, want := range map[scrub.Severity]int{
			scrub.Critical: c.corrupt, scrub.Corruption: c.corrupt, scrub.Warning: c.lesser, scrub.Optimization: c.lesser,
		} {
			f := &scrub.Finding{Outcome: c.outcome, Severity: severity}
			s := scrub.Summary{Complete: true, Findings: []*scrub.Finding{f}}
			assert.Equal(t, want, s.ExitStatus(), "%s, %s", c.outcome, severity)
			assert.Equal(t, want&damage != 0, f.Left(), "%s, %s", c.outcome, severity)
		}
	}
}

func TestExitStatus(t *testing.T) {
	finding := func(o scrub.Outcome, s scrub.Severity) *scrub.Finding { return &scrub.Finding{Outcome: o, Severity: s} }
	for _, c := range []struct {
		name string
		s    scrub.Summary
		want int
	}{
		{"all well", scrub.Summary{Complete: true}, 0},
		{"all repaired", scrub.Summary{Complete: true, Repairs: 3, Optimized: 2, Findings: []*scrub.Finding{finding(scrub.Repaired, scrub.Critical)}}, 0},
		{"what this kernel cannot check is said, and no error", scrub.Summary{
			Complete: true, Coverage: scrub.Coverage{NotChecked: []scrub.Uncovered{{What: "kernel-scrub", Why: "not built in"}}},
		}, 0},
		{"stopped", scrub.Summary{}, 4},
		{"something could not be checked", scrub.Summary{Complete: true, Unchecked: 1}, 4},
		{"something could be better", scrub.Summary{Complete: true, OptimizationsPossible: 1}, 2},
		{"something is odd", scrub.Summary{Complete: true, Warnings: 1}, 2},
		{"one held, one repaired", scrub.Summary{Complete: true, Findings: []*scrub.Finding{
			finding(scrub.Repaired, scrub.Corruption), finding(scrub.Held, scrub.Corruption),
		}}, 1},
		{"stopped with damage left", scrub.Summary{Findings: []*scrub.Finding{finding(scrub.Repairable, scrub.Corruption)}}, 5},
		{"everything", scrub.Summary{Unchecked: 1, Warnings: 1, Findings: []*scrub.Finding{
			finding(scrub.Failed, scrub.Critical), finding(scrub.Unsettled, scrub.Warning), finding(scrub.Noted, scrub.Warning),
		}}, 7},
	} {
		assert.Equal(t, c.want, c.s.ExitStatus(), c.name)
	}
}
