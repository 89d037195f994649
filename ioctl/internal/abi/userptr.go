package abi

import "unsafe"

// UserPtr is a user-space address that C keeps in a __u64. It holds a real pointer, so that the
// garbage collector sees what the kernel is about to read or write and keeps it alive.
type UserPtr struct {
	userPtr
}

// NewUserPtr wraps p, which must point into memory that does not move: the heap or a mapping.
// Whatever escapes through an interface call, as arguments of Kernel.Ioctl do, is on the heap.
func NewUserPtr(p unsafe.Pointer) UserPtr {
	return UserPtr{userPtr{ptr: p}}
}

// Pointer returns the address.
func (u UserPtr) Pointer() unsafe.Pointer {
	return u.ptr
}
