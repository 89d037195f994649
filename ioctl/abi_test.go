package ioctl

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"slices"
	"testing"
	"unsafe"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/scrubd/scrubd/ioctl/internal/abi"
)

// golden is what testdata/abi/abi.c printed for a released header.
type golden struct {
	Header   string                  `json:"header"`
	Bits     int                     `json:"bits"`
	Structs  map[string]goldenStruct `json:"structs"`
	Requests map[string]uintptr      `json:"requests"`
	Values   map[string]uint64       `json:"values"`
	Missing  []string                `json:"missing"`
}

type goldenStruct struct {
	Size   uintptr            `json:"size"`
	Fields map[string]uintptr `json:"fields"`
}

// loadGolden reads the file for the word size of this build.
func loadGolden(t *testing.T) golden {
	t.Helper()
	bits := int(unsafe.Sizeof(uintptr(0)) * 8)
	b, err := os.ReadFile(fmt.Sprintf("../testdata/abi/abi-%d.json", bits))
	require.NoError(t, err)
	var g golden
	require.NoError(t, json.Unmarshal(b, &g))
	require.Equal(t, bits, g.Bits)
	require.Empty(t, g.Missing, "the goldens must come from a header that has everything")
	return g
}

type layout struct {
	size   uintptr
	fields map[string]uintptr
}

