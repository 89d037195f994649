package lab

import (
	"errors"
	"fmt"
)

// InjectLive does the damage below a mounted filesystem: freeze, edit the
// image, thaw, and make the kernel forget what it has read before. What
// somebody holds open, and what the kernel keeps in core while mounted
// (superblock counters, per-AG counters), stays as it was and may be written
// over the damage.
func InjectLive(fs *LoopFS, f Fault) (Injected, error) {
	var done Injected
	err := EditLive(fs, func(img *Image) error {
		var err error
		done, err = f.Inject(img)
		return err
	})
	return done, err
}

// EditLive drops all caches, freezes a mounted filesystem, runs edit on its
// image, thaws it and drops all caches again.
func EditLive(fs *LoopFS, edit func(img *Image) error) error {
	// Inodes that are forgotten give back preallocations and CoW staging, which
	// a frozen filesystem would put off until after the edit.
	if err := fs.DropCaches(); err != nil {
		return fmt.Errorf("edit the image live: %w", err)
	}
	if err := fs.Freeze(); err != nil {
		return fmt.Errorf("edit the image live: %w", err)
	}
	// Everything is clean now. Buffers of inode clusters and btree blocks must
	// go before the thaw: the first write to a neighbour would bring their old
	// contents back to the disk.
	err := dropCaches()
	if err == nil {
		err = editImage(fs.Image(), edit)
	}
	if err := errors.Join(err, fs.Thaw()); err != nil {
		return fmt.Errorf("edit the image live: %w", err)
	}
	return fs.DropCaches()
}

func editImage(path string, edit func(img *Image) error) error {
	img, err := OpenImage(path)
	if err != nil {
		return err
	}
	return errors.Join(edit(img), img.Close())
}

// LostWrite makes a mounted filesystem lose what change writes to one object:
// the object's older state is put back below it. find names the object and is
// called before change, on the frozen image.
func LostWrite(fs *LoopFS, find func(img *Image) (ObjectRef, error), change func() error) (Injected, error) {
	var saved SavedObject
	err := EditLive(fs, func(img *Image) error {
		ref, err := find(img)
		if err == nil {
			saved, err = SaveObject(img, ref)
		}
		return err
	})
	if err != nil {
		return Injected{}, err
	}
	if err := change(); err != nil {
		return Injected{}, fmt.Errorf("change what will be lost: %w", err)
	}
	if err := fs.Sync(); err != nil {
		return Injected{}, err
	}
	var done Injected
	err = EditLive(fs, func(img *Image) error {
		done, err = saved.Restore(img)
		return err
	})
	return done, err
}
