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
	findings := make([]*Finding, len(r.order))
	for i, id := range r.order {
		findings[i] = r.known[id]
	}
	if err := r.nameFiles(ctx, findings); err != nil {
		return err
	}
	for _, f := range findings {
		if len(f.Files) > 0 {
			r.publish(f)
		}
	}
	return nil
}

// nameFiles fills in the paths of the files in findings, where they can be found.
// Errors: ctx's.
func (r *run) nameFiles(ctx context.Context, findings []*Finding) error {
	inos := make(map[ioctl.Ino]ioctl.Gen)
	for _, f := range findings {
		for i := range f.Files {
			file := &f.Files[i]
			if file.Gen == 0 {
				file.Gen = r.genOf(file.Ino)
			}
			inos[file.Ino] = file.Gen
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
	for _, f := range findings {
		for i := range f.Files {
			if names := found[f.Files[i].Ino]; len(names) > 0 {
				f.Files[i].Path = names[0]
			}
		}
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
