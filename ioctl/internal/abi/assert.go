package abi

import "unsafe"

// A wrong size makes one of these array types negative, and the build fails.
type (
	_ [256 - unsafe.Sizeof(FSGeometry{})]byte
	_ [unsafe.Sizeof(FSGeometry{}) - 256]byte
	_ [32 - unsafe.Sizeof(FSCounts{})]byte
	_ [unsafe.Sizeof(FSCounts{}) - 32]byte
	_ [128 - unsafe.Sizeof(AGGeometry{})]byte
	_ [unsafe.Sizeof(AGGeometry{}) - 128]byte
	_ [128 - unsafe.Sizeof(RTGroupGeometry{})]byte
	_ [unsafe.Sizeof(RTGroupGeometry{}) - 128]byte
	_ [64 - unsafe.Sizeof(ScrubMetadata{})]byte
	_ [unsafe.Sizeof(ScrubMetadata{}) - 64]byte
	_ [16 - unsafe.Sizeof(ScrubVec{})]byte
	_ [unsafe.Sizeof(ScrubVec{}) - 16]byte
	_ [40 - unsafe.Sizeof(ScrubVecHead{})]byte
	_ [unsafe.Sizeof(ScrubVecHead{}) - 40]byte
	_ [64 - unsafe.Sizeof(FSMap{})]byte
	_ [unsafe.Sizeof(FSMap{}) - 64]byte
	_ [192 - unsafe.Sizeof(FSMapHead{})]byte
	_ [unsafe.Sizeof(FSMapHead{}) - 192]byte
	_ [48 - unsafe.Sizeof(Bmapx{})]byte
	_ [unsafe.Sizeof(Bmapx{}) - 48]byte
	_ [64 - unsafe.Sizeof(BulkReq{})]byte
	_ [unsafe.Sizeof(BulkReq{}) - 64]byte
	_ [192 - unsafe.Sizeof(Bulkstat{})]byte
	_ [unsafe.Sizeof(Bulkstat{}) - 192]byte
	_ [24 - unsafe.Sizeof(Inumbers{})]byte
	_ [unsafe.Sizeof(Inumbers{}) - 24]byte
	_ [24 - unsafe.Sizeof(Handle{})]byte
	_ [unsafe.Sizeof(Handle{}) - 24]byte
	_ [7*unsafe.Sizeof(uintptr(0)) - unsafe.Sizeof(HandleReq{})]byte
	_ [unsafe.Sizeof(HandleReq{}) - 7*unsafe.Sizeof(uintptr(0))]byte
	_ [40 - unsafe.Sizeof(GetParents{})]byte
	_ [unsafe.Sizeof(GetParents{}) - 40]byte
	_ [64 - unsafe.Sizeof(GetParentsByHandle{})]byte
	_ [unsafe.Sizeof(GetParentsByHandle{}) - 64]byte
	_ [32 - unsafe.Sizeof(GetParentsRec{})]byte
	_ [unsafe.Sizeof(GetParentsRec{}) - 32]byte
	_ [32 - unsafe.Sizeof(HealthMonitor{})]byte
	_ [unsafe.Sizeof(HealthMonitor{}) - 32]byte
	_ [8 - unsafe.Sizeof(HealthFileOnFS{})]byte
	_ [unsafe.Sizeof(HealthFileOnFS{}) - 8]byte
	_ [64 - unsafe.Sizeof(HealthEvent{})]byte
	_ [unsafe.Sizeof(HealthEvent{}) - 64]byte
	_ [40 - unsafe.Sizeof(VerifyMedia{})]byte
	_ [unsafe.Sizeof(VerifyMedia{}) - 40]byte
	_ [128 - unsafe.Sizeof(EOFBlocks{})]byte
	_ [unsafe.Sizeof(EOFBlocks{}) - 128]byte
	_ [20 - unsafe.Sizeof(FileHandle{})]byte
	_ [unsafe.Sizeof(FileHandle{}) - 20]byte
)
