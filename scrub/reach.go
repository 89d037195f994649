package scrub

import (
	"context"
	"errors"

	"github.com/scrubd/scrubd/ioctl"
	"github.com/scrubd/scrubd/scrub/paths"
)

// reach keeps directories open by their paths that do not open by handle.
func (p *pass) reach(ctx context.Context, dirs map[ioctl.Ino]ioctl.Gen) error {
	opened, err := paths.OpenDirs(ctx, p.r.fs, dirs)
	for _, fd := range opened {
		p.held = append(p.held, fd)
	}
	if err != nil && !errors.Is(err, paths.ErrTooManyEntries) {
		return err
	}
	return nil
}

func (p *pass) letGo() {
	for _, fd := range p.held {
		p.r.fs.CloseFD(fd)
	}
	p.held = nil
}
