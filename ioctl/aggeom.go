package ioctl

import (
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/scrubd/scrubd/ioctl/internal/abi"
)

// Counts are the summary counters of the superblock: a hint only, being sums of per-CPU counters from
// which reservations are taken off.
//
// Source: xfs/xfs_fs.h (struct xfs_fsop_counts).
type Counts struct {
	FreeData uint64 // free fs blocks of the data device
	FreeRT   uint64 // free realtime extents
	FreeIno  uint64 // free inodes
	AllocIno uint64 // inodes in chunks, free ones included
}

// Counts reads the summary counters.
func (fs *FS) Counts() (Counts, error) {
	if err := fs.enter(); err != nil {
		return Counts{}, err
	}
	defer fs.leave()
	raw := new(abi.FSCounts)
	if _, errno := fs.ioctl(fs.fd, abi.ReqFSCounts, unsafe.Pointer(raw)); errno != 0 {
		return Counts{}, fs.fail(opCounts, errno)
	}
	return Counts{FreeData: raw.FreeData, FreeRT: raw.FreeRTX, FreeIno: raw.FreeIno, AllocIno: raw.AllocIno}, nil
}

// AGGeometry is the state of one allocation group.
//
// Source: man 2 ioctl_xfs_ag_geometry; xfs/xfs_fs.h (struct xfs_ag_geometry).
type AGGeometry struct {
	AGNo       AGNumber
	Length     AGBlock  // fs blocks
	FreeBlocks uint32   // free fs blocks less the unfilled reservations: no sum of free extents equals it
	InodeCount uint32   // inodes in the chunks of the inobt, free ones included: exact
	FreeInodes uint32   // free inodes
	Sick       AGHealth // what the kernel knows to be damaged
	Checked    AGHealth // what the kernel has checked
}

// AGGeometry reads the state of a group. The kernel locks the group's AGI and AGF for that.
//
// Errors: EINVAL for a group that does not exist; [ErrCorrupt] when a header cannot be read.
func (fs *FS) AGGeometry(agno AGNumber) (AGGeometry, error) {
	if err := fs.enter(); err != nil {
		return AGGeometry{}, err
	}
	defer fs.leave()
	raw := &abi.AGGeometry{Number: uint32(agno)}
	if _, errno := fs.ioctl(fs.fd, abi.ReqAGGeometry, unsafe.Pointer(raw)); errno != 0 {
		return AGGeometry{}, fs.failAG(opAGGeometry, agno, errno)
	}
	return AGGeometry{
		AGNo:       AGNumber(raw.Number),
		Length:     AGBlock(raw.Length),
		FreeBlocks: raw.FreeBlks,
		InodeCount: raw.ICount,
		FreeInodes: raw.IFree,
		Sick:       AGHealth(raw.Sick),
		Checked:    AGHealth(raw.Checked),
	}, nil
}

// RTGroupGeometry is the state of one realtime group (Linux 6.13).
//
// Source: man 2 ioctl_xfs_rtgroup_geometry; xfs/xfs_fs.h (struct xfs_rtgroup_geometry).
type RTGroupGeometry struct {
	RGNo    RGNumber
	Length  uint32 // fs blocks
	Sick    RGHealth
	Checked RGHealth
	// WritePointer is the block up to which a zone is written; it counts only if HasWritePointer,
	// which needs a zoned filesystem and Linux 7.0.
	WritePointer    uint32
	HasWritePointer bool
}

// RTGroupGeometry reads the state of a realtime group.
//
// Errors: EINVAL for a group that does not exist; [ErrNotSupported] before Linux 6.13 and on a
// filesystem without realtime groups.
func (fs *FS) RTGroupGeometry(rgno RGNumber) (RTGroupGeometry, error) {
	if err := fs.enter(); err != nil {
		return RTGroupGeometry{}, err
	}
	defer fs.leave()
	raw := &abi.RTGroupGeometry{Number: uint32(rgno)}
	if _, errno := fs.ioctl(fs.fd, abi.ReqRTGroupGeometry, unsafe.Pointer(raw)); errno != 0 {
		e := fs.fail(opRTGeometry, errno)
		e.Scope, e.AGNo = ScopeRTGroup, AGNumber(rgno)
		if errno == unix.EINVAL && fs.Geometry().RGCount == 0 {
			e.Unsupported = &UnsupportedFeatureError{Feature: "realtime groups", Reason: "this filesystem has none"}
		}
		return RTGroupGeometry{}, e
	}
	return RTGroupGeometry{
		RGNo:            RGNumber(raw.Number),
		Length:          raw.Length,
		Sick:            RGHealth(raw.Sick),
		Checked:         RGHealth(raw.Checked),
		WritePointer:    raw.WritePointer,
		HasWritePointer: raw.Flags&abi.RTGroupWritePointer != 0,
	}, nil
}
