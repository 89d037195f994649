package main

import (
	"cmp"
	"fmt"
	"io"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/dustin/go-humanize"

	"github.com/scrubd/scrubd/ioctl"
	"github.com/scrubd/scrubd/scrub"
)

// reporter shows one run over one filesystem. Its methods are called one at a
// time.
type reporter interface {
	// event takes what the run reports while it lasts.
	event(e scrub.Event)
	// end closes the report. The summary is nil when the run never started or
	// did not come back; err is what ended it early.
	end(s *scrub.Summary, status int, err error)
	// failed returns the first error of writing the report.
	failed() error
}

// The report of one fault is to fit a screen with room to spare, whatever the
// number of extents, files and findings.
const (
	shownFindings = 50
	shownExtents  = 3
	shownFiles    = 3
	shownNotes    = 5
)

// textReporter writes the report for a person. Findings are kept until the
// end, when their outcome is known: one fault is shown once.
type textReporter struct {
	w          io.Writer
	t          target
	consistent bool
	err        error
	mode       scrub.Mode
	autofsck   string
}

func newTextReporter(w io.Writer, t target, consistent bool) *textReporter {
	return &textReporter{w: w, t: t, consistent: consistent}
}

func (r *textReporter) failed() error { return r.err }

// line prints one line. Words of the report may come from names on the disk:
// a control character in them is shown as its code, so that it can neither
// drive the terminal nor start a line of its own.
func (r *textReporter) line(format string, args ...any) {
	if r.err == nil {
		_, r.err = fmt.Fprintln(r.w, oneLine(fmt.Sprintf(format, args...)))
	}
}

// oneLine returns s with its control characters made visible.
func oneLine(s string) string {
	if !strings.ContainsFunc(s, unicode.IsControl) {
		return s
	}
	var b strings.Builder
	for _, c := range s {
		if unicode.IsControl(c) {
			fmt.Fprintf(&b, "\\x%02x", c)
			continue
		}
		b.WriteRune(c)
	}
	return b.String()
}

func (r *textReporter) event(e scrub.Event) {
	switch e := e.(type) {
	case *scrub.StartEvent:
		r.start(e)
	case *scrub.PlanEvent:
		r.plan(e.Plan)
	}
}

// start opens the report with what is checked and what is not.
func (r *textReporter) start(e *scrub.StartEvent) {
	r.mode, r.autofsck = e.Mode, e.Autofsck
	device := e.Device
	if r.consistent {
		device = "DEVICE"
	}
	r.line("%s: XFS on %s, mode %s%s", printable(r.t.MountPoint), printable(device), e.Mode,
		autofsckNote(e.Autofsck))
	r.coverage(e.Coverage)
	for i := range e.Interrupted {
		if i == shownNotes {
			r.line("interrupted: and %d more; --json has them", len(e.Interrupted)-i)
			break
		}
		r.line("interrupted: %s; judged anew", r.interruption(&e.Interrupted[i]))
	}
	if e.Resumed != nil {
		r.line("resumed: scrubs of up to %s are left out; forks and rmapbt are compared anew", leftOut(e.Resumed, r.consistent))
	}
}

// leftOut says what a run leaves out because an earlier one had it scrubbed.
func leftOut(s *scrub.Resumed, consistent bool) string {
	text := plural(s.Inodes, "inode") + " and of metadata of " + plural(uint64(s.AGs), "AG")
	if !consistent {
		text += " since " + s.Since.Local().Format(time.DateTime)
	}
	return text
}

// interruption says what an earlier run left behind.
func (r *textReporter) interruption(in *scrub.Interruption) string {
	if in.What == "" {
		return "a record of an earlier run was cut off while it was written: a repair was about to begin, or had just ended"
	}
	who := "an earlier run"
	if !r.consistent {
		who = fmt.Sprintf("run %s of %s", in.RunID, in.Began.Local().Format(time.DateTime))
	}
	how := "was stopped"
	if in.Rebooted {
		how = "was ended by the end of the machine"
	}
	when := "after"
	if in.InCall {
		when = "during"
	}
	s := fmt.Sprintf("%s %s %s %q, before that was proven", who, how, when, in.What)
	if in.Summary != "" {
		s += fmt.Sprintf(" (%s)", in.Summary)
	}
	return s
}

// outlook says how the fault of an interrupted repair stands at the end.
func outlook(in *scrub.Interruption) string {
	what := in.What
	if what == "" {
		what = "a repair whose record was cut off"
	}
	if in.Now == "" {
		return fmt.Sprintf("%s, interrupted earlier: its fault is not there any more", what)
	}
	return fmt.Sprintf("%s, interrupted earlier: see the finding above (%s)", what, in.Now)
}

