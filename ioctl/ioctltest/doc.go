// Package ioctltest plays the kernel for tests of code that uses package ioctl: no XFS, no root, no
// system calls.
//
// It is not for tests of what the real kernel does: those run on a loop-mounted XFS or in the lab.
//
// A test describes a filesystem as a [Model] (geometry, inodes with their forks, mappings, free space)
// and gets an *ioctl.FS that behaves like it:
//
//	fs, k := ioctltest.New(t)
//	k.Update(func(m *ioctltest.Model) {
//		m.AddInode(&ioctltest.Inode{Ino: 131, Gen: 7, Data: []ioctltest.Extent{{Offset: 0, AGNo: 0, AGBno: 72, Length: 16}}})
//		m.Derive()              // rmaps, shared ranges and free space as they should be
//		m.Rmaps[4].Owner = 999  // and now the fault
//	})
//
// The GETFSMAP, GETBMAPX, BULKSTAT and INUMBERS of the model follow the kernel's rules, the odd ones
// included: nothing is merged or cut, continuing after an unshareable record skips what begins inside it,
// wildcard devices ignore the address, and the bnobt is shown to whoever dropped CAP_SYS_ADMIN.
//
// Any request can be answered otherwise: each has a function in [Kernel] (OnScrub, OnFSMap, ...) that is
// called instead, gets the request as a Go value, returns an answer or any errno, and may call the
// model's own answer (DefaultScrub, DefaultFSMap, ...) first. Every call is logged ([Kernel.Calls]).
package ioctltest
