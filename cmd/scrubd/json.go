package main

import (
	"encoding/json"
	"io"
	"time"
	"unicode/utf8"

	"github.com/scrubd/scrubd/ioctl"
	"github.com/scrubd/scrubd/scrub"
	"github.com/scrubd/scrubd/service/config"
)

// The messages of --json, one object a line. docs/json.md documents every
// field; fields are only ever added. Units are in the names.

type jsonMessage struct {
	MessageType string `json:"message_type"`
	// Path is the mount point, in every message, so that a line stands alone.
	Path string `json:"path"`
	Time string `json:"time,omitempty"`
}

type jsonStart struct {
	jsonMessage
	RunID    string       `json:"run_id,omitempty"`
	Version  string       `json:"version,omitempty"`
	Device   string       `json:"device,omitempty"`
	UUID     string       `json:"uuid,omitempty"`
	Mode     string       `json:"mode"`
	Autofsck string       `json:"autofsck,omitempty"`
	Coverage jsonCoverage `json:"coverage"`

	Interrupted []jsonInterruption `json:"interrupted,omitempty"`
	Resumed     *jsonResumed       `json:"resumed,omitempty"`
}

type jsonResumed struct {
	RunID  string `json:"run_id,omitempty"`
	Since  string `json:"since,omitempty"`
	AGs    int    `json:"ags"`
	Inodes uint64 `json:"inodes"`
	Anew   string `json:"anew,omitempty"`
}

type jsonInterruption struct {
	RunID        string `json:"run_id,omitempty"`
	FindingID    string `json:"finding_id,omitempty"`
	What         string `json:"what,omitempty"`
	Summary      string `json:"summary,omitempty"`
	Began        string `json:"began,omitempty"`
	Rebooted     bool   `json:"rebooted"`
	InCall       bool   `json:"in_call"`
	Error        string `json:"error,omitempty"`
	EvidencePath string `json:"evidence_path,omitempty"`
	Now          string `json:"now,omitempty"`
}

type jsonCoverage struct {
	Checked     []string        `json:"checked"`
	NotChecked  []jsonUncovered `json:"not_checked"`
	KernelScrub bool            `json:"kernel_scrub"`
	Repair      bool            `json:"repair"`
	Rmapbt      bool            `json:"rmapbt"`
	Live        bool            `json:"live_updates"`
	LiveWhy     string          `json:"live_updates_why,omitempty"`
}

type jsonUncovered struct {
	What string `json:"what"`
	Why  string `json:"why"`
}

type jsonProgress struct {
	jsonMessage
	Phase          string   `json:"phase"`
	DoneItems      uint64   `json:"done_items"`
	TotalItems     *uint64  `json:"total_items,omitempty"`
	Fraction       float64  `json:"fraction"`
	ElapsedSeconds float64  `json:"elapsed_seconds"`
	ETASeconds     *float64 `json:"eta_seconds,omitempty"`
	Inodes         uint64   `json:"inodes"`
	Extents        uint64   `json:"extents"`
	Findings       int      `json:"findings"`
	Call           string   `json:"call,omitempty"`
	CallSeconds    float64  `json:"call_seconds,omitempty"`
}

type jsonFinding struct {
	jsonMessage
	FindingID      string        `json:"finding_id"`
	Severity       string        `json:"severity"`
	Outcome        string        `json:"outcome"`
	AtFault        string        `json:"at_fault"`
	ArbitrationRow int           `json:"arbitration_row,omitempty"`
	RowLetter      string        `json:"arbitration_row_letter,omitempty"`
	Summary        string        `json:"summary"`
	Reason         string        `json:"reason,omitempty"`
	Reasons        []string      `json:"reasons,omitempty"`
	AGNo           *uint32       `json:"agno,omitempty"`
	Extents        []jsonExtent  `json:"extents,omitempty"`
	RGNo           *uint32       `json:"rgno,omitempty"`
	RTExtents      []jsonRTRange `json:"rt_extents,omitempty"`
	Files          []jsonFile    `json:"files,omitempty"`
	ScrubTypes     []string      `json:"scrub_types,omitempty"`
	Witnesses      []jsonWitness `json:"witnesses,omitempty"`
	Done           []string      `json:"done,omitempty"`
	Failure        string        `json:"failure,omitempty"`
	Advice         string        `json:"advice,omitempty"`
	WaysOut        []jsonWayOut  `json:"ways_out,omitempty"`
	EvidencePath   string        `json:"evidence_path,omitempty"`
}

