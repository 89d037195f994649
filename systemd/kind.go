package systemd

import (
	"github.com/coreos/go-systemd/v22/journal"
)

// Kind is a kind of event in the journal. Its ID is the entry's MESSAGE_ID: it
// never changes, so that people can search for it. The message catalog
// explains each.
type Kind struct {
	// ID is what sd-id128 calls a 128-bit ID: 32 lowercase hexadecimal digits.
	ID string
	// Name is the kind in words, as the documentation has it.
	Name string
	// Priority is that of an entry, unless its level is worse.
	Priority journal.Priority
	// Always: an entry is written whatever the number of entries before it.
	Always bool
}

// The kinds of events.
var (
	KindRunStarted   = &Kind{"1973b79f1c75473988dcd9edc1b03bc4", "run started", journal.PriNotice, true}
	KindRunFinished  = &Kind{"f976c878ebc3425898c93cc8d5742fa5", "run finished", journal.PriNotice, true}
	KindIncomplete   = &Kind{"899d67659e114648a32a685665540751", "run not finished", journal.PriErr, true}
	KindFinding      = &Kind{"3f15ab1fc0b14ab1aa688a158c57b86b", "finding", journal.PriWarning, false}
	KindNoted        = &Kind{"e5ff0762318f4f139aa01488ac7fcfb0", "noted", journal.PriInfo, false}
	KindHeld         = &Kind{"5400e656878d4eaea079b5e76495e7c1", "held", journal.PriErr, false}
	KindDataAtRisk   = &Kind{"5812d6d7f2a44cc9bc679d475710e3ec", "data at risk", journal.PriCrit, true}
	KindRepairDone   = &Kind{"884691a584834891b558975e8fe3b8e2", "repair done", journal.PriNotice, false}
	KindRepairFailed = &Kind{"64c180c0d57346e38d113ba650b58aef", "repair failed", journal.PriErr, true}
	KindPaused       = &Kind{"a9ff8ad203e64d8383cc8fb5b5424b0f", "paused", journal.PriNotice, false}
	KindResumed      = &Kind{"1e3a9023c5eb441ba6147b27e3ed2d43", "resumed", journal.PriNotice, false}
	KindOverdue      = &Kind{"70d9829aef05402ea858848794fb0e41", "overdue", journal.PriWarning, false}
	KindUnsupported  = &Kind{"3b239ee0091a430b8be37778e83eec68", "unsupported", journal.PriWarning, false}
	KindStuck        = &Kind{"da247b5a6c8c478580cc17f5ef11f2ca", "kernel call stuck", journal.PriErr, true}

	KindReported = &Kind{"6c8e3e583bf9460cba6d4cc1a35f3112", "reported by the kernel", journal.PriWarning, false}
	KindSuspect  = &Kind{"a39a04a8087b4e3e9cd33bf3b0e6d870", "reported corruption found", journal.PriWarning, false}
)

// Kinds lists all kinds.
func Kinds() []*Kind {
	return []*Kind{
		KindRunStarted, KindRunFinished, KindIncomplete, KindFinding, KindNoted, KindHeld, KindDataAtRisk,
		KindRepairDone, KindRepairFailed, KindPaused, KindResumed, KindOverdue, KindUnsupported, KindStuck,
		KindReported, KindSuspect,
	}
}

// The fields of entries, by the names that they have in logrus; in the journal
// they are those of [JournalField].
const (
	FieldKind      = "kind" // a *Kind; becomes MESSAGE_ID
	FieldDevice    = "device"
	FieldUUID      = "uuid"
	FieldMount     = "mount"
	FieldAGNo      = "agno"
	FieldAGBno     = "agbno"
	FieldRGNo      = "rgno"  // of a realtime group, in place of agno and agbno
	FieldRGBno     = "rgbno" // block in it
	FieldBlocks    = "blocks"
	FieldIno       = "ino"
	FieldGen       = "gen"
	FieldPath      = "path" // of a file, below the mount point
	FieldRunID     = "run_id"
	FieldFindingID = "finding_id"
	FieldVerdict   = "verdict" // the structure at fault, or undecided
	FieldOutcome   = "outcome"
	FieldSeverity  = "severity"
	FieldRow       = "row"
	FieldScrubType = "scrub_type"
	FieldMode      = "mode"
	FieldReason    = "reason"
	FieldToDo      = "to_do"
	FieldStatus    = "exit_status"
)

// xfsFields are those that describe the filesystem and not what scrubd thinks
// of it.
var xfsFields = map[string]bool{
	FieldDevice: true, FieldUUID: true, FieldMount: true, FieldAGNo: true, FieldAGBno: true,
	FieldRGNo: true, FieldRGBno: true,
	FieldBlocks: true, FieldIno: true, FieldGen: true, FieldPath: true,
}

// JournalField is the name in the journal of a field of an entry: XFS_AGNO,
// SCRUBD_RUN_ID. Whatever name is given, the result is one that journald takes
// and that is none of its own.
//
// Source: systemd.journal-fields(7); Journal Native Protocol.
func JournalField(name string) string {
	clean := []byte("SCRUBD_")
	if xfsFields[name] {
		clean = []byte("XFS_")
	}
	for _, c := range []byte(name) {
		switch {
		case 'a' <= c && c <= 'z':
			c -= 'a' - 'A'
		case 'A' <= c && c <= 'Z', '0' <= c && c <= '9':
		default:
			c = '_'
		}
		clean = append(clean, c)
	}
	return string(clean[:min(len(clean), fieldNameMax)])
}

// fieldNameMax is the longest name that journald takes.
const fieldNameMax = 64
