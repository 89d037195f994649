// Package record keeps what became of runs, per filesystem: a line of history
// for each, the reports of the last ones, and sums over all. Whoever runs (a
// unit, a person) writes; whoever plans or answers questions reads.
package record

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"time"
)

// Run is one run over one filesystem.
type Run struct {
	RunID  string `json:"run_id"`
	UUID   string `json:"uuid"`
	Mount  string `json:"mount"`
	Device string `json:"device"`
	Mode   string `json:"mode,omitempty"`
	// Trigger is who wanted it: "unit", "person".
	Trigger string    `json:"trigger,omitempty"`
	Began   time.Time `json:"began"`
	Ended   time.Time `json:"ended"`
	// ExitStatus is the sum that scrubd documents.
	ExitStatus int `json:"exit_status"`
	// Only names the places that it looked at, and nothing else: such a run is
	// never Complete, and no failure because of that.
	Only []string `json:"only,omitempty"`
	// Complete tells whether the run got through; Reason, else, why not.
	Complete bool   `json:"complete"`
	Reason   string `json:"reason,omitempty"`
	// Stopped says that somebody wanted it to end before it was through.
	Stopped bool `json:"stopped,omitempty"`
	// Findings counts findings by outcome, Verdicts by the structure at fault and
	// then by outcome.
	Findings map[string]int            `json:"findings,omitempty"`
	Verdicts map[string]map[string]int `json:"findings_by_verdict,omitempty"`
	// Repairs counts repair calls, RepairsFailed those of them that failed.
	Repairs       int    `json:"repairs,omitempty"`
	RepairsFailed int    `json:"repairs_failed,omitempty"`
	Inodes        uint64 `json:"inodes,omitempty"`
	// CheckedBytes is the size of what was compared.
	CheckedBytes uint64 `json:"checked_bytes,omitempty"`
	// ThrottledSeconds is how long the run rested for the sake of others.
	ThrottledSeconds float64 `json:"throttled_seconds,omitempty"`
	// CheckedSince is when the oldest check was made that a run which went on where
	// another had been stopped left out; zero for a run that checked everything.
	CheckedSince time.Time `json:"checked_since,omitzero"`
	// AGs is how many allocation groups there are, Well which of them were found well.
	// Both go into the [Totals] and not into the history.
	AGs  uint32    `json:"-"`
	Well []WellAGs `json:"-"`
	// KernelCalls is how long its kernel calls took. It goes into the [Totals]
	// and not into the history.
	KernelCalls []KernelCalls `json:"-"`
	// Report is the name of the report; see [Store.Report].
	Report string `json:"report,omitempty"`
}

// ProvenSince is the time that the state of the filesystem was proven at, at the
// latest, if the run got through.
func (r *Run) ProvenSince() time.Time {
	if !r.CheckedSince.IsZero() && r.CheckedSince.Before(r.Began) {
		return r.CheckedSince
	}
	return r.Began
}

// Results of a run, from best to worst.
const (
	ResultClean      = "clean"      // all was checked and is well, or was repaired
	ResultWarnings   = "warnings"   // all was checked; something could be better
	ResultCorruption = "corruption" // all was checked; corruption is left
	ResultStopped    = "stopped"    // somebody wanted it to end before it was through
	ResultIncomplete = "incomplete" // the check could not be done or finished
)

// Results lists all results.
func Results() []string {
	return []string{ResultClean, ResultWarnings, ResultCorruption, ResultStopped, ResultIncomplete}
}

// Result is how the run ended, in a word. Nothing that was not checked counts as
// clean.
func (r *Run) Result() string {
	const corruption, warnings, operational = 1, 2, 4 // as scrubd documents them
	switch {
	case r.Stopped:
		return ResultStopped
	case !r.Complete || r.ExitStatus&operational != 0:
		return ResultIncomplete
	case r.ExitStatus&corruption != 0:
		return ResultCorruption
	case r.ExitStatus&warnings != 0:
		return ResultWarnings
	default:
		return ResultClean
	}
}

