//go:build 386

package abi

import "unsafe"

// userPtr on a little-endian 32-bit machine: the low half is the address, the high half zero.
type userPtr struct {
	ptr unsafe.Pointer
	_   uint32
}
