package abi

import "unsafe"

// The encoding of an ioctl request number: direction, size of the argument, type and number.
// Source: include/uapi/asm-generic/ioctl.h, which amd64, arm64 and 386 share.
const (
	iocWrite = 1 << 30
	iocRead  = 2 << 30
	iocX     = 'X' << 8

	sizeShift = 16
)

// Request numbers, under their C names. Those whose C macro names another type than the struct
// that really passes say so.
const (
	// ReqGetBmapx is XFS_IOC_GETBMAPX. It encodes struct getbmap (32 bytes), yet header and records
	// are struct getbmapx (48 bytes).
	ReqGetBmapx           = iocRead | iocWrite | 32<<sizeShift | iocX | 56
	ReqFreeEOFBlocks      = iocRead | unsafe.Sizeof(EOFBlocks{})<<sizeShift | iocX | 58                // XFS_IOC_FREE_EOFBLOCKS
	ReqGetFSMap           = iocRead | iocWrite | unsafe.Sizeof(FSMapHead{})<<sizeShift | iocX | 59     // FS_IOC_GETFSMAP
	ReqScrubMetadata      = iocRead | iocWrite | unsafe.Sizeof(ScrubMetadata{})<<sizeShift | iocX | 60 // XFS_IOC_SCRUB_METADATA
	ReqAGGeometry         = iocRead | iocWrite | unsafe.Sizeof(AGGeometry{})<<sizeShift | iocX | 61    // XFS_IOC_AG_GEOMETRY
	ReqGetParents         = iocRead | iocWrite | unsafe.Sizeof(GetParents{})<<sizeShift | iocX | 62    // XFS_IOC_GETPARENTS
	ReqGetParentsByHandle = iocRead | iocWrite | unsafe.Sizeof(GetParentsByHandle{})<<sizeShift | iocX | 63
	ReqScrubvMetadata     = iocRead | iocWrite | unsafe.Sizeof(ScrubVecHead{})<<sizeShift | iocX | 64 // XFS_IOC_SCRUBV_METADATA
	ReqRTGroupGeometry    = iocRead | iocWrite | unsafe.Sizeof(RTGroupGeometry{})<<sizeShift | iocX | 65
	ReqHealthMonitor      = iocWrite | unsafe.Sizeof(HealthMonitor{})<<sizeShift | iocX | 68 // XFS_IOC_HEALTH_MONITOR
	ReqHealthFDOnFS       = iocWrite | unsafe.Sizeof(HealthFileOnFS{})<<sizeShift | iocX | 69
	ReqVerifyMedia        = iocRead | iocWrite | unsafe.Sizeof(VerifyMedia{})<<sizeShift | iocX | 70 // XFS_IOC_VERIFY_MEDIA
	ReqFDToHandle         = iocRead | iocWrite | unsafe.Sizeof(HandleReq{})<<sizeShift | iocX | 106  // XFS_IOC_FD_TO_HANDLE
	ReqOpenByHandle       = iocRead | iocWrite | unsafe.Sizeof(HandleReq{})<<sizeShift | iocX | 107  // XFS_IOC_OPEN_BY_HANDLE
	ReqFSCounts           = iocRead | unsafe.Sizeof(FSCounts{})<<sizeShift | iocX | 113              // XFS_IOC_FSCOUNTS
	ReqFreeze             = iocRead | iocWrite | 4<<sizeShift | iocX | 119                           // FIFREEZE, XFS_IOC_FREEZE
	ReqThaw               = iocRead | iocWrite | 4<<sizeShift | iocX | 120                           // FITHAW, XFS_IOC_THAW
	ReqFSGeometry         = iocRead | unsafe.Sizeof(FSGeometry{})<<sizeShift | iocX | 126            // XFS_IOC_FSGEOMETRY
	ReqBulkstat           = iocRead | unsafe.Sizeof(BulkReq{})<<sizeShift | iocX | 127               // XFS_IOC_BULKSTAT
	ReqInumbers           = iocRead | unsafe.Sizeof(BulkReq{})<<sizeShift | iocX | 128               // XFS_IOC_INUMBERS
)
