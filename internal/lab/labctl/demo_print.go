package main

import (
	"crypto/sha256"
	"fmt"
	"io"
	"strings"

	"github.com/dustin/go-humanize"
)

// demoLines is how many of a program's last lines are shown.
const demoLines = 24

// demoPrinter tells what happened. The first error of writing is kept.
type demoPrinter struct {
	w   io.Writer
	err error
}

func (p *demoPrinter) say(format string, args ...any) {
	if p.err == nil {
		_, p.err = fmt.Fprintf(p.w, format+"\n", args...)
	}
}

func (p *demoPrinter) heading(format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	p.say("\n%s\n%s", text, strings.Repeat("=", len(text)))
}

func (p *demoPrinter) filesystem(rig *demoRig) {
	p.heading("A healthy filesystem")
	p.say("XFS with the defaults of mkfs.xfs %s, %s names, in the lab kernel: Linux %s.",
		rig.version, humanize.Comma(int64(len(rig.clean.Entries))), rig.kernel)
}

func (p *demoPrinter) damage(d demoDamage) {
	p.heading("One damaged record")
	p.say("%s (inode %d) has %d blocks at block %d of AG %d, and its own list of extents says so.\n"+
		"XFS keeps the same fact a second time, in the reverse mapping btree (rmapbt). There the blocks\n"+
		"now belong to inode %d, which does not exist. The block's checksum is good. Reading the file\n"+
		"does not touch this record: the file is healthy.",
		d.path, d.ino, d.rec.BlockCount, d.rec.StartBlock, d.agno, d.injected.Owner)
	for _, edit := range d.injected.Edits {
		p.say("  %s:\n    was %v\n    is  %v", edit.Where, edit.Old, edit.New)
	}
}

// program prints a program's last lines and its end.
func (p *demoPrinter) program(r demoRepair) {
	said := r.said
	if more := len(said) - demoLines; more > 0 {
		p.say("  (%d lines before)", more)
		said = said[more:]
	}
	for _, line := range said {
		p.say("  %s", line)
	}
	if r.lost != nil {
		p.say("  %v", r.lost)
		return
	}
	p.say("  -> exit status %d", r.status)
}

// file prints what the file reads before and after a repair.
func (p *demoPrinter) file(path string, r demoRepair) {
	p.say("%s, sha256", path)
	p.say("  before  %x", sha256.Sum256(r.before))
	if r.lost != nil {
		p.say("  after   unknown")
		return
	}
	p.say("  after   %x  %s", sha256.Sum256(r.after), difference(r))
	others := 0
	for _, line := range r.changed {
		if !strings.HasPrefix(line, path+": ") {
			others++
		}
	}
	switch others {
	case 0:
	case 1:
		p.say("  and 1 other name reads differently")
	default:
		p.say("  and %d other names read differently", others)
	}
}

// difference puts in words how a file's bytes have changed.
func difference(r demoRepair) string {
	if r.sameFile() {
		return "the same"
	}
	text := "DIFFERENT"
	if r.unreadable != "" {
		return text + ": " + r.unreadable
	}
	if len(r.before) != len(r.after) {
		return fmt.Sprintf("%s: %s bytes are %s now", text, humanize.Comma(int64(len(r.before))), humanize.Comma(int64(len(r.after))))
	}
	var changed, zeros int64
	for i, b := range r.after {
		if b != r.before[i] {
			changed++
			if b == 0 {
				zeros++
			}
		}
	}
	if zeros == changed {
		return fmt.Sprintf("%s:\n          %s of its %s bytes read as zeros now",
			text, humanize.Comma(zeros), humanize.Comma(int64(len(r.before))))
	}
	return fmt.Sprintf("%s:\n          %s of its %s bytes are others now", text, humanize.Comma(changed), humanize.Comma(int64(len(r.before))))
}

func (p *demoPrinter) offline(whose string, status int, said []string) {
	word := "finds nothing"
	if status != 0 {
		word = "finds this:"
	}
	p.say("%-17s exit status %d: %s", whose+":", status, word)
	if status != 0 {
		for _, line := range said[max(0, len(said)-demoLines):] {
			p.say("  %s", line)
		}
	}
}

func (p *demoPrinter) outcome(path string, theirs demoRepair, ok bool) {
	p.heading("Outcome")
	switch {
	case theirs.lost != nil:
		p.say("xfs_scrub: the kernel did not survive the repair.")
	case theirs.sameFile():
		p.say("xfs_scrub: %s reads as before, this time.", path)
	default:
		p.say("xfs_scrub: exit status %d, and %s has lost data.", theirs.status, path)
	}
	if ok {
		p.say("scrubd:    exit status 0, every file reads as before, and xfs_repair has nothing left to do.")
	} else {
		p.say("scrubd:    did NOT heal this one: see above.")
	}
}
