package main

import (
	"fmt"
	"strings"
	"time"

	"github.com/sirupsen/logrus"

	"github.com/scrubd/scrubd/ioctl"
	"github.com/scrubd/scrubd/scrub"
	"github.com/scrubd/scrubd/systemd"
)

// journalReporter reports a run as entries of the journal: its start, its end,
// and one entry for each finding once its outcome is known. What gets worse
// with time is logged at once, and so is a kernel call that does not come back.
type journalReporter struct {
	log  logrus.FieldLogger // with the fields of the run, once they are known
	path string

	mode    scrub.Mode
	began   bool
	partial bool // it looks at a few places only
	alerted map[string]bool
	atRisk  map[riskGroup]bool // groups whose blocks at risk are told of
	slowAge time.Duration
	slow    string
}

func newJournalReporter(log logrus.FieldLogger, t *target) *journalReporter {
	return &journalReporter{
		log:     log.WithFields(logrus.Fields{systemd.FieldMount: t.MountPoint, systemd.FieldDevice: t.Device}),
		path:    printable(t.MountPoint),
		alerted: map[string]bool{},
		atRisk:  map[riskGroup]bool{},
	}
}

// failed is nil: a journal that takes no entry is no reason to end a repair.
func (r *journalReporter) failed() error { return nil }

func (r *journalReporter) event(e scrub.Event) {
	switch e := e.(type) {
	case *scrub.StartEvent:
		r.start(e)
	case *scrub.ProgressEvent:
		r.watch(e)
	case *scrub.RiskEvent:
		r.risk(e)
	case *scrub.FindingEvent:
		r.alert(e.Finding)
	case *scrub.RepairEvent:
		r.repair(e)
	}
}

func (r *journalReporter) start(e *scrub.StartEvent) {
	r.began, r.mode = true, e.Mode
	r.log = r.log.WithFields(logrus.Fields{
		systemd.FieldRunID: e.RunID, systemd.FieldUUID: e.UUID, systemd.FieldMode: e.Mode.String(),
	})
	missing := strings.Join(uncovered(e.Coverage.NotChecked), ", ")
	if r.partial = len(e.Only) > 0; r.partial {
		r.kind(systemd.KindRunStarted).WithField("checked", strings.Join(e.Coverage.Checked, ", ")).
			Infof("%s: check of %s begins", r.path, listed(e.Only))
		return
	}
	r.kind(systemd.KindRunStarted).WithFields(logrus.Fields{
		"checked": strings.Join(e.Coverage.Checked, ", "), "not_checked": missing, "version": version(),
	}).Infof("%s: check begins, mode %s%s", r.path, e.Mode, autofsckNote(e.Autofsck))
	if s := e.Resumed; s != nil {
		r.kind(systemd.KindResumed).WithFields(logrus.Fields{"resumed_run_id": s.RunID, "resumed_inodes": s.Inodes}).
			Infof("%s: goes on where run %s was stopped: %s are left out", r.path, s.RunID, plural(s.Inodes, "inode"))
	}
	if missing != "" {
		r.kind(systemd.KindUnsupported).WithField(systemd.FieldReason, missing).
			Infof("%s: not checked: %s", r.path, missing)
	}
}

// watch logs a call that is overdue, and again each time that its age has doubled.
func (r *journalReporter) watch(e *scrub.ProgressEvent) {
	if e.Call == "" || e.CallAge < stuckCall || e.Call == r.slow && e.CallAge < 2*r.slowAge {
		return
	}
	r.slow, r.slowAge = e.Call, e.CallAge
	r.kind(systemd.KindStuck).WithFields(logrus.Fields{"call": e.Call, "call_seconds": int(e.CallAge.Seconds())}).
		Infof("%s: %s has been in the kernel for %s", r.path, e.Call, roundDuration(e.CallAge))
}

// stuckCall is the age from which on a kernel call is worth an entry.
const stuckCall = 2 * time.Minute

