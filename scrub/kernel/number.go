package kernel

import (
	"context"
	"fmt"

	"github.com/scrubd/scrubd/ioctl"
)

// Number checks the inode of that number, as far as there is anything to check.
// gen 0 stands for whatever generation it has. One that is not in use (or not
// any more, with that generation) has results that are all Absent.
func (s *Scrubber) Number(ctx context.Context, ino ioctl.Ino, gen ioctl.Gen) ([]Result, error) {
	req := ioctl.BulkRequest{Ino: ino, Flags: ioctl.BulkNrext64, Limit: 1}
	if s.geo.Has(ioctl.FlagMetadir) {
		req.Flags |= ioctl.BulkMetadir
	}
	stat := ioctl.NewBulkstatBuffer(1)
	n, err := s.fs.Bulkstat(&req, stat)
	if err != nil && endsRun(err) {
		return nil, fmt.Errorf("look up inode %d: %w", ino, err)
	}
	if err == nil && n == 1 && stat.Records()[0].Ino == ino {
		rec := &stat.Records()[0]
		if gen == 0 {
			gen = rec.Gen
		}
		// With another generation every answer is that there is no such inode.
		return s.checkAll(ctx, Object{Ino: ino, Gen: gen}, s.planOf(rec))
	}
	// BULKSTAT leaves out what is free and what cannot be loaded.
	return s.checkAll(ctx, Object{Ino: ino}, coreOnly)
}

// planOf is what is checked of an inode that BULKSTAT knows.
func (s *Scrubber) planOf(rec *ioctl.BulkstatRecord) plan {
	attrs := 0
	if rec.ForkOff != 0 || isMetadata(rec) || s.geo.Has(ioctl.FlagParent) {
		attrs = 1
	}
	return s.inodePlans[kindOf(rec.Mode)][attrs]
}

// isMetadata tells a file of the metadata directory: BULKSTAT tells no more of
// it than what it is.
func isMetadata(rec *ioctl.BulkstatRecord) bool { return rec.BlkSize == 0 }