type jsonPlan struct {
	jsonMessage
	FindingID     string       `json:"finding_id,omitempty"`
	Trust         string       `json:"trust"`
	Repairs       []string     `json:"repairs"`
	Freed         []jsonExtent `json:"freed,omitempty"`
	FreedBytes    uint64       `json:"freed_bytes"`
	Restored      []jsonExtent `json:"restored,omitempty"`
	RestoredBytes uint64       `json:"restored_bytes"`
}

type jsonExtent struct {
	AGNo         uint32 `json:"agno"`
	StartAGBlock uint32 `json:"start_agblock"`
	LengthBlocks uint32 `json:"length_fsblocks"`
}

// jsonRTRange is blocks of a realtime group.
type jsonRTRange struct {
	RGNo         uint32 `json:"rgno"`
	StartRGBlock uint32 `json:"start_rgblock"`
	LengthBlocks uint32 `json:"length_fsblocks"`
}

type jsonFile struct {
	Inode      uint64 `json:"inode"`
	Generation uint32 `json:"generation"`
	Path       string `json:"path,omitempty"`
	// PathBytes has the name as it is on the disk when that is not UTF-8, in
	// base64 (encoding/json's form of bytes).
	PathBytes []byte `json:"path_base64,omitempty"`
}

type jsonWitness struct {
	Name string `json:"name"`
	Says string `json:"says"`
}

type jsonWayOut struct {
	Trust   string `json:"trust"`
	Effect  string `json:"effect"`
	Command string `json:"command,omitempty"`
}

type jsonRepair struct {
	jsonMessage
	State           string  `json:"state"`
	FindingID       string  `json:"finding_id,omitempty"`
	What            string  `json:"what"`
	ScrubType       string  `json:"scrub_type"`
	AGNo            *uint32 `json:"agno,omitempty"`
	RGNo            *uint32 `json:"rgno,omitempty"`
	Inode           *uint64 `json:"inode,omitempty"`
	Forced          bool    `json:"forced"`
	DurationSeconds float64 `json:"duration_seconds,omitempty"`
	Error           string  `json:"error,omitempty"`
}

type jsonSummary struct {
	jsonMessage
	RunID                string         `json:"run_id,omitempty"`
	Mode                 string         `json:"mode,omitempty"`
	ExitStatus           int            `json:"exit_status"`
	Complete             bool           `json:"complete"`
	Incomplete           string         `json:"incomplete,omitempty"`
	Error                string         `json:"error,omitempty"`
	Advice               string         `json:"advice,omitempty"`
	Coverage             *jsonCoverage  `json:"coverage,omitempty"`
	Findings             map[string]int `json:"findings"`
	FindingIDs           []string       `json:"finding_ids,omitempty"`
	Warnings             uint64         `json:"warnings"`
	Optimizations        uint64         `json:"optimizations_possible"`
	Optimized            uint64         `json:"optimized"`
	Notes                []string       `json:"notes,omitempty"`
	UncheckedObjects     uint64         `json:"unchecked_objects"`
	Inodes               uint64         `json:"inodes"`
	Extents              uint64         `json:"extents"`
	AGs                  uint64         `json:"ags"`
	Repairs              int            `json:"repairs"`
	Candidates           uint64         `json:"candidates,omitempty"`
	CandidatesDropped    uint64         `json:"candidates_dropped,omitempty"`
	CandidatesCaughtUp   uint64         `json:"candidates_caught_up,omitempty"`
	LiveChanges          uint64         `json:"live_changes,omitempty"`
	LiveLosses           uint64         `json:"live_losses,omitempty"`
	DroppedAtLook        []uint64       `json:"candidates_dropped_at_look,omitempty"`
	KernelCalls          uint64         `json:"kernel_calls,omitempty"`
	Began                string         `json:"began,omitempty"`
	ElapsedSeconds       float64        `json:"elapsed_seconds,omitempty"`
	Policy               string         `json:"policy,omitempty"`
	ThrottledSeconds     *float64       `json:"throttled_seconds,omitempty"`
	PeakPageableBytes    int64          `json:"peak_pageable_bytes,omitempty"`
	WalkSeconds          float64        `json:"walk_seconds,omitempty"`
	MetadataScrubSeconds float64        `json:"metadata_scrub_seconds,omitempty"`
	InodeScrubSeconds    float64        `json:"inode_scrub_seconds,omitempty"`
	ConfirmSeconds       float64        `json:"confirm_seconds,omitempty"`

	Interrupted []jsonInterruption `json:"interrupted,omitempty"`
	Resumed     *jsonResumed       `json:"resumed,omitempty"`
	Checkpoint  bool               `json:"checkpoint,omitempty"`
}

