package campaign

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/scrubd/scrubd/internal/lab"
)

// Campaign runs cases. Fill in the exported fields and call Run.
type Campaign struct {
	Scrubd string    // the program to try
	Inside []string  // a command that calls [Inside] with the path that is added to it
	Peer   bool      // also let xfs_scrub repair a copy of its own
	Dir    string    // where images and outcomes lie while a case runs
	Keep   bool      // leave them there
	Slots  int       // cases at once
	Result io.Writer // gets one JSON object a line for each case as it ends; may be nil
	Log    io.Writer // gets a line for each case as it ends; may be nil

	mu    sync.Mutex
	bases map[string]*base
}

const (
	// bootLimit is the time limit of one boot, of which most takes a few seconds.
	bootLimit = 150 * time.Second
	bootMem   = 1024 // MiB
	// draws bounds how often a case is drawn anew because there was nothing to
	// damage, or no damage.
	draws = 40
)

// Run runs the cases and returns their results in the same order. A result of
// a case that could not be run at all has its Error set.
func (c *Campaign) Run(ctx context.Context, cases []Case) ([]Result, error) {
	if c.bases == nil {
		c.bases = make(map[string]*base)
	}
	out := make([]Result, len(cases))
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(max(c.Slots, 1))
	var lines sync.Mutex
	for i, one := range cases {
		group.Go(func() error {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			began := time.Now()
			r, err := c.one(ctx, one)
			if ctx.Err() != nil {
				return ctx.Err()
			}
			if err != nil {
				r.Case, r.Error = one, err.Error()
			}
			r.Seconds = time.Since(began).Seconds()
			out[i] = r
			lines.Lock()
			defer lines.Unlock()
			return c.publish(r)
		})
	}
	return out, group.Wait()
}

// publish writes a result at once, so that a campaign that is interrupted still
// says something.
func (c *Campaign) publish(r Result) error {
	if c.Result != nil {
		if err := json.NewEncoder(c.Result).Encode(r); err != nil {
			return fmt.Errorf("write the result of %s: %w", r.Case, err)
		}
	}
	if c.Log != nil {
		if _, err := fmt.Fprintln(c.Log, r.Line()); err != nil {
			return err
		}
	}
	return nil
}

// one runs a case until a draw of it is a fault.
func (c *Campaign) one(ctx context.Context, one Case) (Result, error) {
	r := Result{Case: one, Name: one.String()}
	dir, err := os.MkdirTemp(c.Dir, one.String()+"-")
	if err != nil {
		return r, err
	}
	defer func() {
		if !c.Keep {
			_ = os.RemoveAll(dir)
		}
	}()
	for n := range draws {
		d := one.draw(n)
		r.Draw, r.Attempt = d, n
		b, err := c.ensure(ctx, byName(d.Geometry))
		if err != nil {
			return r, err
		}
		why, err := precheck(filepath.Join(dir, "drawn.img"), b, d)
		if err != nil {
			return r, err
		}
		if why != "" {
			r.Redrawn = append(r.Redrawn, why)
			continue
		}
		o, in, err := c.try(ctx, filepath.Join(dir, "scrubd"), b, d, one.Kind,
			[]string{c.Scrubd, "run", "--now", "--no-progress"}, []string{c.Scrubd, "run", "--now", "--no-progress", "-n"})
		if err != nil {
			return r, err
		}
		if in.Redraw != "" {
			r.Redrawn = append(r.Redrawn, in.Redraw)
			continue
		}
		r.Injected, r.Oracle = in.Injected, in.Oracle
		o.Findings = parseReport(o.Said)
		o.judgeScrubd(one.Kind, in.Oracle)
		r.Scrubd = o
		if c.Peer {
			p, pin, err := c.try(ctx, filepath.Join(dir, "peer"), b, d, one.Kind, []string{"xfs_scrub"}, nil)
			if err != nil {
				return r, err
			}
			if pin.Redraw == "" {
				p.judgePeer(one.Kind)
				r.Peer = p
			}
		}
		return r, nil
	}
	return r, fmt.Errorf("%d draws and no fault: %s", draws, r.Redrawn[len(r.Redrawn)-1])
}

// precheck does the faults of a draw on a copy and says why they are no case:
// nothing fits them, or they contradict nothing. It spares a boot.
func precheck(path string, b *base, d draw) (why string, err error) {
	if len(d.Faults) == 0 {
		return "", nil
	}
	if err := lab.CopyImage(path, b.image); err != nil {
		return "", err
	}
	defer func() { _ = os.Remove(path) }()
	img, err := lab.OpenImage(path)
	if err != nil {
		return "", err
	}
	defer img.Close()
	var before []string
	for _, f := range d.Faults {
		done, err := lab.Fault{Class: f.Class, Seed: f.Seed}.Inject(img)
		if err != nil {
			return err.Error(), nil
		}
		now := lab.CheckImage(img)
		if slices.Equal(before, now) && !unseen[f.Class] {
			return "nothing on the disk contradicts it: " + done.Describe(), nil
		}
		before = now
	}
	return "", nil
}

