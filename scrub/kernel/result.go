package kernel

import (
	"fmt"

	"github.com/scrubd/scrubd/ioctl"
)

// Result is what became of one check or repair. One of these holds:
//   - Ran: the kernel gave a verdict, which is in Flags;
//   - Absent: there is no such object (no attr fork, quotas off, inode freed);
//   - Unknown: the kernel is too old to know the type;
//   - Because: another type's verdict made this check meaningless;
//   - Err: it could not be checked, in the end.
type Result struct {
	Object
	// Flags are those that came out. ScrubIncomplete among them means that it
	// stayed so after all attempts.
	Flags ioctl.ScrubFlags
	// Err is why there is no verdict.
	Err    error
	Absent bool
	// Unknown types are not covered; see [Scrubber.Uncovered].
	Unknown bool
	Ran     bool
	// Because is the type of the same object whose verdict held this one back,
	// 0 when none did.
	Because ioctl.ScrubType
	// Attempts counts the calls made.
	Attempts int
	// Outcome is how a repair ended, 0 for a check.
	Outcome Outcome
}

// Flags that say that something is wrong, and those that leave it open.
const (
	flagsBad     = ioctl.ScrubCorrupt | ioctl.ScrubXCorrupt
	flagsOpen    = ioctl.ScrubXFail | ioctl.ScrubIncomplete
	flagsNotable = ioctl.ScrubPreen | ioctl.ScrubWarning
)

// Clean says that the check ran to its end and found nothing wrong. It is
// false for what is absent: look at Absent first.
func (r Result) Clean() bool {
	return r.Ran && r.Err == nil && !r.Flags.Any(flagsBad|flagsOpen)
}

// Well says that there is nothing to say of it: it is clean, without anything
// that could be better, or there is no such object.
func (r Result) Well() bool {
	return r.Absent || r.Clean() && !r.Flags.Any(flagsNotable)
}

// Bad says that the object is corrupt, or disagrees with another structure:
// which of the two is wrong is not said.
func (r Result) Bad() bool {
	return r.Flags.Any(flagsBad)
}

// Noteworthy says that there is something to report or to count: everything
// but a clean verdict, what is absent, and what the kernel does not know.
func (r Result) Noteworthy() bool {
	if r.Absent || r.Unknown {
		return false
	}
	return !r.Clean() || r.Flags.Any(flagsNotable)
}

// String is the object with its verdict: "rmapbt of AG 3: xcorrupt".
func (r Result) String() string {
	return r.Object.String() + ": " + r.verdict()
}

func (r Result) verdict() string {
	switch {
	case r.Err != nil:
		return r.Err.Error()
	case r.Absent:
		return "absent"
	case r.Unknown:
		return "not known to this kernel"
	case r.Because != 0:
		return fmt.Sprintf("not checked: %s is corrupt", r.Because)
	case !r.Ran:
		return "not checked"
	case r.Flags == 0:
		return "clean"
	}
	return r.Flags.String()
}