// riskGroup is an AG or a realtime group.
type riskGroup struct {
	realtime bool
	agno     ioctl.AGNumber
}

// risk logs that blocks in use are free as soon as that is confirmed. Which
// structure is at fault, and what becomes of it, has the finding's own entry.
func (r *journalReporter) risk(e *scrub.RiskEvent) {
	r.atRisk[riskGroup{e.Realtime, e.AGNo}] = true
	first, group := e.Extents[0], fmt.Sprintf("AG %d", e.AGNo)
	log := r.kind(systemd.KindDataAtRisk).WithFields(logrus.Fields{
		systemd.FieldRow: riskRow, systemd.FieldSeverity: string(scrub.Critical), systemd.FieldBlocks: first.BlockCount,
	})
	if e.Realtime {
		group = fmt.Sprintf("realtime group %d", e.AGNo)
		log = log.WithFields(logrus.Fields{systemd.FieldRGNo: e.AGNo, systemd.FieldRGBno: first.StartBlock})
	} else {
		log = log.WithFields(logrus.Fields{systemd.FieldAGNo: e.AGNo, systemd.FieldAGBno: first.StartBlock})
	}
	more := ""
	if n := len(e.Extents) - 1; n > 0 {
		more = fmt.Sprintf(" and %d more", n)
	}
	log.Infof("%s: CRITICAL: blocks %d+%d%s of %s are in use, and are free space as well", r.path, first.StartBlock, first.BlockCount, more, group)
}

// riskRow is the row of the table for free space that is in use.
const riskRow = 4

// alert logs damage that grows as soon as there is a finding, unless it was
// logged when it was confirmed.
func (r *journalReporter) alert(f *scrub.Finding) {
	if f.Severity != scrub.Critical || f.Outcome == scrub.Repaired || r.alerted[f.ID] {
		return
	}
	if f.Row == riskRow && r.atRisk[riskGroup{f.Realtime, f.AGNo}] {
		return
	}
	r.alerted[f.ID] = true
	r.finding(systemd.KindDataAtRisk, f).Infof("%s: CRITICAL: %s", r.path, f.Summary)
}

func (r *journalReporter) repair(e *scrub.RepairEvent) {
	if e.Began {
		return
	}
	log := r.log.WithFields(logrus.Fields{
		systemd.FieldFindingID: e.FindingID, systemd.FieldScrubType: e.Type.String(),
		"duration_seconds": e.Duration.Seconds(),
	})
	if e.Ino != 0 {
		log = log.WithField(systemd.FieldIno, e.Ino)
	} else {
		log = log.WithField(systemd.FieldAGNo, e.AGNo)
	}
	if e.Err != nil {
		log.WithField(systemd.FieldKind, systemd.KindRepairFailed).WithError(e.Err).
			Infof("%s: %s failed: %v", r.path, e.What, e.Err)
		return
	}
	log.WithField(systemd.FieldKind, systemd.KindRepairDone).Infof("%s: %s done", r.path, e.What)
}

func (r *journalReporter) end(s *scrub.Summary, status int, err error) {
	if s != nil {
		for _, f := range s.Findings {
			r.outcome(f)
		}
	}
	if s == nil || !s.Complete || err != nil {
		r.incomplete(s, status, err)
		return
	}
	counts := logrus.Fields{
		systemd.FieldStatus: status, "inodes": s.Inodes, "repairs": s.Repairs, "findings": len(s.Findings),
		"elapsed_seconds": s.Elapsed.Seconds(), "unchecked": s.Unchecked,
	}
	if s.Background {
		counts["throttled_seconds"] = s.Throttled.Seconds()
	}
	if s.Resumed != nil && s.Resumed.Anew == "" {
		counts["resumed_inodes"] = s.Resumed.Inodes
	}
	text := verdict(s, s.Findings)
	r.kind(systemd.KindRunFinished).WithFields(counts).Infof("%s: %s", r.path, text)
}

