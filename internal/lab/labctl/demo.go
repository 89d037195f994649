package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/scrubd/scrubd/internal/lab"
)

// statusDemoFailed is the exit status of labctl demo where scrubd's copy does
// not read as before, or is not clean.
const statusDemoFailed = 1

// demoTries bounds how many records are damaged in turn until one shows what
// xfs_scrub may do to a file.
const demoTries = 4

func newDemoCommand() *cobra.Command {
	var scrubd string
	cmd := &cobra.Command{
		Use:   "demo",
		Short: "Damage one record: what xfs_scrub does to the file, and what scrubd does",
		Long: "Makes a filesystem in the lab kernel, makes one record of its reverse mapping btree name an\n" +
			"inode that does not exist, and lets the newest xfs_scrub repair one copy and scrubd another.\n" +
			"Prints what each says and what the file reads before and after. Nothing is made up: what is\n" +
			"printed is what happened. The exit status is 0 where scrubd's copy reads as before and\n" +
			"xfs_repair -n finds nothing on it. Leaves nothing behind.",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return runDemo(cmd, scrubd) },
	}
	cmd.Flags().StringVar(&scrubd, "scrubd", "bin/scrubd", "the scrubd program to show")
	return cmd
}

func runDemo(cmd *cobra.Command, scrubd string) (err error) {
	if scrubd, err = filepath.Abs(scrubd); err != nil {
		return fmt.Errorf("find scrubd: %w", err)
	}
	if _, err := os.Stat(scrubd); err != nil {
		return fmt.Errorf("find scrubd (make build): %w", err)
	}
	dir, err := os.MkdirTemp("", "scrubd-demo-")
	if err != nil {
		return fmt.Errorf("make a directory for the images: %w", err)
	}
	defer func() {
		if rerr := os.RemoveAll(dir); err == nil && rerr != nil {
			err = fmt.Errorf("remove the images: %w", rerr)
		}
	}()
	d := demo{out: demoPrinter{w: cmd.OutOrStdout()}, scrubd: scrubd}
	if d.rig, err = newDemoRig(cmd.Context(), dir); err != nil {
		return err
	}
	ok, err := d.run(cmd.Context())
	switch {
	case err != nil:
		return err
	case d.out.err != nil:
		return d.out.err
	case !ok:
		return exitStatus(statusDemoFailed)
	}
	return nil
}

// demo is one showing.
type demo struct {
	out    demoPrinter
	rig    *demoRig
	scrubd string
}

// run shows everything, and says whether scrubd's copy reads as before and is
// clean.
func (d *demo) run(ctx context.Context) (ok bool, err error) {
	d.out.filesystem(d.rig)
	damage, theirs, err := d.damageUntilLost(ctx)
	if err != nil {
		return false, err
	}
	d.out.heading("scrubd on another copy")
	ours, err := d.repair(ctx, damage, "scrubd", []string{d.scrubd, "run", "--now", demoMount})
	if err != nil {
		return false, err
	}
	d.out.heading("xfs_repair -n %s on both copies, offline", d.rig.version)
	if _, err := d.offline(ctx, "xfs_scrub's copy", theirs); err != nil {
		return false, err
	}
	clean, err := d.offline(ctx, "scrubd's copy", ours)
	if err != nil {
		return false, err
	}
	ok = clean && ours.lost == nil && ours.status == 0 && ours.sameFile() && len(ours.changed) == 0
	d.out.outcome(damage.path, theirs, ok)
	return ok, nil
}

// demoDamage is one damaged record.
type demoDamage struct {
	demoVictim
	image    string // the damaged image, which no program has touched
	injected lab.Injected
}

// damageUntilLost damages one record after the other, each on a fresh copy,
// until xfs_scrub's repair changes what the file reads: the text's first, which
// is enough with 7.2.
func (d *demo) damageUntilLost(ctx context.Context) (damage demoDamage, r demoRepair, err error) {
	victims, err := d.rig.victims()
	if err != nil {
		return damage, r, err
	}
	if len(victims) == 0 {
		return damage, r, errors.New("find a record to damage: no file has one of so many blocks")
	}
	for _, v := range victims[:min(len(victims), demoTries)] {
		if damage, err = d.rig.damage(v); err != nil {
			return damage, r, err
		}
		d.out.damage(damage)
		d.out.heading("xfs_scrub %s on a copy", d.rig.version)
		r, err = d.repair(ctx, damage, "xfs_scrub", []string{"xfs_scrub", demoMount})
		if err != nil || !r.sameFile() {
			return damage, r, err
		}
	}
	return damage, r, nil
}

// repair runs a program on a copy of the damaged image and shows what it says
// and what the file reads.
func (d *demo) repair(ctx context.Context, damage demoDamage, name string, argv []string) (demoRepair, error) {
	d.out.say("$ %s", strings.Join(append([]string{name}, argv[1:]...), " "))
	r, err := d.rig.repair(ctx, damage.image, name, damage.path, argv)
	if err != nil {
		return r, err
	}
	d.out.program(r)
	d.out.file(damage.path, r)
	return r, nil
}

// offline shows what xfs_repair -n says about a copy, and tells whether it
// found nothing.
func (d *demo) offline(ctx context.Context, whose string, r demoRepair) (clean bool, err error) {
	status, said, err := offlineCheck(ctx, r.image)
	if err != nil {
		return false, err
	}
	d.out.offline(whose, status, said)
	return status == 0, nil
}