// jsonInterval is the least time between two progress messages of a phase.
const jsonInterval = time.Second

// jsonReporter writes one object a line.
type jsonReporter struct {
	enc        *json.Encoder
	path       string
	consistent bool
	progress   bool
	err        error
	now        func() time.Time
	phase      scrub.Phase
	last       time.Time
	outcomes   map[string]scrub.Outcome
}

func newJSONReporter(w io.Writer, path string, progress, consistent bool) *jsonReporter {
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	return &jsonReporter{
		enc: enc, path: path, progress: progress && !consistent, consistent: consistent,
		now: time.Now, outcomes: map[string]scrub.Outcome{},
	}
}

func (r *jsonReporter) failed() error { return r.err }

func (r *jsonReporter) write(message any) {
	if r.err == nil {
		r.err = r.enc.Encode(message)
	}
}

func (r *jsonReporter) message(kind string) jsonMessage {
	m := jsonMessage{MessageType: kind, Path: r.path}
	if !r.consistent {
		m.Time = r.now().UTC().Format(time.RFC3339Nano)
	}
	return m
}

func (r *jsonReporter) event(e scrub.Event) {
	switch e := e.(type) {
	case *scrub.StartEvent:
		r.start(e)
	case *scrub.ProgressEvent:
		r.advance(e)
	case *scrub.FindingEvent:
		r.finding(e.Finding)
	case *scrub.RepairEvent:
		r.repair(e)
	case *scrub.PlanEvent:
		r.plan(e.Plan)
	}
}

func (r *jsonReporter) start(e *scrub.StartEvent) {
	m := jsonStart{
		jsonMessage: r.message("start"), Mode: e.Mode.String(), Autofsck: e.Autofsck,
		Coverage: coverageJSON(e.Coverage), Interrupted: r.interruptions(e.Interrupted),
		Resumed: r.resumed(e.Resumed),
	}
	if !r.consistent {
		m.RunID, m.Version, m.Device, m.UUID = e.RunID, version(), e.Device, e.UUID
	}
	r.write(m)
}

// advance writes the first event of every phase, and then one a second.
func (r *jsonReporter) advance(e *scrub.ProgressEvent) {
	now := r.now()
	if !r.progress || (e.Phase == r.phase && now.Sub(r.last) < jsonInterval) {
		return
	}
	r.phase, r.last = e.Phase, now
	m := jsonProgress{
		jsonMessage: r.message("progress"), Phase: string(e.Phase), DoneItems: e.Done,
		Fraction: e.Fraction, ElapsedSeconds: e.Elapsed.Seconds(), Inodes: e.Inodes,
		Extents: e.Extents, Findings: e.Findings, Call: e.Call, CallSeconds: e.CallAge.Seconds(),
	}
	if e.Total > 0 {
		m.TotalItems = &e.Total
	}
	if left, ok := eta(e); ok {
		seconds := left.Seconds()
		m.ETASeconds = &seconds
	}
	r.write(m)
}

