// Package record keeps what became of runs, per filesystem: a line of history
// for each, and the reports of the last ones. Whoever runs (a unit, a person)
// writes; whoever plans or answers questions reads.
package record

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Run is one run over one filesystem.
type Run struct {
	RunID  string `json:"run_id"`
	UUID   string `json:"uuid"`
	Mount  string `json:"mount"`
	Device string `json:"device"`
	Mode   string `json:"mode,omitempty"`
	// Trigger is who wanted it: "unit", "daemon", "person".
	Trigger string    `json:"trigger,omitempty"`
	Began   time.Time `json:"began"`
	Ended   time.Time `json:"ended"`
	// ExitStatus is the sum that scrubd documents.
	ExitStatus int `json:"exit_status"`
	// Complete tells whether the run got through; Reason, else, why not.
	Complete bool   `json:"complete"`
	Reason   string `json:"reason,omitempty"`
	// Stopped says that somebody wanted it to end before it was through.
	Stopped bool `json:"stopped,omitempty"`
	// Findings counts findings by outcome.
	Findings map[string]int `json:"findings,omitempty"`
	Repairs  int            `json:"repairs,omitempty"`
	Inodes   uint64         `json:"inodes,omitempty"`
	// Report is the name of the report in the directory [Store.Reports].
	Report string `json:"report,omitempty"`
}

// How much is kept of each filesystem.
const (
	keepRuns    = 400 // lines of history
	keepReports = 20
	keepAge     = 400 * 24 * time.Hour // of a report
	maxLine     = 1 << 16
)

const (
	historyFile = "history.jsonl"
	reportsDir  = "reports"
	dirMode     = 0o700
	fileMode    = 0o600
)

// ErrName is a UUID or run ID that is not what it should be.
var ErrName = errors.New("not a name that a file can have here")

var plain = regexp.MustCompile(`^[0-9A-Za-z][-0-9A-Za-z]{0,63}$`)

// Store is the records below one state directory.
type Store struct {
	dir                   string
	keepRuns, keepReports int
}

// New is the store below dir; nothing is made before something is added.
func New(dir string) *Store { return &Store{dir, keepRuns, keepReports} }

// Reports is the directory of the reports of a filesystem.
func (s *Store) Reports(uuid string) string { return filepath.Join(s.dir, uuid, reportsDir) }

// Add adds a run, with its report unless that is nil, and drops what is older
// than what is kept. A crash, or a full disk, leaves the history as it was or
// with the run added.
//
// Errors: [ErrName], and those of the system calls, such as ENOSPC and EROFS.
func (s *Store) Add(r Run, report []byte) error {
	if !plain.MatchString(r.UUID) {
		return fmt.Errorf("record a run of filesystem %q: %w", r.UUID, ErrName)
	}
	if !plain.MatchString(r.RunID) {
		return fmt.Errorf("record run %q: %w", r.RunID, ErrName)
	}
	dir := filepath.Join(s.dir, r.UUID)
	if err := os.MkdirAll(dir, dirMode); err != nil {
		return fmt.Errorf("record a run: %w", err)
	}
	unlock, err := lock(dir)
	if err != nil {
		return fmt.Errorf("record a run: %w", err)
	}
	defer unlock()
	var failed error // a report that does not fit is no reason to forget the run
	if report != nil {
		r.Report = r.Began.UTC().Format("20060102T150405Z") + "-" + r.RunID + ".jsonl"
		if failed = s.addReport(&r, report); failed != nil {
			r.Report = ""
		}
	}
	return errors.Join(failed, s.addRun(dir, &r))
}

func (s *Store) addReport(r *Run, report []byte) error {
	dir := s.Reports(r.UUID)
	if err := os.MkdirAll(dir, dirMode); err != nil {
		return fmt.Errorf("keep the report: %w", err)
	}
	if err := replace(dir, r.Report, report); err != nil {
		return fmt.Errorf("keep the report: %w", err)
	}
	names, err := os.ReadDir(dir) // sorted: the names begin with the time
	if err != nil {
		return fmt.Errorf("keep the report: %w", err)
	}
	names = slices.DeleteFunc(names, func(e os.DirEntry) bool { return !strings.HasSuffix(e.Name(), ".jsonl") })
	for i, e := range names {
		info, err := e.Info()
		old := err == nil && time.Since(info.ModTime()) > keepAge
		if (old || i < len(names)-s.keepReports) && e.Name() != r.Report {
			if err := os.Remove(filepath.Join(dir, e.Name())); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return fmt.Errorf("drop an old report: %w", err)
			}
		}
	}
	return nil
}

