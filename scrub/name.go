package scrub

import (
	"context"
	"fmt"

	"github.com/scrubd/scrubd/ioctl"
	"github.com/scrubd/scrubd/scrub/paths"
)

// name looks up the paths of the inodes in the findings, once, and only when
// there are any.
func (r *run) name(ctx context.Context) error {
	inos := make(map[ioctl.Ino]ioctl.Gen)
	for _, id := range r.order {
		files := r.known[id].Files
		for i := range files {
			if files[i].Gen == 0 {
				files[i].Gen = r.genOf(files[i].Ino)
			}
			inos[files[i].Ino] = files[i].Gen
		}
	}
	if len(inos) == 0 {
		return nil
	}
	found, err := paths.Resolve(ctx, r.fs, inos)
	if err != nil {
		r.log.WithError(err).Warn("look up paths")
		if ctx.Err() != nil {
			return err
		}
	}
	for _, id := range r.order {
		files := r.known[id].Files
		for i := range files {
			if names := found[files[i].Ino]; len(names) > 0 {
				files[i].Path = names[0]
			}
		}
		r.publish(r.known[id])
	}
	return nil
}

// genOf is the generation of an inode that was only met as an owner, 0 when it
// is not in use.
func (r *run) genOf(ino ioctl.Ino) ioctl.Gen {
	buf := ioctl.NewBulkstatBuffer(1)
	n, err := r.fs.Bulkstat(&ioctl.BulkRequest{Ino: ino, Limit: 1}, buf)
	if err != nil || n == 0 || buf.Records()[0].Ino != ino {
		return 0
	}
	return buf.Records()[0].Gen
}

func uuidString(u [16]byte) string {
	return fmt.Sprintf("%x-%x-%x-%x-%x", u[:4], u[4:6], u[6:8], u[8:10], u[10:])
}
