package main

import (
	"fmt"
	"runtime"

	"github.com/spf13/pflag"

	"github.com/scrubd/scrubd/ioctl"
	"github.com/scrubd/scrubd/scrub/state"
	"github.com/scrubd/scrubd/scrub/throttle"
	"github.com/scrubd/scrubd/service/config"
	"github.com/scrubd/scrubd/service/daemon"
)

// addPolicyFlags adds the flags that say how polite a run is.
func (o *runOptions) addPolicyFlags(flags *pflag.FlagSet) {
	flags.BoolVar(&o.background, "background", false,
		"rest where others wait for CPUs, the disk or memory (with --service the default, see scrubd.toml)")
	flags.BoolVar(&o.foreground, "foreground", false, "never rest (without --service the default)")
	flags.StringVar(&o.config, "config", config.Path, "read where metrics go, and with --service the policy, in `FILE` and FILE.d/*.toml")
}

// policy decides how a run on fs goes about it: as the flags say; else, in a
// unit, as the configuration does; else in the foreground, since somebody waits.
func (o *runOptions) policy(t *target, fs *ioctl.FS) config.RunPolicy {
	switch {
	case o.background:
		return config.Background
	case o.foreground || o.unit == nil:
		return config.Foreground
	}
	conf, err := config.Load(o.config)
	if err != nil {
		o.unit.log.WithError(err).Warn("the configuration is wrong: this run is made in the background")
		return config.Background
	}
	return conf.For(state.UUID(fs), t.MountPoint).Run
}

// pace is what slows a run on fs down, nil for nothing. Such a run has a worker for
// four CPUs, where nothing else is wanted.
func (o *runOptions) pace(t *target, fs *ioctl.FS, warn func(string)) *throttle.Throttle {
	if o.choice != nil || o.policy(t, fs) == config.Foreground {
		return nil
	}
	if o.workers == 0 {
		o.workers = max(1, runtime.NumCPU()/4)
	}
	disks, err := disksOf(t)
	if err != nil {
		warn(fmt.Sprintf("%s: how long its disks take is not known: %v", printable(t.MountPoint), err))
	}
	return throttle.New(throttle.Options{Workers: o.workers, Disks: disks})
}

// disksOf returns the disks at the bottom of all devices of a filesystem.
func disksOf(t *target) ([]string, error) {
	numbers := []string{fmt.Sprintf("%d:%d", t.Major, t.Minor)}
	mounts, err := daemon.ReadMounts()
	if err != nil {
		return nil, err
	}
	for i := range mounts {
		if mounts[i].Number != numbers[0] {
			continue
		}
		for _, path := range mounts[i].Others {
			number, err := daemon.NumberOf(path)
			if err != nil {
				return nil, err
			}
			numbers = append(numbers, number)
		}
		break
	}
	return daemon.Disks("/sys", numbers...)
}