// Succeeded tells whether all was checked and no corruption is left.
func (r *Run) Succeeded() bool {
	result := r.Result()
	return result == ResultClean || result == ResultWarnings
}

// How much is kept of each filesystem.
const (
	keepRuns    = 400 // lines of history
	keepReports = 20
	keepAge     = 400 * 24 * time.Hour // of a report
	maxLine     = 1 << 16
)

// ErrName is a UUID or run ID that is not what it should be.
var ErrName = errors.New("not a name that a file can have here")

var plain = regexp.MustCompile(`^[0-9A-Za-z][-0-9A-Za-z]{0,63}$`)

// Store is the records below one state directory, and below one that takes
// what the first cannot take for now.
type Store struct {
	main  place
	aside *place
}

// New is the store below dir; nothing is made before something is added.
func New(dir string) *Store { return &Store{main: place{dir, keepRuns, keepReports}} }

// WithAside adds the directory that takes what the first cannot, or may not,
// take for now; the next run that can write there brings it home. It should
// outlive the process, and need not outlive the machine's next start.
func (s *Store) WithAside(dir string) *Store {
	s.aside = &place{dir, s.main.keepRuns, s.main.keepReports}
	return s
}

// AsideError says that a record is kept, but aside, and why.
type AsideError struct {
	Dir string
	Err error
}

// Error says where the record is and why.
func (e *AsideError) Error() string {
	return fmt.Sprintf("it is in %s until the next run, lost with a reboot before that: %v", e.Dir, e.Err)
}

func (e *AsideError) Unwrap() error { return e.Err }

// Reports is the directory of the reports of a filesystem.
func (s *Store) Reports(uuid string) string { return s.main.reports(uuid) }

// Report is the path of the report of a run, "" where there is none any more.
func (s *Store) Report(r *Run) string {
	if r.Report == "" || filepath.Base(r.Report) != r.Report || !plain.MatchString(r.UUID) {
		return ""
	}
	for _, p := range s.places() {
		name := filepath.Join(p.reports(r.UUID), r.Report)
		if _, err := os.Lstat(name); err == nil {
			return name
		}
	}
	return ""
}

func (s *Store) places() []*place {
	if s.aside == nil {
		return []*place{&s.main}
	}
	return []*place{&s.main, s.aside}
}

// Add adds a run, with its report unless that is nil, and drops what is older
// than what is kept. A crash, or a full disk, leaves the history as it was or
// with the run added. What was kept aside comes home.
//
// Errors: [ErrName]; an [*AsideError] when it had to be kept aside; those of the
// system calls, such as ENOSPC and EROFS, when it is not kept.
func (s *Store) Add(r Run, report []byte) error {
	if err := checkNames(&r); err != nil {
		return err
	}
	// A report that does not fit is no reason to forget the run.
	reported := s.addReport(&r, report, s.keep)
	err := s.keep(func(p *place) error { return p.addRun(&r) })
	if err == nil {
		err = s.bringHome(r.UUID)
	}
	if aside := (*AsideError)(nil); errors.As(err, &aside) && errors.As(reported, &aside) {
		return err // once is enough
	}
	return errors.Join(reported, err)
}

// AddAside is Add for a run that left the filesystem damaged on which the state
// directory lies: nothing is written there. Without a directory aside, nothing
// is kept.
//
// Errors: [ErrName]; those of the system calls.
func (s *Store) AddAside(r Run, report []byte) error {
	if err := checkNames(&r); err != nil {
		return err
	}
	if s.aside == nil {
		return errors.New("there is no other place for it")
	}
	only := func(do func(*place) error) error { return do(s.aside) }
	reported := s.addReport(&r, report, only)
	return errors.Join(reported, only(func(p *place) error { return p.addRun(&r) }))
}

