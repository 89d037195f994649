package main

import (
	"testing"

	"github.com/sirupsen/logrus/hooks/test"
	"github.com/stretchr/testify/assert"

	"github.com/scrubd/scrubd/ioctl"
	"github.com/scrubd/scrubd/scrub"
	"github.com/scrubd/scrubd/systemd"
)

// Data at risk is logged once for a place: when it is confirmed, or with the
// finding where nothing was told before.
func TestJournalOfRisk(t *testing.T) {
	risk := func(realtime bool, agno uint32) scrub.Event {
		extents := []scrub.Extent{{StartBlock: 502, BlockCount: 3}, {StartBlock: 600, BlockCount: 1}}
		return &scrub.RiskEvent{AGNo: ioctl.AGNumber(agno), Realtime: realtime, Extents: extents}
	}
	finding := func(row int, realtime bool, agno uint32) scrub.Event {
		return &scrub.FindingEvent{Finding: &scrub.Finding{
			ID: "x", Row: row, Severity: scrub.Critical, Outcome: scrub.Repairable, HasAG: !realtime, Realtime: realtime, AGNo: ioctl.AGNumber(agno),
		}}
	}
	for _, c := range []struct {
		name   string
		events []scrub.Event
		want   int
	}{
		{"confirmed, then a finding", []scrub.Event{risk(false, 1), finding(4, false, 1), finding(4, false, 1)}, 1},
		{"a finding alone", []scrub.Event{finding(4, false, 1), finding(4, false, 1)}, 1},
		{"of another group", []scrub.Event{risk(false, 1), finding(4, false, 2)}, 2},
		{"of a realtime group", []scrub.Event{risk(false, 1), risk(true, 1), finding(4, true, 1)}, 2},
		{"another kind", []scrub.Event{risk(false, 1), finding(5, false, 1)}, 2},
	} {
		t.Run(c.name, func(t *testing.T) {
			log, hook := test.NewNullLogger()
			r := newJournalReporter(log, &target{MountPoint: "/one"})
			for _, e := range c.events {
				r.event(e)
			}
			for _, e := range hook.AllEntries() {
				assert.Equal(t, systemd.KindDataAtRisk, e.Data[systemd.FieldKind])
			}
			assert.Len(t, hook.AllEntries(), c.want)
		})
	}
	log, hook := test.NewNullLogger()
	r := newJournalReporter(log, &target{MountPoint: "/one"})
	r.event(risk(false, 1))
	r.event(risk(true, 2))
	entries := hook.AllEntries()
	assert.Equal(t, "/one: CRITICAL: blocks 502+3 and 1 more of AG 1 are in use, and are free space as well", entries[0].Message)
	assert.EqualValues(t, 1, entries[0].Data[systemd.FieldAGNo])
	assert.EqualValues(t, 502, entries[0].Data[systemd.FieldAGBno])
	assert.EqualValues(t, 3, entries[0].Data[systemd.FieldBlocks])
	assert.EqualValues(t, 2, entries[1].Data[systemd.FieldRGNo])
	assert.EqualValues(t, 502, entries[1].Data[systemd.FieldRGBno])
	assert.NotContains(t, entries[1].Data, systemd.FieldAGNo)
}
