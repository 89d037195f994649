package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/dustin/go-humanize"
	"github.com/spf13/cobra"

	"github.com/scrubd/scrubd/ioctl"
	"github.com/scrubd/scrubd/scrub"
	"github.com/scrubd/scrubd/scrub/live"
)

// probeOptions are the flags of scrubd probe, and what a test replaces.
type probeOptions struct {
	json bool

	mounts mountTable
	open   func(path string) (*ioctl.FS, error)
	thawed func(ctx context.Context, mountPoint string, say func(string)) error
}

// The answer of probe --json, one object. docs/json.md documents every field.
type probeReport struct {
	MessageType   string         `json:"message_type"`
	Path          string         `json:"path"`
	Device        string         `json:"device,omitempty"`
	UUID          string         `json:"uuid,omitempty"`
	KernelRelease string         `json:"kernel_release,omitempty"`
	ReadOnly      bool           `json:"read_only"`
	Autofsck      string         `json:"autofsck,omitempty"`
	BlockBytes    uint32         `json:"block_bytes"`
	AGs           uint32         `json:"ags"`
	AGBlocks      uint32         `json:"ag_blocks"`
	DataBlocks    uint64         `json:"data_blocks"`
	Features      []probeFeature `json:"features"`
	ScrubTypes    []probeType    `json:"scrub_types"`
	Gaps          []probeGap     `json:"gaps"`
}

type probeFeature struct {
	Name string `json:"name"`
	Has  bool   `json:"has"`
	Why  string `json:"why,omitempty"`
}

type probeType struct {
	Name      string `json:"name"`
	Check     bool   `json:"check"`
	CheckWhy  string `json:"check_why,omitempty"`
	Repair    bool   `json:"repair"`
	RepairWhy string `json:"repair_why,omitempty"`
}

type probeGap struct {
	Problem string `json:"problem"`
	Advice  string `json:"advice"`
}

func newProbeCommand(std streams) *cobra.Command {
	o := &probeOptions{mounts: systemMounts(), open: ioctl.Open, thawed: waitThawed}
	cmd := &cobra.Command{
		Use:   "probe PATH",
		Short: "Show what this kernel and filesystem can check and repair, and why not",
		Long: `probe asks the kernel what it can do with the XFS filesystem mounted at PATH, by
trying. It checks and changes nothing.

` + exitStatusHelp,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) != 1 {
				return usageErrorf("probe: name one mount point")
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			return runProbe(cmd.Context(), o, args[0], std)
		},
	}
	cmd.ValidArgsFunction = completeMounts(1)
	cmd.Flags().BoolVar(&o.json, "json", false, "print one JSON object (see docs/json.md)")
	return cmd
}

func runProbe(ctx context.Context, o *probeOptions, path string, std streams) error {
	operational := func(err error) error { return &exitError{status: exitOperational, err: err} }
	t, err := o.mounts.find(path)
	if err != nil {
		return operational(err)
	}
	say := func(s string) { _, _ = fmt.Fprintf(std.err, "scrubd: %s\n", s) }
	if err := o.thawed(ctx, t.MountPoint, say); err != nil {
		return operational(err)
	}
	fs, err := o.open(t.MountPoint)
	if err != nil {
		return operational(openError(t, err))
	}
	defer func() { _ = fs.Close() }() // opened for reading: nothing can get lost
	report, err := probe(fs, t)
	if err != nil {
		return operational(err)
	}
	if o.json {
		err = json.NewEncoder(std.out).Encode(report)
	} else {
		err = writeProbe(std.out, report)
	}
	if err != nil {
		return operational(&outputError{Err: err})
	}
	if !fs.AtRoot() {
		return operational(fmt.Errorf("probe %s: %w", printable(t.Path), ioctl.ErrPrivilege))
	}
	return nil
}

