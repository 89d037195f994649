package metrics

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/scrubd/scrubd/service/record"
)

// metric is one metric: its name, what it is, and its own labels.
type metric struct {
	desc *prometheus.Desc
	kind prometheus.ValueType
	// Name, Help and Labels are those of desc; a histogram has its own kind.
	Name, Help string
	Labels     []string
	Histogram  bool
}

// ofFilesystem are the labels of all that is said of one filesystem.
var ofFilesystem = []string{"uuid", "mountpoint"}

var all []*metric

func define(kind prometheus.ValueType, name, help string, labels ...string) *metric {
	m := &metric{prometheus.NewDesc(name, help, labels, nil), kind, name, help, labels, false}
	all = append(all, m)
	return m
}

func gauge(name, help string, labels ...string) *metric {
	return define(prometheus.GaugeValue, name, help, append(ofFilesystem[:2:2], labels...)...)
}

func counter(name, help string, labels ...string) *metric {
	return define(prometheus.CounterValue, name, help, append(ofFilesystem[:2:2], labels...)...)
}

// The metrics. Names and labels never change their meaning; docs/operations.md
// lists them.
var (
	buildInfo = define(prometheus.GaugeValue, "scrubd_build_info", "Version of the program; always 1.", "version")

	info     = gauge("scrubd_filesystem_info", "Device of a mounted XFS filesystem; always 1.", "device")
	state    = gauge("scrubd_filesystem_state", "1 for the state that the daemon has the filesystem in, 0 for all others.", "state")
	next     = gauge("scrubd_next_run_timestamp_seconds", "When the daemon plans the next run.")
	overdue  = gauge("scrubd_overdue", "1 if the last complete run is longer ago than is allowed.")
	allowed  = gauge("scrubd_overdue_after_seconds", "Age of the last complete run from which on it is overdue; 0 if never.")
	coverage = gauge("scrubd_coverage_age_seconds", "Time since the oldest check of the last complete run, or since the filesystem was first seen.")

	oldest   = gauge("scrubd_coverage_oldest_age_seconds", "Time since the allocation group was last found well that this is longest ago of.")
	unproven = gauge("scrubd_coverage_unproven_ags", "Allocation groups that no recorded run has found well.")

	lastRun      = gauge("scrubd_last_run_timestamp_seconds", "When the last run ended.")
	lastComplete = gauge("scrubd_last_complete_run_timestamp_seconds", "When the last run ended that got through.")
	lastSuccess  = gauge("scrubd_last_success_timestamp_seconds", "When the last run ended that got through and left no corruption.")
	lastDuration = gauge("scrubd_last_run_duration_seconds", "How long the last run took.")
	lastStatus   = gauge("scrubd_last_run_exit_status", "Exit status of the last run, a sum: 1 corruption left, 2 warnings, 4 not done or finished.")
	lastResult   = gauge("scrubd_last_run_result", "1 for the result of the last run, 0 for all others.", "result")
	lastFindings = gauge("scrubd_last_run_findings", "Findings of the last run, by the structure at fault and the outcome.", "verdict", "outcome")

	runs          = counter("scrubd_runs_total", "Runs that ended, by result.", "result")
	findings      = counter("scrubd_findings_total", "Findings of all runs, by the structure at fault and the outcome.", "verdict", "outcome")
	repairs       = counter("scrubd_repairs_total", "Repair calls of the kernel, by outcome.", "outcome")
	checkedInodes = counter("scrubd_checked_inodes_total", "Inodes that were checked.")
	checkedBytes  = counter("scrubd_checked_bytes_total", "Bytes of filesystem space whose owners were compared.")
	runSeconds    = counter("scrubd_run_seconds_total", "Time that runs took.")
	throttled     = counter("scrubd_throttled_seconds_total", "Time that runs rested for the sake of others.")

	kernelCalls = histogram("scrubd_kernel_call_duration_seconds",
		"Duration of the kernel's scrub and repair calls of all filesystems; a call for several types counts for the first.",
		"scrub_type", "operation")
)

func histogram(name, help string, labels ...string) *metric {
	m := define(prometheus.UntypedValue, name, help, labels...)
	m.Histogram = true
	return m
}