// layouts are the structs of package abi under their C names.
var layouts = map[string]layout{
	"xfs_fsop_geom": {unsafe.Sizeof(abi.FSGeometry{}), map[string]uintptr{
		"blocksize":    unsafe.Offsetof(abi.FSGeometry{}.BlockSize),
		"rtextsize":    unsafe.Offsetof(abi.FSGeometry{}.RTExtSize),
		"agblocks":     unsafe.Offsetof(abi.FSGeometry{}.AGBlocks),
		"agcount":      unsafe.Offsetof(abi.FSGeometry{}.AGCount),
		"logblocks":    unsafe.Offsetof(abi.FSGeometry{}.LogBlocks),
		"sectsize":     unsafe.Offsetof(abi.FSGeometry{}.SectSize),
		"inodesize":    unsafe.Offsetof(abi.FSGeometry{}.InodeSize),
		"imaxpct":      unsafe.Offsetof(abi.FSGeometry{}.IMaxPct),
		"datablocks":   unsafe.Offsetof(abi.FSGeometry{}.DataBlocks),
		"rtblocks":     unsafe.Offsetof(abi.FSGeometry{}.RTBlocks),
		"rtextents":    unsafe.Offsetof(abi.FSGeometry{}.RTExtents),
		"logstart":     unsafe.Offsetof(abi.FSGeometry{}.LogStart),
		"uuid":         unsafe.Offsetof(abi.FSGeometry{}.UUID),
		"sunit":        unsafe.Offsetof(abi.FSGeometry{}.SUnit),
		"swidth":       unsafe.Offsetof(abi.FSGeometry{}.SWidth),
		"version":      unsafe.Offsetof(abi.FSGeometry{}.Version),
		"flags":        unsafe.Offsetof(abi.FSGeometry{}.Flags),
		"logsectsize":  unsafe.Offsetof(abi.FSGeometry{}.LogSectSize),
		"rtsectsize":   unsafe.Offsetof(abi.FSGeometry{}.RTSectSize),
		"dirblocksize": unsafe.Offsetof(abi.FSGeometry{}.DirBlockSize),
		"logsunit":     unsafe.Offsetof(abi.FSGeometry{}.LogSUnit),
		"sick":         unsafe.Offsetof(abi.FSGeometry{}.Sick),
		"checked":      unsafe.Offsetof(abi.FSGeometry{}.Checked),
		"rgextents":    unsafe.Offsetof(abi.FSGeometry{}.RGExtents),
		"rgcount":      unsafe.Offsetof(abi.FSGeometry{}.RGCount),
		"rtstart":      unsafe.Offsetof(abi.FSGeometry{}.RTStart),
		"rtreserved":   unsafe.Offsetof(abi.FSGeometry{}.RTReserved),
		"reserved":     unsafe.Offsetof(abi.FSGeometry{}.Reserved),
	}},
	"xfs_fsop_counts": {unsafe.Sizeof(abi.FSCounts{}), map[string]uintptr{
		"freedata": unsafe.Offsetof(abi.FSCounts{}.FreeData),
		"freertx":  unsafe.Offsetof(abi.FSCounts{}.FreeRTX),
		"freeino":  unsafe.Offsetof(abi.FSCounts{}.FreeIno),
		"allocino": unsafe.Offsetof(abi.FSCounts{}.AllocIno),
	}},
	"xfs_ag_geometry": {unsafe.Sizeof(abi.AGGeometry{}), map[string]uintptr{
		"ag_number":   unsafe.Offsetof(abi.AGGeometry{}.Number),
		"ag_length":   unsafe.Offsetof(abi.AGGeometry{}.Length),
		"ag_freeblks": unsafe.Offsetof(abi.AGGeometry{}.FreeBlks),
		"ag_icount":   unsafe.Offsetof(abi.AGGeometry{}.ICount),
		"ag_ifree":    unsafe.Offsetof(abi.AGGeometry{}.IFree),
		"ag_sick":     unsafe.Offsetof(abi.AGGeometry{}.Sick),
		"ag_checked":  unsafe.Offsetof(abi.AGGeometry{}.Checked),
		"ag_flags":    unsafe.Offsetof(abi.AGGeometry{}.Flags),
		"ag_reserved": unsafe.Offsetof(abi.AGGeometry{}.Reserved),
	}},
	"xfs_rtgroup_geometry": {unsafe.Sizeof(abi.RTGroupGeometry{}), map[string]uintptr{
		"rg_number":       unsafe.Offsetof(abi.RTGroupGeometry{}.Number),
		"rg_length":       unsafe.Offsetof(abi.RTGroupGeometry{}.Length),
		"rg_sick":         unsafe.Offsetof(abi.RTGroupGeometry{}.Sick),
		"rg_checked":      unsafe.Offsetof(abi.RTGroupGeometry{}.Checked),
		"rg_flags":        unsafe.Offsetof(abi.RTGroupGeometry{}.Flags),
		"rg_writepointer": unsafe.Offsetof(abi.RTGroupGeometry{}.WritePointer),
		"rg_reserved":     unsafe.Offsetof(abi.RTGroupGeometry{}.Reserved),
	}},
	"xfs_scrub_metadata": {unsafe.Sizeof(abi.ScrubMetadata{}), map[string]uintptr{
		"sm_type":     unsafe.Offsetof(abi.ScrubMetadata{}.Type),
		"sm_flags":    unsafe.Offsetof(abi.ScrubMetadata{}.Flags),
		"sm_ino":      unsafe.Offsetof(abi.ScrubMetadata{}.Ino),
		"sm_gen":      unsafe.Offsetof(abi.ScrubMetadata{}.Gen),
		"sm_agno":     unsafe.Offsetof(abi.ScrubMetadata{}.AGNo),
		"sm_reserved": unsafe.Offsetof(abi.ScrubMetadata{}.Reserved),
	}},
	"xfs_scrub_vec": {unsafe.Sizeof(abi.ScrubVec{}), map[string]uintptr{
		"sv_type":     unsafe.Offsetof(abi.ScrubVec{}.Type),
		"sv_flags":    unsafe.Offsetof(abi.ScrubVec{}.Flags),
		"sv_ret":      unsafe.Offsetof(abi.ScrubVec{}.Ret),
		"sv_reserved": unsafe.Offsetof(abi.ScrubVec{}.Reserved),
	}},
	"xfs_scrub_vec_head": {unsafe.Sizeof(abi.ScrubVecHead{}), map[string]uintptr{
		"svh_ino":      unsafe.Offsetof(abi.ScrubVecHead{}.Ino),
		"svh_gen":      unsafe.Offsetof(abi.ScrubVecHead{}.Gen),
		"svh_agno":     unsafe.Offsetof(abi.ScrubVecHead{}.AGNo),
		"svh_flags":    unsafe.Offsetof(abi.ScrubVecHead{}.Flags),
		"svh_rest_us":  unsafe.Offsetof(abi.ScrubVecHead{}.RestUs),
		"svh_nr":       unsafe.Offsetof(abi.ScrubVecHead{}.Nr),
		"svh_reserved": unsafe.Offsetof(abi.ScrubVecHead{}.Reserved),
		"svh_vectors":  unsafe.Offsetof(abi.ScrubVecHead{}.Vectors),
	}},
	"fsmap": {unsafe.Sizeof(abi.FSMap{}), map[string]uintptr{
		"fmr_device":   unsafe.Offsetof(abi.FSMap{}.Device),
		"fmr_flags":    unsafe.Offsetof(abi.FSMap{}.Flags),
		"fmr_physical": unsafe.Offsetof(abi.FSMap{}.Physical),
		"fmr_owner":    unsafe.Offsetof(abi.FSMap{}.Owner),
		"fmr_offset":   unsafe.Offsetof(abi.FSMap{}.Offset),
		"fmr_length":   unsafe.Offsetof(abi.FSMap{}.Length),
		"fmr_reserved": unsafe.Offsetof(abi.FSMap{}.Reserved),
	}},
	"fsmap_head": {unsafe.Sizeof(abi.FSMapHead{}), map[string]uintptr{
		"fmh_iflags":   unsafe.Offsetof(abi.FSMapHead{}.IFlags),
		"fmh_oflags":   unsafe.Offsetof(abi.FSMapHead{}.OFlags),
		"fmh_count":    unsafe.Offsetof(abi.FSMapHead{}.Count),
		"fmh_entries":  unsafe.Offsetof(abi.FSMapHead{}.Entries),
		"fmh_reserved": unsafe.Offsetof(abi.FSMapHead{}.Reserved),
		"fmh_keys":     unsafe.Offsetof(abi.FSMapHead{}.Keys),
	}},
	"getbmapx": {unsafe.Sizeof(abi.Bmapx{}), map[string]uintptr{
		"bmv_offset":  unsafe.Offsetof(abi.Bmapx{}.Offset),
		"bmv_block":   unsafe.Offsetof(abi.Bmapx{}.Block),
		"bmv_length":  unsafe.Offsetof(abi.Bmapx{}.Length),
		"bmv_count":   unsafe.Offsetof(abi.Bmapx{}.Count),
		"bmv_entries": unsafe.Offsetof(abi.Bmapx{}.Entries),
		"bmv_iflags":  unsafe.Offsetof(abi.Bmapx{}.IFlags),
		"bmv_oflags":  unsafe.Offsetof(abi.Bmapx{}.OFlags),
		"bmv_unused1": unsafe.Offsetof(abi.Bmapx{}.Unused1),
		"bmv_unused2": unsafe.Offsetof(abi.Bmapx{}.Unused2),
	}},
	"xfs_bulk_ireq": {unsafe.Sizeof(abi.BulkReq{}), map[string]uintptr{
		"ino":      unsafe.Offsetof(abi.BulkReq{}.Ino),
		"flags":    unsafe.Offsetof(abi.BulkReq{}.Flags),
		"icount":   unsafe.Offsetof(abi.BulkReq{}.ICount),
		"ocount":   unsafe.Offsetof(abi.BulkReq{}.OCount),
		"agno":     unsafe.Offsetof(abi.BulkReq{}.AGNo),
		"reserved": unsafe.Offsetof(abi.BulkReq{}.Reserved),
	}},
	"xfs_bulkstat": {unsafe.Sizeof(abi.Bulkstat{}), map[string]uintptr{
		"bs_ino":             unsafe.Offsetof(abi.Bulkstat{}.Ino),
		"bs_size":            unsafe.Offsetof(abi.Bulkstat{}.Size),
		"bs_blocks":          unsafe.Offsetof(abi.Bulkstat{}.Blocks),
		"bs_xflags":          unsafe.Offsetof(abi.Bulkstat{}.XFlags),
		"bs_atime":           unsafe.Offsetof(abi.Bulkstat{}.ATime),
		"bs_mtime":           unsafe.Offsetof(abi.Bulkstat{}.MTime),
		"bs_ctime":           unsafe.Offsetof(abi.Bulkstat{}.CTime),
		"bs_btime":           unsafe.Offsetof(abi.Bulkstat{}.BTime),
		"bs_gen":             unsafe.Offsetof(abi.Bulkstat{}.Gen),
		"bs_uid":             unsafe.Offsetof(abi.Bulkstat{}.UID),
		"bs_gid":             unsafe.Offsetof(abi.Bulkstat{}.GID),
		"bs_projectid":       unsafe.Offsetof(abi.Bulkstat{}.ProjectID),
		"bs_atime_nsec":      unsafe.Offsetof(abi.Bulkstat{}.ATimeNsec),
		"bs_mtime_nsec":      unsafe.Offsetof(abi.Bulkstat{}.MTimeNsec),
		"bs_ctime_nsec":      unsafe.Offsetof(abi.Bulkstat{}.CTimeNsec),
		"bs_btime_nsec":      unsafe.Offsetof(abi.Bulkstat{}.BTimeNsec),
		"bs_blksize":         unsafe.Offsetof(abi.Bulkstat{}.BlkSize),
		"bs_rdev":            unsafe.Offsetof(abi.Bulkstat{}.RDev),
		"bs_cowextsize_blks": unsafe.Offsetof(abi.Bulkstat{}.CowExtSize),
		"bs_extsize_blks":    unsafe.Offsetof(abi.Bulkstat{}.ExtSize),
		"bs_nlink":           unsafe.Offsetof(abi.Bulkstat{}.NLink),
		"bs_extents":         unsafe.Offsetof(abi.Bulkstat{}.Extents),
		"bs_aextents":        unsafe.Offsetof(abi.Bulkstat{}.AExtents),
		"bs_version":         unsafe.Offsetof(abi.Bulkstat{}.Version),
		"bs_forkoff":         unsafe.Offsetof(abi.Bulkstat{}.ForkOff),
		"bs_sick":            unsafe.Offsetof(abi.Bulkstat{}.Sick),
		"bs_checked":         unsafe.Offsetof(abi.Bulkstat{}.Checked),
		"bs_mode":            unsafe.Offsetof(abi.Bulkstat{}.Mode),
		"bs_pad2":            unsafe.Offsetof(abi.Bulkstat{}.Pad2),
		"bs_extents64":       unsafe.Offsetof(abi.Bulkstat{}.Extents64),
		"bs_pad":             unsafe.Offsetof(abi.Bulkstat{}.Pad),
	}},
	"xfs_inumbers": {unsafe.Sizeof(abi.Inumbers{}), map[string]uintptr{
		"xi_startino":   unsafe.Offsetof(abi.Inumbers{}.StartIno),
		"xi_allocmask":  unsafe.Offsetof(abi.Inumbers{}.AllocMask),
		"xi_alloccount": unsafe.Offsetof(abi.Inumbers{}.AllocCount),
		"xi_version":    unsafe.Offsetof(abi.Inumbers{}.Version),
		"xi_padding":    unsafe.Offsetof(abi.Inumbers{}.Padding),
	}},
	"xfs_handle": {unsafe.Sizeof(abi.Handle{}), map[string]uintptr{
		"ha_fsid":        unsafe.Offsetof(abi.Handle{}.FSID),
		"ha_fid.fid_len": unsafe.Offsetof(abi.Handle{}.FIDLen),
		"ha_fid.fid_pad": unsafe.Offsetof(abi.Handle{}.FIDPad),
		"ha_fid.fid_gen": unsafe.Offsetof(abi.Handle{}.Gen),
		"ha_fid.fid_ino": unsafe.Offsetof(abi.Handle{}.Ino),
	}},
	"xfs_fsop_handlereq": {unsafe.Sizeof(abi.HandleReq{}), map[string]uintptr{
		"fd":       unsafe.Offsetof(abi.HandleReq{}.FD),
		"path":     unsafe.Offsetof(abi.HandleReq{}.Path),
		"oflags":   unsafe.Offsetof(abi.HandleReq{}.OFlags),
		"ihandle":  unsafe.Offsetof(abi.HandleReq{}.IHandle),
		"ihandlen": unsafe.Offsetof(abi.HandleReq{}.IHandleLen),
		"ohandle":  unsafe.Offsetof(abi.HandleReq{}.OHandle),
		"ohandlen": unsafe.Offsetof(abi.HandleReq{}.OHandleLen),
	}},
	"xfs_getparents": {unsafe.Sizeof(abi.GetParents{}), map[string]uintptr{
		"gp_cursor":   unsafe.Offsetof(abi.GetParents{}.Cursor),
		"gp_iflags":   unsafe.Offsetof(abi.GetParents{}.IFlags),
		"gp_oflags":   unsafe.Offsetof(abi.GetParents{}.OFlags),
		"gp_bufsize":  unsafe.Offsetof(abi.GetParents{}.BufSize),
		"gp_reserved": unsafe.Offsetof(abi.GetParents{}.Reserved),
		"gp_buffer":   unsafe.Offsetof(abi.GetParents{}.Buffer),
	}},
	"xfs_getparents_by_handle": {unsafe.Sizeof(abi.GetParentsByHandle{}), map[string]uintptr{
		"gph_handle":  unsafe.Offsetof(abi.GetParentsByHandle{}.Handle),
		"gph_request": unsafe.Offsetof(abi.GetParentsByHandle{}.Request),
	}},
	"xfs_getparents_rec": {unsafe.Sizeof(abi.GetParentsRec{}), map[string]uintptr{
		"gpr_parent":   unsafe.Offsetof(abi.GetParentsRec{}.Parent),
		"gpr_reclen":   unsafe.Offsetof(abi.GetParentsRec{}.RecLen),
		"gpr_reserved": unsafe.Offsetof(abi.GetParentsRec{}.Reserved),
	}},
	"xfs_health_monitor": {unsafe.Sizeof(abi.HealthMonitor{}), map[string]uintptr{
		"flags":  unsafe.Offsetof(abi.HealthMonitor{}.Flags),
		"format": unsafe.Offsetof(abi.HealthMonitor{}.Format),
		"pad":    unsafe.Offsetof(abi.HealthMonitor{}.Pad),
	}},
	"xfs_health_file_on_monitored_fs": {unsafe.Sizeof(abi.HealthFileOnFS{}), map[string]uintptr{
		"fd":    unsafe.Offsetof(abi.HealthFileOnFS{}.FD),
		"flags": unsafe.Offsetof(abi.HealthFileOnFS{}.Flags),
	}},
	"xfs_health_monitor_event": {unsafe.Sizeof(abi.HealthEvent{}), map[string]uintptr{
		"domain":  unsafe.Offsetof(abi.HealthEvent{}.Domain),
		"type":    unsafe.Offsetof(abi.HealthEvent{}.Type),
		"time_ns": unsafe.Offsetof(abi.HealthEvent{}.TimeNs),
		"e":       unsafe.Offsetof(abi.HealthEvent{}.Payload),
		"pad":     unsafe.Offsetof(abi.HealthEvent{}.Pad),
	}},
	"xfs_verify_media": {unsafe.Sizeof(abi.VerifyMedia{}), map[string]uintptr{
		"me_dev":         unsafe.Offsetof(abi.VerifyMedia{}.Dev),
		"me_flags":       unsafe.Offsetof(abi.VerifyMedia{}.Flags),
		"me_start_daddr": unsafe.Offsetof(abi.VerifyMedia{}.StartDAddr),
		"me_end_daddr":   unsafe.Offsetof(abi.VerifyMedia{}.EndDAddr),
		"me_ioerror":     unsafe.Offsetof(abi.VerifyMedia{}.IOError),
		"me_max_io_size": unsafe.Offsetof(abi.VerifyMedia{}.MaxIOSize),
		"me_rest_us":     unsafe.Offsetof(abi.VerifyMedia{}.RestUs),
		"me_pad":         unsafe.Offsetof(abi.VerifyMedia{}.Pad),
	}},
	"xfs_fs_eofblocks": {unsafe.Sizeof(abi.EOFBlocks{}), map[string]uintptr{
		"eof_version":       unsafe.Offsetof(abi.EOFBlocks{}.Version),
		"eof_flags":         unsafe.Offsetof(abi.EOFBlocks{}.Flags),
		"eof_uid":           unsafe.Offsetof(abi.EOFBlocks{}.UID),
		"eof_gid":           unsafe.Offsetof(abi.EOFBlocks{}.GID),
		"eof_prid":          unsafe.Offsetof(abi.EOFBlocks{}.ProjectID),
		"pad32":             unsafe.Offsetof(abi.EOFBlocks{}.Pad32),
		"eof_min_file_size": unsafe.Offsetof(abi.EOFBlocks{}.MinFileSize),
		"pad64":             unsafe.Offsetof(abi.EOFBlocks{}.Pad64),
	}},
}

