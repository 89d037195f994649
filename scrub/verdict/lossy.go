package verdict

import "github.com/scrubd/scrubd/ioctl"

// Loss says what a repair of a type may cost.
type Loss int

// The classes.
const (
	// LossNone: recounts, and rebuilds from a source that is proven.
	LossNone Loss = iota
	// LossSalvage: the repair salvages, zaps or rewrites; only on request. That of
	// link counts makes a directory lost+found, be there a use for it or not; moves
	// there what no directory names; and frees that where it cannot (Linux 7.2,
	// fs/xfs/scrub/nlinks_repair.c). The
	// rmapbt, whose rebuild frees what no fork claims, and the inode core, whose
	// repair rewrites a witness, have clauses of their own besides.
	LossSalvage
	// LossUnknown: not judged yet; never automatic.
	LossUnknown
)

// LossOf classifies a repair of what the kernel's own scrub found.
func LossOf(t ioctl.ScrubType) Loss {
	switch t {
	case ioctl.ScrubTypeSB, ioctl.ScrubTypeAGF, ioctl.ScrubTypeAGFL, ioctl.ScrubTypeAGI,
		ioctl.ScrubTypeBNOBT, ioctl.ScrubTypeCNTBT, ioctl.ScrubTypeINOBT, ioctl.ScrubTypeFINOBT,
		ioctl.ScrubTypeREFCNTBT, ioctl.ScrubTypeBMBTD, ioctl.ScrubTypeBMBTA,
		ioctl.ScrubTypeFSCOUNTERS, ioctl.ScrubTypeQUOTACHECK:
		return LossNone
	case ioctl.ScrubTypeDIR, ioctl.ScrubTypeXATTR, ioctl.ScrubTypeSYMLINK, ioctl.ScrubTypePARENT,
		ioctl.ScrubTypeDIRTREE, ioctl.ScrubTypeNLINKS, ioctl.ScrubTypeINODE, ioctl.ScrubTypeRMAPBT:
		return LossSalvage
	default:
		return LossUnknown
	}
}
