package soak

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
)

// snapshots is the image of a virtual machine that is written at random, and
// its snapshots, one of which is written too.
type snapshots struct {
	*place
	image *file
	snaps []*file
	next  int
}

const (
	// imageUnits is 12 MiB, guestUnits what the guest writes at once.
	imageUnits = 12 << 20 / unitSize
	guestUnits = 4096 / unitSize
	maxSnaps   = 3
)

func newSnapshots(p *place) (writer, error) {
	w := &snapshots{place: p}
	err := w.begin()
	return w, err
}

// begin makes the image.
func (w *snapshots) begin() error {
	var err error
	if w.image, err = createFile(filepath.Join(w.dir, "image")); err != nil {
		return err
	}
	for at := 0; at < imageUnits; at += 2048 {
		if err := w.image.write(at, fresh(w.rng, 2048)); err != nil {
			return err
		}
	}
	return w.image.Sync()
}

func (w *snapshots) turn(context.Context) error {
	err := w.guest()
	if noSpace(err) {
		// What a write left is not known.
		return errors.Join(err, w.room())
	}
	return err
}

func (w *snapshots) guest() error {
	if w.image == nil {
		return w.begin()
	}
	if w.rng.IntN(20) == 0 {
		return w.snapshot()
	}
	f := w.image
	if n := len(w.snaps); n > 0 && w.rng.IntN(4) == 0 {
		f = w.snaps[n-1]
	}
	for range 1 + w.rng.IntN(30) {
		at := w.rng.IntN(imageUnits/guestUnits) * guestUnits
		what := fresh(w.rng, guestUnits*(1+w.rng.IntN(3)))
		what = what[:min(len(what), imageUnits-at)]
		var err error
		switch w.rng.IntN(3) {
		case 0:
			err = f.writeDirect(at, what)
		case 1:
			err = f.writeMapped(at, what, false)
		default:
			err = f.write(at, what)
		}
		if err != nil {
			return err
		}
	}
	if w.rng.IntN(4) == 0 {
		return f.Sync()
	}
	return nil
}

// snapshot takes one and gives the oldest up.
func (w *snapshots) snapshot() error {
	if len(w.snaps) == maxSnaps {
		old := w.snaps[0]
		w.snaps = w.snaps[1:]
		if err := errors.Join(old.check(), old.Close(), remove(old)); err != nil {
			return err
		}
	}
	f, err := createFile(filepath.Join(w.dir, fmt.Sprint("snapshot", w.next)))
	if err != nil {
		return err
	}
	w.next++
	w.snaps = append(w.snaps, f)
	return f.clone(w.image)
}

func (w *snapshots) all() []*file {
	if w.image == nil {
		return w.snaps
	}
	return append([]*file{w.image}, w.snaps...)
}

func (w *snapshots) room() error {
	var errs []error
	for _, f := range w.all() {
		errs = append(errs, f.Close(), remove(f))
	}
	w.image, w.snaps = nil, nil
	return errors.Join(errs...)
}

func (w *snapshots) close() error {
	var errs []error
	for _, f := range w.all() {
		errs = append(errs, f.Close())
	}
	return errors.Join(errs...)
}

func (w *snapshots) check() error {
	var errs []error
	for _, f := range w.all() {
		errs = append(errs, f.check())
	}
	return errors.Join(errs...)
}
