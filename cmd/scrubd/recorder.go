package main

import (
	"errors"
	"fmt"
	"time"

	"golang.org/x/sys/unix"

	"github.com/scrubd/scrubd/scrub"
	"github.com/scrubd/scrubd/scrub/kernel"
	"github.com/scrubd/scrubd/scrub/state"
	"github.com/scrubd/scrubd/service/record"
)

// Triggers of a run, as its record has them.
const (
	triggerUnit   = "unit"
	triggerPerson = "person"
)

// recorder keeps the record of one run, and its report as JSON, in the state
// directory: whoever plans the next run has to know of this one.
type recorder struct {
	store              *record.Store
	stateDir, asideDir string
	t                  *target
	trigger            string
	// sparing writes nothing on the filesystem itself, well or not: whoever says
	// that nothing is to be changed means it.
	sparing bool
	// say takes what is to be said of the record.
	say func(err error, text string)

	json    *jsonReporter
	report  cappedBuffer
	began   time.Time
	start   *scrub.StartEvent
	repairs struct{ done, failed int }
}

// newRecorder keeps the record of a run over t below a state directory.
func newRecorder(stateDir string, t *target, trigger string) *recorder {
	r := &recorder{
		store: newStore(stateDir), stateDir: stateDir, asideDir: state.RuntimeDir, t: t, trigger: trigger, began: time.Now(),
	}
	r.json = newJSONReporter(&r.report, t.MountPoint, false, consistentOutput())
	return r
}

// newStore is the records below a state directory.
func newStore(stateDir string) *record.Store {
	s := record.New(stateDir)
	if stateDir != state.RuntimeDir {
		s.WithAside(state.RuntimeDir)
	}
	return s
}

// failed is nil: a record that cannot be kept is no reason to end a repair.
func (r *recorder) failed() error { return nil }

func (r *recorder) event(e scrub.Event) {
	switch e := e.(type) {
	case *scrub.StartEvent:
		r.start = e
	case *scrub.RepairEvent:
		switch {
		case e.Began:
		case e.Err != nil:
			r.repairs.failed++
		default:
			r.repairs.done++
		}
	}
	r.json.event(e)
}

func (r *recorder) end(s *scrub.Summary, status int, err error) {
	r.json.end(s, status, err)
	if r.start == nil {
		return // nothing was checked, and there is no UUID to file it under
	}
	run := r.run(s, status, err)
	path := printable(r.t.MountPoint)
	if why := r.elsewhere(s, err); why != "" {
		err := r.addAside(run)
		if err != nil {
			r.say(err, fmt.Sprintf("%s: %s: the record of this run is not kept: %v", path, why, err))
			return
		}
		r.say(nil, fmt.Sprintf("%s: %s: the record of this run is in %s until a run may write it there", path, why, r.asideDir))
		return
	}
	err = r.store.Add(run, r.report.Bytes())
	var aside *record.AsideError
	switch {
	case errors.As(err, &aside):
		r.say(err, fmt.Sprintf("%s: the record of this run is not where it should be: %v", path, err))
	case err != nil:
		r.say(err, fmt.Sprintf("%s: the record of this run is not kept: %v", path, err))
	}
}

// elsewhere says why the state directory may not be written to, "" if it may.
func (r *recorder) elsewhere(s *scrub.Summary, err error) string {
	own, lookErr := r.isOwn(r.stateDir)
	switch {
	case lookErr != nil || !own: // what cannot be looked at cannot be written to, and adding says so
		return ""
	case !wellEnough(s, err):
		return "the state directory lies on this filesystem, which is not well"
	case r.sparing:
		return "the state directory lies on this filesystem, in which nothing is to be changed"
	default:
		return ""
	}
}

func (r *recorder) isOwn(dir string) (bool, error) {
	return state.LiesOn(dir, unix.Mkdev(uint32(r.t.Major), uint32(r.t.Minor)))
}

func (r *recorder) addAside(run record.Run) error {
	own, err := r.isOwn(r.asideDir)
	if err != nil {
		return err
	}
	if own {
		return fmt.Errorf("%s: %w", r.asideDir, state.ErrOwnFilesystem)
	}
	return r.store.AddAside(run, r.report.Bytes())
}

// wellEnough tells whether new files may be made on a filesystem after a run: all
// was looked at, and what was wrong was rebuilt and proven.
func wellEnough(s *scrub.Summary, err error) bool {
	if err != nil && !isA[*stopError](err) || s == nil {
		return false
	}
	for _, f := range s.Findings {
		if f.Left() || f.Outcome == scrub.Failed || f.Outcome == scrub.Unsettled {
			return false
		}
	}
	return true
}

// run is the record.
func (r *recorder) run(s *scrub.Summary, status int, err error) record.Run {
	run := record.Run{
		RunID: r.start.RunID, UUID: r.start.UUID, Mount: r.t.MountPoint, Device: r.t.Device,
		Mode: r.start.Mode.String(), Trigger: r.trigger, Began: r.began, Ended: time.Now(), ExitStatus: status,
		Complete: err == nil && s != nil && s.Complete && len(r.start.Only) == 0, Only: r.start.Only,
		Repairs: r.repairs.done + r.repairs.failed, RepairsFailed: r.repairs.failed,
	}
	if err != nil {
		run.Reason, run.Stopped = err.Error(), wasStopped(err)
	}
	if s == nil {
		return run
	}
	if run.Complete {
		run.AGs = uint32(s.AGs)
		for _, w := range s.Well {
			run.Well = append(run.Well, record.WellAGs{First: uint32(w.First), Last: uint32(w.Last), Since: w.Since})
		}
	}
	if s.Resumed != nil && s.Resumed.Anew == "" {
		run.CheckedSince = s.Resumed.Since
	}
	run.Inodes, run.CheckedBytes, run.ThrottledSeconds = s.Inodes, s.ComparedBytes, s.Throttled.Seconds()
	run.Findings, run.Verdicts = map[string]int{}, map[string]map[string]int{}
	for _, f := range s.Findings {
		outcome := string(f.Outcome)
		run.Findings[outcome]++
		if run.Verdicts[f.AtFault] == nil {
			run.Verdicts[f.AtFault] = map[string]int{}
		}
		run.Verdicts[f.AtFault][outcome]++
	}
	for i := range s.KernelTimes {
		run.KernelCalls = append(run.KernelCalls, kernelCallsOf(&s.KernelTimes[i]))
	}
	return run
}

// both are two reports of one run. Only the first decides whether it can go on.
type both struct{ reporter, second reporter }

func (b both) event(e scrub.Event) { b.reporter.event(e); b.second.event(e) }
func (b both) failed() error       { return b.reporter.failed() }

func (b both) end(s *scrub.Summary, status int, err error) {
	b.reporter.end(s, status, err)
	b.second.end(s, status, err)
}

// kernelCallsOf is how long calls took, as records have it.
func kernelCallsOf(t *kernel.TypeTiming) record.KernelCalls {
	last := len(kernel.TimingBounds)
	c := record.KernelCalls{
		ScrubType: t.Type.String(), Repair: t.Repair, Count: t.Calls, Seconds: t.Total.Seconds(),
		Bounds: make([]float64, last), Buckets: t.Buckets[:last],
	}
	for i, bound := range kernel.TimingBounds {
		c.Bounds[i] = bound.Seconds()
	}
	return c
}
