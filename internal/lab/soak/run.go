package soak

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"
)

// Config says what is soaked, and for how long.
type Config struct {
	Scrubd     string // the program
	Geometries []Geometry
	Time       time.Duration // of writers and runs, for each filesystem
	Seed       uint64
	// RunLimit ends a run of scrubd that does not come to an end; 0 means 5 minutes.
	RunLimit time.Duration
	// OwnKernel: the kernel is there for the soak alone. What it complains about
	// counts, and its caches are dropped.
	OwnKernel bool
	Results   io.Writer // gets one JSON object for each run; may be nil
	Log       io.Writer // gets a line for each run; may be nil
}

// Report is what became of one filesystem.
type Report struct {
	Geometry string        `json:"geometry"`
	Kernel   string        `json:"kernel_release"`
	Seed     uint64        `json:"seed"`
	Elapsed  time.Duration `json:"elapsed_nanoseconds"`
	Scrubs   []Scrub       `json:"scrubs"`
	// Turns is how often each kind of writer had its turn.
	Turns map[string]int `json:"turns,omitempty"`
	// Wrong is everything that should not be, in words; nothing where all is well.
	Wrong []string `json:"wrong,omitempty"`
}

// Run soaks filesystems of all geometries at the same time, on the kernel it
// runs on, and reports on each in their order. It needs root.
func Run(ctx context.Context, c Config) ([]Report, error) {
	if c.RunLimit == 0 {
		c.RunLimit = 5 * time.Minute
	}
	p, err := newProgram(ctx, c.Scrubd)
	if err != nil {
		return nil, err
	}
	var uts unix.Utsname
	if err := unix.Uname(&uts); err != nil {
		return nil, fmt.Errorf("uname: %w", err)
	}
	release := unix.ByteSliceToString(uts.Release[:])
	kernel, err := openKmsg()
	if err != nil {
		return nil, err
	}
	defer kernel.close()
	out := &results{runs: c.Results, log: c.Log}
	reports := make([]Report, len(c.Geometries))
	devices := make([][]string, len(c.Geometries))
	group, ctx := errgroup.WithContext(ctx)
	for i, g := range c.Geometries {
		reports[i] = Report{Geometry: g.Name, Kernel: release, Seed: c.Seed}
		group.Go(func() error {
			s := soak{Config: c, program: p, results: out, report: &reports[i]}
			devs, err := s.run(ctx, g)
			devices[i] = devs
			if err != nil {
				return fmt.Errorf("geometry %s: %w", g.Name, err)
			}
			return nil
		})
	}
	err = group.Wait()
	for i, line := range attribute(kernel.lines(), devices, c.OwnKernel) {
		reports[i].Wrong = append(reports[i].Wrong, line...)
	}
	return reports, err
}

// attribute gives each filesystem the kernel's complaints about it; those that
// name none belong to all.
func attribute(lines []string, devices [][]string, ownKernel bool) [][]string {
	of := make([][]string, len(devices))
	all := slices.Concat(devices...)
	for _, line := range complaints(lines, all, ownKernel) {
		device := deviceOf(line)
		for i := range devices {
			if !slices.Contains(all, device) || slices.Contains(devices[i], device) {
				of[i] = append(of[i], "the kernel: "+line)
			}
		}
	}
	return of
}

// results writes down what happens, from several filesystems at once.
type results struct {
	mu        sync.Mutex
	runs, log io.Writer
}

func (r *results) add(s *Scrub) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.log != nil {
		fmt.Fprintln(r.log, s)
	}
	if r.runs == nil {
		return nil
	}
	return json.NewEncoder(r.runs).Encode(s)
}

// String is the run in one line.
func (s *Scrub) String() string {
	live := ""
	if s.Live != nil {
		live = map[bool]string{true: ", live", false: ", not live"}[*s.Live]
	}
	text := fmt.Sprintf("%s: run %d%s: status %d, %d inodes, %d extents, %d candidates, %d dropped, %.1f s (walk %.1f, inodes %.1f, confirm %.1f)",
		s.Geometry, s.Number, live, s.ExitStatus, s.Inodes, s.Extents, s.Candidates, s.CandidatesDropped, s.Elapsed, s.Walk, s.InodeScrub, s.Confirm)
	for _, outcome := range slices.Sorted(maps.Keys(s.Findings)) {
		text += fmt.Sprintf(", %d %s", s.Findings[outcome], outcome)
	}
	if s.Repairs > 0 {
		text += fmt.Sprintf(", %d repairs", s.Repairs)
	}
	if s.Lost != "" {
		text += ", " + s.Lost
	}
	return text
}

// soak is the soak of one filesystem.
type soak struct {
	Config
	program
	*results
	report *Report
}

func (s *soak) wrong(format string, args ...any) {
	s.report.Wrong = append(s.report.Wrong, fmt.Sprintf(format, args...))
}

