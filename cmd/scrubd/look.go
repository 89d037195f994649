package main

import (
	"context"

	"github.com/sirupsen/logrus"

	"github.com/scrubd/scrubd/ioctl"
	"github.com/scrubd/scrubd/scrub"
	"github.com/scrubd/scrubd/service/health"
)

// lookAtPlaces has the kernel check the places of a mounted filesystem that it
// has reported itself, logs what it finds, and tells whether that is corruption.
// The filesystem is open for that long only.
func lookAtPlaces(ctx context.Context, log *logrus.Logger, mountPoint string, places []health.Place) (bool, error) {
	t, err := systemMounts().find(mountPoint)
	if err != nil {
		return false, err
	}
	o := runOptions{open: ioctl.Open}
	fs, release, err := o.openTarget(t)
	if err != nil {
		return false, err
	}
	defer release()
	rep := newJournalReporter(log, t)
	sum, err := scrub.Run(ctx, fs, scrub.Options{
		Mode: scrub.ModeCheck, Only: placesOf(places), Others: others(t), Log: log, Events: rep.event,
	})
	status := exitOperational
	if sum != nil {
		status = sum.ExitStatus()
	}
	rep.end(sum, status, err)
	return err == nil && status&exitCorruption != 0, err
}

// placesOf are places as a run takes them.
func placesOf(places []health.Place) *scrub.Places {
	var only scrub.Places
	for _, p := range places {
		switch p.Kind {
		case health.Group:
			only.AGs = append(only.AGs, p.AGNo)
		case health.RTGroup:
			only.RTGroups = append(only.RTGroups, p.RGNo)
		case health.Inode:
			only.Inodes = append(only.Inodes, scrub.InodeRef{Ino: p.Ino, Gen: p.Gen})
		}
	}
	return &only
}
