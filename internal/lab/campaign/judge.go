package campaign

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/scrubd/scrubd/internal/lab"
)

// repairProgress matches the lines in which xfs_repair -n says what it is doing,
// and that the image lies on another kind of filesystem.
var repairProgress = regexp.MustCompile(`^(Phase \d|\s+- |No modify flag set|Cannot get host|Repair may fail|the image and the host)`)

// Outcome is what became of a filesystem under one program.
type Outcome struct {
	Hung     string    `json:"hung,omitempty"`     // the kernel did not come back
	Crashed  string    `json:"crashed,omitempty"`  // the kernel ended
	Shutdown string    `json:"shutdown,omitempty"` // the filesystem went down
	Remount  string    `json:"remount,omitempty"`  // it does not mount any more
	Status   int       `json:"status"`
	Said     []string  `json:"said"`
	Findings []Finding `json:"findings,omitempty"` // of scrubd

	Harmed    []string `json:"harmed,omitempty"`    // files that read neither as before nor as undamaged
	Exposed   []string `json:"exposed,omitempty"`   // what is in use and was made free space or a free inode
	Recovered []string `json:"recovered,omitempty"` // files that read as undamaged again
	Damaged   int      `json:"damaged"`             // files that read differently because of the damage alone
	Offline   []string `json:"offline,omitempty"`   // what xfs_repair -n says afterwards
	// Contradictions are what lab.CheckImage says afterwards.
	Contradictions []string `json:"contradictions,omitempty"`
	Check          int      `json:"check"` // exit status of the check after a remount
	CheckSaid      []string `json:"check_said,omitempty"`
	Complains      []string `json:"complains,omitempty"` // of the kernel

	Noticed bool     `json:"noticed"`
	Healed  bool     `json:"healed"`
	Held    bool     `json:"held"`
	Right   bool     `json:"right"`           // the verdict: healed for the right structure, or rightly held, or clean
	Wrong   []string `json:"wrong,omitempty"` // what is not as it should be, harm first
}

// lost tells whether the kernel did not survive the program.
func (o *Outcome) lost() bool { return o.Hung != "" || o.Crashed != "" }

// lostWords says in one line how a kernel was lost.
func lostWords(r lab.Result) string {
	words := "it crashed"
	if r.TimedOut {
		words = "it hung"
	}
	if complaints := r.Complaints(); len(complaints) > 0 {
		return words + ": " + complaints[0]
	}
	return words
}

// shutdownLine is what the kernel prints when it takes a filesystem down.
var shutdownLine = regexp.MustCompile(`(?i)(shutting down filesystem|filesystem has been shut down|shutdown initiated)`)

// outcome takes up what a trial has left on the host, and looks at the image.
func (t *trial) outcome(ctx context.Context) (*Outcome, error) {
	in, dir := t.inside, t.dir()
	o := &Outcome{Status: in.Status, Shutdown: in.Shutdown, Remount: in.Remount, Check: in.Check, Complains: t.kernel.Complaints()}
	switch {
	case in.Hung != "":
		o.Hung = "in stage " + in.Stage + ": " + in.Hung
	case t.kernel.TimedOut:
		o.Hung = "in stage " + in.Stage + ": " + lostWords(t.kernel)
	case t.kernel.Crashed:
		o.Crashed = "in stage " + in.Stage + ": " + lostWords(t.kernel)
	}
	if line := shutdownLine.FindString(t.kernel.Console); line != "" && o.Shutdown == "" {
		o.Shutdown = line
	}
	said, err := os.ReadFile(filepath.Join(dir, fileSaid))
	if err != nil && !o.lost() {
		return nil, err
	}
	o.Said = splitLines(said)
	said, err = os.ReadFile(filepath.Join(dir, fileCheck))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	o.CheckSaid = splitLines(said)
	if o.lost() || o.Remount != "" {
		return o, nil
	}
	clean := t.b.clean
	if t.r.Case.Kind == Lost {
		if clean, err = loadSnapshot(filepath.Join(dir, fileClean)); err != nil {
			return nil, err
		}
	}
	before, err := loadSnapshot(filepath.Join(dir, fileBefore))
	if err != nil {
		return nil, err
	}
	after, err := loadSnapshot(filepath.Join(dir, fileAfter))
	if err != nil {
		return nil, err
	}
	o.compare(clean, before, after)
	if o.Offline, err = offline(ctx, t.job.Image); err != nil {
		return nil, err
	}
	if o.Contradictions, err = lab.CheckImageFile(t.job.Image); err != nil {
		return nil, err
	}
	o.worsened(in.Contradictions)
	return o, nil
}