// unseen are the classes of which lab.CheckImage knows nothing: keys inside of
// a tree, and checksums.
var unseen = map[lab.FaultClass]bool{lab.FaultRmapKey: true, lab.FaultRmapCRC: true}

func byName(name string) Geometry {
	for _, g := range Geometries() {
		if g.Name == name {
			return g
		}
	}
	return Geometry{}
}

// try damages a copy of a base and lets a program repair it.
func (c *Campaign) try(ctx context.Context, dir string, b *base, d draw, kind Kind, program, check []string) (*Outcome, inside, error) {
	if err := errors.Join(os.RemoveAll(dir), os.Mkdir(dir, 0o755)); err != nil {
		return nil, inside{}, err
	}
	j := job{Do: doCase, Dir: dir, Image: filepath.Join(dir, "fs.img"), Geometry: b.Geometry, Draw: d, Program: program, Check: check}
	images := []string{j.Image}
	if kind != Lost {
		j.Probe = filepath.Join(dir, "probe.img")
		images = append(images, j.Probe)
	}
	for _, image := range images {
		if err := lab.CopyImage(image, b.image); err != nil {
			return nil, inside{}, err
		}
		if !c.Keep {
			defer func() { _ = os.Remove(image) }()
		}
	}
	in, result, err := c.boot(ctx, j)
	if err != nil || in.Redraw != "" {
		return nil, in, err
	}
	if !result.Finished() && (in.Stage == stageProbe || in.Stage == stageMount || in.Stage == "") {
		// Nobody has scrubbed yet.
		in.Redraw = "the kernel does not survive the damage alone: " + lostWords(result)
		return nil, in, nil
	}
	if result.Finished() && result.ExitCode != 0 {
		return nil, in, fmt.Errorf("exit status %d inside: %s", result.ExitCode, result.Output)
	}
	o, err := readOutcome(dir, b, kind, in, result)
	if err != nil {
		return nil, in, err
	}
	if result.Finished() && o.Remount == "" {
		if o.Offline, err = offline(ctx, j.Image); err != nil {
			return nil, in, err
		}
		o.Contradictions, err = lab.CheckImageFile(j.Image)
	}
	return o, in, err
}

// boot carries out a job in a kernel of its own.
func (c *Campaign) boot(ctx context.Context, j job) (inside, lab.Result, error) {
	bin, err := lab.SidBin()
	if err != nil {
		return inside{}, lab.Result{}, err
	}
	text, err := json.MarshalIndent(j, "", "  ")
	if err != nil {
		return inside{}, lab.Result{}, err
	}
	path := filepath.Join(j.Dir, "job.json")
	if err := os.WriteFile(path, text, 0o644); err != nil {
		return inside{}, lab.Result{}, err
	}
	if j.Do == doBase {
		opts := lab.MkfsOptions{Size: j.Geometry.Size, Args: j.Geometry.Mkfs, Binary: filepath.Join(bin, "mkfs.xfs")}
		if err := lab.MakeImage(ctx, j.Image, opts); err != nil {
			return inside{}, lab.Result{}, err
		}
	}
	result, err := lab.Boot(ctx, lab.BootSpec{
		Argv:    append(c.Inside[:len(c.Inside):len(c.Inside)], path),
		Env:     append(os.Environ(), "PATH="+bin+":"+os.Getenv("PATH")),
		Timeout: bootLimit, MemMiB: bootMem,
	})
	if err != nil {
		return inside{}, result, err
	}
	if err := os.WriteFile(filepath.Join(j.Dir, "console"), []byte(result.Console), 0o644); err != nil {
		return inside{}, result, err
	}
	var in inside
	if text, err := os.ReadFile(filepath.Join(j.Dir, fileInside)); err == nil {
		if err := json.Unmarshal(text, &in); err != nil {
			return in, result, fmt.Errorf("read what the boot says: %w", err)
		}
	}
	return in, result, nil
}

// offline runs the newest xfs_repair -n and returns what it complains about.
func offline(ctx context.Context, image string) ([]string, error) {
	out, err := lab.SidCommand(ctx, "xfs_repair", "-n", "-f", image).CombinedOutput()
	var exit *exec.ExitError
	if err == nil {
		return nil, nil
	} else if !errors.As(err, &exit) {
		return nil, fmt.Errorf("run xfs_repair -n: %w", err)
	}
	said := []string{err.Error()}
	for _, line := range splitLines(out) {
		if !repairProgress.MatchString(line) {
			said = append(said, line)
		}
	}
	return said, nil
}
