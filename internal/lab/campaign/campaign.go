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
	"strings"
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
	Slots  int       // boots at once
	Batch  int       // cases in one boot; 0 means 1
	Result io.Writer // gets one JSON object a line for each case as it ends; may be nil
	Log    io.Writer // gets a line for each case as it ends; may be nil

	mu    sync.Mutex // of bases
	bases map[string]*base
	out   sync.Mutex // of Result and Log
}

const (
	// bootLimit is the time limit of one boot, of which most takes a few seconds.
	bootLimit = 240 * time.Second
	// caseLimit is what each further case of a boot adds to it.
	caseLimit = 60 * time.Second
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
	q := &queue{}
	for i, one := range cases {
		out[i] = Result{Case: one, Name: one.String()}
		q.waiting = append(q.waiting, &out[i])
	}
	group, ctx := errgroup.WithContext(ctx)
	for range max(c.Slots, 1) {
		group.Go(func() error {
			for {
				mine := q.take(max(c.Batch, 1))
				if len(mine) == 0 {
					return nil
				}
				again, err := c.batch(ctx, mine)
				if err != nil {
					return err
				}
				q.put(again)
			}
		})
	}
	return out, group.Wait()
}

// queue has the cases that are still to be run, those drawn anew at its end.
type queue struct {
	mu      sync.Mutex
	waiting []*Result
}

func (q *queue) take(n int) []*Result {
	q.mu.Lock()
	defer q.mu.Unlock()
	n = min(n, len(q.waiting))
	mine := slices.Clone(q.waiting[:n])
	q.waiting = q.waiting[n:]
	return mine
}

func (q *queue) put(again []*Result) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.waiting = append(q.waiting, again...)
}

// batch runs a few cases in one boot and returns those that have to be drawn
// anew.
func (c *Campaign) batch(ctx context.Context, results []*Result) (again []*Result, err error) {
	var trials, done []*trial
	for _, r := range results {
		t, err := c.prepare(ctx, r)
		if err != nil {
			return nil, err
		}
		if t != nil {
			trials = append(trials, t)
		} else if err := c.publish(*r); err != nil { // there is nothing left to draw
			return nil, err
		}
	}
	if err := c.boots(ctx, trials); err != nil {
		return nil, err
	}
	for _, t := range trials {
		switch redrawn, err := c.finish(ctx, t); {
		case err != nil:
			return nil, err
		case redrawn:
			t.r.Attempt++
			again = append(again, t.r)
		default:
			done = append(done, t)
		}
	}
	if err := c.peers(ctx, done); err != nil {
		return nil, err
	}
	for _, t := range done {
		if err := c.publish(*t.r); err != nil {
			return nil, err
		}
	}
	return again, nil
}

