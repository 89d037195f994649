//go:build amd64 || arm64

package abi

import "unsafe"

type userPtr struct {
	ptr unsafe.Pointer
}
