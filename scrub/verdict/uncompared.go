package verdict

import (
	"fmt"

	"github.com/scrubd/scrubd/ioctl"
)

// Uncompared are scrubs of inodes that found nothing wrong and left a comparison
// out (XFAIL): what they would have found is not known.
type Uncompared struct {
	Count uint64
	// Marks are the structures that were marked as sick while the scrubs were
	// made, of any AG: which AGs an inode has blocks in is not known of all. Here are
	// those of the AG that a repair is weighed for.
	Marks, Here ioctl.AGHealth
}

// Why says why these scrubs do not count for a repair of target; nil where there
// are none, or where they do. The kernel leaves out the comparison with a btree
// that is marked and makes all others, so that it is excused where something was
// marked, and here nothing but what target rebuilds, or what is vouched for.
func (u Uncompared) Why(target ioctl.ScrubType, vouched ioctl.AGHealth) []string {
	for _, t := range rebuiltWith(target) {
		vouched |= btreeSick[t]
	}
	return u.unless(u.Here, vouched)
}

// whyCores is Why for the cores of inodes as the owners in an rmapbt that is to
// be rebuilt. What a core leaves out is about the block that the inode itself
// lies in; its counters are compared with its forks in any case. The rebuild reads
// no rmapbt, and what it takes from a refcountbt has a clause of its own.
func (u Uncompared) whyCores() []string {
	return u.unless(u.Marks, ioctl.AGHealthRmapbt|ioctl.AGHealthRefcountbt)
}

func (u Uncompared) unless(counting, excused ioctl.AGHealth) []string {
	var all ioctl.AGHealth
	for _, bit := range btreeSick {
		all |= bit
	}
	marks := u.Marks & all
	if u.Count == 0 || marks != 0 && counting&all&^excused == 0 {
		return nil
	}
	return []string{fmt.Sprintf("%d scrubs of inodes could not compare everything (marked as sick: %s)", u.Count, marks)}
}

// SoundCore says why the scrub of an inode's core does not count for a rebuild of
// an rmapbt that names the inode, nil if it does. marks are those of the AG that
// the inode lies in.
func SoundCore(s Scrub, marks ioctl.AGHealth) []string {
	switch {
	case !s.Ran, s.Flags.Any(ioctl.ScrubCorrupt | ioctl.ScrubXCorrupt | ioctl.ScrubIncomplete):
		return []string{"its scrub was not passed"}
	case s.Flags.Has(ioctl.ScrubXFail):
		return Uncompared{Count: 1, Marks: marks}.whyCores()
	}
	return nil
}