// compare counts the files that were harmed and those that were recovered.
func (o *Outcome) compare(clean, before, after lab.Snapshot) {
	hurt, changed, wrong := byPath(lab.Diff(clean, before)), byPath(lab.Diff(before, after)), byPath(lab.Diff(clean, after))
	o.Damaged = len(hurt)
	for path, how := range changed {
		if still, ok := wrong[path]; ok {
			o.Harmed = append(o.Harmed, fmt.Sprintf("%s: by the run: %s; against the undamaged: %s", path, how, still))
		}
	}
	for path := range hurt {
		if _, ok := wrong[path]; !ok {
			o.Recovered = append(o.Recovered, path)
		}
	}
	slices.Sort(o.Harmed)
	slices.Sort(o.Recovered)
}

// lossLines matches the contradictions in which something that is in use is
// said to be free: the next write may go there.
var lossLines = regexp.MustCompile(`the inobt says allocated: false|^bnobt of .* is only in the first$`)

// worsened notes what is in use and has become free by the run: nothing reads
// differently yet.
func (o *Outcome) worsened(before []string) {
	for _, line := range o.Contradictions {
		if lossLines.MatchString(line) && !slices.Contains(before, line) {
			o.Exposed = append(o.Exposed, line)
		}
	}
}

// byPath splits the lines of a difference.
func byPath(lines []string) map[string]string {
	out := make(map[string]string)
	for _, line := range lines {
		path, how, _ := strings.Cut(line, ": ")
		out[path] = how
	}
	return out
}

// wrongs notes harm of every kind.
func (o *Outcome) harm() {
	for what, why := range map[string]string{"HUNG": o.Hung, "CRASHED": o.Crashed, "SHUTDOWN": o.Shutdown, "DOES NOT MOUNT": o.Remount} {
		if why != "" {
			o.Wrong = append(o.Wrong, what+" "+why)
		}
	}
	if n := len(o.Harmed); n > 0 {
		o.Wrong = append(o.Wrong, fmt.Sprintf("HARMED %d files, %s", n, o.Harmed[0]))
	}
	if n := len(o.Exposed); n > 0 {
		o.Wrong = append(o.Wrong, fmt.Sprintf("MADE FREE what is in use, in %d places, %s", n, o.Exposed[0]))
	}
	slices.Sort(o.Wrong)
}

// Harm tells whether the run cost anything.
func (o *Outcome) Harm() bool {
	return o.lost() || o.Shutdown != "" || o.Remount != "" || len(o.Harmed) > 0 || len(o.Exposed) > 0
}