// outcome logs a finding with what became of it.
func (r *journalReporter) outcome(f *scrub.Finding) {
	kind := systemd.KindFinding
	switch {
	case r.partial:
		kind = systemd.KindSuspect
	case f.Outcome == scrub.Held:
		kind = systemd.KindHeld
	case f.Outcome == scrub.Failed:
		kind = systemd.KindRepairFailed
	case f.Severity == scrub.Optimization, f.Outcome == scrub.Noted, f.Outcome == scrub.Optimizable:
		kind = systemd.KindNoted
	}
	r.finding(kind, f).Infof("%s: %s: %s", r.path, headline(f), f.Summary)
}

func (r *journalReporter) incomplete(s *scrub.Summary, status int, err error) {
	reason := "the run ended early"
	switch {
	case s != nil && s.Incomplete != "":
		reason = s.Incomplete
	case err != nil:
		reason = err.Error()
	}
	log := r.kind(systemd.KindIncomplete).WithFields(logrus.Fields{
		"checkpoint":        s != nil && s.Checkpoint,
		systemd.FieldStatus: status, systemd.FieldReason: reason, systemd.FieldToDo: advise(err),
	})
	if wasStopped(err) {
		log = log.WithField("stopped", true)
	}
	switch {
	case isA[*stopError](err) || isA[*unmountedError](err):
		log.WithField("stopped", true).Infof("%s: %s", r.path, reason) // somebody wanted it
	case !r.began:
		log.Infof("%s: not checked: %s", r.path, reason)
	default:
		log.Infof("%s: not finished: %s", r.path, reason)
	}
}

func (r *journalReporter) kind(k *systemd.Kind) *logrus.Entry {
	return r.log.WithField(systemd.FieldKind, k)
}

// finding is an entry with what a finding is about.
func (r *journalReporter) finding(k *systemd.Kind, f *scrub.Finding) *logrus.Entry {
	fields := logrus.Fields{
		systemd.FieldKind: k, systemd.FieldFindingID: f.ID, systemd.FieldVerdict: f.AtFault,
		systemd.FieldOutcome: string(f.Outcome), systemd.FieldSeverity: string(f.Severity),
		systemd.FieldReason: f.Reason, systemd.FieldScrubType: strings.Join(typeNames(f.ScrubTypes), ","),
		"evidence": f.EvidencePath, "done": strings.Join(f.Done, "; "),
	}
	if f.Row != 0 {
		fields[systemd.FieldRow] = f.Row
	}
	if f.HasAG {
		fields[systemd.FieldAGNo] = f.AGNo
	}
	if f.Realtime {
		fields[systemd.FieldRGNo] = f.AGNo
	}
	if len(f.Extents) > 0 && f.Realtime {
		fields[systemd.FieldRGBno] = f.Extents[0].StartBlock
		fields[systemd.FieldBlocks] = f.Extents[0].BlockCount
	} else if len(f.Extents) > 0 {
		fields[systemd.FieldAGBno] = f.Extents[0].StartBlock
		fields[systemd.FieldBlocks] = f.Extents[0].BlockCount
	}
	if len(f.Files) > 0 {
		fields[systemd.FieldIno], fields[systemd.FieldGen] = f.Files[0].Ino, f.Files[0].Gen
		fields[systemd.FieldPath] = f.Files[0].Path
	}
	says := make([]string, len(f.Witnesses))
	for i, w := range f.Witnesses {
		says[i] = w.Name + ": " + w.Says
	}
	fields["witnesses"] = strings.Join(says, "; ")
	ways := make([]string, len(f.WaysOut))
	for i, w := range f.WaysOut {
		ways[i] = fmt.Sprintf("to trust the %s: %s", w.Trust, w.Effect)
		if w.Command != "" {
			ways[i] += ": " + w.Command
		}
	}
	fields[systemd.FieldToDo] = strings.Join(ways, "; or ")
	return r.log.WithFields(fields)
}
