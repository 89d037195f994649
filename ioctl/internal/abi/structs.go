package abi

import "unsafe"

// FSGeometry is struct xfs_fsop_geom, version 5 (Linux 5.2).
type FSGeometry struct {
	BlockSize    uint32   // blocksize
	RTExtSize    uint32   // rtextsize
	AGBlocks     uint32   // agblocks
	AGCount      uint32   // agcount
	LogBlocks    uint32   // logblocks
	SectSize     uint32   // sectsize
	InodeSize    uint32   // inodesize
	IMaxPct      uint32   // imaxpct
	DataBlocks   uint64   // datablocks
	RTBlocks     uint64   // rtblocks
	RTExtents    uint64   // rtextents
	LogStart     uint64   // logstart
	UUID         [16]byte // uuid
	SUnit        uint32   // sunit
	SWidth       uint32   // swidth
	Version      int32    // version
	Flags        uint32   // flags
	LogSectSize  uint32   // logsectsize
	RTSectSize   uint32   // rtsectsize
	DirBlockSize uint32   // dirblocksize
	LogSUnit     uint32   // logsunit
	Sick         uint32   // sick
	Checked      uint32   // checked
	RGExtents    uint32   // rgextents
	RGCount      uint32   // rgcount
	RTStart      uint64   // rtstart
	RTReserved   uint64   // rtreserved
	Reserved     [14]uint64
}

// FSCounts is struct xfs_fsop_counts.
type FSCounts struct {
	FreeData uint64 // freedata
	FreeRTX  uint64 // freertx
	FreeIno  uint64 // freeino
	AllocIno uint64 // allocino
}

// AGGeometry is struct xfs_ag_geometry.
type AGGeometry struct {
	Number   uint32 // ag_number, in
	Length   uint32 // ag_length
	FreeBlks uint32 // ag_freeblks
	ICount   uint32 // ag_icount
	IFree    uint32 // ag_ifree
	Sick     uint32 // ag_sick
	Checked  uint32 // ag_checked
	Flags    uint32 // ag_flags, 0 on input
	Reserved [12]uint64
}

// RTGroupGeometry is struct xfs_rtgroup_geometry.
type RTGroupGeometry struct {
	Number       uint32 // rg_number, in
	Length       uint32 // rg_length
	Sick         uint32 // rg_sick
	Checked      uint32 // rg_checked
	Flags        uint32 // rg_flags
	WritePointer uint32 // rg_writepointer
	Reserved     [26]uint32
}

// ScrubMetadata is struct xfs_scrub_metadata.
type ScrubMetadata struct {
	Type     uint32 // sm_type
	Flags    uint32 // sm_flags
	Ino      uint64 // sm_ino
	Gen      uint32 // sm_gen
	AGNo     uint32 // sm_agno
	Reserved [5]uint64
}

// ScrubVec is struct xfs_scrub_vec.
type ScrubVec struct {
	Type     uint32 // sv_type
	Flags    uint32 // sv_flags
	Ret      int32  // sv_ret, 0 or a negative errno
	Reserved uint32 // sv_reserved
}

// ScrubVecHead is struct xfs_scrub_vec_head.
type ScrubVecHead struct {
	Ino      uint64 // svh_ino
	Gen      uint32 // svh_gen
	AGNo     uint32 // svh_agno
	Flags    uint32 // svh_flags, 0
	RestUs   uint16 // svh_rest_us
	Nr       uint16 // svh_nr
	Reserved uint64 // svh_reserved
	Vectors  UserPtr
}

// FSMap is struct fsmap, as key and as record.
type FSMap struct {
	Device   uint32 // fmr_device
	Flags    uint32 // fmr_flags
	Physical uint64 // fmr_physical
	Owner    uint64 // fmr_owner
	Offset   uint64 // fmr_offset
	Length   uint64 // fmr_length
	Reserved [3]uint64
}

// FSMapHead is struct fsmap_head without its trailing records.
type FSMapHead struct {
	IFlags   uint32 // fmh_iflags
	OFlags   uint32 // fmh_oflags
	Count    uint32 // fmh_count
	Entries  uint32 // fmh_entries
	Reserved [6]uint64
	Keys     [2]FSMap // fmh_keys
}

// Bmapx is struct getbmapx: the header (element 0 of the array) and each record.
type Bmapx struct {
	Offset  int64 // bmv_offset
	Block   int64 // bmv_block
	Length  int64 // bmv_length
	Count   int32 // bmv_count
	Entries int32 // bmv_entries
	IFlags  int32 // bmv_iflags
	OFlags  int32 // bmv_oflags
	Unused1 int32 // bmv_unused1
	Unused2 int32 // bmv_unused2
}

// BulkReq is struct xfs_bulk_ireq, the header of struct xfs_bulkstat_req and struct xfs_inumbers_req.
type BulkReq struct {
	Ino      uint64 // ino
	Flags    uint32 // flags
	ICount   uint32 // icount
	OCount   uint32 // ocount
	AGNo     uint32 // agno
	Reserved [5]uint64
}

