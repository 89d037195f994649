package scrub

import (
	"github.com/scrubd/scrubd/ioctl"
)

// Outcome says how a finding stands at the end of a run.
type Outcome string

// The outcomes, from best to worst.
const (
	// Repaired: the structure at fault was rebuilt and the proof held.
	Repaired Outcome = "repaired"
	// Repairable: the verdict is decisive, but the mode of this run (or the
	// autofsck property, or a veto) did not allow the repair.
	Repairable Outcome = "repairable"
	// Optimizable: legal but suboptimal metadata (PREEN), left as it is.
	Optimizable Outcome = "optimizable"
	// Noted: odd but legal (WARNING); nothing is to be repaired.
	Noted Outcome = "noted"
	// Held: the witnesses do not allow a repair that is sure to cost nothing;
	// WaysOut says what a person can decide.
	Held Outcome = "held"
	// Unsettled: seen, but it could not be confirmed while the filesystem
	// changed. Nothing was or will be done on its account.
	Unsettled Outcome = "unsettled"
	// Failed: a repair was run and the damage is still there.
	Failed Outcome = "failed"
)

// Severity orders findings for a reader.
type Severity string

// The severities, from worst to least.
const (
	// Critical: data is being overwritten now, or soon (free space that a file uses).
	Critical Severity = "critical"
	// Corruption: a structure does not tell the truth.
	Corruption Severity = "corruption"
	// Warning: legal or unsettled, worth a look.
	Warning Severity = "warning"
	// Optimization: legal, could be better.
	Optimization Severity = "optimization"
)

// Witness is what one source of claims says about the blocks of a finding.
type Witness struct {
	// Name is the structure that speaks: "fork", "rmapbt", "bnobt",
	// "inode counters", "inobt", "kernel scrub", …
	Name string
	// Says is its statement in one clause.
	Says string
}

// WayOut is a decision that is left to a person.
type WayOut struct {
	// Trust is the witness that the decision follows: "fork" or "rmap".
	Trust string
	// Effect says what becomes of the blocks and of the file.
	Effect string
	// Command carries it out; empty when only offline tools can.
	Command string
}

// Extent is a range of AG blocks: blocks [StartBlock, StartBlock+BlockCount).
type Extent struct {
	AGNo       ioctl.AGNumber
	StartBlock ioctl.AGBlock
	BlockCount uint32
}

// File names an inode that a finding is about.
type File struct {
	Ino ioctl.Ino
	Gen ioctl.Gen
	// Path is relative to the mount point, empty when it is not known.
	Path string
}

// Finding is one fault: where it is, what each witness says, which structure
// is at fault, and what was done or is left to decide.
type Finding struct {
	// ID is stable for the same fault on the same filesystem, run after run.
	ID string
	// AtFault is the structure that lies ("rmapbt", "bnobt", "fork", "inobt",
	// …), or "undecided".
	AtFault string
	// Row is the row of the arbitration table that decided, 0 where the
	// kernel's own verdict did; Letter tells 3b, 5b, 6b, 9b, 11b and 12b from their rows.
	Row      int
	Letter   string
	Severity Severity
	Outcome  Outcome
	// HasAG tells whether AGNo means something; filesystem-wide and inode
	// findings without blocks have none.
	HasAG bool
	AGNo  ioctl.AGNumber
	// Realtime: the finding is about a realtime group, not an AG: AGNo, and AGNo of
	// Extents, are its number, and HasAG is false.
	Realtime bool
	Extents  []Extent
	Files    []File
	// ScrubTypes are the kernel's scrub types that showed this fault too.
	ScrubTypes []ioctl.ScrubType
	Witnesses  []Witness
	// Summary is the finding in one sentence without a full stop.
	Summary string
	// Reason says why it is held, unsettled or failed; empty otherwise.
	Reason string
	// Reasons are all that stand against the repair of one that is held, in the
	// order of the rules.
	Reasons []string
	// Done lists the repairs that were run on its account, in order.
	Done []string
	// Failure is the error of the last of them that failed, nil when the kernel
	// claimed success.
	Failure error `json:"-"`
	// WaysOut is filled for held findings.
	WaysOut []WayOut
	// EvidencePath is the directory with the records as each witness gave
	// them, saved before the first repair; empty when nothing was repaired.
	EvidencePath string
}

// Left tells whether the filesystem is still damaged on account of f.
func (f *Finding) Left() bool {
	switch f.Outcome {
	case Repairable, Held, Failed:
		return f.Severity == Critical || f.Severity == Corruption
	default:
		return false
	}
}