func (r *jsonReporter) finding(f *scrub.Finding) {
	r.outcomes[f.ID] = f.Outcome
	m := jsonFinding{
		jsonMessage: r.message("finding"), FindingID: f.ID, Severity: string(f.Severity),
		Outcome: string(f.Outcome), AtFault: f.AtFault, ArbitrationRow: f.Row, RowLetter: f.Letter, Summary: f.Summary,
		Reason: f.Reason, Reasons: f.Reasons, ScrubTypes: typeNames(f.ScrubTypes), Done: f.Done, EvidencePath: f.EvidencePath,
	}
	if f.HasAG {
		m.AGNo = agnoJSON(f.AGNo)
	}
	if f.Realtime {
		m.RGNo = agnoJSON(f.AGNo)
		for _, e := range f.Extents {
			m.RTExtents = append(m.RTExtents, jsonRTRange{uint32(e.AGNo), uint32(e.StartBlock), e.BlockCount})
		}
	} else {
		m.Extents = extentsJSON(f.Extents)
	}
	for _, file := range f.Files {
		j := jsonFile{Inode: uint64(file.Ino), Generation: uint32(file.Gen), Path: file.Path}
		if !utf8.ValidString(file.Path) {
			j.PathBytes = []byte(file.Path)
		}
		m.Files = append(m.Files, j)
	}
	for _, w := range f.Witnesses {
		m.Witnesses = append(m.Witnesses, jsonWitness(w))
	}
	for _, way := range f.WaysOut {
		m.WaysOut = append(m.WaysOut, jsonWayOut(way))
	}
	if f.Failure != nil {
		m.Failure = f.Failure.Error()
	}
	if f.Outcome == scrub.Failed {
		m.Advice = adviseRepair(f.Failure)
	}
	if r.consistent {
		m.FindingID, m.EvidencePath = "", ""
	}
	r.write(m)
}

func (r *jsonReporter) interruptions(list []scrub.Interruption) []jsonInterruption {
	var out []jsonInterruption
	for i := range list {
		in := &list[i]
		j := jsonInterruption{
			What: in.What, Summary: in.Summary, Rebooted: in.Rebooted, InCall: in.InCall, Error: in.Error, Now: string(in.Now),
		}
		if !r.consistent && in.What != "" {
			j.RunID, j.FindingID, j.EvidencePath = in.RunID, in.FindingID, in.EvidencePath
			j.Began = in.Began.UTC().Format(time.RFC3339Nano)
		}
		out = append(out, j)
	}
	return out
}

func (r *jsonReporter) resumed(s *scrub.Resumed) *jsonResumed {
	if s == nil {
		return nil
	}
	j := &jsonResumed{AGs: s.AGs, Inodes: s.Inodes, Anew: s.Anew}
	if !r.consistent {
		j.RunID, j.Since = s.RunID, s.Since.UTC().Format(time.RFC3339Nano)
	}
	return j
}

func (r *jsonReporter) repair(e *scrub.RepairEvent) {
	m := jsonRepair{
		jsonMessage: r.message("repair"), State: "ended", FindingID: e.FindingID, What: e.What,
		ScrubType: e.Type.String(), Forced: e.Forced,
	}
	if e.Began {
		m.State = "began"
	}
	switch {
	case e.Ino != 0:
		ino := uint64(e.Ino)
		m.Inode = &ino
	case e.Type.Object() == ioctl.ScrubObjectAG:
		m.AGNo = agnoJSON(e.AGNo)
	case e.Type.Object() == ioctl.ScrubObjectRTGroup:
		m.RGNo = agnoJSON(e.AGNo)
	}
	if e.Err != nil {
		m.Error = e.Err.Error()
	}
	if !r.consistent {
		m.DurationSeconds = e.Duration.Seconds()
	} else {
		m.FindingID = ""
	}
	r.write(m)
}