func TestStructsHaveTheLayoutOfTheHeader(t *testing.T) {
	g := loadGolden(t)
	assert.ElementsMatch(t, slices.Collect(maps.Keys(g.Structs)), slices.Collect(maps.Keys(layouts)))
	for name, want := range g.Structs {
		got := layouts[name]
		assert.Equal(t, want.Size, got.size, "size of %s", name)
		// Trailing records, and the members of a union, are not fields in Go.
		for field, offset := range want.Fields {
			switch {
			case field == "fmh_recs" || field == "gpr_name":
				assert.Equal(t, offset, got.size, "%s.%s begins where the struct ends", name, field)
			case name == "xfs_health_monitor_event" && len(field) > 2 && field[:2] == "e.":
			default:
				assert.Contains(t, got.fields, field, name)
				assert.Equal(t, offset, got.fields[field], "offset of %s.%s", name, field)
			}
		}
		for field := range got.fields {
			assert.Contains(t, want.Fields, field, name)
		}
	}
}

// The records that callers see are the kernel's memory: same size, same offsets.
func TestRecordsHaveTheLayoutOfTheHeader(t *testing.T) {
	views := map[string]layout{
		"fsmap": {unsafe.Sizeof(FSMapRecord{}), map[string]uintptr{
			"fmr_device":   unsafe.Offsetof(FSMapRecord{}.Device),
			"fmr_flags":    unsafe.Offsetof(FSMapRecord{}.Flags),
			"fmr_physical": unsafe.Offsetof(FSMapRecord{}.Physical),
			"fmr_owner":    unsafe.Offsetof(FSMapRecord{}.Owner),
			"fmr_offset":   unsafe.Offsetof(FSMapRecord{}.Offset),
			"fmr_length":   unsafe.Offsetof(FSMapRecord{}.Length),
		}},
		"getbmapx": {unsafe.Sizeof(BmapRecord{}), map[string]uintptr{
			"bmv_offset": unsafe.Offsetof(BmapRecord{}.Offset),
			"bmv_block":  unsafe.Offsetof(BmapRecord{}.Block),
			"bmv_length": unsafe.Offsetof(BmapRecord{}.Length),
			"bmv_oflags": unsafe.Offsetof(BmapRecord{}.Flags),
		}},
		"xfs_inumbers": {unsafe.Sizeof(InumbersRecord{}), map[string]uintptr{
			"xi_startino":   unsafe.Offsetof(InumbersRecord{}.StartIno),
			"xi_allocmask":  unsafe.Offsetof(InumbersRecord{}.AllocMask),
			"xi_alloccount": unsafe.Offsetof(InumbersRecord{}.AllocCount),
			"xi_version":    unsafe.Offsetof(InumbersRecord{}.Version),
		}},
		"xfs_bulkstat": {unsafe.Sizeof(BulkstatRecord{}), map[string]uintptr{
			"bs_ino":             unsafe.Offsetof(BulkstatRecord{}.Ino),
			"bs_size":            unsafe.Offsetof(BulkstatRecord{}.Size),
			"bs_blocks":          unsafe.Offsetof(BulkstatRecord{}.Blocks),
			"bs_xflags":          unsafe.Offsetof(BulkstatRecord{}.XFlags),
			"bs_atime":           unsafe.Offsetof(BulkstatRecord{}.ATime),
			"bs_mtime":           unsafe.Offsetof(BulkstatRecord{}.MTime),
			"bs_ctime":           unsafe.Offsetof(BulkstatRecord{}.CTime),
			"bs_btime":           unsafe.Offsetof(BulkstatRecord{}.BTime),
			"bs_gen":             unsafe.Offsetof(BulkstatRecord{}.Gen),
			"bs_uid":             unsafe.Offsetof(BulkstatRecord{}.UID),
			"bs_gid":             unsafe.Offsetof(BulkstatRecord{}.GID),
			"bs_projectid":       unsafe.Offsetof(BulkstatRecord{}.ProjectID),
			"bs_atime_nsec":      unsafe.Offsetof(BulkstatRecord{}.ATimeNsec),
			"bs_mtime_nsec":      unsafe.Offsetof(BulkstatRecord{}.MTimeNsec),
			"bs_ctime_nsec":      unsafe.Offsetof(BulkstatRecord{}.CTimeNsec),
			"bs_btime_nsec":      unsafe.Offsetof(BulkstatRecord{}.BTimeNsec),
			"bs_blksize":         unsafe.Offsetof(BulkstatRecord{}.BlkSize),
			"bs_rdev":            unsafe.Offsetof(BulkstatRecord{}.RDev),
			"bs_cowextsize_blks": unsafe.Offsetof(BulkstatRecord{}.CowExtSize),
			"bs_extsize_blks":    unsafe.Offsetof(BulkstatRecord{}.ExtSize),
			"bs_nlink":           unsafe.Offsetof(BulkstatRecord{}.Nlink),
			"bs_extents":         unsafe.Offsetof(BulkstatRecord{}.Extents),
			"bs_aextents":        unsafe.Offsetof(BulkstatRecord{}.AExtents),
			"bs_version":         unsafe.Offsetof(BulkstatRecord{}.Version),
			"bs_forkoff":         unsafe.Offsetof(BulkstatRecord{}.ForkOff),
			"bs_sick":            unsafe.Offsetof(BulkstatRecord{}.Sick),
			"bs_checked":         unsafe.Offsetof(BulkstatRecord{}.Checked),
			"bs_mode":            unsafe.Offsetof(BulkstatRecord{}.Mode),
			"bs_extents64":       unsafe.Offsetof(BulkstatRecord{}.Extents64),
		}},
	}
	g := loadGolden(t)
	for name, got := range views {
		want := g.Structs[name]
		assert.Equal(t, want.Size, got.size, name)
		for field, offset := range got.fields {
			assert.Equal(t, want.Fields[field], offset, "%s.%s", name, field)
		}
	}
}

