package verdict

import "github.com/scrubd/scrubd/ioctl"

// Call is a repair that is about to be made.
type Call struct {
	Type   ioctl.ScrubType
	Forced bool
	// NoBlocks and NoExtents tell that the inode's counters are zero although
	// its forks are not empty.
	NoBlocks, NoExtents bool
	// NoSparse: the filesystem was made without sparse inode chunks.
	NoSparse bool
}

// DenyCall returns why a repair call is known to hang, crash or shut down
// kernels, or to do damage in those, up to the newest that was tried, and whether it is; such a call is
// never made and the finding is held with the offline command.
//
// Measured on Linux 7.2.13; no kernel is known to be without these.
func DenyCall(c Call) (string, bool) {
	if c.Type == ioctl.ScrubTypeINODE && (c.NoBlocks || c.NoExtents) {
		return "Linux 7.2 never returns from an INODE repair when nblocks or the extent count is zero on disk", true
	}
	if c.NoSparse && (c.Type == ioctl.ScrubTypeINOBT || c.Type == ioctl.ScrubTypeFINOBT) {
		return "Linux 7.2 rebuilds inode btrees wrongly on a filesystem without sparse inode chunks: inodes in use come out free", true
	}
	return "", false
}