// end writes the summary. It is the last line of every run, also of one that
// never started.
func (r *jsonReporter) end(s *scrub.Summary, status int, err error) {
	m := jsonSummary{jsonMessage: r.message("summary"), ExitStatus: status, Findings: map[string]int{}}
	if err != nil {
		m.Error, m.Advice = err.Error(), advise(err)
	}
	if s == nil {
		for _, outcome := range r.outcomes {
			m.Findings[string(outcome)]++
		}
		r.write(m)
		return
	}
	for _, f := range s.Findings { // each is to have been seen in its final state
		if last, ok := r.outcomes[f.ID]; !ok || last != f.Outcome {
			r.finding(f)
		}
	}
	coverage := coverageJSON(s.Coverage)
	m.Coverage, m.Mode, m.Complete, m.Incomplete = &coverage, s.Mode.String(), s.Complete, s.Incomplete
	for _, f := range s.Findings {
		m.Findings[string(f.Outcome)]++
		if !r.consistent {
			m.FindingIDs = append(m.FindingIDs, f.ID)
		}
	}
	m.Warnings, m.Optimizations, m.Optimized = s.Warnings, s.OptimizationsPossible, s.Optimized
	m.Notes, m.UncheckedObjects, m.Repairs = s.Notes, s.Unchecked, s.Repairs
	m.Interrupted = r.interruptions(s.Interrupted)
	m.Resumed, m.Checkpoint = r.resumed(s.Resumed), s.Checkpoint
	m.Inodes, m.Extents, m.AGs = s.Inodes, s.Extents, s.AGs
	if !r.consistent {
		m.RunID, m.Began = s.RunID, s.Began.UTC().Format(time.RFC3339Nano)
		m.Candidates, m.CandidatesDropped, m.KernelCalls = s.Candidates, s.Dropped, s.KernelCalls
		m.CandidatesCaughtUp = s.CaughtUp
		m.LiveChanges, m.LiveLosses = s.LiveChanges, s.LiveLosses
		if s.Candidates > 0 {
			m.DroppedAtLook = s.DroppedAtLook[:]
		}
		m.PeakPageableBytes, m.ElapsedSeconds = s.PeakPageableBytes, s.Elapsed.Seconds()
		m.Policy = policyName(s.Background)
		if s.Background {
			seconds := s.Throttled.Seconds()
			m.ThrottledSeconds = &seconds
		}
		m.WalkSeconds, m.MetadataScrubSeconds = s.WalkSeconds, s.MetadataScrubSeconds
		m.InodeScrubSeconds, m.ConfirmSeconds = s.InodeScrubSeconds, s.ConfirmSeconds
	}
	r.write(m)
}

func policyName(background bool) string {
	if background {
		return string(config.Background)
	}
	return string(config.Foreground)
}

func coverageJSON(c scrub.Coverage) jsonCoverage {
	j := jsonCoverage{
		Checked: append([]string{}, c.Checked...), NotChecked: []jsonUncovered{},
		KernelScrub: c.KernelScrub, Repair: c.Repair, Rmapbt: c.Rmapbt,
		Live: c.Live, LiveWhy: c.LiveWhy,
	}
	for _, u := range c.NotChecked {
		j.NotChecked = append(j.NotChecked, jsonUncovered(u))
	}
	return j
}

// plan writes what a decision comes to, before it is confirmed.
func (r *jsonReporter) plan(plan *scrub.Plan) {
	m := jsonPlan{
		jsonMessage: r.message("plan"), Trust: plan.Trust, Repairs: plan.Repairs,
		Freed: extentsJSON(plan.Freed), FreedBytes: scrub.Blocks(plan.Freed) * uint64(plan.BlockBytes),
		Restored: extentsJSON(plan.Restored), RestoredBytes: scrub.Blocks(plan.Restored) * uint64(plan.BlockBytes),
	}
	if !r.consistent {
		m.FindingID = plan.Finding.ID
	}
	r.write(m)
}

func extentsJSON(extents []scrub.Extent) []jsonExtent {
	var out []jsonExtent
	for _, e := range extents {
		out = append(out, jsonExtent{uint32(e.AGNo), uint32(e.StartBlock), e.BlockCount})
	}
	return out
}

func agnoJSON(agno ioctl.AGNumber) *uint32 {
	n := uint32(agno)
	return &n
}

func typeNames(types []ioctl.ScrubType) []string {
	var names []string
	for _, t := range types {
		names = append(names, t.String())
	}
	return names
}
