package abi

// Values that only this room needs to know; those that other rooms see are constants of package ioctl.
const (
	XFSSuperMagic = 0x58465342 // XFS_SUPER_MAGIC, statfs(2)

	FSMapOFDevT = 1 // FMH_OF_DEV_T

	BmapIFAttrFork = 0x1  // BMV_IF_ATTRFORK
	BmapIFPrealloc = 0x4  // BMV_IF_PREALLOC
	BmapIFDelalloc = 0x8  // BMV_IF_DELALLOC
	BmapIFNoHoles  = 0x10 // BMV_IF_NO_HOLES

	BulkIReqSpecialRoot = 1 // XFS_BULK_IREQ_SPECIAL_ROOT

	HandleFIDLen = 14 // sizeof(struct xfs_fid) - sizeof(fid_len)

	FileHandleType  = 0x81 // FILEID_INO32_GEN | XFS_FILEID_TYPE_64FLAG
	FileHandleBytes = 12

	EOFBlocksVersion     = 1
	EOFFlagMinFileSize   = 1 << 4 // XFS_EOF_FLAGS_MINFILESIZE
	GetParentsOFlagRoot  = 1      // XFS_GETPARENTS_OFLAG_ROOT
	GetParentsOFlagDone  = 2      // XFS_GETPARENTS_OFLAG_DONE
	HealthMonitorVerbose = 1      // XFS_HEALTH_MONITOR_VERBOSE
	HealthMonitorFormat0 = 0      // XFS_HEALTH_MONITOR_FMT_V0
	VerifyMediaReport    = 1      // XFS_VERIFY_MEDIA_REPORT
	RTGroupWritePointer  = 1      // XFS_RTGROUP_GEOM_WRITEPOINTER

	ScrubBarrier = 0xffffffff // XFS_SCRUB_TYPE_BARRIER
)