// run makes the filesystem, lets writers and scrubd work on it, and looks at
// what is left. What is wrong with the filesystem or scrubd is in the report;
// the error is for a soak that could not be made. It returns the names of the devices.
func (s *soak) run(ctx context.Context, g Geometry) (devices []string, err error) {
	began := time.Now()
	dir, err := os.MkdirTemp("", "scrubd-soak-")
	if err != nil {
		return nil, err
	}
	r, err := newRig(ctx, g, dir)
	if err != nil {
		return nil, errors.Join(err, os.RemoveAll(dir))
	}
	defer func() {
		if cerr := r.close(); cerr != nil {
			err = errors.Join(err, cerr) // what is mounted is never removed
			return
		}
		err = errors.Join(err, os.RemoveAll(dir))
	}()
	for _, d := range []*os.File{r.data, r.log, r.rt} {
		if d != nil {
			devices = append(devices, filepath.Base(d.Name()))
		}
	}
	golden, writers, err := s.prepare(r)
	if err != nil {
		return devices, err
	}
	s.work(ctx, r, writers)
	if err := writers.stop(); err != nil {
		s.wrong("%v", err)
	}
	s.report.Turns = writers.turns()
	if golden != nil {
		_ = golden.Close()
	}
	if err := ctx.Err(); err != nil {
		return devices, err
	}
	if err := s.inspect(ctx, r, golden, writers); err != nil {
		return devices, err
	}
	s.report.Elapsed = time.Since(began)
	return devices, nil
}

// goldenUnits is the size of the file that everybody clones from: 4 MiB.
const goldenUnits = 4 << 20 / unitSize

// prepare hires the writers.
func (s *soak) prepare(r *rig) (golden *file, writers *crew, err error) {
	if !r.geometry.NoReflink {
		golden, err = createFile(filepath.Join(r.mnt, "golden"))
		if err != nil {
			return nil, nil, err
		}
		rng := rand.New(rand.NewPCG(s.Seed, 0))
		if err := errors.Join(golden.write(0, fresh(rng, goldenUnits)), golden.Sync()); err != nil {
			return nil, nil, err
		}
	}
	writers, err = hire(r.mnt, s.Seed, place{block: r.geometry.Block / unitSize, golden: golden, tools: r.tools})
	if err != nil {
		return nil, nil, err
	}
	if r.geometry.Full > 0 {
		err = r.fill(r.geometry.Full)
	}
	return golden, writers, err
}

// work runs scrubd without pause while the writers work, until the time is over.
func (s *soak) work(ctx context.Context, r *rig, writers *crew) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	writers.start(ctx, cancel)
	var chores sync.WaitGroup
	defer chores.Wait()
	defer cancel(nil)
	chores.Go(func() {
		rng := rand.New(rand.NewPCG(s.Seed, 1))
		if err := r.chores(ctx, rng, s.Time, s.OwnKernel); err != nil {
			cancel(fmt.Errorf("chores: %w", err))
		}
	})
	state := filepath.Join(r.dir, "state")
	for began, n := time.Now(), 1; time.Since(began) < s.Time && ctx.Err() == nil; n++ {
		// One after the other with live updates and without, where there are any.
		run := s.once(ctx, r.mnt, state, n%2 == 1, s.RunLimit)
		if cause := context.Cause(ctx); cause != nil {
			// A writer gave up: scrubd was ended with it.
			s.wrong("%v", cause)
			return
		}
		run.Geometry, run.Kernel, run.Seed, run.Number = r.geometry.Name, s.report.Kernel, s.Seed, n
		s.report.Scrubs = append(s.report.Scrubs, run)
		if !run.Well() {
			s.wrong("%s%s", &run, alarmText(&run))
		}
		if err := s.add(&run); err != nil {
			s.wrong("write the results: %v", err)
		}
		if run.Lost != "" {
			return
		}
	}
}

// alarmText is what a run said that was not well.
func alarmText(run *Scrub) string {
	var b strings.Builder
	for _, a := range run.Alarms {
		fmt.Fprintf(&b, "\n    %s", a)
	}
	for _, n := range run.Notes {
		fmt.Fprintf(&b, "\n    note: %s", n)
	}
	if run.Incomplete != "" {
		fmt.Fprintf(&b, "\n    incomplete: %s", run.Incomplete)
	}
	for line := range strings.Lines(run.Log) {
		fmt.Fprintf(&b, "\n    %s", strings.TrimRight(line, "\n"))
	}
	return b.String()
}

// inspect looks at what is left: with xfs_repair, with scrubd, and with the
// eyes of the writers.
func (s *soak) inspect(ctx context.Context, r *rig, golden *file, writers *crew) error {
	if err := r.unmount(); err != nil {
		return err
	}
	said, err := r.repairFinds(ctx)
	if err != nil {
		return err
	}
	if said != "" {
		s.wrong("xfs_repair -n finds faults at the end:\n%s", said)
	}
	if err := r.mount(); err != nil {
		return err
	}
	if golden != nil {
		if err := golden.check(); err != nil {
			s.wrong("%v", err)
		}
	}
	if err := writers.check(); err != nil {
		s.wrong("%v", err)
	}
	return nil
}
