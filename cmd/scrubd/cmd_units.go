package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/scrubd/scrubd/systemd"
)

// unitsOptions are the flags of scrubd units.
type unitsOptions struct {
	prefix, root, program string
}

func newUnitsCommand(std streams) *cobra.Command {
	o := &unitsOptions{}
	cmd := &cobra.Command{
		Use:   "units",
		Short: "Install, remove or show the systemd units",
		Long: `units installs the systemd units and the message catalog that scrubd carries
inside, or removes or shows them.

A unit of the same name that was not installed by scrubd is left alone.

` + exitStatusHelp,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	flags := cmd.PersistentFlags()
	flags.StringVar(&o.prefix, "prefix", "/usr/local", "install below `DIR`, in lib/systemd")
	flags.StringVar(&o.root, "root", "", "put `DIR` in front of the prefix; nothing of the running system is changed")
	flags.StringVar(&o.program, "program", "", "run `PATH` in the units (default: this program)")
	sub := func(use, short string, args cobra.PositionalArgs, run func(context.Context, *unitsOptions, []string, streams) error) *cobra.Command {
		c := &cobra.Command{
			Use: use, Short: short, Args: args,
			RunE: func(cmd *cobra.Command, args []string) error {
				return operational(run(cmd.Context(), o, args, std))
			},
		}
		cmd.AddCommand(c)
		return c
	}
	sub("install", "Install the units and the message catalog", cobra.NoArgs, runUnitsInstall)
	sub("uninstall", "Remove what install has put there", cobra.NoArgs, runUnitsUninstall)
	sub("show [NAME...]", "Show the units as they would be installed", cobra.ArbitraryArgs, runUnitsShow).ValidArgsFunction = completeUnits
	return cmd
}

// operational gives an error the status of something that could not be done.
func operational(err error) error {
	if err == nil || isA[*exitError](err) {
		return err
	}
	return &exitError{status: exitOperational, err: err}
}

// files are the files with the program in its place.
func (o *unitsOptions) files() ([]systemd.File, error) {
	program := o.program
	if program == "" {
		self, err := os.Executable()
		if err != nil {
			return nil, fmt.Errorf("find this program: %w", err)
		}
		program = self
	}
	return systemd.Files(program)
}

func (o *unitsOptions) dir() string { return filepath.Join("/", o.root, o.prefix) }

func runUnitsInstall(ctx context.Context, o *unitsOptions, _ []string, std streams) error {
	files, err := o.files()
	if err != nil {
		return err
	}
	if err := systemd.Install(o.dir(), files); err != nil {
		return err
	}
	for i := range files {
		if _, err := fmt.Fprintln(std.out, filepath.Join(o.dir(), files[i].Name)); err != nil {
			return &outputError{Err: err}
		}
	}
	if o.root != "" {
		return nil
	}
	_, _ = fmt.Fprint(std.err, "scrubd: for `journalctl -x` to know the messages type: journalctl --update-catalog\n"+
		"scrubd: for a check of /srv each week type: systemctl enable --now \"$(systemd-escape --path --template=scrubd@.timer /srv)\"\n")
	return reload(ctx)
}

// reload has a systemd that runs here know of what changed.
func reload(ctx context.Context) error {
	if err := systemd.Reload(ctx); err != nil && !errors.Is(err, systemd.ErrNoManager) {
		return err
	}
	return nil
}

func runUnitsUninstall(ctx context.Context, o *unitsOptions, _ []string, std streams) error {
	files, err := o.files()
	if err != nil {
		return err
	}
	removed, err := systemd.Uninstall(o.dir(), files)
	for _, name := range removed {
		if _, werr := fmt.Fprintln(std.out, name); werr != nil {
			err = errors.Join(err, &outputError{Err: werr})
		}
	}
	if err != nil || o.root != "" {
		return err
	}
	return reload(ctx)
}

func runUnitsShow(_ context.Context, o *unitsOptions, names []string, std streams) error {
	files, err := o.files()
	if err != nil {
		return err
	}
	var b strings.Builder
	known := map[string]bool{}
	for i := range files {
		f := &files[i]
		known[f.Base()] = true
		if len(names) == 0 || slices.Contains(names, f.Base()) {
			fmt.Fprintf(&b, "# %s\n%s\n", path.Join(o.dir(), f.Name), f.Text)
		}
	}
	for _, name := range names {
		if !known[name] {
			return usageErrorf("units show: there is no %q", name)
		}
	}
	if _, err := fmt.Fprint(std.out, b.String()); err != nil {
		return &outputError{Err: err}
	}
	return nil
}
