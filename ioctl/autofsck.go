package ioctl

import "golang.org/x/sys/unix"

// AutofsckValue is what the owner of a filesystem allows a background check to do: its property
// "autofsck".
type AutofsckValue uint8

// The values.
const (
	AutofsckUnset    AutofsckValue = iota // no property
	AutofsckNone                          // nothing, not even a check
	AutofsckCheck                         // check, change nothing
	AutofsckOptimize                      // and optimize
	AutofsckRepair                        // and repair
	AutofsckUnknown                       // a property with a value that is none of these
)

var autofsckNames = []string{"unset", "none", "check", "optimize", "repair", "unknown"}

// String returns the value as xfs_property writes it.
func (v AutofsckValue) String() string {
	return enumString(uint32(v), "autofsck", autofsckNames)
}

// autofsckXattr is where the root directory has the property.
const autofsckXattr = "trusted.xfs:autofsck"

// maxProperty is more than any known value takes.
const maxProperty = 256

// Autofsck reads the property. Without CAP_SYS_ADMIN the kernel hides it, and it seems unset.
//
// Source: man 8 xfs_property; man 5 xfs (filesystem properties).
func (fs *FS) Autofsck() (AutofsckValue, error) {
	if err := fs.enter(); err != nil {
		return AutofsckUnset, err
	}
	defer fs.leave()
	value := make([]byte, maxProperty)
	n, errno := fs.kernel.GetXattr(fs.fd, autofsckXattr, value)
	switch errno {
	case 0:
	case unix.ENODATA:
		return AutofsckUnset, nil
	case unix.ERANGE:
		return AutofsckUnknown, nil
	default:
		return AutofsckUnset, fs.fail(opAutofsck, errno)
	}
	return parseAutofsck(string(value[:n])), nil
}

func parseAutofsck(s string) AutofsckValue {
	for v := AutofsckUnset; v < AutofsckUnknown; v++ {
		if autofsckNames[v] == s {
			return v
		}
	}
	return AutofsckUnknown
}