// publish writes a result at once, so that a campaign that is interrupted still
// says something.
func (c *Campaign) publish(r Result) error {
	c.out.Lock()
	defer c.out.Unlock()
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

// trial is one program on one draw of a case.
type trial struct {
	r      *Result
	b      *base
	job    job
	inside inside
	kernel lab.Result // of the boot; its console is cut to this trial
	began  bool
}

func (t *trial) dir() string { return t.job.Dir }

// over tells whether nothing is left to be done inside.
func (t *trial) over() bool {
	return t.inside.ended() || t.lost()
}

// lost tells whether the kernel was lost, or is of no more use, since it began.
func (t *trial) lost() bool { return t.began && (!t.kernel.Finished() || t.inside.Hung != "") }

// ended tells whether a case was carried out, or cannot be.
func (in *inside) ended() bool {
	return in.Stage == stageDone || in.Redraw != "" || in.Error != ""
}

// prepare draws until something can be damaged. Without a trial the result has
// its Error set.
func (c *Campaign) prepare(ctx context.Context, r *Result) (*trial, error) {
	if r.began.IsZero() {
		r.began = time.Now()
	}
	dir := filepath.Join(c.Dir, r.Name)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	for ; r.Attempt < draws; r.Attempt++ {
		r.Draw = r.Case.draw(r.Attempt)
		b, err := c.ensure(ctx, byName(r.Draw.Geometry))
		if err != nil {
			return nil, err
		}
		why, err := precheck(filepath.Join(dir, "drawn.img"), b, r.Draw)
		if err != nil {
			return nil, err
		}
		if why == "" {
			run := []string{c.Scrubd, "run", "--now", "--no-progress"}
			return c.trial(r, b, "scrubd", run, append(run[:len(run):len(run)], "-n")), nil
		}
		r.Redrawn = append(r.Redrawn, why)
	}
	r.Error = fmt.Sprintf("%d draws and no fault: %s", draws, r.Redrawn[len(r.Redrawn)-1])
	return nil, nil
}

func (c *Campaign) trial(r *Result, b *base, name string, program, check []string) *trial {
	dir := filepath.Join(c.Dir, r.Name, name)
	j := job{
		Do: doCase, Name: r.Name, Dir: dir, Image: filepath.Join(dir, "fs.img"), Geometry: b.Geometry, Draw: r.Draw,
		Program: program, Check: check,
	}
	if r.Case.Kind != Lost {
		j.Probe = filepath.Join(dir, "probe.img")
	}
	return &trial{r: r, b: b, job: j}
}

// fresh gives a trial undamaged copies of its base and forgets what was.
func (t *trial) fresh() error {
	t.inside, t.began = inside{}, false
	if err := errors.Join(os.RemoveAll(t.dir()), os.Mkdir(t.dir(), 0o755)); err != nil {
		return err
	}
	for _, image := range []string{t.job.Image, t.job.Probe} {
		if image == "" {
			continue
		}
		if err := lab.CopyImage(image, t.b.image); err != nil {
			return err
		}
	}
	return nil
}

// boots carries out trials, many to a boot. One that is lost with its kernel is
// tried once more in a kernel of its own, so that it is not judged by what an
// earlier one has left; the others go on in the next boot.
func (c *Campaign) boots(ctx context.Context, trials []*trial) error {
	for _, t := range trials {
		if err := t.fresh(); err != nil {
			return err
		}
	}
	for len(trials) > 0 {
		var jobs []job
		for _, t := range trials {
			jobs = append(jobs, t.job)
		}
		result, err := c.boot(ctx, jobs)
		if err != nil {
			return err
		}
		for _, t := range trials {
			if err := t.read(result); err != nil {
				return err
			}
		}
		lost := slices.IndexFunc(trials, (*trial).lost)
		if lost >= 0 && len(trials) > 1 {
			if err := c.boots(ctx, trials[lost:lost+1]); err != nil {
				return err
			}
		}
		left := slices.DeleteFunc(slices.Clone(trials), (*trial).over)
		if len(left) == len(trials) {
			return fmt.Errorf("nothing comes of a boot: exit status %d: %s%s", result.ExitCode, result.Output, result.ConsoleTail)
		}
		trials = left
	}
	return nil
}

// read takes up what a boot says of a trial.
func (t *trial) read(result lab.Result) error {
	text, err := os.ReadFile(filepath.Join(t.dir(), fileInside))
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err == nil {
		err = json.Unmarshal(text, &t.inside)
	}
	if err != nil {
		return fmt.Errorf("read what the boot says: %w", err)
	}
	t.began, t.kernel = true, result
	t.kernel.Console = consoleOf(result.Console, t.job.Name)
	if t.inside.ended() {
		// It was over before the kernel was lost, if it was.
		t.kernel.TimedOut, t.kernel.Crashed = false, false
	}
	return os.WriteFile(filepath.Join(t.dir(), "console"), []byte(t.kernel.Console), 0o644)
}

// consoleOf cuts a console to what came while a trial ran; the whole of it
// where the trial has left no mark.
func consoleOf(console, name string) string {
	at := strings.Index(console, beginMark+name)
	if at < 0 {
		return console
	}
	mine := console[at+len(beginMark):]
	mine, _, _ = strings.Cut(mine, beginMark)
	return mine
}

// finish judges a trial of scrubd. Again: it was no case and is to be drawn anew.
func (c *Campaign) finish(ctx context.Context, t *trial) (again bool, err error) {
	r, in := t.r, t.inside
	defer c.clean(t)
	if in.Redraw == "" && !t.kernel.Finished() && (in.Stage == stageProbe || in.Stage == stageMount) {
		// Nobody has scrubbed yet.
		in.Redraw = "the kernel does not survive the damage alone: " + lostWords(t.kernel)
	}
	if in.Redraw != "" {
		r.Redrawn = append(r.Redrawn, in.Redraw)
		return true, nil
	}
	r.Seconds = time.Since(r.began).Seconds()
	if in.Error != "" {
		r.Error = in.Error
		return false, nil
	}
	r.Injected, r.Oracle, r.Stages = in.Injected, in.Oracle, in.Seconds
	o, err := t.outcome(ctx)
	if err != nil {
		return false, err
	}
	o.Findings = parseReport(o.Said)
	o.judgeScrubd(r.Case.Kind, in.Oracle)
	r.Scrubd = o
	return false, nil
}

// peers lets xfs_scrub try the same.
func (c *Campaign) peers(ctx context.Context, ours []*trial) error {
	if !c.Peer {
		return nil
	}
	var trials []*trial
	for _, t := range ours {
		if t.r.Error == "" {
			trials = append(trials, c.trial(t.r, t.b, "peer", []string{"xfs_scrub"}, nil))
		}
	}
	if err := c.boots(ctx, trials); err != nil {
		return err
	}
	for _, t := range trials {
		if t.inside.Redraw == "" && t.inside.Error == "" {
			p, err := t.outcome(ctx)
			if err != nil {
				return err
			}
			p.judgePeer(t.r.Case.Kind)
			t.r.Peer = p
		}
		c.clean(t)
	}
	return nil
}

// clean removes the images of a trial.
func (c *Campaign) clean(t *trial) {
	if !c.Keep {
		_ = os.RemoveAll(t.dir())
	}
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

// boot carries out jobs in one kernel.
func (c *Campaign) boot(ctx context.Context, jobs []job) (lab.Result, error) {
	bin, err := lab.SidBin()
	if err != nil {
		return lab.Result{}, err
	}
	argv := c.Inside[:len(c.Inside):len(c.Inside)]
	for _, j := range jobs {
		text, err := json.MarshalIndent(j, "", "  ")
		if err != nil {
			return lab.Result{}, err
		}
		path := filepath.Join(j.Dir, "job.json")
		if err := os.WriteFile(path, text, 0o644); err != nil {
			return lab.Result{}, err
		}
		argv = append(argv, path)
	}
	return lab.Boot(ctx, lab.BootSpec{
		Argv: argv, Env: append(os.Environ(), "PATH="+bin+":"+os.Getenv("PATH")),
		Timeout: bootLimit + time.Duration(len(jobs)-1)*caseLimit, MemMiB: bootMem,
	})
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