// unset is the name of the autofsck property when there is none.
var unset = ioctl.AutofsckUnset.String()

// autofsckNote says what the filesystem's own property allows, when it is set.
func autofsckNote(value string) string {
	if value == "" || value == unset {
		return ""
	}
	return fmt.Sprintf(" (autofsck property: %s)", value)
}

func (r *textReporter) coverage(c scrub.Coverage) {
	checked := "nothing"
	if len(c.Checked) > 0 {
		checked = strings.Join(c.Checked, ", ")
	}
	r.line("checked: %s", checked)
	if len(c.NotChecked) > 0 {
		r.line("not checked: %s", strings.Join(uncovered(c.NotChecked), ", "))
	}
	if c.LiveWhy != "" && !r.consistent {
		r.line("live updates: off (%s)", c.LiveWhy)
	}
}

// uncovered names what is not checked. What lacks for one reason stands together.
func uncovered(list []scrub.Uncovered) []string {
	var parts []string
	var names []string
	for i, u := range list {
		names = append(names, u.What)
		if i+1 < len(list) && list[i+1].Why == u.Why {
			continue
		}
		parts = append(parts, fmt.Sprintf("%s (%s)", strings.Join(names, " and "), u.Why))
		names = nil
	}
	return parts
}

func (r *textReporter) end(s *scrub.Summary, status int, _ error) {
	if s == nil { // it never started; the error says why
		return
	}
	found := slices.Clone(s.Findings)
	slices.SortStableFunc(found, compareFindings)
	for i, f := range found {
		if i == shownFindings {
			r.line("")
			r.line("… and %d more; --json lists all of them", len(found)-i)
			break
		}
		r.finding(f)
	}
	r.line("")
	r.notes(s)
	r.line("%s: %s", printable(r.t.MountPoint), verdict(s, found))
	if s.Inodes > 0 {
		r.counts(s)
	}
	if status != 0 {
		r.line("exit status %d: %s", status, statusText(status))
	}
}

// finding prints at most six lines: what is wrong, where, what each witness
// says, the verdict, what was done, what a person can do.
func (r *textReporter) finding(f *scrub.Finding) {
	r.line("")
	r.line("%s: %s", headline(f), f.Summary)
	if place := where(f); place != "" {
		r.line("  where: %s", place)
	}
	if len(f.Witnesses) > 0 {
		says := make([]string, len(f.Witnesses))
		for i, w := range f.Witnesses {
			says[i] = w.Name + ": " + w.Says
		}
		r.line("  witnesses: %s", strings.Join(says, "; "))
	}
	r.line("  verdict: %s", verdictOf(f))
	if len(f.Done) > 0 {
		evidence := ""
		if f.EvidencePath != "" && !r.consistent {
			evidence = " (evidence: " + printable(f.EvidencePath) + ")"
		}
		r.line("  done: %s%s", strings.Join(f.Done, "; "), evidence)
	}
	if way := r.todo(f); way != "" {
		r.line("  what to do: %s", way)
	}
}

// headline names a finding's outcome first: that is what a reader looks for.
func headline(f *scrub.Finding) string {
	return strings.ToUpper(string(f.Outcome)) + " " + string(f.Severity)
}

// where names blocks and owners.
func where(f *scrub.Finding) string {
	var parts []string
	group := "AG"
	if f.Realtime {
		group = "rtgroup"
	}
	if len(f.Extents) == 0 && (f.HasAG || f.Realtime) {
		parts = append(parts, fmt.Sprintf("%s %d", group, f.AGNo))
	}
	for i, e := range f.Extents {
		if i == shownExtents {
			parts = append(parts, fmt.Sprintf("and %d more extents", len(f.Extents)-i))
			break
		}
		if e.BlockCount == 1 {
			parts = append(parts, fmt.Sprintf("%s %d block %d", group, e.AGNo, e.StartBlock))
			continue
		}
		parts = append(parts, fmt.Sprintf("%s %d blocks %d-%d", group, e.AGNo, e.StartBlock,
			uint64(e.StartBlock)+uint64(e.BlockCount)-1))
	}
	for i, file := range f.Files {
		if i == shownFiles {
			parts = append(parts, fmt.Sprintf("and %d more files", len(f.Files)-i))
			break
		}
		name := fmt.Sprintf("inode %d", file.Ino)
		if file.Path != "" {
			name += " " + printable(file.Path)
		}
		parts = append(parts, name)
	}
	return strings.Join(parts, ", ")
}

