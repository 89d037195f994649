package scrub

import (
	"time"

	"github.com/scrubd/scrubd/ioctl"
	"github.com/scrubd/scrubd/scrub/confirm"
	"github.com/scrubd/scrubd/scrub/kernel"
)

// Event is one of [*StartEvent], [*ProgressEvent], [*FindingEvent],
// [*RepairEvent], [*RiskEvent], [*PlanEvent], [*WaitEvent]; they reach [Options].Events one at a time, in order.
// The end of a run is the [Summary] that [Run] returns.
type Event interface{ event() }

// StartEvent opens a run: what it runs on, and what it can and cannot check.
type StartEvent struct {
	Time     time.Time
	RunID    string
	Path     string
	Device   string
	UUID     string
	Mode     Mode
	Autofsck string
	Coverage Coverage
	// Interrupted are repairs of earlier runs that were begun and never proven.
	Interrupted []Interruption
	// Only names the places that are looked at, and nothing else is; empty for a
	// run over the whole filesystem.
	Only []string
	// Resumed is what is left out because an earlier run has checked it, nil for
	// nothing.
	Resumed *Resumed
}

// Phase names a stretch of a run.
type Phase string

// The phases in their order. A repairing run goes through the later ones only
// when there is something to do.
const (
	PhaseMetadata Phase = "metadata" // kernel scrub of AG and filesystem metadata
	PhaseWalk     Phase = "walk"     // INUMBERS, BULKSTAT, GETBMAPX; claims
	PhaseInodes   Phase = "inodes"   // kernel scrub of every inode
	PhaseCompare  Phase = "compare"  // claims against rmapbt and bnobt
	PhaseConfirm  Phase = "confirm"  // votes on each candidate
	PhaseRepair   Phase = "repair"
	PhaseProof    Phase = "proof"
	PhaseSummary  Phase = "summary" // FSCOUNTERS, NLINKS, QUOTACHECK
)

// ProgressEvent tells how far a run is. It comes at most a few times a second.
type ProgressEvent struct {
	Phase Phase
	// Done and Total count items of this phase (AGs, inodes, candidates);
	// Total is 0 while it is unknown.
	Done, Total uint64
	// Fraction is the part of the whole run that is behind, 0 to 1, by the
	// weight of the phases.
	Fraction float64
	// Elapsed is the time since the start of the run.
	Elapsed time.Duration
	// Inodes and Extents were walked so far.
	Inodes, Extents uint64
	// Findings so far, candidates not counted.
	Findings int
	// Call is the kernel call in flight that is older than its type's usual
	// time ("scrub rmapbt AG 3"), empty when there is none; CallAge its age.
	Call    string
	CallAge time.Duration
}

// FindingEvent carries a finding once its verdict is known; the same ID comes
// again when its outcome changes.
type FindingEvent struct{ Finding *Finding }

// RiskEvent tells of blocks in use that the free space btree has free, as soon as
// that is confirmed: the finding about them comes later, once all that speaks for
// and against it was looked at. It comes once for each place.
type RiskEvent struct {
	AGNo     ioctl.AGNumber // the realtime group's number with Realtime
	Realtime bool
	Extents  []Extent
}

// RepairEvent reports one repair call of the kernel.
type RepairEvent struct {
	FindingID string
	// What names the repair in words: "rebuild rmapbt of AG 0".
	What     string
	Type     ioctl.ScrubType
	AGNo     ioctl.AGNumber
	Ino      ioctl.Ino
	Forced   bool
	Began    bool // true when it starts, false when it ended
	Err      error
	Duration time.Duration
}

// PlanEvent tells what a [Choice] comes to, before it is to be confirmed.
type PlanEvent struct{ Plan *Plan }

// WaitEvent tells that the run waits for other programs that scrub or repair the
// filesystem.
type WaitEvent struct {
	Who      []string
	Patience time.Duration
}

func (*RiskEvent) event()     {}
func (*WaitEvent) event()     {}
func (*PlanEvent) event()     {}
func (*StartEvent) event()    {}
func (*ProgressEvent) event() {}
func (*FindingEvent) event()  {}
func (*RepairEvent) event()   {}

