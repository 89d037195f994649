package campaign

import (
	"regexp"
	"strings"
)

// Finding is what scrubd's report says of one fault.
type Finding struct {
	Outcome string `json:"outcome"` // repaired, held, …
	AtFault string `json:"at_fault"`
	Summary string `json:"summary"`
	Reason  string `json:"reason,omitempty"`
	Lines   int    `json:"lines"` // of text
}

// left tells whether the filesystem is still damaged, as far as the report goes.
func (f Finding) left() bool {
	return f.Outcome != "repaired" && f.Outcome != "optimizable" && f.Outcome != "noted"
}

// headline begins a finding; verdictLine says which structure is at fault.
var (
	headline    = regexp.MustCompile(`^(REPAIRED|REPAIRABLE|OPTIMIZABLE|NOTED|HELD|UNSETTLED|FAILED) (critical|corruption|warning|optimization): (.*)$`)
	verdictLine = regexp.MustCompile(`^  verdict: (.*?)(?: is at fault)?(?: \((?:row|kernel scrub of) [^)]*\))?(?:; (.*))?$`)
)

// parseReport takes the findings from scrubd's report for people.
func parseReport(lines []string) []Finding {
	var out []Finding
	open := false
	for _, line := range lines {
		if m := headline.FindStringSubmatch(line); m != nil {
			out = append(out, Finding{Outcome: strings.ToLower(m[1]), Summary: m[3], Lines: 1})
			open = true
			continue
		}
		if !open || !strings.HasPrefix(line, "  ") {
			open = false
			continue
		}
		f := &out[len(out)-1]
		f.Lines++
		if m := verdictLine.FindStringSubmatch(line); m != nil {
			f.AtFault, f.Reason = m[1], m[2]
		}
	}
	return out
}

// peerNotices matches the lines in which xfs_scrub says that something is not
// well, or was not.
var peerNotices = regexp.MustCompile(`(?i)corrupt|repair|optimi[sz]|warning|error|unfixable|inconsisten|mismatch|cross-?ref`)

// peerNoticed tells whether xfs_scrub said anything of the fault.
func peerNoticed(status int, lines []string) bool {
	if status != 0 {
		return true
	}
	for _, line := range lines {
		if peerNotices.MatchString(line) {
			return true
		}
	}
	return false
}

// splitLines splits what a program printed, without the codes that clear a
// terminal's line, and without empty lines.
func splitLines(said []byte) []string {
	var lines []string
	for line := range strings.Lines(strings.ReplaceAll(string(said), "\x1b[K", "")) {
		if line = strings.TrimRight(line, "\r\n"); line != "" {
			lines = append(lines, line)
		}
	}
	return lines
}