// verdictOf says which structure is at fault and on what ground.
func verdictOf(f *scrub.Finding) string {
	var b strings.Builder
	if f.AtFault == "" || f.AtFault == "undecided" {
		b.WriteString("undecided")
	} else {
		b.WriteString(f.AtFault + " is at fault")
	}
	switch {
	case f.Row > 0:
		fmt.Fprintf(&b, " (row %d%s)", f.Row, f.Letter)
	case len(f.ScrubTypes) > 0:
		fmt.Fprintf(&b, " (kernel scrub of %s)", joinStringers(f.ScrubTypes))
	}
	if f.Reason != "" {
		b.WriteString("; " + f.Reason)
	}
	return b.String()
}

// todo says what a person can do about a finding; empty when nothing is left.
func (r *textReporter) todo(f *scrub.Finding) string {
	if len(f.WaysOut) > 0 {
		ways := make([]string, len(f.WaysOut))
		for i, way := range f.WaysOut {
			ways[i] = fmt.Sprintf("trust the %s: %s", way.Trust, way.Effect)
			if way.Command != "" {
				ways[i] += " [" + way.Command + "]"
			}
		}
		return strings.Join(ways, " | or ")
	}
	switch f.Outcome {
	case scrub.Repairable:
		return r.repairAgain()
	case scrub.Optimizable:
		return "nothing; or " + r.command("--optimize")
	case scrub.Unsettled:
		return "run scrubd again when the filesystem is less busy"
	case scrub.Failed:
		return adviseRepair(f.Failure)
	case scrub.Held:
		return "save what is dear, unmount, look at xfs_repair -n before xfs_repair"
	default:
		return ""
	}
}

// repairAgain says how to have a repair done that this run was not allowed.
func (r *textReporter) repairAgain() string {
	switch ceiling, err := scrub.ParseMode(r.autofsck); {
	case r.mode == scrub.ModeRepair:
		return r.command("--repair") + " once what refused the repair agrees"
	case r.autofsck != "" && r.autofsck != unset && (err != nil || ceiling < scrub.ModeRepair):
		return r.command("--repair", "--ignore-autofsck")
	default:
		return r.command("--repair")
	}
}

// command is a command line on this filesystem, to copy and paste.
func (r *textReporter) command(flags ...string) string {
	return "scrubd run --now " + strings.Join(flags, " ") + " " + shellQuote(r.t.MountPoint)
}

func (r *textReporter) notes(s *scrub.Summary) {
	for i, note := range s.Notes {
		if i == shownNotes {
			r.line("note: and %d more; --json has them", len(s.Notes)-i)
			break
		}
		r.line("note: %s", note)
	}
	if s.Complete {
		for i := range s.Interrupted {
			if in := &s.Interrupted[i]; i < shownNotes && in.What != "" {
				r.line("note: %s", outlook(in))
			}
		}
	}
	if s.Resumed != nil && s.Resumed.Anew != "" {
		r.line("note: everything was checked anew after all: %s", s.Resumed.Anew)
	}
	if s.Checkpoint {
		r.line("note: a run with --resume can go on from here")
	}
	if s.Unchecked > 0 && len(s.Notes) == 0 {
		r.line("note: %s could not be checked", plural(s.Unchecked, "object"))
	}
}

// counts prints how much was looked at, and what that cost.
func (r *textReporter) counts(s *scrub.Summary) {
	line := fmt.Sprintf("%s, %s in %s", plural(s.Inodes, "inode"), plural(s.Extents, "extent"), plural(s.AGs, "AG"))
	if s.Dropped > 0 && !r.consistent {
		line += fmt.Sprintf("; %s seen once and gone when looked at again", plural(s.Dropped, "difference"))
	}
	if !r.consistent {
		if s.KernelCalls > 0 {
			line += "; " + plural(s.KernelCalls, "kernel call")
		}
		line += fmt.Sprintf("; %s of records, %s", humanize.IBytes(uint64(max(s.PeakPageableBytes, 0))),
			roundDuration(s.Elapsed))
		if s.Background {
			line += fmt.Sprintf(", of which %s at rest", roundDuration(s.Throttled))
		}
	}
	r.line("%s", line)
}