func TestRequestNumbersAreThoseOfTheHeader(t *testing.T) {
	assert.Equal(t, map[string]uintptr{
		"XFS_IOC_GETBMAPX":                  abi.ReqGetBmapx,
		"XFS_IOC_FREE_EOFBLOCKS":            abi.ReqFreeEOFBlocks,
		"FS_IOC_GETFSMAP":                   abi.ReqGetFSMap,
		"XFS_IOC_SCRUB_METADATA":            abi.ReqScrubMetadata,
		"XFS_IOC_AG_GEOMETRY":               abi.ReqAGGeometry,
		"XFS_IOC_FD_TO_HANDLE":              abi.ReqFDToHandle,
		"XFS_IOC_OPEN_BY_HANDLE":            abi.ReqOpenByHandle,
		"XFS_IOC_FSCOUNTS":                  abi.ReqFSCounts,
		"XFS_IOC_FREEZE":                    abi.ReqFreeze,
		"XFS_IOC_THAW":                      abi.ReqThaw,
		"XFS_IOC_FSGEOMETRY":                abi.ReqFSGeometry,
		"XFS_IOC_BULKSTAT":                  abi.ReqBulkstat,
		"XFS_IOC_INUMBERS":                  abi.ReqInumbers,
		"XFS_IOC_GETPARENTS":                abi.ReqGetParents,
		"XFS_IOC_GETPARENTS_BY_HANDLE":      abi.ReqGetParentsByHandle,
		"XFS_IOC_SCRUBV_METADATA":           abi.ReqScrubvMetadata,
		"XFS_IOC_RTGROUP_GEOMETRY":          abi.ReqRTGroupGeometry,
		"XFS_IOC_HEALTH_MONITOR":            abi.ReqHealthMonitor,
		"XFS_IOC_HEALTH_FD_ON_MONITORED_FS": abi.ReqHealthFDOnFS,
		"XFS_IOC_VERIFY_MEDIA":              abi.ReqVerifyMedia,
	}, loadGolden(t).Requests)
}