// judgeScrubd says what scrubd did right and wrong.
func (o *Outcome) judgeScrubd(kind Kind, oracle Oracle) {
	o.harm()
	if kind == Clean {
		o.Right = !o.Harm() && o.Status == 0 && len(o.Findings) == 0 && len(o.Contradictions) == 0
		if len(o.Findings) > 0 {
			o.Wrong = append(o.Wrong, "false alarm: "+o.Findings[0].Summary)
		} else if o.Status != 0 {
			o.Wrong = append(o.Wrong, fmt.Sprintf("exit status %d on a filesystem without a fault", o.Status))
		}
		return
	}
	o.Noticed = len(o.Findings) > 0
	if !o.Noticed {
		o.Wrong = append(o.Wrong, fmt.Sprintf("not noticed (exit status %d)", o.Status))
		return
	}
	left := false
	for _, f := range o.Findings {
		switch f.Outcome {
		case "repaired":
			if !slices.Contains(oracle.AtFault, f.AtFault) {
				o.Wrong = append(o.Wrong, fmt.Sprintf("%q was blamed and repaired, not %s", f.AtFault, strings.Join(oracle.AtFault, " or ")))
			}
		case "held":
			left, o.Held = true, true
		case "optimizable", "noted":
		default:
			left = true
			o.Wrong = append(o.Wrong, f.Outcome+": "+f.Summary+"; "+f.Reason)
		}
		if f.Lines > maxLines {
			o.Wrong = append(o.Wrong, fmt.Sprintf("%d lines for one finding", f.Lines))
		}
	}
	blameless := len(o.Wrong) == 0
	if left {
		o.Right = blameless && o.Held && len(oracle.Hold) > 0
		if o.Held && len(oracle.Hold) == 0 {
			o.Wrong = append(o.Wrong, "wrongly held: "+o.held())
		}
		return
	}
	o.Healed = !o.Harm() && o.Check == 0 && len(o.Offline) == 0 && len(o.Contradictions) == 0
	if o.Check != 0 {
		o.Wrong = append(o.Wrong, fmt.Sprintf("exit status %d of a check after the repair", o.Check))
	}
	if len(o.Offline) > 0 {
		o.Wrong = append(o.Wrong, "xfs_repair -n afterwards: "+strings.Join(o.Offline[:min(len(o.Offline), 3)], " | "))
	}
	if len(o.Contradictions) > 0 {
		o.Wrong = append(o.Wrong, "on the image afterwards: "+strings.Join(o.Contradictions[:min(len(o.Contradictions), 3)], " | "))
	}
	o.Right = o.Healed && blameless
}

func (o *Outcome) held() string {
	for _, f := range o.Findings {
		if f.Outcome == "held" {
			return f.Summary + "; " + f.Reason
		}
	}
	return ""
}

// judgePeer says the same of xfs_scrub, which gives no verdicts.
func (o *Outcome) judgePeer(kind Kind) {
	o.harm()
	o.Noticed = peerNoticed(o.Status, o.Said)
	if kind == Clean {
		o.Right = !o.Harm() && !o.Noticed
		return
	}
	o.Healed = o.Noticed && !o.Harm() && o.Status == 0 && len(o.Offline) == 0 && len(o.Contradictions) == 0
}

// Result is what became of a case.
type Result struct {
	Case     Case     `json:"-"`
	Name     string   `json:"case"`
	Draw     draw     `json:"draw"`
	Attempt  int      `json:"attempt"`
	Redrawn  []string `json:"redrawn,omitempty"` // why the draws before were none
	Injected []string `json:"injected,omitempty"`
	Stages   []string `json:"stages,omitempty"` // when each began inside
	Oracle   Oracle   `json:"oracle"`
	Scrubd   *Outcome `json:"scrubd,omitempty"`
	Peer     *Outcome `json:"xfs_scrub,omitempty"`
	Error    string   `json:"error,omitempty"` // of the campaign itself
	Seconds  float64  `json:"seconds"`

	began time.Time
}

// Good tells whether there is nothing to complain of.
func (r *Result) Good() bool {
	return r.Error == "" && r.Scrubd != nil && r.Scrubd.Right && !r.Scrubd.Harm()
}

// Line is the result in one line.
func (r *Result) Line() string {
	if r.Error != "" {
		return fmt.Sprintf("%-14s ERROR %s", r.Name, r.Error)
	}
	how := "healed"
	o := r.Scrubd
	switch {
	case len(o.Wrong) > 0:
		how = "WRONG " + strings.Join(o.Wrong, "; ")
	case r.Case.Kind == Clean:
		how = "clean"
	case o.Held:
		how = "held: " + o.held()
	}
	live := "offline"
	if r.Draw.Live {
		live = "live"
	}
	return fmt.Sprintf("%-14s %-13s %-7s %4.1fs  %s  ==> %s", r.Name, r.Draw.Geometry, live, r.Seconds, strings.ReplaceAll(strings.Join(r.Injected, " + "), "\n", "; "), how)
}
