package paths

import (
	"context"

	"github.com/scrubd/scrubd/ioctl"
)

// parentResolver follows parent pointers up to the root.
type parentResolver struct {
	fs *ioctl.FS
	// dirs are the paths of directories found so far, each with a slash at its
	// end; lost is that of one that has none.
	dirs map[ioctl.Ino]string
}

// lost marks a directory that no path leads to. No path has a NUL in it.
const lost = "\x00"

func byParents(ctx context.Context, fs *ioctl.FS, inos map[ioctl.Ino]ioctl.Gen, found map[ioctl.Ino][]string) error {
	p := &parentResolver{fs: fs, dirs: map[ioctl.Ino]string{fs.RootIno(): ""}}
	for ino, gen := range inos {
		if err := ctx.Err(); err != nil {
			return err
		}
		if ino == fs.RootIno() {
			found[ino] = []string{"."}
			continue
		}
		for parent, err := range fs.Parents(ino, gen) {
			if err != nil {
				if endsRun(err) {
					return err
				}
				break // freed, or its attributes are damaged
			}
			dir, err := p.directory(ctx, parent.Ino, parent.Gen)
			if err != nil {
				return err
			}
			if dir == lost {
				continue
			}
			found[ino] = append(found[ino], dir+parent.Name)
			if len(found[ino]) == MaxNames {
				break
			}
		}
	}
	return nil
}

// directory returns the path of a directory, or lost. It goes up to the first
// directory that is known, and then notes all below it.
func (p *parentResolver) directory(ctx context.Context, ino ioctl.Ino, gen ioctl.Gen) (string, error) {
	type link struct {
		ino  ioctl.Ino
		name string // in the directory above
	}
	var chain []link
	base, known := p.dirs[ino]
	for !known {
		if err := ctx.Err(); err != nil {
			return lost, err
		}
		above, ok, err := p.only(ino, gen)
		if err != nil {
			return lost, err
		}
		chain = append(chain, link{ino, above.Name})
		if !ok || len(chain) > maxDepth {
			base = lost
			break
		}
		ino, gen = above.Ino, above.Gen
		base, known = p.dirs[ino]
	}
	for i := len(chain) - 1; i >= 0; i-- {
		if base != lost {
			base += chain[i].name + "/"
		}
		p.dirs[chain[i].ino] = base
	}
	return base, nil
}

// only returns the one parent that a directory has; ok is false where it has
// none that can be read.
func (p *parentResolver) only(ino ioctl.Ino, gen ioctl.Gen) (parent ioctl.Parent, ok bool, err error) {
	for parent, err := range p.fs.Parents(ino, gen) {
		switch {
		case err == nil:
			return parent, true, nil
		case endsRun(err):
			return ioctl.Parent{}, false, err
		}
	}
	return ioctl.Parent{}, false, nil
}