// verdict is the run's own result in one sentence.
func verdict(s *scrub.Summary, found []*scrub.Finding) string {
	b := &strings.Builder{}
	switch {
	case !s.Complete && s.Incomplete != "":
		fmt.Fprintf(b, "not finished: %s", s.Incomplete)
	case !s.Complete:
		b.WriteString("not finished")
	case len(found) == 0 && s.Unchecked > 0:
		fmt.Fprintf(b, "no fault in what was checked; %s could not be checked", plural(s.Unchecked, "object"))
	case len(found) == 0 && s.Warnings+s.OptimizationsPossible > 0:
		b.WriteString("no fault")
	case len(found) == 0 && len(s.Only) > 0:
		fmt.Fprintf(b, "the kernel finds nothing wrong with %s", listed(s.Only))
	case len(found) == 0:
		b.WriteString("clean: all that this kernel and filesystem allow to check is well")
	}
	add := func(n int, text string) {
		if n > 0 {
			if b.Len() > 0 {
				b.WriteString("; ")
			}
			b.WriteString(text)
		}
	}
	add(len(found), tally(found))
	add(int(s.Warnings), plural(s.Warnings, "warning"))
	add(int(s.Optimized), plural(s.Optimized, "optimization")+" made")
	add(int(s.OptimizationsPossible), plural(s.OptimizationsPossible, "optimization")+" possible (--optimize)")
	if e := s.Resumed; e != nil && e.Anew == "" && s.Complete {
		add(1, "scrubs of "+leftOut(e, consistentOutput())+" are an earlier run's")
	}
	return b.String()
}

// outcomes in the order in which a tally names them.
var outcomes = []scrub.Outcome{
	scrub.Repaired, scrub.Repairable, scrub.Held, scrub.Failed, scrub.Unsettled, scrub.Optimizable, scrub.Noted,
}

// tally counts findings by outcome: "3 findings: 2 repaired, 1 held".
func tally(found []*scrub.Finding) string {
	count := map[scrub.Outcome]int{}
	for _, f := range found {
		count[f.Outcome]++
	}
	var parts []string
	for _, o := range outcomes {
		if n := count[o]; n > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", n, o))
		}
	}
	return plural(uint64(len(found)), "finding") + ": " + strings.Join(parts, ", ")
}

// statusText spells an exit status out.
func statusText(status int) string {
	var parts []string
	for _, part := range []struct {
		bit  int
		text string
	}{
		{exitCorruption, "corruption is left"},
		{exitWarnings, "warnings or possible optimizations are left"},
		{exitOperational, "the check could not be done or finished"},
		{exitUsage, "the command line is wrong"},
	} {
		if status&part.bit != 0 {
			parts = append(parts, part.text)
		}
	}
	return strings.Join(parts, "; ")
}

// compareFindings puts the worst first, then goes by place.
func compareFindings(a, b *scrub.Finding) int {
	c := cmp.Or(
		cmp.Compare(severityRank(a.Severity), severityRank(b.Severity)),
		cmp.Compare(a.AGNo, b.AGNo),
	)
	if c != 0 {
		return c
	}
	if len(a.Extents) > 0 && len(b.Extents) > 0 {
		c = cmp.Or(cmp.Compare(a.Extents[0].AGNo, b.Extents[0].AGNo),
			cmp.Compare(a.Extents[0].StartBlock, b.Extents[0].StartBlock))
	}
	return cmp.Or(c, cmp.Compare(len(b.Extents), len(a.Extents)), cmp.Compare(a.ID, b.ID))
}

func severityRank(s scrub.Severity) int {
	return slices.Index([]scrub.Severity{
		scrub.Critical, scrub.Corruption, scrub.Warning, scrub.Optimization,
	}, s)
}

// printable returns a name fit for a terminal: file names are bytes, and may
// hold line feeds and escape sequences.
func printable(name string) string {
	if !utf8.ValidString(name) || strings.ContainsFunc(name, func(c rune) bool { return !unicode.IsPrint(c) }) {
		return strconv.Quote(name)
	}
	return name
}

// plural counts things: "1 inode", "10,003 inodes".
func plural(n uint64, thing string) string {
	if n != 1 {
		thing += "s"
	}
	return fmt.Sprintf("%s %s", comma(n), thing)
}

// shellQuote returns a name as a shell takes it for one word.
func shellQuote(name string) string {
	safe := func(c rune) bool {
		return unicode.IsLetter(c) || unicode.IsDigit(c) || strings.ContainsRune("_-./@%+=:,", c)
	}
	if name != "" && !strings.ContainsFunc(name, func(c rune) bool { return !safe(c) }) {
		return name
	}
	return "'" + strings.ReplaceAll(name, "'", `'\''`) + "'"
}

func joinStringers[S fmt.Stringer](list []S) string {
	names := make([]string, len(list))
	for i, s := range list {
		names[i] = s.String()
	}
	return strings.Join(names, ", ")
}

// roundDuration drops digits that nobody reads.
func roundDuration(d time.Duration) time.Duration {
	switch {
	case d < time.Second:
		return d.Round(time.Millisecond)
	case d < time.Minute:
		return d.Round(100 * time.Millisecond)
	default:
		return d.Round(time.Second)
	}
}

// comma groups digits: 10,003.
func comma(n uint64) string { return humanize.Comma(int64(min(n, math.MaxInt64))) }
