package ioctl

// Features remembers what this kernel and filesystem can do.
type Features struct {
	fs *FS
}
