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
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// place is one directory with records: UUID/history.jsonl, UUID/totals.json,
// UUID/reports/.
type place struct {
	dir                   string
	keepRuns, keepReports int
}

const (
	historyFile = "history.jsonl"
	totalsFile  = "totals.json"
	reportsDir  = "reports"
	dirMode     = 0o700
	fileMode    = 0o600
)

func (p *place) of(uuid string) string      { return filepath.Join(p.dir, uuid) }
func (p *place) reports(uuid string) string { return filepath.Join(p.dir, uuid, reportsDir) }

func (p *place) addReport(uuid, name string, report []byte) error {
	dir := p.reports(uuid)
	if err := os.MkdirAll(dir, dirMode); err != nil {
		return fmt.Errorf("keep the report: %w", err)
	}
	if err := replace(dir, name, report); err != nil {
		return fmt.Errorf("keep the report: %w", err)
	}
	if err := p.dropReports(uuid, name); err != nil {
		return fmt.Errorf("drop an old report: %w", err)
	}
	return nil
}

// dropReports removes the reports that are too many or too old, but not newest.
func (p *place) dropReports(uuid, newest string) error {
	dir := p.reports(uuid)
	names, err := os.ReadDir(dir) // sorted: the names begin with the time
	if err != nil {
		return err
	}
	names = slices.DeleteFunc(names, func(e os.DirEntry) bool { return !strings.HasSuffix(e.Name(), ".jsonl") })
	for i, e := range names {
		info, err := e.Info()
		old := err == nil && time.Since(info.ModTime()) > keepAge
		if (old || i < len(names)-p.keepReports) && e.Name() != newest {
			if err := os.Remove(filepath.Join(dir, e.Name())); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return err
			}
		}
	}
	return nil
}

// addRun adds a line to the history, and the run to the totals.
func (p *place) addRun(r *Run) error {
	dir := p.of(r.UUID)
	if err := os.MkdirAll(dir, dirMode); err != nil {
		return fmt.Errorf("record a run: %w", err)
	}
	unlock, err := lock(dir)
	if err != nil {
		return fmt.Errorf("record a run: %w", err)
	}
	defer unlock()
	totals := p.totals(r.UUID) // before: those that are not there are made of the history
	if err := p.appendLines(r.UUID, []Run{*r}); err != nil {
		return fmt.Errorf("record a run: %w", err)
	}
	totals.add(r)
	if err := p.writeTotals(r.UUID, totals); err != nil {
		return fmt.Errorf("record a run: %w", err)
	}
	return nil
}

// appendLines adds lines to the history and drops the oldest that are too many.
func (p *place) appendLines(uuid string, runs []Run) error {
	text, err := os.ReadFile(filepath.Join(p.of(uuid), historyFile))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if n := len(text); n > 0 && text[n-1] != '\n' {
		text = append(text, '\n')
	}
	for i := range runs {
		r := runs[i]
		r.Reason = r.Reason[:min(len(r.Reason), maxLine/4)]
		line, err := json.Marshal(&r)
		if err != nil {
			return err
		}
		text = append(append(text, line...), '\n')
	}
	for bytes.Count(text, []byte{'\n'}) > p.keepRuns {
		text = text[bytes.IndexByte(text, '\n')+1:]
	}
	return replace(p.of(uuid), historyFile, text)
}

func (p *place) history(uuid string) ([]Run, error) {
	f, err := os.Open(filepath.Join(p.of(uuid), historyFile))
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
		return runs, fmt.Errorf("read the history: %w", err)
	}
	return runs, nil
}

func (p *place) has(uuid string) bool {
	_, err := os.Stat(filepath.Join(p.of(uuid), historyFile))
	return err == nil
}

// stamp changes whenever the history is replaced.
func (p *place) stamp(uuid string) string {
	var st unix.Stat_t
	if unix.Stat(filepath.Join(p.of(uuid), historyFile), &st) != nil {
		return ""
	}
	return fmt.Sprintf("%d/%d/%d.%09d", st.Ino, st.Size, st.Mtim.Sec, st.Mtim.Nsec)
}

func (p *place) filesystems() ([]string, error) {
	entries, err := os.ReadDir(p.dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("list filesystems with a history: %w", err)
	}
	var uuids []string
	for _, e := range entries {
		if plain.MatchString(e.Name()) && p.has(e.Name()) {
			uuids = append(uuids, e.Name())
		}
	}
	return uuids, nil
}

// take moves the records of a filesystem from another place here. What a crash
// leaves in both is in both with the same run ID, and counted once.
func (p *place) take(from *place, uuid string) error {
	unlock, err := lock(p.of(uuid))
	if err != nil {
		return err
	}
	defer unlock()
	unlockFrom, err := lock(from.of(uuid))
	if err != nil {
		return err
	}
	defer unlockFrom()
	runs, err := from.history(uuid)
	if err != nil {
		return err
	}
	if err := p.takeReports(from, uuid, runs); err != nil {
		return err
	}
	here, err := p.history(uuid)
	if err != nil {
		return err
	}
	totals := p.totals(uuid)
	totals.merge(from.totals(uuid))
	if err := p.replaceHistory(uuid, merge(here, runs)); err != nil {
		return err
	}
	if err := p.writeTotals(uuid, totals); err != nil {
		return err
	}
	return errors.Join(gone(filepath.Join(from.of(uuid), historyFile)), gone(filepath.Join(from.of(uuid), totalsFile)))
}

// replaceHistory writes a history of those runs alone.
func (p *place) replaceHistory(uuid string, runs []Run) error {
	var text bytes.Buffer
	for i := max(0, len(runs)-p.keepRuns); i < len(runs); i++ {
		line, err := json.Marshal(&runs[i])
		if err != nil {
			return err
		}
		text.Write(append(line, '\n'))
	}
	return replace(p.of(uuid), historyFile, text.Bytes())
}

func (p *place) takeReports(from *place, uuid string, runs []Run) error {
	for i := range runs {
		name := runs[i].Report
		if name == "" || filepath.Base(name) != name {
			continue
		}
		report, err := os.ReadFile(filepath.Join(from.reports(uuid), name))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err == nil {
			err = p.addReport(uuid, name, report)
		}
		if err == nil {
			err = gone(filepath.Join(from.reports(uuid), name))
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func gone(name string) error {
	if err := os.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
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