// Every member of the union of a health event is decoded from where the header has it.
func TestHealthEventsAreDecodedWhereTheHeaderHasThem(t *testing.T) {
	fields := loadGolden(t).Structs["xfs_health_monitor_event"].Fields
	event := func(domain HealthDomain, typ HealthType, members map[string]uint64) HealthEvent {
		b := make([]byte, unsafe.Sizeof(abi.HealthEvent{}))
		binary.NativeEndian.PutUint32(b[fields["domain"]:], uint32(domain))
		binary.NativeEndian.PutUint32(b[fields["type"]:], uint32(typ))
		binary.NativeEndian.PutUint64(b[fields["time_ns"]:], 1_700_000_000_000_000_001)
		for name, v := range members {
			require.Contains(t, fields, name)
			switch name {
			case "e.lost.count", "e.inode.ino", "e.media.daddr", "e.media.bbcount", "e.filerange.pos", "e.filerange.len", "e.filerange.ino":
				binary.NativeEndian.PutUint64(b[fields[name]:], v)
			default:
				binary.NativeEndian.PutUint32(b[fields[name]:], uint32(v))
			}
		}
		events, err := DecodeHealthEvents(b)
		require.NoError(t, err)
		require.Len(t, events, 1)
		e := events[0]
		assert.Equal(t, int64(1_700_000_000_000_000_001), e.Time.UnixNano())
		assert.Equal(t, domain, e.Domain)
		assert.Equal(t, typ, e.Type)
		return e
	}
	assert.Equal(t, uint64(1)<<40, event(HealthMount, HealthLost, map[string]uint64{"e.lost.count": 1 << 40}).Lost)
	assert.Equal(t, ShutdownCorruptOndisk, event(HealthMount, HealthShutdown, map[string]uint64{"e.shutdown.reasons": 16}).Shutdown)
	assert.Equal(t, uint32(2), event(HealthFS, HealthSick, map[string]uint64{"e.fs.mask": 2}).Mask)

	e := event(HealthAG, HealthCorrupt, map[string]uint64{"e.group.mask": 0x100, "e.group.gno": 3})
	assert.Equal(t, AGHealthRmapbt, AGHealth(e.Mask))
	assert.Equal(t, AGNumber(3), e.AGNo)
	e = event(HealthRTGroup, HealthHealthy, map[string]uint64{"e.group.mask": 8, "e.group.gno": 4})
	assert.Equal(t, RGHealthRmapbt, RGHealth(e.Mask))
	assert.Equal(t, RGNumber(4), e.RGNo)
	e = event(HealthInode, HealthSick, map[string]uint64{"e.inode.mask": 2, "e.inode.gen": 7, "e.inode.ino": 1 << 33})
	assert.Equal(t, InodeHealthBMBTD, InodeHealth(e.Mask))
	assert.Equal(t, Gen(7), e.Gen)
	assert.Equal(t, Ino(1<<33), e.Ino)
	e = event(HealthDataDev, HealthMediaError, map[string]uint64{"e.media.daddr": 1 << 34, "e.media.bbcount": 8})
	assert.Equal(t, DAddr(1<<34), e.DAddr)
	assert.Equal(t, DAddr(8), e.Length)
	e = event(HealthFileRange, HealthDataLost, map[string]uint64{
		"e.filerange.pos": 4096, "e.filerange.len": 1 << 35, "e.filerange.ino": 131, "e.filerange.gen": 9, "e.filerange.error": 5,
	})
	assert.Equal(t, HealthEvent{
		Domain: HealthFileRange, Type: HealthDataLost, Time: e.Time, Pos: 4096, Len: 1 << 35, Ino: 131, Gen: 9, Errno: 5,
	}, e)
}
