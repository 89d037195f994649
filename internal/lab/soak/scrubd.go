package soak

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// Scrub is one run of scrubd on one of the filesystems: a line of the results.
type Scrub struct {
	Geometry string `json:"geometry"`
	Kernel   string `json:"kernel_release"`
	Seed     uint64 `json:"seed"`
	Number   int    `json:"run"`
	// Live is whether live updates were on, which not every kernel has; missing
	// where this scrubd knows none.
	Live *bool `json:"live,omitempty"`
	// Coverage is what of it scrubd says itself.
	Coverage struct {
		Live   bool `json:"live_updates"`
		Repair bool `json:"repair"`
	} `json:"coverage"`

	ExitStatus        int            `json:"exit_status"`
	Complete          bool           `json:"complete"`
	Findings          map[string]int `json:"findings"`
	Repairs           int            `json:"repairs"`
	Optimized         uint64         `json:"optimized"`
	Optimizable       uint64         `json:"optimizations_possible"`
	Unchecked         uint64         `json:"unchecked_objects"`
	Inodes            uint64         `json:"inodes"`
	Extents           uint64         `json:"extents"`
	Candidates        uint64         `json:"candidates"`
	CandidatesDropped uint64         `json:"candidates_dropped"`
	// CaughtUp is how many were gone once live updates were taken in, before
	// anything had to be looked at.
	CaughtUp uint64 `json:"candidates_caught_up,omitempty"`
	// DroppedAtLook is how many were dropped at the first look, the second, ...,
	// and at all from the last one on.
	DroppedAtLook []uint64 `json:"candidates_dropped_at_look,omitempty"`
	Notes         []string `json:"notes,omitempty"`
	Incomplete    string   `json:"incomplete,omitempty"`
	Elapsed       float64  `json:"elapsed_seconds"`
	Walk          float64  `json:"walk_seconds"`
	InodeScrub    float64  `json:"inode_scrub_seconds"`
	Confirm       float64  `json:"confirm_seconds"`

	// Alarms are the messages of every finding and repair, as scrubd printed
	// them, and Log what it wrote to standard error, where the run was not well.
	Alarms []json.RawMessage `json:"alarms,omitempty"`
	Log    string            `json:"log,omitempty"`
	// Lost says why there is no summary: it hung or crashed.
	Lost string `json:"lost,omitempty"`
}

// Unsettled is how many candidates could neither be confirmed nor dropped.
func (s *Scrub) Unsettled() int { return s.Findings[unsettled] }

const unsettled = "unsettled"

// Well says whether the run told the truth about a healthy filesystem: at the
// worst that something is not settled.
func (s *Scrub) Well() bool {
	for outcome, n := range s.Findings {
		if n > 0 && outcome != unsettled {
			return false
		}
	}
	// Where the kernel cannot repair it cannot tidy up either, and says so.
	may := 0
	if s.Unsettled() > 0 {
		may |= statusOperational
	}
	if s.Optimizable > 0 && !s.Coverage.Repair {
		may |= statusOptimizable
	}
	return s.Lost == "" && s.Complete && s.Repairs == 0 && s.ExitStatus&^may == 0
}

// Bits of the exit status: for what could be better, and what could not be checked.
const (
	statusOptimizable = 2
	statusOperational = 4
)

// program is the scrubd under test.
type program struct {
	path string
	live bool // it has live updates, which can be switched off
}

// newProgram asks scrubd what it knows.
func newProgram(ctx context.Context, path string) (program, error) {
	out, err := exec.CommandContext(ctx, path, "run", "--help").CombinedOutput()
	if err != nil {
		return program{}, fmt.Errorf("%s run --help: %w: %s", path, err, out)
	}
	return program{path: path, live: bytes.Contains(out, []byte("--no-live"))}, nil
}

// once runs scrubd on mnt. A run that takes longer than limit is made to say
// where it hangs, and killed.
func (p program) once(ctx context.Context, mnt, stateDir string, live bool, limit time.Duration) Scrub {
	args := []string{"run", "--now", "--json", "--no-progress", "--state-dir", stateDir}
	if p.live && !live {
		args = append(args, "--no-live")
	}
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	cmd := exec.CommandContext(ctx, p.path, append(args, mnt)...)
	// Files, not pipes: on a machine this busy the reader of a pipe can be late.
	dir, err := os.MkdirTemp("", "scrubd-run-")
	if err != nil {
		return Scrub{Lost: err.Error()}
	}
	defer func() { _ = os.RemoveAll(dir) }()
	out, err := os.Create(filepath.Join(dir, "out"))
	if err != nil {
		return Scrub{Lost: err.Error()}
	}
	defer out.Close()
	log, err := os.Create(filepath.Join(dir, "log"))
	if err != nil {
		return Scrub{Lost: err.Error()}
	}
	defer log.Close()
	cmd.Stdout, cmd.Stderr = out, log
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGQUIT) } // all stacks
	cmd.WaitDelay = 10 * time.Second
	began := time.Now()
	err = cmd.Run()
	said, rerr := os.ReadFile(out.Name())
	s := read(said)
	if rerr != nil {
		s.Lost = rerr.Error()
	}
	if s.Elapsed == 0 {
		s.Elapsed = time.Since(began).Seconds()
	}
	if p.live {
		live = live && s.Coverage.Live
		s.Live = &live
	}
	switch {
	case ctx.Err() != nil:
		s.Lost = fmt.Sprintf("did not end within %s", limit)
	case cmd.ProcessState == nil:
		s.Lost = err.Error()
	case cmd.ProcessState.ExitCode() < 0:
		s.Lost = cmd.ProcessState.String()
	case cmd.ProcessState.ExitCode() != s.ExitStatus && s.Lost == "":
		s.Lost = fmt.Sprintf("exit status %d, but the summary says %d", cmd.ProcessState.ExitCode(), s.ExitStatus)
	}
	if s.Well() && s.ExitStatus == 0 {
		s.Alarms = nil
	} else {
		text, _ := os.ReadFile(log.Name())
		s.Log = string(text)
	}
	return s
}

// read takes up what a run printed.
func read(out []byte) Scrub {
	s := Scrub{Lost: "no summary"}
	for line := range bytes.Lines(out) {
		var head struct {
			Type string `json:"message_type"`
		}
		if err := json.Unmarshal(line, &head); err != nil {
			s.Lost = fmt.Sprintf("not JSON: %q", line)
			return s
		}
		switch head.Type {
		case "finding", "repair":
			s.Alarms = append(s.Alarms, json.RawMessage(strings.TrimSpace(string(line))))
		case "summary":
			s.Lost = ""
			if err := json.Unmarshal(line, &s); err != nil {
				s.Lost = errors.Join(errors.New("a summary that is none"), err).Error()
			}
		}
	}
	return s
}