// Coverage says what a run checks and what it cannot, and why.
type Coverage struct {
	// Checked names what is checked, in words of the report ("rmapbt against
	// forks", "kernel scrub"); NotChecked gives a reason for each that is not.
	Checked    []string
	NotChecked []Uncovered
	// KernelScrub, Repair and Rmapbt are the parts that --require can name.
	KernelScrub, Repair, Rmapbt bool
	// Realtime is set where the blocks of realtime files are compared too.
	Realtime bool
	// Live is set where the kernel tells what writers change while a pass reads;
	// LiveWhy says why it does not. Nothing is left unchecked without it.
	Live    bool
	LiveWhy string
}

// Uncovered is one thing that could not be checked.
type Uncovered struct{ What, Why string }

// Summary is the end of a run.
type Summary struct {
	RunID    string
	Mode     Mode
	Coverage Coverage
	Findings []*Finding
	// Complete is false when the run was stopped or gave up; Incomplete says
	// how far it got and why in one sentence.
	Complete   bool
	Incomplete string
	// Unchecked counts objects that could not be checked (inodes that could
	// not be opened or scrubbed); each kind has a sentence in Notes.
	Unchecked uint64
	Notes     []string
	// Interrupted are repairs of earlier runs that were begun and never proven,
	// with what became of their faults.
	Interrupted []Interruption
	// Only names the places that were looked at, as in [StartEvent].
	Only []string

	// Resumed is what was left out because an earlier run had checked it, nil for
	// nothing. Checkpoint says that the next run can go on where this one stopped.
	Resumed    *Resumed
	Checkpoint bool
	// Well are the AGs that a run which got through has found well, in their order.
	Well []WellAGs

	// OptimizationsPossible and Warnings count what is legal and could be
	// better, or is odd; Optimized what was tidied up.
	OptimizationsPossible, Optimized, Warnings uint64

	Inodes, Extents uint64
	AGs             uint64
	// ComparedBytes is the size of the AGs and realtime groups whose space was compared.
	ComparedBytes uint64
	KernelCalls   uint64
	// KernelTimes is how long the kernel's scrub and repair calls took.
	KernelTimes []kernel.TypeTiming
	Candidates  uint64 // differences seen once
	Dropped     uint64 // of these, gone when looked at again
	CaughtUp    uint64 // of these, gone when the trees had followed the kernel's changes
	LiveChanges uint64 // changes of rmapbts that the kernel told of
	LiveLosses  uint64 // times that it could not keep what it had to tell
	// DroppedAtLook says at which look they were gone: the first, the second, and
	// so on; the last element is of all later ones too.
	DroppedAtLook [confirm.DropLooks]uint64
	// Freezes is how often all writers were stopped, Frozen for how long in all.
	Freezes uint64
	// Background runs rest, so that others need not wait for them; Throttled is by
	// how much that made this one longer.
	Background           bool
	Throttled            time.Duration
	Frozen               time.Duration
	Repairs              int
	Began                time.Time
	Elapsed              time.Duration
	PeakPageableBytes    int64 // xfile memory at its highest
	WalkSeconds          float64
	MetadataScrubSeconds float64
	InodeScrubSeconds    float64
	ConfirmSeconds       float64
}

// ExitStatus is the sum that scrubd documents: 1 corruption left, 2
// optimization possible or warnings left, 4 the check could not be done or
// finished. 0 means that all that could be checked was checked and is well.
func (s *Summary) ExitStatus() int {
	status := 0
	for _, f := range s.Findings {
		switch {
		case f.Left():
			status |= 1
		case f.Outcome == Unsettled:
			status |= 4
		case f.Outcome == Noted || f.Outcome == Optimizable ||
			f.Outcome == Repairable || f.Outcome == Held || f.Outcome == Failed:
			status |= 2
		}
	}
	if s.OptimizationsPossible > 0 || s.Warnings > 0 {
		status |= 2
	}
	if !s.Complete || s.Unchecked > 0 {
		status |= 4
	}
	return status
}
