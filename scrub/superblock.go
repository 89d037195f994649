package scrub

import (
	"context"
	"time"

	"github.com/scrubd/scrubd/ioctl"
	"github.com/scrubd/scrubd/scrub/kernel"
)

// While a filesystem grows its other superblocks are behind the first one, which
// the kernel calls corrupt: it changes that one in memory, and writes the others
// afterwards (fs/xfs/xfs_fsops.c, xfs_growfs_data; scrub/agheader.c,
// xchk_superblock). Damage stays.
const (
	superblockTries = 8
	superblockNap   = 400 * time.Millisecond
)

// scrubObject checks one object of an AG; a superblock again while it is bad.
func (p *pass) scrubObject(ctx context.Context, obj kernel.Object) (kernel.Result, error) {
	res, err := p.r.kern.One(ctx, obj)
	for try := 1; err == nil && obj.Type == ioctl.ScrubTypeSB && res.Bad() && try < superblockTries; try++ {
		select {
		case <-ctx.Done():
			return res, ctx.Err()
		case <-time.After(superblockNap):
		}
		res, err = p.r.kern.One(ctx, obj)
	}
	return res, err
}
