package kernel

import (
	"math/bits"

	"golang.org/x/sys/unix"

	"github.com/scrubd/scrubd/ioctl"
)

// typeSet is a set of scrub types: bit t is type t.
type typeSet uint64

func setOf(types ...ioctl.ScrubType) typeSet {
	var set typeSet
	for _, t := range types {
		set |= 1 << t
	}
	return set
}

func (s typeSet) has(t ioctl.ScrubType) bool { return s>>t&1 != 0 }

// list returns the types in the order of their numbers.
func (s typeSet) list() []ioctl.ScrubType {
	out := make([]ioctl.ScrubType, 0, bits.OnesCount64(uint64(s)))
	for ; s != 0; s &= s - 1 {
		out = append(out, ioctl.ScrubType(bits.TrailingZeros64(uint64(s))))
	}
	return out
}

// step is one type of a plan.
type step struct {
	typ ioctl.ScrubType
	// needs are types before this one that it stands on, and spoiled the flags
	// on one of them that would make this check meaningless.
	needs   typeSet
	spoiled ioctl.ScrubFlags
	// alone types can take long. Each has a call of its own, so that it can be
	// timed, named while it runs, and not begun once the run is to stop.
	alone bool
	// with is the feature without which the filesystem has no such metadata.
	with ioctl.GeometryFlags
}

// plan is what is checked on one object, in order.
type plan []step

// rootless is the flag on a structure that leaves nothing to check of what
// hangs from it: a header whose roots cannot be trusted, a core or a fork that
// cannot be read. XCORRUPT and XFAIL are no such flags.
const rootless = ioctl.ScrubCorrupt

var (
	// agPlan ends with the rmapbt: a sick mark on it takes the cross-references
	// of all others away, also where the other structure is the bad one.
	agPlan = plan{
		{typ: ioctl.ScrubTypeSB},
		{typ: ioctl.ScrubTypeAGF},
		{typ: ioctl.ScrubTypeAGFL, needs: setOf(ioctl.ScrubTypeAGF), spoiled: rootless},
		{typ: ioctl.ScrubTypeAGI},
		{typ: ioctl.ScrubTypeINOBT, needs: setOf(ioctl.ScrubTypeAGI), spoiled: rootless, alone: true},
		{typ: ioctl.ScrubTypeFINOBT, needs: setOf(ioctl.ScrubTypeAGI), spoiled: rootless, alone: true, with: ioctl.FlagFinobt},
		{typ: ioctl.ScrubTypeBNOBT, needs: setOf(ioctl.ScrubTypeAGF), spoiled: rootless, alone: true},
		{typ: ioctl.ScrubTypeCNTBT, needs: setOf(ioctl.ScrubTypeAGF), spoiled: rootless, alone: true},
		{typ: ioctl.ScrubTypeREFCNTBT, needs: setOf(ioctl.ScrubTypeAGF), spoiled: rootless, alone: true, with: ioctl.FlagReflink},
		{typ: ioctl.ScrubTypeRMAPBT, needs: setOf(ioctl.ScrubTypeAGF), spoiled: rootless, alone: true, with: ioctl.FlagRmapbt},
	}

	// rtPlan is that of a realtime group. Without realtime groups there is one,
	// number 0, that has a bitmap and a summary only.
	rtPlan = plan{
		{typ: ioctl.ScrubTypeRGSUPER, with: ioctl.FlagMetadir},
		{typ: ioctl.ScrubTypeRTBITMAP, alone: true},
		{typ: ioctl.ScrubTypeRTSUM, needs: setOf(ioctl.ScrubTypeRTBITMAP), spoiled: rootless, alone: true},
		{typ: ioctl.ScrubTypeRTREFCBT, alone: true, with: ioctl.FlagMetadir | ioctl.FlagReflink},
		{typ: ioctl.ScrubTypeRTRMAPBT, alone: true, with: ioctl.FlagMetadir | ioctl.FlagRmapbt},
	}

	quotaPlan = plan{
		{typ: ioctl.ScrubTypeUQUOTA, alone: true},
		{typ: ioctl.ScrubTypeGQUOTA, alone: true},
		{typ: ioctl.ScrubTypePQUOTA, alone: true},
	}

	// summaryPlan checks sums over what all other types check one by one. The
	// counters come last: they may freeze the filesystem for a moment, and are
	// what the other two would disturb.
	summaryPlan = append(plan{
		{typ: ioctl.ScrubTypeNLINKS, alone: true},
		{typ: ioctl.ScrubTypeQUOTACHECK, alone: true},
	}, countersPlan...)
	countersPlan = plan{{typ: ioctl.ScrubTypeFSCOUNTERS, alone: true}}
)

