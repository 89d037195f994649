package lab

import (
	"maps"
	"slices"
)

// The classes. A class about one tree changes that tree alone: what the same
// record says elsewhere stays, so that the witnesses disagree.
const (
	FaultRmapStart        FaultClass = "rmap-start"
	FaultRmapShorter      FaultClass = "rmap-shorter"
	FaultRmapLonger       FaultClass = "rmap-longer"
	FaultRmapOwner        FaultClass = "rmap-owner"
	FaultRmapOwnerMissing FaultClass = "rmap-owner-missing"
	FaultRmapOwnerFree    FaultClass = "rmap-owner-free"
	FaultRmapOffset       FaultClass = "rmap-offset"
	FaultRmapUnwritten    FaultClass = "rmap-unwritten"
	FaultRmapWritten      FaultClass = "rmap-written"
	FaultRmapAttr         FaultClass = "rmap-attr"
	FaultRmapBMBT         FaultClass = "rmap-bmbt"
	FaultRmapSpecial      FaultClass = "rmap-special-owner"
	FaultRmapRemoved      FaultClass = "rmap-removed"
	FaultRmapAddedFree    FaultClass = "rmap-added-free"
	FaultRmapAddedUsed    FaultClass = "rmap-added-used"
	FaultRmapKey          FaultClass = "rmap-key"
	FaultRmapInvalid      FaultClass = "rmap-invalid"
	FaultRmapCRC          FaultClass = "rmap-crc"

	FaultRefcountValue   FaultClass = "refcount-value"
	FaultRefcountRemoved FaultClass = "refcount-removed"
	FaultRefcountAdded   FaultClass = "refcount-added"
	FaultRefcountCoW     FaultClass = "refcount-cow"
	FaultRefcountLength  FaultClass = "refcount-length"

	FaultBnoStart   FaultClass = "bno-start"
	FaultBnoShorter FaultClass = "bno-shorter"
	FaultBnoLonger  FaultClass = "bno-longer"
	FaultFreeUsed   FaultClass = "free-used"
	FaultLeak       FaultClass = "leak"
	FaultCntLength  FaultClass = "cnt-length"

	FaultForkStart       FaultClass = "fork-start"
	FaultForkLength      FaultClass = "fork-length"
	FaultForkUnwritten   FaultClass = "fork-unwritten"
	FaultForkWritten     FaultClass = "fork-written"
	FaultForkLost        FaultClass = "fork-lost"
	FaultForkLostNBlocks FaultClass = "fork-lost-nblocks"
	FaultNBlocks         FaultClass = "nblocks"
	FaultReflinkFlag     FaultClass = "reflink-flag"
	FaultCrossLink       FaultClass = "cross-link"
	FaultBMBTRecord      FaultClass = "bmbt-record"
	FaultBMBTPointer     FaultClass = "bmbt-pointer"
	FaultAttrFork        FaultClass = "attr-fork"

	FaultInobtFreeCount FaultClass = "inobt-freecount"
	FaultInobtFreed     FaultClass = "inobt-freed"
	FaultInobtUsed      FaultClass = "inobt-used"
	FaultInobtHoleMask  FaultClass = "inobt-holemask"
	FaultInobtCount     FaultClass = "inobt-count"
	FaultInobtRemoved   FaultClass = "inobt-removed"

	FaultAGICount     FaultClass = "agi-count"
	FaultAGIFreeCount FaultClass = "agi-freecount"
	FaultAGFFreeBlks  FaultClass = "agf-freeblks"
	FaultAGFLongest   FaultClass = "agf-longest"
	FaultAGFBtreeBlks FaultClass = "agf-btreeblks"
	FaultSBFDBlocks   FaultClass = "sb-fdblocks"
	FaultSBICount     FaultClass = "sb-icount"
	FaultSBIFree      FaultClass = "sb-ifree"
	FaultAGFL         FaultClass = "agfl-crosslink"
)

// Classes of [SavedObject.Restore]: a write to the object that was lost. They
// need an older state, so that Inject does not know them.
const (
	FaultLostDinode   FaultClass = "lost-dinode"
	FaultLostRmapbt   FaultClass = "lost-rmapbt"
	FaultLostBnobt    FaultClass = "lost-bnobt"
	FaultLostCntbt    FaultClass = "lost-cntbt"
	FaultLostInobt    FaultClass = "lost-inobt"
	FaultLostFinobt   FaultClass = "lost-finobt"
	FaultLostRefcount FaultClass = "lost-refcountbt"
	FaultLostBmbt     FaultClass = "lost-bmbt"
)

// faultClass is what a class is and how it is done.
type faultClass struct {
	summary string
	inject  func(*injector) error
}