func (s *Store) addRun(dir string, r *Run) error {
	r.Reason = r.Reason[:min(len(r.Reason), maxLine/4)]
	line, err := json.Marshal(r)
	if err != nil {
		return fmt.Errorf("record a run: %w", err)
	}
	old, err := os.ReadFile(filepath.Join(dir, historyFile))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("record a run: %w", err)
	}
	if n := len(old); n > 0 && old[n-1] != '\n' {
		old = append(old, '\n')
	}
	for bytes.Count(old, []byte{'\n'}) >= s.keepRuns {
		old = old[bytes.IndexByte(old, '\n')+1:]
	}
	if err := replace(dir, historyFile, append(append(old, line...), '\n')); err != nil {
		return fmt.Errorf("record a run: %w", err)
	}
	return nil
}

// History returns the runs of a filesystem, oldest first. Lines that are none
// are left out: the history is there to be read, whatever became of it.
func (s *Store) History(uuid string) ([]Run, error) {
	if !plain.MatchString(uuid) {
		return nil, fmt.Errorf("read the history of filesystem %q: %w", uuid, ErrName)
	}
	f, err := os.Open(filepath.Join(s.dir, uuid, historyFile))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read the history: %w", err)
	}
	defer func() { _ = f.Close() }()
	var runs []Run
	lines := bufio.NewScanner(f)
	lines.Buffer(nil, maxLine)
	for lines.Scan() {
		var r Run
		if json.Unmarshal(lines.Bytes(), &r) == nil && r.UUID == uuid && !r.Began.IsZero() {
			runs = append(runs, r)
		}
	}
	if err := lines.Err(); err != nil && !errors.Is(err, bufio.ErrTooLong) {
		return nil, fmt.Errorf("read the history: %w", err)
	}
	return runs, nil
}

// Filesystems returns the UUIDs of the filesystems that have a history.
func (s *Store) Filesystems() ([]string, error) {
	entries, err := os.ReadDir(s.dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("list filesystems with a history: %w", err)
	}
	var uuids []string
	for _, e := range entries {
		if !plain.MatchString(e.Name()) {
			continue
		}
		if _, err := os.Stat(filepath.Join(s.dir, e.Name(), historyFile)); err == nil {
			uuids = append(uuids, e.Name())
		}
	}
	return uuids, nil
}

// LastComplete is the newest run that got through, nil when there is none.
func LastComplete(runs []Run) *Run {
	var last *Run
	for i := range runs {
		if runs[i].Complete && (last == nil || runs[i].Ended.After(last.Ended)) {
			last = &runs[i]
		}
	}
	return last
}

// replace puts contents under a name as a whole: whoever reads, or a crash,
// finds the old file or the new one.
func replace(dir, name string, contents []byte) (err error) {
	f, err := os.CreateTemp(dir, ".new-*") // mode 0600
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			_ = os.Remove(f.Name())
		}
	}()
	_, err = f.Write(contents)
	err = errors.Join(err, f.Chmod(fileMode), f.Sync())
	err = errors.Join(err, f.Close())
	if err == nil {
		err = os.Rename(f.Name(), filepath.Join(dir, name))
	}
	if err != nil {
		return err
	}
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// lock keeps two runs that end at once from losing one of the two lines.
func lock(dir string) (unlock func(), err error) {
	f, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	for {
		err = unix.Flock(int(f.Fd()), unix.LOCK_EX)
		if !errors.Is(err, unix.EINTR) {
			break
		}
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("lock %s: %w", dir, err), f.Close())
	}
	return func() { _ = f.Close() }, nil // which unlocks it
}
