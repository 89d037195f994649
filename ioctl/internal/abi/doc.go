// Package abi holds the memory layout of what XFS ioctls read and write: structs, request numbers and
// magic values, and nothing that acts on them.
//
// It is not for use outside the ioctl room: package ioctl turns these structs into Go views, package
// ioctltest decodes them to play the kernel.
//
// Every struct is native-endian and has the layout of the C struct named in its comment, on amd64,
// arm64 and 386 alike: the kernel pads these structs by hand, and Go aligns a uint64 to 4 bytes on
// 386 as C does. The one pointer-bearing struct that differs between 32 and 64 bits
// ([HandleReq]) differs in C in the same way, and its request number, which encodes the size,
// follows. Sizes and offsets are compared with testdata/abi/abi.json by the tests of package ioctl.
//
// Source: xfs/xfs_fs.h and linux/fsmap.h of Linux 7.2.
package abi
