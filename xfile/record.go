package xfile

import (
	"fmt"
	"reflect"
	"unsafe"
)

// maxRecord bounds the size of a record in bytes.
const maxRecord = 64 << 10

// checkRecord says whether values of t can live outside of the heap: fixed
// size, no pointer of any kind, and no padding, whose bytes Go does not
// promise to copy and which would make "all zero" a matter of luck.
func checkRecord(t reflect.Type) error {
	if t.Size() == 0 || t.Size() > maxRecord {
		return fmt.Errorf("%v has %d bytes, not 1 to %d: %w", t, t.Size(), maxRecord, ErrRecordType)
	}
	return checkPlain(t, t.String())
}

func checkPlain(t reflect.Type, path string) error {
	switch t.Kind() {
	case reflect.Bool,
		reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64,
		reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64,
		reflect.Float32, reflect.Float64, reflect.Complex64, reflect.Complex128:
		return nil
	case reflect.Array:
		return checkPlain(t.Elem(), path+"[]")
	case reflect.Struct:
		var end uintptr
		for i := range t.NumField() {
			f := t.Field(i)
			if f.Offset != end {
				return fmt.Errorf("%s has %d bytes of padding before field %s: %w", path, f.Offset-end, f.Name, ErrRecordType)
			}
			if err := checkPlain(f.Type, path+"."+f.Name); err != nil {
				return err
			}
			end = f.Offset + f.Type.Size()
		}
		if end != t.Size() {
			return fmt.Errorf("%s has %d bytes of padding at its end: %w", path, t.Size()-end, ErrRecordType)
		}
		return nil
	default:
		return fmt.Errorf("%s is a %v, which holds a pointer or has no fixed size: %w", path, t.Kind(), ErrRecordType)
	}
}

// recordWindow returns the size of an array's windows: a multiple of the page
// size, so that they can be mapped, and of the record size, so that no record
// lies across two of them.
func recordWindow(size int64) int64 {
	unit := sysPage / gcd(sysPage, size) * size
	return max(1, pageWindowBytes/unit) * unit
}

func gcd(a, b int64) int64 {
	for b != 0 {
		a, b = b, a%b
	}
	return a
}

// isUnset says whether every byte of a record is zero.
func isUnset[T any](p *T) bool {
	size := unsafe.Sizeof(*p)
	if unsafe.Alignof(*p)%4 == 0 { // then size is a multiple of 4 as well
		for i := uintptr(0); i < size; i += 4 {
			if *(*uint32)(unsafe.Add(unsafe.Pointer(p), i)) != 0 {
				return false
			}
		}
		return true
	}
	for i := range size {
		if *(*byte)(unsafe.Add(unsafe.Pointer(p), i)) != 0 {
			return false
		}
	}
	return true
}

// anyUnset says whether a record of s is unset.
func anyUnset[T any](s []T) bool {
	for i := range s {
		if isUnset(&s[i]) {
			return true
		}
	}
	return false
}
