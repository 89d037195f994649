package kernel

import (
	"fmt"

	"github.com/scrubd/scrubd/ioctl"
)

// Object is one piece of metadata: a type and what it belongs to. Which of the
// other fields count depends on [ioctl.ScrubType.Object]; the rest are 0.
type Object struct {
	Type ioctl.ScrubType
	// AGNo is the allocation group, or the number of the realtime group.
	AGNo ioctl.AGNumber
	// Ino is the inode, or the [ioctl.Metapath] of type METAPATH.
	Ino ioctl.Ino
	Gen ioctl.Gen
}

// words name the types in sentences. Those of an AG or an inode are followed by
// the one that they belong to.
var words = [ioctl.ScrubTypeCount]string{
	ioctl.ScrubTypeProbe:      "probe",
	ioctl.ScrubTypeSB:         "superblock",
	ioctl.ScrubTypeAGF:        "AGF",
	ioctl.ScrubTypeAGFL:       "AGFL",
	ioctl.ScrubTypeAGI:        "AGI",
	ioctl.ScrubTypeBNOBT:      "bnobt",
	ioctl.ScrubTypeCNTBT:      "cntbt",
	ioctl.ScrubTypeINOBT:      "inobt",
	ioctl.ScrubTypeFINOBT:     "finobt",
	ioctl.ScrubTypeRMAPBT:     "rmapbt",
	ioctl.ScrubTypeREFCNTBT:   "refcountbt",
	ioctl.ScrubTypeINODE:      "core",
	ioctl.ScrubTypeBMBTD:      "data fork",
	ioctl.ScrubTypeBMBTA:      "attr fork",
	ioctl.ScrubTypeBMBTC:      "CoW fork",
	ioctl.ScrubTypeDIR:        "directory entries",
	ioctl.ScrubTypeXATTR:      "extended attributes",
	ioctl.ScrubTypeSYMLINK:    "link target",
	ioctl.ScrubTypePARENT:     "parent pointers",
	ioctl.ScrubTypeRTBITMAP:   "realtime bitmap",
	ioctl.ScrubTypeRTSUM:      "realtime summary",
	ioctl.ScrubTypeUQUOTA:     "user quotas",
	ioctl.ScrubTypeGQUOTA:     "group quotas",
	ioctl.ScrubTypePQUOTA:     "project quotas",
	ioctl.ScrubTypeFSCOUNTERS: "filesystem counters",
	ioctl.ScrubTypeQUOTACHECK: "quota counters",
	ioctl.ScrubTypeNLINKS:     "link counts",
	ioctl.ScrubTypeHEALTHY:    "health records",
	ioctl.ScrubTypeDIRTREE:    "path to the root",
	ioctl.ScrubTypeMETAPATH:   "path",
	ioctl.ScrubTypeRGSUPER:    "superblock",
	ioctl.ScrubTypeRTRMAPBT:   "rmapbt",
	ioctl.ScrubTypeRTREFCBT:   "refcountbt",
}

// metapaths name the metadata files of type METAPATH.
var metapaths = [ioctl.MetapathCount]string{
	ioctl.MetapathProbe:        "no metadata file",
	ioctl.MetapathRTDir:        "the realtime directory",
	ioctl.MetapathRTBitmap:     "the realtime bitmap",
	ioctl.MetapathRTSummary:    "the realtime summary",
	ioctl.MetapathQuotaDir:     "the quota directory",
	ioctl.MetapathUserQuota:    "the user quota file",
	ioctl.MetapathGroupQuota:   "the group quota file",
	ioctl.MetapathProjectQuota: "the project quota file",
	ioctl.MetapathRTRmapbt:     "the realtime rmapbt",
	ioctl.MetapathRTRefcountbt: "the realtime refcountbt",
}

// String names the object: "rmapbt of AG 3", "data fork of inode 131",
// "filesystem counters".
func (o Object) String() string {
	if o.Type >= ioctl.ScrubTypeCount {
		return o.Type.String()
	}
	word := words[o.Type]
	switch o.Type.Object() {
	case ioctl.ScrubObjectAG:
		return fmt.Sprintf("%s of AG %d", word, o.AGNo)
	case ioctl.ScrubObjectRTGroup:
		return fmt.Sprintf("%s of rtgroup %d", word, o.AGNo)
	case ioctl.ScrubObjectInode:
		return fmt.Sprintf("%s of inode %d", word, o.Ino)
	case ioctl.ScrubObjectMetapath:
		return o.metapath()
	case ioctl.ScrubObjectNone, ioctl.ScrubObjectFS:
	}
	return word
}

// metapath names an object of type METAPATH, with the realtime group where
// each group has a file of that kind.
func (o Object) metapath() string {
	path := ioctl.Metapath(o.Ino)
	if path >= ioctl.MetapathCount {
		return fmt.Sprintf("path of metadata file %d", o.Ino)
	}
	s := "path of " + metapaths[path]
	switch path {
	case ioctl.MetapathRTBitmap, ioctl.MetapathRTSummary, ioctl.MetapathRTRmapbt, ioctl.MetapathRTRefcountbt:
		return fmt.Sprintf("%s of rtgroup %d", s, o.AGNo)
	default:
		return s
	}
}

// request is the object as the kernel is told of it.
func (o Object) request(flags ioctl.ScrubFlags) ioctl.ScrubRequest {
	return ioctl.ScrubRequest{Type: o.Type, Flags: flags, Ino: o.Ino, Gen: o.Gen, AGNo: o.AGNo}
}
