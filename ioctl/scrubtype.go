package ioctl

import (
	"fmt"

	"github.com/scrubd/scrubd/ioctl/internal/abi"
)

// ScrubType is a kind of metadata that the kernel can check (XFS_SCRUB_TYPE_*).
type ScrubType uint32

// The types, with what ScrubRequest must name: nothing, a group (AGNo), a realtime group (AGNo holds
// its number), an inode (Ino, Gen), or a [Metapath] (Ino).
const (
	ScrubTypeProbe      ScrubType = 0  // asks whether scrub, or with ScrubRepair repair, is possible
	ScrubTypeSB         ScrubType = 1  // group: superblock
	ScrubTypeAGF        ScrubType = 2  // group: free space header
	ScrubTypeAGFL       ScrubType = 3  // group: free list
	ScrubTypeAGI        ScrubType = 4  // group: inode header
	ScrubTypeBNOBT      ScrubType = 5  // group: free space by block
	ScrubTypeCNTBT      ScrubType = 6  // group: free space by length
	ScrubTypeINOBT      ScrubType = 7  // group: inodes
	ScrubTypeFINOBT     ScrubType = 8  // group: free inodes
	ScrubTypeRMAPBT     ScrubType = 9  // group: reverse mappings
	ScrubTypeREFCNTBT   ScrubType = 10 // group: reference counts
	ScrubTypeINODE      ScrubType = 11 // inode: core
	ScrubTypeBMBTD      ScrubType = 12 // inode: data fork
	ScrubTypeBMBTA      ScrubType = 13 // inode: attr fork
	ScrubTypeBMBTC      ScrubType = 14 // inode: CoW fork
	ScrubTypeDIR        ScrubType = 15 // inode: directory
	ScrubTypeXATTR      ScrubType = 16 // inode: extended attributes
	ScrubTypeSYMLINK    ScrubType = 17 // inode: symlink
	ScrubTypePARENT     ScrubType = 18 // inode: parent pointers, or dotdot
	ScrubTypeRTBITMAP   ScrubType = 19 // realtime group, 0 without realtime groups
	ScrubTypeRTSUM      ScrubType = 20 // realtime group, 0 without realtime groups
	ScrubTypeUQUOTA     ScrubType = 21 // fs: user quotas
	ScrubTypeGQUOTA     ScrubType = 22 // fs: group quotas
	ScrubTypePQUOTA     ScrubType = 23 // fs: project quotas
	ScrubTypeFSCOUNTERS ScrubType = 24 // fs: summary counters (5.3)
	ScrubTypeQUOTACHECK ScrubType = 25 // fs: quota counters (6.9)
	ScrubTypeNLINKS     ScrubType = 26 // fs: link counts (6.9)
	ScrubTypeHEALTHY    ScrubType = 27 // fs: forget indirect sickness after a clean run (6.9)
	ScrubTypeDIRTREE    ScrubType = 28 // inode: directory loops (6.10)
	ScrubTypeMETAPATH   ScrubType = 29 // metapath: path of a metadata file (6.13)
	ScrubTypeRGSUPER    ScrubType = 30 // realtime group: superblock (6.13)
	ScrubTypeRTRMAPBT   ScrubType = 31 // realtime group: reverse mappings (6.14)
	ScrubTypeRTREFCBT   ScrubType = 32 // realtime group: reference counts (6.14)

	// ScrubTypeCount is one more than the highest type.
	ScrubTypeCount ScrubType = 33

	// ScrubTypeBarrier stands in a vector only. The vector ends there if an entry before it failed,
	// or came out with one of the flags that the barrier carries.
	ScrubTypeBarrier ScrubType = abi.ScrubBarrier
)

// ScrubObject is what a scrub type is about, which decides the fields that a request must fill in.
type ScrubObject uint8

// What a type may be about.
const (
	ScrubObjectNone     ScrubObject = iota // ScrubTypeProbe and unknown types
	ScrubObjectFS                          // the filesystem
	ScrubObjectAG                          // an allocation group: AGNo
	ScrubObjectRTGroup                     // a realtime group: its number in AGNo
	ScrubObjectInode                       // an inode: Ino and Gen
	ScrubObjectMetapath                    // a metadata path: the Metapath in Ino
)

