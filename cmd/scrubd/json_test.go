package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/scrubd/scrubd/ioctl"
	"github.com/scrubd/scrubd/scrub"
)

// jsonLines decodes every line by itself.
func jsonLines(t *testing.T, out []byte) []map[string]any {
	t.Helper()
	var lines []map[string]any
	for line := range bytes.Lines(out) {
		var m map[string]any
		require.NoError(t, json.Unmarshal(line, &m), "%s", line)
		lines = append(lines, m)
	}
	return lines
}

func TestJSONReport(t *testing.T) {
	var out bytes.Buffer
	r := newJSONReporter(&out, "/data", true, true)
	r.event(testStart)
	r.event(&scrub.RepairEvent{
		FindingID: "f-1", What: "rebuild rmapbt of AG 0", Type: ioctl.ScrubTypeRMAPBT, Forced: true, Began: true,
	})
	r.event(&scrub.RepairEvent{
		FindingID: "f-2", What: "rebuild the data fork of inode 500", Type: ioctl.ScrubTypeBMBTD, Ino: 500,
		Err: errors.New("no space"),
	})
	r.event(&scrub.FindingEvent{Finding: offsetFinding()})
	r.end(testSummary(offsetFinding()), 0, nil)
	require.NoError(t, r.failed())
	want := []string{
		`{"message_type":"start","path":"/data","mode":"repair","autofsck":"unset","coverage":{` +
			`"checked":["kernel scrub","rmapbt against forks","bnobt"],` +
			`"not_checked":[{"what":"quotas","why":"none are in use"}],"kernel_scrub":true,"repair":true,"rmapbt":true,"live_updates":false}}`,
		`{"message_type":"repair","path":"/data","state":"began","what":"rebuild rmapbt of AG 0","scrub_type":"rmapbt","agno":0,"forced":true}`,
		`{"message_type":"repair","path":"/data","state":"ended","what":"rebuild the data fork of inode 500",` +
			`"scrub_type":"bmapbtd","inode":500,"forced":false,"error":"no space"}`,
		`{"message_type":"finding","path":"/data","finding_id":"","severity":"corruption","outcome":"repaired","at_fault":"rmapbt",` +
			`"arbitration_row":12,"summary":"the rmapbt has another file offset than the file","agno":0,` +
			`"extents":[{"agno":0,"start_agblock":72,"length_fsblocks":16}],` +
			`"files":[{"inode":432,"generation":7,"path":"dir/file"}],` +
			`"witnesses":[{"name":"fork","says":"offset 0"},{"name":"rmapbt","says":"offset 25"},{"name":"bnobt","says":"in use"}],` +
			`"done":["rebuilt rmapbt of AG 0","proof: equal to the forks"]}`,
		`{"message_type":"summary","path":"/data","mode":"repair","exit_status":0,"complete":true,"coverage":{` +
			`"checked":["kernel scrub","rmapbt against forks","bnobt"],` +
			`"not_checked":[{"what":"quotas","why":"none are in use"}],"kernel_scrub":true,"repair":true,"rmapbt":true,"live_updates":false},` +
			`"findings":{"repaired":1},"warnings":0,"optimizations_possible":0,"optimized":0,"unchecked_objects":0,"inodes":10003,"extents":12555,"ags":4,"repairs":0}`,
	}
	assert.Equal(t, strings.Join(want, "\n")+"\n", out.String())
}

// What a run leaves out is in its start and in its summary.
func TestJSONReportOfAResumedRun(t *testing.T) {
	var out bytes.Buffer
	r := newJSONReporter(&out, "/data", true, false)
	start, s := *testStart, testSummary()
	start.Resumed = &scrub.Resumed{RunID: "run-0", Since: time.Date(2026, 11, 1, 2, 3, 4, 0, time.UTC), AGs: 4, Inodes: 9000}
	s.Resumed, s.Checkpoint = start.Resumed, true
	r.event(&start)
	r.end(s, 0, nil)
	require.NoError(t, r.failed())
	for _, line := range jsonLines(t, out.Bytes()) {
		assert.Equal(t, map[string]any{"run_id": "run-0", "since": "2026-11-01T02:03:04Z", "ags": 4.0, "inodes": 9000.0}, line["resumed"])
		assert.Equal(t, line["message_type"] == "summary", line["checkpoint"] == true)
	}
}

func TestJSONSummaryOfAnErrorHasErrorAndAdvice(t *testing.T) {
	var out bytes.Buffer
	r := newJSONReporter(&out, "/boot", true, false)
	r.end(nil, exitOperational, &notXFSError{Path: "/boot", FSType: "ext4", MountPoint: "/boot"})
	line := jsonLines(t, out.Bytes())[0]
	assert.Equal(t, "summary", line["message_type"])
	assert.Equal(t, "/boot: not an XFS filesystem (ext4 is mounted at /boot)", line["error"])
	assert.Contains(t, line["advice"], "findmnt")
	assert.InDelta(t, exitOperational, line["exit_status"], 0)
	assert.Equal(t, false, line["complete"])
}