// Bulkstat is struct xfs_bulkstat.
type Bulkstat struct {
	Ino        uint64 // bs_ino
	Size       uint64 // bs_size
	Blocks     uint64 // bs_blocks
	XFlags     uint64 // bs_xflags
	ATime      int64  // bs_atime
	MTime      int64  // bs_mtime
	CTime      int64  // bs_ctime
	BTime      int64  // bs_btime
	Gen        uint32 // bs_gen
	UID        uint32 // bs_uid
	GID        uint32 // bs_gid
	ProjectID  uint32 // bs_projectid
	ATimeNsec  uint32 // bs_atime_nsec
	MTimeNsec  uint32 // bs_mtime_nsec
	CTimeNsec  uint32 // bs_ctime_nsec
	BTimeNsec  uint32 // bs_btime_nsec
	BlkSize    uint32 // bs_blksize
	RDev       uint32 // bs_rdev
	CowExtSize uint32 // bs_cowextsize_blks
	ExtSize    uint32 // bs_extsize_blks
	NLink      uint32 // bs_nlink
	Extents    uint32 // bs_extents
	AExtents   uint32 // bs_aextents
	Version    uint16 // bs_version
	ForkOff    uint16 // bs_forkoff
	Sick       uint16 // bs_sick
	Checked    uint16 // bs_checked
	Mode       uint16 // bs_mode
	Pad2       uint16 // bs_pad2
	Extents64  uint64 // bs_extents64
	Pad        [6]uint64
}

// Inumbers is struct xfs_inumbers.
type Inumbers struct {
	StartIno   uint64  // xi_startino
	AllocMask  uint64  // xi_allocmask
	AllocCount uint8   // xi_alloccount
	Version    uint8   // xi_version
	Padding    [6]byte // xi_padding
}

// Handle is struct xfs_handle.
type Handle struct {
	FSID   [8]byte // ha_fsid
	FIDLen uint16  // ha_fid.fid_len: what follows it, 14
	FIDPad uint16  // ha_fid.fid_pad
	Gen    uint32  // ha_fid.fid_gen
	Ino    uint64  // ha_fid.fid_ino
}

// HandleReq is struct xfs_fsop_handlereq. Its pointers are C pointers: 4 bytes on 386.
type HandleReq struct {
	FD         uint32         // fd
	Path       unsafe.Pointer // path
	OFlags     uint32         // oflags
	IHandle    unsafe.Pointer // ihandle
	IHandleLen uint32         // ihandlen
	OHandle    unsafe.Pointer // ohandle
	OHandleLen unsafe.Pointer // ohandlen
}

// GetParents is struct xfs_getparents.
type GetParents struct {
	Cursor   [4]uint32 // gp_cursor
	IFlags   uint16    // gp_iflags
	OFlags   uint16    // gp_oflags
	BufSize  uint32    // gp_bufsize
	Reserved uint64    // gp_reserved
	Buffer   UserPtr   // gp_buffer
}

// GetParentsByHandle is struct xfs_getparents_by_handle.
type GetParentsByHandle struct {
	Handle  Handle     // gph_handle
	Request GetParents // gph_request
}

// GetParentsRec is the fixed part of struct xfs_getparents_rec; the NUL-terminated name follows.
type GetParentsRec struct {
	Parent   Handle // gpr_parent
	RecLen   uint32 // gpr_reclen
	Reserved uint32 // gpr_reserved
}

// HealthMonitor is struct xfs_health_monitor.
type HealthMonitor struct {
	Flags  uint64   // flags
	Format uint8    // format
	Pad    [23]byte // pad
}

// HealthFileOnFS is struct xfs_health_file_on_monitored_fs.
type HealthFileOnFS struct {
	FD    int32  // fd
	Flags uint32 // flags
}

// HealthEvent is struct xfs_health_monitor_event. The payload is a union, see the accessors of
// package ioctl.
type HealthEvent struct {
	Domain  uint32   // domain
	Type    uint32   // type
	TimeNs  uint64   // time_ns
	Payload [32]byte // e
	Pad     [2]uint64
}

// VerifyMedia is struct xfs_verify_media.
type VerifyMedia struct {
	Dev        uint32 // me_dev
	Flags      uint32 // me_flags
	StartDAddr uint64 // me_start_daddr
	EndDAddr   uint64 // me_end_daddr
	IOError    uint32 // me_ioerror
	MaxIOSize  uint32 // me_max_io_size
	RestUs     uint32 // me_rest_us
	Pad        uint32 // me_pad
}

// EOFBlocks is struct xfs_fs_eofblocks.
type EOFBlocks struct {
	Version     uint32 // eof_version
	Flags       uint32 // eof_flags
	UID         uint32 // eof_uid
	GID         uint32 // eof_gid
	ProjectID   uint32 // eof_prid
	Pad32       uint32 // pad32
	MinFileSize uint64 // eof_min_file_size
	Pad64       [12]uint64
}

// FileHandle is struct file_handle of name_to_handle_at(2) with the 12 bytes of an XFS handle that
// has no parent in it: a 64-bit inode number, aligned to 4 bytes only, and a generation.
type FileHandle struct {
	Bytes uint32    // handle_bytes
	Type  int32     // handle_type
	Ino   [2]uint32 // the halves of a __u64 as they lie in memory
	Gen   uint32
}

// Halves splits v into its halves as they lie in memory.
func Halves(v uint64) [2]uint32 {
	return *(*[2]uint32)(unsafe.Pointer(&v))
}

// Whole is the opposite of Halves.
func Whole(h [2]uint32) uint64 {
	var v uint64
	*(*[2]uint32)(unsafe.Pointer(&v)) = h
	return v
}
