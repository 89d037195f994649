/*
 * Prints, as JSON, the layout of every struct that package ioctl shares with the kernel, the ioctl
 * request numbers, and the values of the constants, as a released xfs/xfs_fs.h has them. abi-64.json
 * and abi-32.json are its output for the header named in them, on 64-bit machines and on 386; the
 * tests of package ioctl compare Go's idea with them.
 *
 *   cc -DHEADER='"xfslibs-dev 7.2.0"' -I DIR/usr/include -o abi abi.c && ./abi > abi-64.json
 *   cc -m32 -DHEADER='"xfslibs-dev 7.2.0"' -I DIR/usr/include -o abi abi.c && ./abi > abi-32.json
 *
 * What an older header does not have is listed under "missing" instead. The header itself is not
 * part of this tree.
 */
#define _FILE_OFFSET_BITS 64
#include <stddef.h>
#include <stdio.h>
#include <stdint.h>
#include <xfs/xfs.h>
#include <xfs/xfs_fs.h>
#include <linux/fsmap.h>

#ifndef HEADER
#define HEADER "unknown"
#endif

static int first;
static const char *missing[64];
static int nmissing;

static void comma(void)
{
	if (!first)
		printf(",\n");
	first = 0;
}

#define BEGIN(type) \
	do { \
		comma(); \
		printf("  \"%s\": {\"size\": %zu, \"fields\": {", #type, sizeof(struct type)); \
		int inner = 1;
#define FIELD(type, field) \
		printf("%s\"%s\": %zu", inner ? "" : ", ", #field, offsetof(struct type, field)); \
		inner = 0;
#define END() \
		printf("}}"); \
	} while (0)
#define NUMBER(name) \
	do { \
		comma(); \
		printf("  \"%s\": %llu", #name, (unsigned long long)(name)); \
	} while (0)
#define REQUEST(name) \
	do { \
		comma(); \
		printf("  \"%s\": %lu", #name, (unsigned long)(unsigned int)(name)); \
	} while (0)
#define MISSING(name) (missing[nmissing++] = (name))

static void structs(void)
{
	BEGIN(xfs_fsop_geom)
	FIELD(xfs_fsop_geom, blocksize) FIELD(xfs_fsop_geom, rtextsize) FIELD(xfs_fsop_geom, agblocks)
	FIELD(xfs_fsop_geom, agcount) FIELD(xfs_fsop_geom, logblocks) FIELD(xfs_fsop_geom, sectsize)
	FIELD(xfs_fsop_geom, inodesize) FIELD(xfs_fsop_geom, imaxpct) FIELD(xfs_fsop_geom, datablocks)
	FIELD(xfs_fsop_geom, rtblocks) FIELD(xfs_fsop_geom, rtextents) FIELD(xfs_fsop_geom, logstart)
	FIELD(xfs_fsop_geom, uuid) FIELD(xfs_fsop_geom, sunit) FIELD(xfs_fsop_geom, swidth)
	FIELD(xfs_fsop_geom, version) FIELD(xfs_fsop_geom, flags) FIELD(xfs_fsop_geom, logsectsize)
	FIELD(xfs_fsop_geom, rtsectsize) FIELD(xfs_fsop_geom, dirblocksize) FIELD(xfs_fsop_geom, logsunit)
	FIELD(xfs_fsop_geom, sick) FIELD(xfs_fsop_geom, checked)
#ifdef XFS_FSOP_GEOM_FLAGS_METADIR
	FIELD(xfs_fsop_geom, rgextents) FIELD(xfs_fsop_geom, rgcount)
#else
	MISSING("xfs_fsop_geom.rgextents");
#endif
#ifdef XFS_FSOP_GEOM_FLAGS_ZONED
	FIELD(xfs_fsop_geom, rtstart) FIELD(xfs_fsop_geom, rtreserved)
#else
	MISSING("xfs_fsop_geom.rtstart");
#endif
	FIELD(xfs_fsop_geom, reserved)
	END();

	BEGIN(xfs_fsop_counts)
	FIELD(xfs_fsop_counts, freedata) FIELD(xfs_fsop_counts, freertx)
	FIELD(xfs_fsop_counts, freeino) FIELD(xfs_fsop_counts, allocino)
	END();

	BEGIN(xfs_ag_geometry)
	FIELD(xfs_ag_geometry, ag_number) FIELD(xfs_ag_geometry, ag_length) FIELD(xfs_ag_geometry, ag_freeblks)
	FIELD(xfs_ag_geometry, ag_icount) FIELD(xfs_ag_geometry, ag_ifree) FIELD(xfs_ag_geometry, ag_sick)
	FIELD(xfs_ag_geometry, ag_checked) FIELD(xfs_ag_geometry, ag_flags) FIELD(xfs_ag_geometry, ag_reserved)
	END();

#ifdef XFS_IOC_RTGROUP_GEOMETRY
	BEGIN(xfs_rtgroup_geometry)
	FIELD(xfs_rtgroup_geometry, rg_number) FIELD(xfs_rtgroup_geometry, rg_length) FIELD(xfs_rtgroup_geometry, rg_sick)
	FIELD(xfs_rtgroup_geometry, rg_checked) FIELD(xfs_rtgroup_geometry, rg_flags)
#ifdef XFS_RTGROUP_GEOM_WRITEPOINTER
	FIELD(xfs_rtgroup_geometry, rg_writepointer)
#endif
	FIELD(xfs_rtgroup_geometry, rg_reserved)
	END();
#else
	MISSING("xfs_rtgroup_geometry");
#endif

	BEGIN(xfs_scrub_metadata)
	FIELD(xfs_scrub_metadata, sm_type) FIELD(xfs_scrub_metadata, sm_flags) FIELD(xfs_scrub_metadata, sm_ino)
	FIELD(xfs_scrub_metadata, sm_gen) FIELD(xfs_scrub_metadata, sm_agno) FIELD(xfs_scrub_metadata, sm_reserved)
	END();

#ifdef XFS_IOC_SCRUBV_METADATA
	BEGIN(xfs_scrub_vec)
	FIELD(xfs_scrub_vec, sv_type) FIELD(xfs_scrub_vec, sv_flags)
	FIELD(xfs_scrub_vec, sv_ret) FIELD(xfs_scrub_vec, sv_reserved)
	END();
	BEGIN(xfs_scrub_vec_head)
	FIELD(xfs_scrub_vec_head, svh_ino) FIELD(xfs_scrub_vec_head, svh_gen) FIELD(xfs_scrub_vec_head, svh_agno)
	FIELD(xfs_scrub_vec_head, svh_flags) FIELD(xfs_scrub_vec_head, svh_rest_us) FIELD(xfs_scrub_vec_head, svh_nr)
	FIELD(xfs_scrub_vec_head, svh_reserved) FIELD(xfs_scrub_vec_head, svh_vectors)
	END();
#else
	MISSING("xfs_scrub_vec");
#endif

	BEGIN(fsmap)
	FIELD(fsmap, fmr_device) FIELD(fsmap, fmr_flags) FIELD(fsmap, fmr_physical) FIELD(fsmap, fmr_owner)
	FIELD(fsmap, fmr_offset) FIELD(fsmap, fmr_length) FIELD(fsmap, fmr_reserved)
	END();
	BEGIN(fsmap_head)
	FIELD(fsmap_head, fmh_iflags) FIELD(fsmap_head, fmh_oflags) FIELD(fsmap_head, fmh_count)
	FIELD(fsmap_head, fmh_entries) FIELD(fsmap_head, fmh_reserved) FIELD(fsmap_head, fmh_keys)
	FIELD(fsmap_head, fmh_recs)
	END();

	BEGIN(getbmapx)
	FIELD(getbmapx, bmv_offset) FIELD(getbmapx, bmv_block) FIELD(getbmapx, bmv_length) FIELD(getbmapx, bmv_count)
	FIELD(getbmapx, bmv_entries) FIELD(getbmapx, bmv_iflags) FIELD(getbmapx, bmv_oflags)
	FIELD(getbmapx, bmv_unused1) FIELD(getbmapx, bmv_unused2)
	END();

	BEGIN(xfs_bulk_ireq)
	FIELD(xfs_bulk_ireq, ino) FIELD(xfs_bulk_ireq, flags) FIELD(xfs_bulk_ireq, icount)
	FIELD(xfs_bulk_ireq, ocount) FIELD(xfs_bulk_ireq, agno) FIELD(xfs_bulk_ireq, reserved)
	END();
	BEGIN(xfs_bulkstat)
	FIELD(xfs_bulkstat, bs_ino) FIELD(xfs_bulkstat, bs_size) FIELD(xfs_bulkstat, bs_blocks) FIELD(xfs_bulkstat, bs_xflags)
	FIELD(xfs_bulkstat, bs_atime) FIELD(xfs_bulkstat, bs_mtime) FIELD(xfs_bulkstat, bs_ctime) FIELD(xfs_bulkstat, bs_btime)
	FIELD(xfs_bulkstat, bs_gen) FIELD(xfs_bulkstat, bs_uid) FIELD(xfs_bulkstat, bs_gid) FIELD(xfs_bulkstat, bs_projectid)
	FIELD(xfs_bulkstat, bs_atime_nsec) FIELD(xfs_bulkstat, bs_mtime_nsec) FIELD(xfs_bulkstat, bs_ctime_nsec)
	FIELD(xfs_bulkstat, bs_btime_nsec) FIELD(xfs_bulkstat, bs_blksize) FIELD(xfs_bulkstat, bs_rdev)
	FIELD(xfs_bulkstat, bs_cowextsize_blks) FIELD(xfs_bulkstat, bs_extsize_blks) FIELD(xfs_bulkstat, bs_nlink)
	FIELD(xfs_bulkstat, bs_extents) FIELD(xfs_bulkstat, bs_aextents) FIELD(xfs_bulkstat, bs_version)
	FIELD(xfs_bulkstat, bs_forkoff) FIELD(xfs_bulkstat, bs_sick) FIELD(xfs_bulkstat, bs_checked)
	FIELD(xfs_bulkstat, bs_mode) FIELD(xfs_bulkstat, bs_pad2) FIELD(xfs_bulkstat, bs_extents64) FIELD(xfs_bulkstat, bs_pad)
	END();
	BEGIN(xfs_inumbers)
	FIELD(xfs_inumbers, xi_startino) FIELD(xfs_inumbers, xi_allocmask) FIELD(xfs_inumbers, xi_alloccount)
	FIELD(xfs_inumbers, xi_version) FIELD(xfs_inumbers, xi_padding)
	END();

	BEGIN(xfs_handle)
	FIELD(xfs_handle, ha_fsid) FIELD(xfs_handle, ha_fid.fid_len) FIELD(xfs_handle, ha_fid.fid_pad)
	FIELD(xfs_handle, ha_fid.fid_gen) FIELD(xfs_handle, ha_fid.fid_ino)
	END();
	BEGIN(xfs_fsop_handlereq)
	FIELD(xfs_fsop_handlereq, fd) FIELD(xfs_fsop_handlereq, path) FIELD(xfs_fsop_handlereq, oflags)
	FIELD(xfs_fsop_handlereq, ihandle) FIELD(xfs_fsop_handlereq, ihandlen)
	FIELD(xfs_fsop_handlereq, ohandle) FIELD(xfs_fsop_handlereq, ohandlen)
	END();

#ifdef XFS_IOC_GETPARENTS
	BEGIN(xfs_getparents)
	FIELD(xfs_getparents, gp_cursor) FIELD(xfs_getparents, gp_iflags) FIELD(xfs_getparents, gp_oflags)
	FIELD(xfs_getparents, gp_bufsize) FIELD(xfs_getparents, gp_reserved) FIELD(xfs_getparents, gp_buffer)
	END();
	BEGIN(xfs_getparents_by_handle)
	FIELD(xfs_getparents_by_handle, gph_handle) FIELD(xfs_getparents_by_handle, gph_request)
	END();
	BEGIN(xfs_getparents_rec)
	FIELD(xfs_getparents_rec, gpr_parent) FIELD(xfs_getparents_rec, gpr_reclen)
	FIELD(xfs_getparents_rec, gpr_reserved) FIELD(xfs_getparents_rec, gpr_name)
	END();
#else
	MISSING("xfs_getparents");
#endif

#ifdef XFS_IOC_HEALTH_MONITOR
	BEGIN(xfs_health_monitor)
	FIELD(xfs_health_monitor, flags) FIELD(xfs_health_monitor, format) FIELD(xfs_health_monitor, pad)
	END();
	BEGIN(xfs_health_file_on_monitored_fs)
	FIELD(xfs_health_file_on_monitored_fs, fd) FIELD(xfs_health_file_on_monitored_fs, flags)
	END();
	BEGIN(xfs_health_monitor_event)
	FIELD(xfs_health_monitor_event, domain) FIELD(xfs_health_monitor_event, type) FIELD(xfs_health_monitor_event, time_ns)
	FIELD(xfs_health_monitor_event, e) FIELD(xfs_health_monitor_event, e.lost.count) FIELD(xfs_health_monitor_event, e.fs.mask)
	FIELD(xfs_health_monitor_event, e.group.mask) FIELD(xfs_health_monitor_event, e.group.gno)
	FIELD(xfs_health_monitor_event, e.inode.mask) FIELD(xfs_health_monitor_event, e.inode.gen)
	FIELD(xfs_health_monitor_event, e.inode.ino) FIELD(xfs_health_monitor_event, e.shutdown.reasons)
	FIELD(xfs_health_monitor_event, e.media.daddr) FIELD(xfs_health_monitor_event, e.media.bbcount)
	FIELD(xfs_health_monitor_event, e.filerange.pos) FIELD(xfs_health_monitor_event, e.filerange.len)
	FIELD(xfs_health_monitor_event, e.filerange.ino) FIELD(xfs_health_monitor_event, e.filerange.gen)
	FIELD(xfs_health_monitor_event, e.filerange.error) FIELD(xfs_health_monitor_event, pad)
	END();
#else
	MISSING("xfs_health_monitor");
#endif

#ifdef XFS_IOC_VERIFY_MEDIA
	BEGIN(xfs_verify_media)
	FIELD(xfs_verify_media, me_dev) FIELD(xfs_verify_media, me_flags) FIELD(xfs_verify_media, me_start_daddr)
	FIELD(xfs_verify_media, me_end_daddr) FIELD(xfs_verify_media, me_ioerror) FIELD(xfs_verify_media, me_max_io_size)
	FIELD(xfs_verify_media, me_rest_us) FIELD(xfs_verify_media, me_pad)
	END();
#else
	MISSING("xfs_verify_media");
#endif

	BEGIN(xfs_fs_eofblocks)
	FIELD(xfs_fs_eofblocks, eof_version) FIELD(xfs_fs_eofblocks, eof_flags) FIELD(xfs_fs_eofblocks, eof_uid)
	FIELD(xfs_fs_eofblocks, eof_gid) FIELD(xfs_fs_eofblocks, eof_prid) FIELD(xfs_fs_eofblocks, pad32)
	FIELD(xfs_fs_eofblocks, eof_min_file_size) FIELD(xfs_fs_eofblocks, pad64)
	END();
}

static void requests(void)
{
	REQUEST(XFS_IOC_GETBMAPX);
	REQUEST(XFS_IOC_FREE_EOFBLOCKS);
	REQUEST(FS_IOC_GETFSMAP);
	REQUEST(XFS_IOC_SCRUB_METADATA);
	REQUEST(XFS_IOC_AG_GEOMETRY);
	REQUEST(XFS_IOC_FD_TO_HANDLE);
	REQUEST(XFS_IOC_OPEN_BY_HANDLE);
	REQUEST(XFS_IOC_FSCOUNTS);
	REQUEST(XFS_IOC_FREEZE);
	REQUEST(XFS_IOC_THAW);
	REQUEST(XFS_IOC_FSGEOMETRY);
	REQUEST(XFS_IOC_BULKSTAT);
	REQUEST(XFS_IOC_INUMBERS);
#ifdef XFS_IOC_GETPARENTS
	REQUEST(XFS_IOC_GETPARENTS);
	REQUEST(XFS_IOC_GETPARENTS_BY_HANDLE);
#else
	MISSING("XFS_IOC_GETPARENTS");
#endif
#ifdef XFS_IOC_SCRUBV_METADATA
	REQUEST(XFS_IOC_SCRUBV_METADATA);
#else
	MISSING("XFS_IOC_SCRUBV_METADATA");
#endif
#ifdef XFS_IOC_RTGROUP_GEOMETRY
	REQUEST(XFS_IOC_RTGROUP_GEOMETRY);
#else
	MISSING("XFS_IOC_RTGROUP_GEOMETRY");
#endif
#ifdef XFS_IOC_HEALTH_MONITOR
	REQUEST(XFS_IOC_HEALTH_MONITOR);
	REQUEST(XFS_IOC_HEALTH_FD_ON_MONITORED_FS);
#else
	MISSING("XFS_IOC_HEALTH_MONITOR");
#endif
#ifdef XFS_IOC_VERIFY_MEDIA
	REQUEST(XFS_IOC_VERIFY_MEDIA);
#else
	MISSING("XFS_IOC_VERIFY_MEDIA");
#endif
}

static void values(void)
{
	NUMBER(BMV_IF_ATTRFORK);
	NUMBER(BMV_IF_PREALLOC);
	NUMBER(BMV_IF_DELALLOC);
	NUMBER(BMV_IF_NO_HOLES);
	NUMBER(BMV_OF_PREALLOC);
	NUMBER(BMV_OF_DELALLOC);
	NUMBER(BMV_OF_LAST);
	NUMBER(BMV_OF_SHARED);
	NUMBER(XFS_FSOP_GEOM_FLAGS_ATTR);
	NUMBER(XFS_FSOP_GEOM_FLAGS_NLINK);
	NUMBER(XFS_FSOP_GEOM_FLAGS_QUOTA);
	NUMBER(XFS_FSOP_GEOM_FLAGS_IALIGN);
	NUMBER(XFS_FSOP_GEOM_FLAGS_DALIGN);
	NUMBER(XFS_FSOP_GEOM_FLAGS_SHARED);
	NUMBER(XFS_FSOP_GEOM_FLAGS_EXTFLG);
	NUMBER(XFS_FSOP_GEOM_FLAGS_DIRV2);
	NUMBER(XFS_FSOP_GEOM_FLAGS_LOGV2);
	NUMBER(XFS_FSOP_GEOM_FLAGS_SECTOR);
	NUMBER(XFS_FSOP_GEOM_FLAGS_ATTR2);
	NUMBER(XFS_FSOP_GEOM_FLAGS_PROJID32);
	NUMBER(XFS_FSOP_GEOM_FLAGS_DIRV2CI);
	NUMBER(XFS_FSOP_GEOM_FLAGS_LAZYSB);
	NUMBER(XFS_FSOP_GEOM_FLAGS_V5SB);
	NUMBER(XFS_FSOP_GEOM_FLAGS_FTYPE);
	NUMBER(XFS_FSOP_GEOM_FLAGS_FINOBT);
	NUMBER(XFS_FSOP_GEOM_FLAGS_SPINODES);
	NUMBER(XFS_FSOP_GEOM_FLAGS_RMAPBT);
	NUMBER(XFS_FSOP_GEOM_FLAGS_REFLINK);
	NUMBER(XFS_FSOP_GEOM_FLAGS_BIGTIME);
	NUMBER(XFS_FSOP_GEOM_FLAGS_INOBTCNT);
	NUMBER(XFS_FSOP_GEOM_FLAGS_NREXT64);
	NUMBER(XFS_FSOP_GEOM_SICK_COUNTERS);
	NUMBER(XFS_FSOP_GEOM_SICK_UQUOTA);
	NUMBER(XFS_FSOP_GEOM_SICK_GQUOTA);
	NUMBER(XFS_FSOP_GEOM_SICK_PQUOTA);
	NUMBER(XFS_FSOP_GEOM_SICK_RT_BITMAP);
	NUMBER(XFS_FSOP_GEOM_SICK_RT_SUMMARY);
	NUMBER(XFS_AG_GEOM_SICK_SB);
	NUMBER(XFS_AG_GEOM_SICK_AGF);
	NUMBER(XFS_AG_GEOM_SICK_AGFL);
	NUMBER(XFS_AG_GEOM_SICK_AGI);
	NUMBER(XFS_AG_GEOM_SICK_BNOBT);
	NUMBER(XFS_AG_GEOM_SICK_CNTBT);
	NUMBER(XFS_AG_GEOM_SICK_INOBT);
	NUMBER(XFS_AG_GEOM_SICK_FINOBT);
	NUMBER(XFS_AG_GEOM_SICK_RMAPBT);
	NUMBER(XFS_AG_GEOM_SICK_REFCNTBT);
	NUMBER(XFS_BS_SICK_INODE);
	NUMBER(XFS_BS_SICK_BMBTD);
	NUMBER(XFS_BS_SICK_BMBTA);
	NUMBER(XFS_BS_SICK_BMBTC);
	NUMBER(XFS_BS_SICK_DIR);
	NUMBER(XFS_BS_SICK_XATTR);
	NUMBER(XFS_BS_SICK_SYMLINK);
	NUMBER(XFS_BS_SICK_PARENT);
	NUMBER(XFS_BULK_IREQ_AGNO);
	NUMBER(XFS_BULK_IREQ_SPECIAL);
	NUMBER(XFS_BULK_IREQ_NREXT64);
	NUMBER(XFS_BULK_IREQ_SPECIAL_ROOT);
	NUMBER(XFS_EOFBLOCKS_VERSION);
	NUMBER(XFS_EOF_FLAGS_MINFILESIZE);
	NUMBER(XFS_SCRUB_TYPE_PROBE);
	NUMBER(XFS_SCRUB_TYPE_SB);
	NUMBER(XFS_SCRUB_TYPE_AGF);
	NUMBER(XFS_SCRUB_TYPE_AGFL);
	NUMBER(XFS_SCRUB_TYPE_AGI);
	NUMBER(XFS_SCRUB_TYPE_BNOBT);
	NUMBER(XFS_SCRUB_TYPE_CNTBT);
	NUMBER(XFS_SCRUB_TYPE_INOBT);
	NUMBER(XFS_SCRUB_TYPE_FINOBT);
	NUMBER(XFS_SCRUB_TYPE_RMAPBT);
	NUMBER(XFS_SCRUB_TYPE_REFCNTBT);
	NUMBER(XFS_SCRUB_TYPE_INODE);
	NUMBER(XFS_SCRUB_TYPE_BMBTD);
	NUMBER(XFS_SCRUB_TYPE_BMBTA);
	NUMBER(XFS_SCRUB_TYPE_BMBTC);
	NUMBER(XFS_SCRUB_TYPE_DIR);
	NUMBER(XFS_SCRUB_TYPE_XATTR);
	NUMBER(XFS_SCRUB_TYPE_SYMLINK);
	NUMBER(XFS_SCRUB_TYPE_PARENT);
	NUMBER(XFS_SCRUB_TYPE_RTBITMAP);
	NUMBER(XFS_SCRUB_TYPE_RTSUM);
	NUMBER(XFS_SCRUB_TYPE_UQUOTA);
	NUMBER(XFS_SCRUB_TYPE_GQUOTA);
	NUMBER(XFS_SCRUB_TYPE_PQUOTA);
	NUMBER(XFS_SCRUB_TYPE_FSCOUNTERS);
	NUMBER(XFS_SCRUB_TYPE_NR);
	NUMBER(XFS_SCRUB_IFLAG_REPAIR);
	NUMBER(XFS_SCRUB_OFLAG_CORRUPT);
	NUMBER(XFS_SCRUB_OFLAG_PREEN);
	NUMBER(XFS_SCRUB_OFLAG_XFAIL);
	NUMBER(XFS_SCRUB_OFLAG_XCORRUPT);
	NUMBER(XFS_SCRUB_OFLAG_INCOMPLETE);
	NUMBER(XFS_SCRUB_OFLAG_WARNING);
	NUMBER(XFS_SCRUB_OFLAG_NO_REPAIR_NEEDED);
	NUMBER(FMR_OF_PREALLOC);
	NUMBER(FMR_OF_ATTR_FORK);
	NUMBER(FMR_OF_EXTENT_MAP);
	NUMBER(FMR_OF_SHARED);
	NUMBER(FMR_OF_SPECIAL_OWNER);
	NUMBER(FMR_OF_LAST);
	NUMBER(FMH_OF_DEV_T);
	NUMBER(FMR_OWN_FREE);
	NUMBER(FMR_OWN_UNKNOWN);
	NUMBER(FMR_OWN_METADATA);
	NUMBER(XFS_FMR_OWN_FS);
	NUMBER(XFS_FMR_OWN_LOG);
	NUMBER(XFS_FMR_OWN_AG);
	NUMBER(XFS_FMR_OWN_INOBT);
	NUMBER(XFS_FMR_OWN_INODES);
	NUMBER(XFS_FMR_OWN_REFC);
	NUMBER(XFS_FMR_OWN_COW);
	NUMBER(XFS_FMR_OWN_DEFECTIVE);
#ifdef XFS_FSOP_GEOM_FLAGS_EXCHANGE_RANGE
	NUMBER(XFS_FSOP_GEOM_FLAGS_EXCHANGE_RANGE);
#else
	MISSING("XFS_FSOP_GEOM_FLAGS_EXCHANGE_RANGE");
#endif
#ifdef XFS_FSOP_GEOM_FLAGS_PARENT
	NUMBER(XFS_FSOP_GEOM_FLAGS_PARENT);
#else
	MISSING("XFS_FSOP_GEOM_FLAGS_PARENT");
#endif
#ifdef XFS_FSOP_GEOM_FLAGS_METADIR
	NUMBER(XFS_FSOP_GEOM_FLAGS_METADIR);
#else
	MISSING("XFS_FSOP_GEOM_FLAGS_METADIR");
#endif
#ifdef XFS_FSOP_GEOM_FLAGS_ZONED
	NUMBER(XFS_FSOP_GEOM_FLAGS_ZONED);
#else
	MISSING("XFS_FSOP_GEOM_FLAGS_ZONED");
#endif
#ifdef XFS_FSOP_GEOM_SICK_QUOTACHECK
	NUMBER(XFS_FSOP_GEOM_SICK_QUOTACHECK);
#else
	MISSING("XFS_FSOP_GEOM_SICK_QUOTACHECK");
#endif
#ifdef XFS_FSOP_GEOM_SICK_NLINKS
	NUMBER(XFS_FSOP_GEOM_SICK_NLINKS);
#else
	MISSING("XFS_FSOP_GEOM_SICK_NLINKS");
#endif
#ifdef XFS_FSOP_GEOM_SICK_METADIR
	NUMBER(XFS_FSOP_GEOM_SICK_METADIR);
#else
	MISSING("XFS_FSOP_GEOM_SICK_METADIR");
#endif
#ifdef XFS_FSOP_GEOM_SICK_METAPATH
	NUMBER(XFS_FSOP_GEOM_SICK_METAPATH);
#else
	MISSING("XFS_FSOP_GEOM_SICK_METAPATH");
#endif
#ifdef XFS_AG_GEOM_SICK_INODES
	NUMBER(XFS_AG_GEOM_SICK_INODES);
#else
	MISSING("XFS_AG_GEOM_SICK_INODES");
#endif
#ifdef XFS_RTGROUP_GEOM_SICK_SUPER
	NUMBER(XFS_RTGROUP_GEOM_SICK_SUPER);
	NUMBER(XFS_RTGROUP_GEOM_SICK_BITMAP);
	NUMBER(XFS_RTGROUP_GEOM_SICK_SUMMARY);
	NUMBER(XFS_RTGROUP_GEOM_SICK_RMAPBT);
	NUMBER(XFS_RTGROUP_GEOM_SICK_REFCNTBT);
#else
	MISSING("XFS_RTGROUP_GEOM_SICK_SUPER and its kind");
#endif
#ifdef XFS_RTGROUP_GEOM_WRITEPOINTER
	NUMBER(XFS_RTGROUP_GEOM_WRITEPOINTER);
#else
	MISSING("XFS_RTGROUP_GEOM_WRITEPOINTER");
#endif
#ifdef XFS_BS_SICK_DIRTREE
	NUMBER(XFS_BS_SICK_DIRTREE);
#else
	MISSING("XFS_BS_SICK_DIRTREE");
#endif
#ifdef XFS_BULK_IREQ_METADIR
	NUMBER(XFS_BULK_IREQ_METADIR);
#else
	MISSING("XFS_BULK_IREQ_METADIR");
#endif
#ifdef XFS_SCRUB_TYPE_QUOTACHECK
	NUMBER(XFS_SCRUB_TYPE_QUOTACHECK);
#else
	MISSING("XFS_SCRUB_TYPE_QUOTACHECK");
#endif
#ifdef XFS_SCRUB_TYPE_NLINKS
	NUMBER(XFS_SCRUB_TYPE_NLINKS);
#else
	MISSING("XFS_SCRUB_TYPE_NLINKS");
#endif
#ifdef XFS_SCRUB_TYPE_HEALTHY
	NUMBER(XFS_SCRUB_TYPE_HEALTHY);
#else
	MISSING("XFS_SCRUB_TYPE_HEALTHY");
#endif
#ifdef XFS_SCRUB_TYPE_DIRTREE
	NUMBER(XFS_SCRUB_TYPE_DIRTREE);
#else
	MISSING("XFS_SCRUB_TYPE_DIRTREE");
#endif
#ifdef XFS_SCRUB_TYPE_METAPATH
	NUMBER(XFS_SCRUB_TYPE_METAPATH);
#else
	MISSING("XFS_SCRUB_TYPE_METAPATH");
#endif
#ifdef XFS_SCRUB_TYPE_RGSUPER
	NUMBER(XFS_SCRUB_TYPE_RGSUPER);
#else
	MISSING("XFS_SCRUB_TYPE_RGSUPER");
#endif
#ifdef XFS_SCRUB_TYPE_RTRMAPBT
	NUMBER(XFS_SCRUB_TYPE_RTRMAPBT);
	NUMBER(XFS_SCRUB_TYPE_RTREFCBT);
#else
	MISSING("XFS_SCRUB_TYPE_RTRMAPBT and its kind");
#endif
#ifdef XFS_SCRUB_TYPE_BARRIER
	NUMBER(XFS_SCRUB_TYPE_BARRIER);
#else
	MISSING("XFS_SCRUB_TYPE_BARRIER");
#endif
#ifdef XFS_SCRUB_IFLAG_FORCE_REBUILD
	NUMBER(XFS_SCRUB_IFLAG_FORCE_REBUILD);
#else
	MISSING("XFS_SCRUB_IFLAG_FORCE_REBUILD");
#endif
#ifdef XFS_SCRUB_METAPATH_PROBE
	NUMBER(XFS_SCRUB_METAPATH_PROBE);
	NUMBER(XFS_SCRUB_METAPATH_RTDIR);
	NUMBER(XFS_SCRUB_METAPATH_RTBITMAP);
	NUMBER(XFS_SCRUB_METAPATH_RTSUMMARY);
	NUMBER(XFS_SCRUB_METAPATH_QUOTADIR);
	NUMBER(XFS_SCRUB_METAPATH_USRQUOTA);
	NUMBER(XFS_SCRUB_METAPATH_GRPQUOTA);
	NUMBER(XFS_SCRUB_METAPATH_PRJQUOTA);
	NUMBER(XFS_SCRUB_METAPATH_RTRMAPBT);
	NUMBER(XFS_SCRUB_METAPATH_RTREFCOUNTBT);
	NUMBER(XFS_SCRUB_METAPATH_NR);
#else
	MISSING("XFS_SCRUB_METAPATH_PROBE and its kind");
#endif
#ifdef XFS_GETPARENTS_OFLAG_ROOT
	NUMBER(XFS_GETPARENTS_OFLAG_ROOT);
	NUMBER(XFS_GETPARENTS_OFLAG_DONE);
#else
	MISSING("XFS_GETPARENTS_OFLAG_ROOT and its kind");
#endif
#ifdef XFS_HEALTH_MONITOR_DOMAIN_MOUNT
	NUMBER(XFS_HEALTH_MONITOR_DOMAIN_MOUNT);
	NUMBER(XFS_HEALTH_MONITOR_DOMAIN_FS);
	NUMBER(XFS_HEALTH_MONITOR_DOMAIN_AG);
	NUMBER(XFS_HEALTH_MONITOR_DOMAIN_INODE);
	NUMBER(XFS_HEALTH_MONITOR_DOMAIN_RTGROUP);
	NUMBER(XFS_HEALTH_MONITOR_DOMAIN_DATADEV);
	NUMBER(XFS_HEALTH_MONITOR_DOMAIN_RTDEV);
	NUMBER(XFS_HEALTH_MONITOR_DOMAIN_LOGDEV);
	NUMBER(XFS_HEALTH_MONITOR_DOMAIN_FILERANGE);
	NUMBER(XFS_HEALTH_MONITOR_TYPE_RUNNING);
	NUMBER(XFS_HEALTH_MONITOR_TYPE_LOST);
	NUMBER(XFS_HEALTH_MONITOR_TYPE_UNMOUNT);
	NUMBER(XFS_HEALTH_MONITOR_TYPE_SICK);
	NUMBER(XFS_HEALTH_MONITOR_TYPE_CORRUPT);
	NUMBER(XFS_HEALTH_MONITOR_TYPE_HEALTHY);
	NUMBER(XFS_HEALTH_MONITOR_TYPE_SHUTDOWN);
	NUMBER(XFS_HEALTH_MONITOR_TYPE_MEDIA_ERROR);
	NUMBER(XFS_HEALTH_MONITOR_TYPE_BUFREAD);
	NUMBER(XFS_HEALTH_MONITOR_TYPE_BUFWRITE);
	NUMBER(XFS_HEALTH_MONITOR_TYPE_DIOREAD);
	NUMBER(XFS_HEALTH_MONITOR_TYPE_DIOWRITE);
	NUMBER(XFS_HEALTH_MONITOR_TYPE_DATALOST);
	NUMBER(XFS_HEALTH_MONITOR_VERBOSE);
	NUMBER(XFS_HEALTH_MONITOR_FMT_V0);
	NUMBER(XFS_HEALTH_SHUTDOWN_META_IO_ERROR);
	NUMBER(XFS_HEALTH_SHUTDOWN_LOG_IO_ERROR);
	NUMBER(XFS_HEALTH_SHUTDOWN_FORCE_UMOUNT);
	NUMBER(XFS_HEALTH_SHUTDOWN_CORRUPT_INCORE);
	NUMBER(XFS_HEALTH_SHUTDOWN_CORRUPT_ONDISK);
	NUMBER(XFS_HEALTH_SHUTDOWN_DEVICE_REMOVED);
#else
	MISSING("XFS_HEALTH_MONITOR_DOMAIN_MOUNT and its kind");
#endif
#ifdef XFS_VERIFY_MEDIA_REPORT
	NUMBER(XFS_VERIFY_MEDIA_REPORT);
#else
	MISSING("XFS_VERIFY_MEDIA_REPORT");
#endif
}

int main(void)
{
	printf("{\n\"header\": \"%s\",\n\"bits\": %zu,\n\"structs\": {\n", HEADER, sizeof(long) * 8);
	first = 1;
	structs();
	printf("\n},\n\"requests\": {\n");
	first = 1;
	requests();
	printf("\n},\n\"values\": {\n");
	first = 1;
	values();
	printf("\n},\n\"missing\": [");
	for (int i = 0; i < nmissing; i++)
		printf("%s\"%s\"", i ? ", " : "", missing[i]);
	printf("]\n}\n");
	return 0;
}