func checkNames(r *Run) error {
	if !plain.MatchString(r.UUID) {
		return fmt.Errorf("record a run of filesystem %q: %w", r.UUID, ErrName)
	}
	if !plain.MatchString(r.RunID) {
		return fmt.Errorf("record run %q: %w", r.RunID, ErrName)
	}
	return nil
}

// addReport names the report of a run and keeps it where keep says.
func (s *Store) addReport(r *Run, report []byte, keep func(func(*place) error) error) error {
	r.Report = ""
	if report == nil {
		return nil
	}
	name := r.Began.UTC().Format("20060102T150405Z") + "-" + r.RunID + ".jsonl"
	err := keep(func(p *place) error { return p.addReport(r.UUID, name, report) })
	var aside *AsideError
	if err == nil || errors.As(err, &aside) {
		r.Report = name
	}
	return err
}

// keep has the first place that can do something do it.
func (s *Store) keep(do func(*place) error) error {
	err := do(&s.main)
	if err == nil || s.aside == nil {
		return err
	}
	if e := do(s.aside); e != nil {
		return errors.Join(err, e)
	}
	return &AsideError{s.aside.dir, err}
}

// bringHome moves what was kept aside to where it belongs.
func (s *Store) bringHome(uuid string) error {
	if s.aside == nil || !s.aside.has(uuid) {
		return nil
	}
	if err := s.main.take(s.aside, uuid); err != nil {
		return fmt.Errorf("bring records home from %s: %w", s.aside.dir, err)
	}
	return nil
}

// History returns the runs of a filesystem, oldest first. Lines that are none
// are left out: the history is there to be read, whatever became of it. What
// could be read comes beside an error.
func (s *Store) History(uuid string) ([]Run, error) {
	if !plain.MatchString(uuid) {
		return nil, fmt.Errorf("read the history of filesystem %q: %w", uuid, ErrName)
	}
	runs, err := s.main.history(uuid)
	if s.aside != nil {
		more, e := s.aside.history(uuid)
		err = errors.Join(err, e)
		runs = merge(runs, more)
	}
	return runs, err
}

// merge adds runs that are not known yet, and sorts all by their beginning if
// there are any.
func merge(runs, more []Run) []Run {
	if len(more) == 0 {
		return runs
	}
	known := make(map[string]bool, len(runs))
	for i := range runs {
		known[runs[i].RunID] = true
	}
	for i := range more {
		if !known[more[i].RunID] {
			runs = append(runs, more[i])
		}
	}
	slices.SortStableFunc(runs, func(a, b Run) int { return a.Began.Compare(b.Began) })
	return runs
}

// Stamp changes whenever the history of a filesystem does.
func (s *Store) Stamp(uuid string) string {
	if !plain.MatchString(uuid) {
		return ""
	}
	stamp := ""
	for _, p := range s.places() {
		stamp += p.stamp(uuid) + ";"
	}
	return stamp
}

// Filesystems returns the UUIDs of the filesystems that have a history.
func (s *Store) Filesystems() ([]string, error) {
	var uuids []string
	for _, p := range s.places() {
		more, err := p.filesystems()
		if err != nil {
			return nil, err
		}
		uuids = append(uuids, more...)
	}
	slices.Sort(uuids)
	return slices.Compact(uuids), nil
}

// Last is the newest run over the whole filesystem, nil when there is none.
func Last(runs []Run) *Run { return newest(runs, func(r *Run) bool { return len(r.Only) == 0 }) }

// LastComplete is the newest run that got through, nil when there is none.
func LastComplete(runs []Run) *Run {
	return newest(runs, func(r *Run) bool { return r.Complete })
}

// LastSuccess is the newest run after which all was checked and well, nil when
// there is none.
func LastSuccess(runs []Run) *Run { return newest(runs, (*Run).Succeeded) }

func newest(runs []Run, is func(*Run) bool) *Run {
	var last *Run
	for i := range runs {
		if is(&runs[i]) && (last == nil || runs[i].Ended.After(last.Ended)) {
			last = &runs[i]
		}
	}
	return last
}