// collector tells one snapshot.
type collector struct{ s *Snapshot }

// Describe sends all there is.
func (collector) Describe(out chan<- *prometheus.Desc) {
	for _, m := range all {
		out <- m.desc
	}
}

// Collect sends what is known.
func (c collector) Collect(out chan<- prometheus.Metric) {
	send := func(m *metric, value float64, labels ...string) {
		out <- prometheus.MustNewConstMetric(m.desc, m.kind, value, labels...)
	}
	send(buildInfo, 1, c.s.Version)
	for i := range c.s.Filesystems {
		f := &c.s.Filesystems[i]
		of := func(m *metric, value float64, labels ...string) {
			send(m, value, append([]string{f.UUID, f.Mount}, labels...)...)
		}
		f.present(c.s, of)
		f.ofLast(of)
		f.ofTotals(of)
	}
	for i := range c.s.KernelCalls {
		if m := histogramOf(&c.s.KernelCalls[i]); m != nil {
			out <- m
		}
	}
}

// sender sends a metric of one filesystem.
type sender func(m *metric, value float64, labels ...string)

// present tells how the filesystem is now.
func (f *Filesystem) present(s *Snapshot, send sender) {
	send(info, 1, f.Device)
	if f.State != "" {
		for _, name := range States {
			send(state, truth(name == f.State), name)
		}
	}
	if !f.Next.IsZero() {
		send(next, unix(f.Next))
	}
	send(overdue, truth(f.Overdue))
	send(allowed, f.OverdueAfter.Seconds())
	if !f.Since.IsZero() {
		send(coverage, max(0, s.Now.Sub(f.Since).Seconds()))
	}
	if t := &f.Totals; t.AGs > 0 {
		if since := t.OldestWell(); !since.IsZero() {
			send(oldest, max(0, s.Now.Sub(since).Seconds()))
		}
		send(unproven, float64(t.UnprovenAGs()))
	}
	if f.LastComplete != nil {
		send(lastComplete, unix(f.LastComplete.Ended))
	}
	if f.LastSuccess != nil {
		send(lastSuccess, unix(f.LastSuccess.Ended))
	}
}

func (f *Filesystem) ofLast(send sender) {
	r := f.Last
	if r == nil {
		return
	}
	send(lastRun, unix(r.Ended))
	send(lastDuration, max(0, r.Ended.Sub(r.Began).Seconds()))
	send(lastStatus, float64(r.ExitStatus))
	for _, name := range record.Results() {
		send(lastResult, truth(name == r.Result()), name)
	}
	for verdict, outcomes := range r.Verdicts {
		for outcome, n := range outcomes {
			send(lastFindings, float64(n), verdict, outcome)
		}
	}
}

func (f *Filesystem) ofTotals(send sender) {
	t := &f.Totals
	for _, name := range record.Results() { // all, so that the first one is an increase
		send(runs, float64(t.Runs[name]), name)
	}
	for verdict, outcomes := range t.Verdicts {
		for outcome, n := range outcomes {
			send(findings, float64(n), verdict, outcome)
		}
	}
	send(repairs, float64(t.RepairsDone), "done")
	send(repairs, float64(t.RepairsFailed), "failed")
	send(checkedInodes, float64(t.Inodes))
	send(checkedBytes, float64(t.CheckedBytes))
	send(runSeconds, t.RunSeconds)
	send(throttled, t.ThrottledSeconds)
}

// histogramOf is nil for calls that make no histogram.
func histogramOf(c *record.KernelCalls) prometheus.Metric {
	operation := "check"
	if c.Repair {
		operation = "repair"
	}
	buckets := make(map[float64]uint64, len(c.Bounds))
	sum := uint64(0)
	for i, bound := range c.Bounds {
		sum += c.Buckets[i]
		buckets[bound] = sum
	}
	m, err := prometheus.NewConstHistogram(kernelCalls.desc, c.Count, c.Seconds, buckets, c.ScrubType, operation)
	if err != nil {
		return nil
	}
	return m
}

func truth(b bool) float64 {
	if b {
		return 1
	}
	return 0
}