// fsMetapaths and rgMetapaths are the metadata files whose paths are checked,
// once and once for each realtime group.
var (
	fsMetapaths = []ioctl.Metapath{
		ioctl.MetapathRTDir, ioctl.MetapathQuotaDir, ioctl.MetapathUserQuota, ioctl.MetapathGroupQuota, ioctl.MetapathProjectQuota,
	}
	rgMetapaths = []ioctl.Metapath{
		ioctl.MetapathRTBitmap, ioctl.MetapathRTSummary, ioctl.MetapathRTRmapbt, ioctl.MetapathRTRefcountbt,
	}
)

// fileKind sorts inodes by what can be checked of them.
type fileKind uint8

const (
	kindRegular fileKind = iota
	kindDirectory
	kindSymlink
	kindSpecial // device, fifo, socket
	kindCount
)

// kindOf returns the kind for a mode as stat(2) gives it.
func kindOf(mode uint16) fileKind {
	switch mode & unix.S_IFMT {
	case unix.S_IFREG:
		return kindRegular
	case unix.S_IFDIR:
		return kindDirectory
	case unix.S_IFLNK:
		return kindSymlink
	default:
		return kindSpecial
	}
}

// inodePlan is what is checked of an inode of that kind. attrs says whether it
// may have an attr fork.
func inodePlan(kind fileKind, attrs bool) plan {
	core := setOf(ioctl.ScrubTypeINODE)
	p := plan{
		{typ: ioctl.ScrubTypeINODE},
		{typ: ioctl.ScrubTypeBMBTD, needs: core, spoiled: rootless},
	}
	if attrs {
		p = append(p, step{typ: ioctl.ScrubTypeBMBTA, needs: core, spoiled: rootless})
	}
	if kind == kindRegular {
		p = append(p, step{typ: ioctl.ScrubTypeBMBTC, needs: core, spoiled: rootless, with: ioctl.FlagReflink})
	}
	data := core | setOf(ioctl.ScrubTypeBMBTD)
	attr := core | setOf(ioctl.ScrubTypeBMBTA)
	switch kind {
	case kindDirectory:
		p = append(p, step{typ: ioctl.ScrubTypeDIR, needs: data, spoiled: rootless})
	case kindSymlink:
		p = append(p, step{typ: ioctl.ScrubTypeSYMLINK, needs: data, spoiled: rootless})
	case kindRegular, kindSpecial, kindCount:
	}
	if attrs {
		p = append(p, step{typ: ioctl.ScrubTypeXATTR, needs: attr, spoiled: rootless})
	}
	if kind == kindDirectory {
		// Without parent pointers this is the check of "..".
		p = append(p,
			step{typ: ioctl.ScrubTypePARENT, needs: data | attr, spoiled: rootless},
			// The path is followed by parent pointers. Where they are not known
			// to be well, all it can say is that it could not be followed.
			step{
				typ: ioctl.ScrubTypeDIRTREE, needs: setOf(ioctl.ScrubTypeXATTR, ioctl.ScrubTypePARENT),
				spoiled: flagsBad | flagsOpen, with: ioctl.FlagParent,
			})
	} else {
		p = append(p, step{typ: ioctl.ScrubTypePARENT, needs: attr, spoiled: rootless, with: ioctl.FlagParent})
	}
	return p
}

// on leaves out what a filesystem with these features does not have.
func (p plan) on(features ioctl.GeometryFlags) plan {
	out := make(plan, 0, len(p))
	for _, st := range p {
		if features.Has(st.with) {
			out = append(out, st)
		}
	}
	return out
}
