package scrub

import (
	"fmt"

	"github.com/scrubd/scrubd/scrub/kernel"
)

// noteTally records what the kernel's scrub of the inodes could not check.
// Silent inodes are none of it: quota and other metadata files have checks of
// their own, and inodes that wait to be freed have nothing to check.
func (r *run) noteTally(t *kernel.InodeTally) {
	r.scrubErrors = t.Errors
	r.unlisted = t.UnlistedTotal
}

// noteUnchecked adds what the last pass could not check to the summary.
func (r *run) noteUnchecked() {
	for _, n := range []struct {
		count uint64
		what  string
	}{
		{r.scrubErrors, "check of an inode ended in an error"},
		{r.unlisted, "inode could not be listed"},
	} {
		if n.count > 0 {
			r.sum.Unchecked += n.count
			r.sum.Notes = append(r.sum.Notes, fmt.Sprintf("%d × %s", n.count, n.what))
		}
	}
}
