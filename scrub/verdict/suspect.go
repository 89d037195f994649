package verdict

import (
	"slices"

	"github.com/scrubd/scrubd/ioctl"
)

// Trial is what the kernel's scrubs of an AG say while one structure is marked
// as sick, so that nothing is compared with it: what still complains does so on
// its own or because of others.
type Trial struct {
	// Without is the structure that is left out.
	Without ioctl.ScrubType
	Scrubs  map[ioctl.ScrubType]Scrub
}

// explains tells whether nobody else complains any more.
func (t *Trial) explains() bool {
	for typ, s := range t.Scrubs {
		if slices.Contains(rebuiltWith(t.Without), typ) || typ == ioctl.ScrubTypeSB {
			continue
		}
		if !s.Ran || s.Flags.Any(ioctl.ScrubCorrupt|ioctl.ScrubXCorrupt|ioctl.ScrubIncomplete) {
			return false
		}
	}
	return true
}

// Suspects applies the vote rule to what the kernel found in the metadata of one
// AG: the structure at fault is the one without which all others are in order
// and agree with each other. Of two structures that merely disagree with each
// other either will do, and both are returned: it takes another witness then.
func Suspects(trials []Trial) []ioctl.ScrubType {
	var found []ioctl.ScrubType
	for i := range trials {
		if trials[i].explains() {
			found = append(found, trials[i].Without)
		}
	}
	return found
}

// MayRebuildAGFL lists what stands against rebuilding the AGFL of ag from the
// blocks that its rmapbt gives to the AG's own btrees and that are in none. It
// is at fault where it names blocks that somebody else owns (crossed), by their
// own claim and the rmapbt; and the blocks that come into it instead are its own
// if the rmapbt has as many as the AGF counts.
func MayRebuildAGFL(ag *AG, crossed []string) []Blocker {
	var b []Blocker
	if !ag.RmapReadable {
		b = block(b, "proven", "the rmapbt cannot be read")
	}
	for i := range ag.Open {
		if o := &ag.Open[i]; o.concerns(ioctl.ScrubTypeAGFL, 0) {
			b = block(b, "proven", o.What)
		}
	}
	b = block(b, "proven", ag.Unsettled...)
	if s := ag.Scrubs[ioctl.ScrubTypeRMAPBT]; !s.Ran || s.Flags.Any(ioctl.ScrubCorrupt|ioctl.ScrubIncomplete) {
		b = block(b, "proven", "the rmapbt is not sound in itself")
	}
	if s := ag.Scrubs[ioctl.ScrubTypeAGF]; !s.Ran || s.Flags.Any(ioctl.ScrubCorrupt|ioctl.ScrubIncomplete) || !ag.rootsSound() {
		b = block(b, "vote", "the btrees whose blocks are to be left out are not all sound")
	}
	if !ag.AGBlocksCounted {
		b = block(b, "vote", "the blocks that the rmapbt has for the AG's own btrees are not known to be as many as the AGF counts")
	}
	if len(crossed) == 0 {
		b = block(b, "vote", "no block of the AGFL is known to be somebody else's")
	}
	return b
}

// BlameRmapbtForChunks is row 10 turned against the rmapbt: it and the inode
// btrees disagree about inode chunks, and the AGI counts as many inodes as
// INUMBERS lists and not as many as the rmapbt has room for.
func BlameRmapbtForChunks(ag *AG) bool {
	return ag.ChunksCompared && len(ag.ChunksUncovered) > 0 && ag.InodesListed && !ag.InodesCounted
}