// probe asks for everything.
func probe(fs *ioctl.FS, t *target) (*probeReport, error) {
	g := fs.Geometry()
	r := &probeReport{
		MessageType: "probe", Path: t.MountPoint, ReadOnly: t.ReadOnly,
		BlockBytes: g.BlockSize, AGs: g.AGCount, AGBlocks: uint32(g.AGBlocks), DataBlocks: g.DataBlocks,
		Gaps: []probeGap{},
	}
	if !consistentOutput() {
		r.Device, r.UUID, r.KernelRelease = t.Device, uuidString(g.UUID), fs.Release()
	}
	autofsck, err := fs.Autofsck()
	if err != nil && !errors.Is(err, ioctl.ErrPrivilege) && !errors.Is(err, ioctl.ErrNotSupported) {
		return nil, err
	}
	if autofsck != ioctl.AutofsckUnset {
		r.Autofsck = autofsck.String()
	}
	features := fs.Features()
	for _, f := range ioctl.AllFeatures() {
		s := supportOf(features.Check(f))
		r.Features = append(r.Features, probeFeature{Name: f.String(), Has: s.Has, Why: s.Why})
	}
	s := supportOf(live.Probe(fs))
	r.Features = append(r.Features, probeFeature{Name: "live-updates", Has: s.Has, Why: s.Why})
	for st := ioctl.ScrubTypeProbe + 1; st < ioctl.ScrubTypeCount; st++ {
		check, repair := checkSupport(features, g, st), repairSupport(features, g, st)
		r.ScrubTypes = append(r.ScrubTypes, probeType{
			Name: st.String(), Check: check.Has, CheckWhy: check.Why, Repair: repair.Has, RepairWhy: repair.Why,
		})
	}
	coverage := scrub.Coverage{
		KernelScrub: features.Has(ioctl.FeatureScrub),
		Repair:      features.Has(ioctl.FeatureRepair),
		Rmapbt:      features.Has(ioctl.FeatureRmapbt),
	}
	for _, g := range gaps(coverage, g, t, 0) {
		r.Gaps = append(r.Gaps, probeGap{Problem: g.problem, Advice: g.todo})
	}
	return r, nil
}

// writeProbe prints the report for a person.
func writeProbe(w io.Writer, r *probeReport) error {
	var b strings.Builder
	line := func(format string, args ...any) {
		b.WriteString(strings.TrimRight(oneLine(fmt.Sprintf(format, args...)), " ") + "\n")
	}
	on := ""
	if r.Device != "" {
		on = " on " + printable(r.Device)
	}
	line("%s: XFS%s, %s of %s blocks of %s", printable(r.Path), on, plural(uint64(r.AGs), "AG"),
		comma(uint64(r.AGBlocks)), humanize.IBytes(uint64(r.BlockBytes)))
	if r.KernelRelease != "" {
		line("kernel: Linux %s", r.KernelRelease)
	}
	if r.Autofsck != "" {
		line("autofsck property: %s", r.Autofsck)
	}
	line("")
	line("%-17s %-4s %s", "FEATURE", "HAS", "WHY NOT")
	for _, f := range r.Features {
		line("%-17s %-4s %s", f.Name, yesNo(f.Has), f.Why)
	}
	line("")
	if why, ok := sameReason(r.ScrubTypes); ok {
		line("no scrub type can be checked: %s", why)
	} else {
		line("%-13s %-6s %-7s %s", "SCRUB TYPE", "CHECK", "REPAIR", "WHY NOT")
		for _, t := range r.ScrubTypes {
			line("%-13s %-6s %-7s %s", t.Name, yesNo(t.Check), yesNo(t.Repair), t.RepairWhy)
		}
	}
	if len(r.Gaps) > 0 {
		line("")
	}
	for _, g := range r.Gaps {
		line("%s: %s", g.Problem, g.Advice)
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// sameReason tells whether no type can be checked, all for one reason.
func sameReason(types []probeType) (string, bool) {
	for _, t := range types {
		if t.Check || t.CheckWhy != types[0].CheckWhy {
			return "", false
		}
	}
	return types[0].CheckWhy, true
}

func yesNo(b bool) string {
	if b {
		return "yes"
	}
	return "no"
}

// uuidString writes a UUID as blkid does.
func uuidString(u [16]byte) string {
	return fmt.Sprintf("%x-%x-%x-%x-%x", u[0:4], u[4:6], u[6:8], u[8:10], u[10:])
}