// scrubTypes are the types with xfs_scrub's short names (man 8 xfs_io, scrub command).
var scrubTypes = [ScrubTypeCount]struct {
	name   string
	object ScrubObject
	since  string
}{
	ScrubTypeProbe:      {"probe", ScrubObjectNone, "4.15"},
	ScrubTypeSB:         {"sb", ScrubObjectAG, "4.15"},
	ScrubTypeAGF:        {"agf", ScrubObjectAG, "4.15"},
	ScrubTypeAGFL:       {"agfl", ScrubObjectAG, "4.15"},
	ScrubTypeAGI:        {"agi", ScrubObjectAG, "4.15"},
	ScrubTypeBNOBT:      {"bnobt", ScrubObjectAG, "4.15"},
	ScrubTypeCNTBT:      {"cntbt", ScrubObjectAG, "4.15"},
	ScrubTypeINOBT:      {"inobt", ScrubObjectAG, "4.15"},
	ScrubTypeFINOBT:     {"finobt", ScrubObjectAG, "4.15"},
	ScrubTypeRMAPBT:     {"rmapbt", ScrubObjectAG, "4.15"},
	ScrubTypeREFCNTBT:   {"refcountbt", ScrubObjectAG, "4.15"},
	ScrubTypeINODE:      {"inode", ScrubObjectInode, "4.15"},
	ScrubTypeBMBTD:      {"bmapbtd", ScrubObjectInode, "4.15"},
	ScrubTypeBMBTA:      {"bmapbta", ScrubObjectInode, "4.15"},
	ScrubTypeBMBTC:      {"bmapbtc", ScrubObjectInode, "4.15"},
	ScrubTypeDIR:        {"directory", ScrubObjectInode, "4.15"},
	ScrubTypeXATTR:      {"xattr", ScrubObjectInode, "4.15"},
	ScrubTypeSYMLINK:    {"symlink", ScrubObjectInode, "4.15"},
	ScrubTypePARENT:     {"parent", ScrubObjectInode, "4.15"},
	ScrubTypeRTBITMAP:   {"rtbitmap", ScrubObjectRTGroup, "4.15"},
	ScrubTypeRTSUM:      {"rtsummary", ScrubObjectRTGroup, "4.15"},
	ScrubTypeUQUOTA:     {"usrquota", ScrubObjectFS, "4.15"},
	ScrubTypeGQUOTA:     {"grpquota", ScrubObjectFS, "4.15"},
	ScrubTypePQUOTA:     {"prjquota", ScrubObjectFS, "4.15"},
	ScrubTypeFSCOUNTERS: {"fscounters", ScrubObjectFS, "5.3"},
	ScrubTypeQUOTACHECK: {"quotacheck", ScrubObjectFS, "6.9"},
	ScrubTypeNLINKS:     {"nlinks", ScrubObjectFS, "6.9"},
	ScrubTypeHEALTHY:    {"healthy", ScrubObjectFS, "6.9"},
	ScrubTypeDIRTREE:    {"dirtree", ScrubObjectInode, "6.10"},
	ScrubTypeMETAPATH:   {"metapath", ScrubObjectMetapath, "6.13"},
	ScrubTypeRGSUPER:    {"rgsuper", ScrubObjectRTGroup, "6.13"},
	ScrubTypeRTRMAPBT:   {"rtrmapbt", ScrubObjectRTGroup, "6.14"},
	ScrubTypeRTREFCBT:   {"rtrefcountbt", ScrubObjectRTGroup, "6.14"},
}

// String returns xfs_scrub's short name of the type, "barrier", or "type N".
func (t ScrubType) String() string {
	switch {
	case t < ScrubTypeCount:
		return scrubTypes[t].name
	case t == ScrubTypeBarrier:
		return "barrier"
	}
	return fmt.Sprintf("type %d", uint32(t))
}

// Object returns what the type is about.
func (t ScrubType) Object() ScrubObject {
	if t < ScrubTypeCount {
		return scrubTypes[t].object
	}
	return ScrubObjectNone
}

// Since returns the first Linux release that knows the type, empty for an unknown one.
func (t ScrubType) Since() string {
	if t < ScrubTypeCount {
		return scrubTypes[t].since
	}
	return ""
}

// ParseScrubType finds a type by its short name.
func ParseScrubType(name string) (ScrubType, bool) {
	for t := range scrubTypes {
		if scrubTypes[t].name == name {
			return ScrubType(t), true
		}
	}
	return 0, false
}

// Metapath selects a metadata file for ScrubTypeMETAPATH (XFS_SCRUB_METAPATH_*).
type Metapath uint64

// The metadata files.
const (
	MetapathProbe Metapath = iota
	MetapathRTDir
	MetapathRTBitmap
	MetapathRTSummary
	MetapathQuotaDir
	MetapathUserQuota
	MetapathGroupQuota
	MetapathProjectQuota
	MetapathRTRmapbt
	MetapathRTRefcountbt

	// MetapathCount is one more than the highest metadata file.
	MetapathCount
)

// ScrubFlags are what a scrub is told and what it found (XFS_SCRUB_IFLAG_*, XFS_SCRUB_OFLAG_*).
type ScrubFlags uint32

// Flags. ScrubRepair and ScrubForceRebuild go in, the others come out.
const (
	// ScrubRepair asks for a repair, if the check finds a reason.
	ScrubRepair ScrubFlags = 1 << iota
	// ScrubCorrupt is an object that is bad in itself.
	ScrubCorrupt
	// ScrubPreen is an object that could be better.
	ScrubPreen
	// ScrubXFail is a cross-reference that could not be made: the verdict is weaker.
	ScrubXFail
	// ScrubXCorrupt is a disagreement with another structure; which of both is wrong is not said.
	ScrubXCorrupt
	// ScrubIncomplete is a check that did not come to its end.
	ScrubIncomplete
	// ScrubWarning is an object that is odd but legal.
	ScrubWarning
	// ScrubNoRepairNeeded is the answer to ScrubRepair when there was nothing to repair.
	ScrubNoRepairNeeded
	// ScrubForceRebuild asks for a rebuild whatever the check says (Linux 6.6); ScrubRepair must be set too.
	ScrubForceRebuild

	// ScrubFlagsIn are the flags that go in.
	ScrubFlagsIn = ScrubRepair | ScrubForceRebuild
	// ScrubFlagsOut are the flags that come out, and those that a barrier may carry.
	ScrubFlagsOut = ScrubCorrupt | ScrubPreen | ScrubXFail | ScrubXCorrupt | ScrubIncomplete | ScrubWarning | ScrubNoRepairNeeded
)

var scrubFlagNames = []string{
	"repair", "corrupt", "preen", "xfail", "xcorrupt", "incomplete", "warning", "no repair needed", "force rebuild",
}

// Has reports whether all of the flags in want are set.
func (f ScrubFlags) Has(want ScrubFlags) bool { return f&want == want }

// Any reports whether one of the flags in want is set.
func (f ScrubFlags) Any(want ScrubFlags) bool { return f&want != 0 }

// String lists the flags; unknown ones in hex.
func (f ScrubFlags) String() string { return flagString(uint64(f), scrubFlagNames) }
