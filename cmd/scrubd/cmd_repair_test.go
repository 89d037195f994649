package main

import (
	"bytes"
	"context"
	"encoding/json"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/scrubd/scrubd/ioctl"
	"github.com/scrubd/scrubd/scrub"
)

// decide is an engine that asks for the confirmation of a plan, as scrub.Run
// does, and tells what it was told.
func decide(plan *scrub.Plan, got *error) engine {
	return func(ctx context.Context, _ *ioctl.FS, o scrub.Options) (*scrub.Summary, error) {
		o.Events(testStart)
		o.Events(&scrub.PlanEvent{Plan: plan})
		f := *plan.Finding
		s := testSummary(&f)
		if *got = o.Choice.Confirm(ctx, plan); *got != nil {
			s.Notes = append(s.Notes, "nothing was repaired: "+(*got).Error())
			return s, nil
		}
		f.Outcome = scrub.Repaired
		return s, nil
	}
}

func forkPlan() *scrub.Plan {
	return &scrub.Plan{
		Finding: heldFinding(), Trust: scrub.TrustFork, Repairs: []string{"rebuild rmapbt of AG 3"},
		Freed: []scrub.Extent{{AGNo: 3, StartBlock: 1, BlockCount: 2}}, BlockBytes: 4096,
	}
}

// repairOn runs scrubd repair over a fake kernel.
func repairOn(t *testing.T, o *repairOptions, in string, run engine) (status int, out, log string) {
	t.Helper()
	t.Setenv("SCRUBD_CONSISTENT_OUTPUT", "1")
	k := newKernel(t)
	o.mounts = testMounts(map[string]place{"/": {Path: "/", MountID: 1}})
	o.open = func(string) (*ioctl.FS, error) { return ioctl.New(k, "/data") }
	o.thawed = func(context.Context, string, func(string)) error { return nil }
	o.engine = run
	var stdout, stderr bytes.Buffer
	err := runRepair(t.Context(), o, "/", streams{in: strings.NewReader(in), out: &stdout, err: &stderr})
	if err != nil {
		var exit *exitError
		require.ErrorAs(t, err, &exit)
		if !exit.reported {
			complain(&stderr, err)
		}
	}
	return exitStatusOf(err), stdout.String(), stderr.String()
}

func TestRepairAsksBeforeItDoesAnything(t *testing.T) {
	here := func(streams) bool { return true }
	away := func(streams) bool { return false }
	for name, c := range map[string]struct {
		o      repairOptions
		in     string
		status int
		why    string // "" where it goes on
	}{
		"nobody there":      {repairOptions{asks: away}, "yes\n", exitCorruption, "--yes"},
		"nobody there, yes": {repairOptions{asks: away, yes: true}, "", 0, ""},
		"yes":               {repairOptions{asks: here}, "yes\n", 0, ""},
		"y is not yes":      {repairOptions{asks: here}, "y\n", exitCorruption, `"y" is not yes`},
		"end of input":      {repairOptions{asks: here}, "", exitCorruption, `"" is not yes`},
		"dry run":           {repairOptions{asks: here, dryRun: true}, "yes\n", exitCorruption, "dry run"},
	} {
		t.Run(name, func(t *testing.T) {
			o := c.o
			o.finding, o.trust = "f-2", scrub.TrustFork
			var got error
			status, out, log := repairOn(t, &o, c.in, decide(forkPlan(), &got))
			assert.Equal(t, c.status, status, out+log)
			assert.Contains(t, out, "\ndecision: trust the fork: LOST FOR GOOD, freed with the data in them: 2 blocks (8,192 bytes): AG 3 blocks 1-2, inode 500\nrepairs: rebuild rmapbt of AG 3\n")
			if c.why == "" {
				require.NoError(t, got)
				return
			}
			require.ErrorContains(t, got, c.why)
			assert.Contains(t, out, "nothing was repaired: ")
		})
	}
}

func TestRepairPlanInJSON(t *testing.T) {
	o := &repairOptions{asks: func(streams) bool { return false }}
	o.finding, o.trust, o.json = "f-2", scrub.TrustFork, true
	var got error
	_, out, _ := repairOn(t, o, "", decide(forkPlan(), &got))
	var plan map[string]any
	for line := range strings.Lines(out) {
		var m map[string]any
		require.NoError(t, json.Unmarshal([]byte(line), &m))
		if m["message_type"] == "plan" {
			plan = m
		}
	}
	require.NotNil(t, plan, out)
	assert.Equal(t, "fork", plan["trust"])
	assert.InDelta(t, 8192, plan["freed_bytes"], 0)
	assert.InDelta(t, 0, plan["restored_bytes"], 0)
	assert.Equal(t, []any{map[string]any{"agno": 3.0, "start_agblock": 1.0, "length_fsblocks": 2.0}}, plan["freed"])
}

func TestRepairThatIsRefused(t *testing.T) {
	o := &repairOptions{yes: true}
	o.finding, o.trust = "f-2", scrub.TrustRmap
	status, out, log := repairOn(t, o, "", func(_ context.Context, _ *ioctl.FS, o scrub.Options) (*scrub.Summary, error) {
		o.Events(testStart)
		s := testSummary(heldFinding())
		s.Complete = false
		return s, &scrub.ChoiceError{FindingID: "f-2", Trust: "rmap", Whys: []string{"the bnobt scrub of AG 3 says corrupt"}}
	})
	assert.Equal(t, exitOperational|exitCorruption, status)
	assert.Contains(t, out, "not finished: trusting the rmap in finding f-2 cannot be carried out: the bnobt scrub of AG 3 says corrupt")
	assert.Contains(t, log, "scrubd: what to do: nothing was done; ")
}

// What an earlier run left is told at the start, and how it stands at the end.
func TestReportOfAnInterruptedRun(t *testing.T) {
	left := []scrub.Interruption{
		{RunID: "run-0", FindingID: "f-1", What: "rebuild rmapbt of AG 0", Summary: "the rmapbt is wrong", InCall: true, Rebooted: true},
		{RunID: "run-0", FindingID: "f-9", What: "repair fscounters"},
		{},
	}
	start := *testStart
	start.Interrupted = left
	s := testSummary(offsetFinding())
	s.Interrupted = append(s.Interrupted, left...)
	s.Interrupted[0].Now = scrub.Repaired
	var out bytes.Buffer
	r := newTextReporter(&out, testTarget, true)
	r.event(&start)
	r.end(s, 0, nil)
	for _, line := range []string{
		`interrupted: an earlier run was ended by the end of the machine during "rebuild rmapbt of AG 0", before that was proven (the rmapbt is wrong); judged anew`,
		`interrupted: an earlier run was stopped after "repair fscounters", before that was proven; judged anew`,
		`interrupted: a record of an earlier run was cut off while it was written: a repair was about to begin, or had just ended; judged anew`,
		`note: rebuild rmapbt of AG 0, interrupted earlier: see the finding above (repaired)`,
		`note: repair fscounters, interrupted earlier: its fault is not there any more`,
	} {
		assert.Contains(t, out.String(), "\n"+line+"\n")
	}
	out.Reset()
	j := newJSONReporter(&out, "/data", false, false)
	j.event(&start)
	j.end(s, 0, nil)
	first, _, _ := strings.Cut(out.String(), "\n")
	assert.Contains(t, first, `"interrupted":[{"run_id":"run-0","finding_id":"f-1","what":"rebuild rmapbt of AG 0"`)
	assert.Contains(t, out.String(), `"now":"repaired"`)
}