// A finding reaches the stream in its final state even if the run told of it
// before it was repaired, or not at all.
func TestJSONFindingsEndInTheirFinalState(t *testing.T) {
	var out bytes.Buffer
	r := newJSONReporter(&out, "/data", true, false)
	r.event(testStart)
	early := offsetFinding()
	early.Outcome = scrub.Repairable
	r.event(&scrub.FindingEvent{Finding: early})
	r.end(testSummary(offsetFinding(), heldFinding()), 1, nil)
	var got []string
	for _, m := range jsonLines(t, out.Bytes()) {
		if m["message_type"] == "finding" {
			got = append(got, fmt.Sprint(m["finding_id"], " ", m["outcome"]))
		}
	}
	assert.Equal(t, []string{"f-1 repairable", "f-1 repaired", "f-2 held"}, got)
}

func TestJSONNamesThatAreNotUTF8AreThereInBytes(t *testing.T) {
	var out bytes.Buffer
	f := offsetFinding()
	f.Files[0].Path = "a\xffb"
	newJSONReporter(&out, "/data", true, false).event(&scrub.FindingEvent{Finding: f})
	var m jsonFinding
	require.NoError(t, json.Unmarshal(out.Bytes(), &m))
	assert.Equal(t, "a\xffb", string(m.Files[0].PathBytes))
	assert.Equal(t, "a\ufffdb", m.Files[0].Path)
}

func TestJSONProgressIsRareButShowsEveryPhase(t *testing.T) {
	var out bytes.Buffer
	r := newJSONReporter(&out, "/data", true, false)
	now := time.Date(2026, 11, 21, 0, 0, 0, 0, time.UTC)
	r.now = func() time.Time { return now }
	for i := range 100 { // ten a second
		phase := scrub.PhaseWalk
		if i >= 55 {
			phase = scrub.PhaseInodes
		}
		r.event(&scrub.ProgressEvent{
			Phase: phase, Done: uint64(i), Total: 100, Fraction: float64(i) / 100,
			Elapsed: time.Duration(i) * 100 * time.Millisecond, Call: "scrub inode 5", CallAge: 90 * time.Second,
		})
		now = now.Add(100 * time.Millisecond)
	}
	lines := jsonLines(t, out.Bytes())
	assert.Len(t, lines, 11, "one a second and one for the new phase")
	last := lines[len(lines)-1]
	assert.Equal(t, "inodes", last["phase"])
	assert.Equal(t, "scrub inode 5", last["call"])
	assert.InDelta(t, 90, last["call_seconds"], 0)
	assert.InDelta(t, 100, last["total_items"], 0)
	assert.Contains(t, last, "eta_seconds")
	assert.NotContains(t, lines[0], "eta_seconds", "too early to say")
}

// docs/json.md names every field of every message.
func TestJSONFieldsAreDocumented(t *testing.T) {
	doc, err := os.ReadFile("../../docs/json.md")
	require.NoError(t, err)
	sections := map[string]any{
		"start": jsonStart{}, "progress": jsonProgress{}, "finding": jsonFinding{}, "repair": jsonRepair{},
		"plan": jsonPlan{}, "summary": jsonSummary{}, "probe": probeReport{},
	}
	for name, message := range sections {
		_, section, found := strings.Cut(string(doc), "\n## `"+name+"`\n")
		require.True(t, found, "docs/json.md has no section `%s`", name)
		section, _, _ = strings.Cut(section, "\n## ")
		for _, field := range jsonFields(reflect.TypeOf(message)) {
			if field == "message_type" || field == "path" || field == "time" {
				continue // said once for all messages
			}
			assert.Contains(t, section, "| `"+field+"` |", "docs/json.md, section %s", name)
		}
	}
}

// jsonFields lists the fields of a message with those of the objects in it, as
// docs/json.md writes them: coverage.checked, extents[].agno.
func jsonFields(t reflect.Type) []string {
	var fields []string
	for i := range t.NumField() {
		f := t.Field(i)
		if f.Anonymous {
			fields = append(fields, jsonFields(f.Type)...)
			continue
		}
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		fields = append(fields, name)
		inner, dot := f.Type, "."
		for inner.Kind() == reflect.Pointer || inner.Kind() == reflect.Slice {
			if inner.Kind() == reflect.Slice {
				dot = "[]."
			}
			inner = inner.Elem()
		}
		if inner.Kind() == reflect.Struct {
			for _, sub := range jsonFields(inner) {
				fields = append(fields, name+dot+sub)
			}
		}
	}
	return fields
}
