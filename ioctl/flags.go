package ioctl

import (
	"math/bits"
	"strconv"
	"strings"
)

// GeometryFlags are the features of a filesystem (XFS_FSOP_GEOM_FLAGS_*).
type GeometryFlags uint32

// The features, in bit order. Bit 13 is not used.
const (
	FlagAttr GeometryFlags = 1 << iota
	FlagNlink
	FlagQuota
	FlagIAlign
	FlagDAlign
	FlagShared
	FlagExtFlag
	FlagDirV2
	FlagLogV2
	FlagSector
	FlagAttr2
	FlagProjID32
	FlagDirV2CI
	_
	FlagLazySB
	FlagV5
	FlagFtype
	FlagFinobt
	FlagSparseInodes
	FlagRmapbt
	FlagReflink
	FlagBigtime
	FlagInobtCount
	FlagNrext64
	FlagExchangeRange
	FlagParent
	FlagMetadir
	FlagZoned
)

var geometryFlagNames = []string{
	"attr", "nlink", "quota", "ialign", "dalign", "shared", "extflg", "dirv2", "logv2", "sector", "attr2",
	"projid32", "dirv2ci", "", "lazysb", "v5", "ftype", "finobt", "sparse", "rmapbt", "reflink", "bigtime",
	"inobtcount", "nrext64", "exchange", "parent", "metadir", "zoned",
}

// Has reports whether all of the flags in want are set.
func (f GeometryFlags) Has(want GeometryFlags) bool { return f&want == want }

// String lists the features by mkfs.xfs's names; unknown bits in hex.
func (f GeometryFlags) String() string { return flagString(uint64(f), geometryFlagNames) }

// FSHealth is a mask of metadata of the whole filesystem (XFS_FSOP_GEOM_SICK_*).
type FSHealth uint32

// Metadata of the whole filesystem.
const (
	FSHealthCounters FSHealth = 1 << iota
	FSHealthUserQuota
	FSHealthGroupQuota
	FSHealthProjectQuota
	FSHealthRTBitmap
	FSHealthRTSummary
	FSHealthQuotacheck
	FSHealthNlinks
	FSHealthMetadir
	FSHealthMetapath
)

var fsHealthNames = []string{
	"fscounters", "usrquota", "grpquota", "prjquota", "rtbitmap", "rtsummary", "quotacheck", "nlinks", "metadir", "metapath",
}

// Has reports whether all of the bits in want are set.
func (h FSHealth) Has(want FSHealth) bool { return h&want == want }

// String lists the bits; unknown ones in hex.
func (h FSHealth) String() string { return flagString(uint64(h), fsHealthNames) }

// AGHealth is a mask of the metadata of an allocation group (XFS_AG_GEOM_SICK_*).
type AGHealth uint32

// Metadata of an allocation group.
const (
	AGHealthSB AGHealth = 1 << iota
	AGHealthAGF
	AGHealthAGFL
	AGHealthAGI
	AGHealthBnobt
	AGHealthCntbt
	AGHealthInobt
	AGHealthFinobt
	AGHealthRmapbt
	AGHealthRefcountbt
	// AGHealthInodes says that bad inodes were seen in the group.
	AGHealthInodes
)

var agHealthNames = []string{
	"super", "agf", "agfl", "agi", "bnobt", "cntbt", "inobt", "finobt", "rmapbt", "refcountbt", "inodes",
}

// Has reports whether all of the bits in want are set.
func (h AGHealth) Has(want AGHealth) bool { return h&want == want }

// String lists the bits; unknown ones in hex.
func (h AGHealth) String() string { return flagString(uint64(h), agHealthNames) }

// RGHealth is a mask of the metadata of a realtime group (XFS_RTGROUP_GEOM_SICK_*).
type RGHealth uint32

// Metadata of a realtime group.
const (
	RGHealthSuper RGHealth = 1 << iota
	RGHealthBitmap
	RGHealthSummary
	RGHealthRmapbt
	RGHealthRefcountbt
)

var rgHealthNames = []string{"rgsuper", "rtbitmap", "rtsummary", "rtrmapbt", "rtrefcountbt"}

// Has reports whether all of the bits in want are set.
func (h RGHealth) Has(want RGHealth) bool { return h&want == want }

// String lists the bits; unknown ones in hex.
func (h RGHealth) String() string { return flagString(uint64(h), rgHealthNames) }

// InodeHealth is a mask of the parts of an inode (XFS_BS_SICK_*).
type InodeHealth uint16

// Parts of an inode. A fork that an inode repair zapped shows as sick.
const (
	InodeHealthInode InodeHealth = 1 << iota
	InodeHealthBMBTD
	InodeHealthBMBTA
	InodeHealthBMBTC
	InodeHealthDir
	InodeHealthXattr
	InodeHealthSymlink
	InodeHealthParent
	InodeHealthDirtree
)

var inodeHealthNames = []string{
	"inode", "bmapbtd", "bmapbta", "bmapbtc", "directory", "xattr", "symlink", "parent", "dirtree",
}

// Has reports whether all of the bits in want are set.
func (h InodeHealth) Has(want InodeHealth) bool { return h&want == want }

// String lists the bits; unknown ones in hex.
func (h InodeHealth) String() string { return flagString(uint64(h), inodeHealthNames) }

// flagString joins the names of the bits that are set with commas, and adds what has no name in hex.
// No bit at all is "none".
func flagString(value uint64, names []string) string {
	if value == 0 {
		return "none"
	}
	parts := make([]string, 0, bits.OnesCount64(value))
	unknown := value
	for i, name := range names {
		bit := uint64(1) << i
		if name != "" && value&bit != 0 {
			parts = append(parts, name)
			unknown &^= bit
		}
	}
	if unknown != 0 {
		parts = append(parts, "0x"+strconv.FormatUint(unknown, 16))
	}
	return strings.Join(parts, ",")
}