// faultClasses is filled once and only read.
var faultClasses = map[FaultClass]faultClass{
	FaultRmapStart:        {"an rmap record begins at another block", (*injector).rmapStart},
	FaultRmapShorter:      {"an rmap record lost blocks at its end", (*injector).rmapShorter},
	FaultRmapLonger:       {"an rmap record got blocks at its end", (*injector).rmapLonger},
	FaultRmapOwner:        {"an rmap record names another file", (*injector).rmapOwner},
	FaultRmapOwnerMissing: {"an rmap record names an inode outside every inode chunk", (*injector).rmapOwnerMissing},
	FaultRmapOwnerFree:    {"an rmap record names a free inode", (*injector).rmapOwnerFree},
	FaultRmapOffset:       {"an rmap record has another offset", (*injector).rmapOffset},
	FaultRmapUnwritten:    {"an rmap record of written blocks says unwritten", (*injector).rmapUnwritten},
	FaultRmapWritten:      {"an rmap record of unwritten blocks says written", (*injector).rmapWritten},
	FaultRmapAttr:         {"an rmap record names the other fork", (*injector).rmapAttr},
	FaultRmapBMBT:         {"the bmbt flag of an rmap record is flipped", (*injector).rmapBMBT},
	FaultRmapSpecial:      {"an rmap record of metadata names another kind of metadata", (*injector).rmapSpecial},
	FaultRmapRemoved:      {"an rmap record is gone", (*injector).rmapRemoved},
	FaultRmapAddedFree:    {"an rmap record was added over free space", (*injector).rmapAddedFree},
	FaultRmapAddedUsed:    {"an rmap record was added over another file's blocks", (*injector).rmapAddedUsed},
	FaultRmapKey:          {"a high key inside the rmapbt is too low", (*injector).rmapKey},
	FaultRmapInvalid:      {"an rmap record has no blocks, which no kernel accepts", (*injector).rmapInvalid},
	FaultRmapCRC:          {"an rmap record changed under its old checksum", (*injector).rmapCRC},

	FaultRefcountValue:   {"a reference count is wrong", (*injector).refcountValue},
	FaultRefcountRemoved: {"a refcount record is gone", (*injector).refcountRemoved},
	FaultRefcountAdded:   {"a refcount record was added over blocks of one owner", (*injector).refcountAdded},
	FaultRefcountCoW:     {"a refcount record of shared blocks says staging; a writable mount frees them", (*injector).refcountCoW},
	FaultRefcountLength:  {"a refcount record lost blocks at its end", (*injector).refcountLength},

	FaultBnoStart:   {"a bnobt record is shifted", (*injector).bnoStart},
	FaultBnoShorter: {"a bnobt record lost blocks at its end", (*injector).bnoShorter},
	FaultBnoLonger:  {"a bnobt record reaches into used blocks", (*injector).bnoLonger},
	FaultFreeUsed:   {"blocks inside a file's extent are free in both trees and all counters", (*injector).freeUsed},
	FaultLeak:       {"free blocks are missing in both trees and all counters", (*injector).leak},
	FaultCntLength:  {"a cntbt record has another length than the bnobt's", (*injector).cntLength},

	FaultForkStart:       {"an extent of a file begins at another block", (*injector).forkStart},
	FaultForkLength:      {"an extent of a file lost blocks at its end", (*injector).forkLength},
	FaultForkUnwritten:   {"a written extent of a file says unwritten", (*injector).forkUnwritten},
	FaultForkWritten:     {"an unwritten extent of a file says written", (*injector).forkWritten},
	FaultForkLost:        {"the last extent of a file is gone, i_nblocks still counts it", (*injector).forkLost},
	FaultForkLostNBlocks: {"the last extent of a file is gone, and i_nblocks does not count it", (*injector).forkLostNBlocks},
	FaultNBlocks:         {"i_nblocks is wrong", (*injector).nblocks},
	FaultReflinkFlag:     {"a file that shares blocks lost its reflink flag", (*injector).reflinkFlag},
	FaultCrossLink:       {"two files that share nothing map the same blocks", (*injector).crossLink},
	FaultBMBTRecord:      {"a record in a bmbt block begins at another block", (*injector).bmbtRecord},
	FaultBMBTPointer:     {"a pointer in a bmbt root names a sibling's block", (*injector).bmbtPointer},
	FaultAttrFork:        {"an extent of an attr fork begins at another block", (*injector).attrFork},

	FaultInobtFreeCount: {"the free count of an inode chunk is wrong", (*injector).inobtFreeCount},
	FaultInobtFreed:     {"an inode in use is free in the inobt", (*injector).inobtFreed},
	FaultInobtUsed:      {"a free inode is in use in the inobt", (*injector).inobtUsed},
	FaultInobtHoleMask:  {"an inode chunk has holes in the inobt", (*injector).inobtHoleMask},
	FaultInobtCount:     {"the count of an inode chunk is wrong", (*injector).inobtCount},
	FaultInobtRemoved:   {"an inobt record is gone", (*injector).inobtRemoved},

	FaultAGICount:     {"agi_count is wrong", (*injector).agiCount},
	FaultAGIFreeCount: {"agi_freecount is wrong", (*injector).agiFreeCount},
	FaultAGFFreeBlks:  {"agf_freeblks is wrong", (*injector).agfFreeBlks},
	FaultAGFLongest:   {"agf_longest is wrong", (*injector).agfLongest},
	FaultAGFBtreeBlks: {"agf_btreeblks is wrong", (*injector).agfBtreeBlks},
	FaultSBFDBlocks:   {"sb_fdblocks is wrong", (*injector).sbFDBlocks},
	FaultSBICount:     {"sb_icount is wrong", (*injector).sbICount},
	FaultSBIFree:      {"sb_ifree is wrong", (*injector).sbIFree},
	FaultAGFL:         {"the AGFL names a file's block", (*injector).agflCrossLink},
}

// classOf finds a class of either kind.
func classOf(c FaultClass) (faultClass, bool) {
	class, ok := faultClasses[c]
	if !ok {
		class, ok = randomClasses[c]
	}
	if !ok {
		class, ok = rtFaultClasses[c]
	}
	return class, ok
}

// FaultClasses returns the classes with a shape of their own that Inject knows,
// sorted. [RandomFaultClasses] are the others.
func FaultClasses() []FaultClass { return slices.Sorted(maps.Keys(faultClasses)) }

// Summary says in one line what the class damages; "" for a class that Inject
// does not know.
func (c FaultClass) Summary() string {
	class, _ := classOf(c)
	return class.summary
}
