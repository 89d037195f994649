package metrics

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/scrubd/scrubd/internal/lab"
	"github.com/scrubd/scrubd/service/record"
)

var now = time.Date(2026, 11, 8, 12, 0, 0, 0, time.UTC)

const uuid = "0d0a5f11-5d5c-4a7e-9d0b-f0ddc0ffee00"

// sample is a snapshot in which there is something of everything, beside a
// filesystem of which nothing is known.
func sample(t *testing.T) *Snapshot {
	t.Helper()
	store := record.New(t.TempDir())
	for i, r := range []record.Run{
		{
			Complete: true, Inodes: 10, CheckedBytes: 1 << 30, ThrottledSeconds: 1.5,
			AGs: 8, Well: []record.WellAGs{{First: 0, Last: 6, Since: now.Add(-5 * 24 * time.Hour)}},
		},
		{
			Complete: true, ExitStatus: 1, Inodes: 20, CheckedBytes: 1 << 30, Repairs: 3, RepairsFailed: 1,
			AGs: 8, Well: []record.WellAGs{{First: 0, Last: 3, Since: now.Add(-3 * 24 * time.Hour)}},
			CheckedSince: now.Add(-3 * 24 * time.Hour),
			Verdicts:     map[string]map[string]int{"rmapbt": {"repaired": 2}, "undecided": {"held": 1}},
			KernelCalls: []record.KernelCalls{
				{ScrubType: "rmapbt", Count: 4, Seconds: 70, Bounds: []float64{0.1, 60}, Buckets: []uint64{1, 2}},
				{ScrubType: "rmapbt", Repair: true, Count: 1, Seconds: 5, Bounds: []float64{0.1, 60}, Buckets: []uint64{0, 1}},
			},
		},
		{Stopped: true, ExitStatus: 4, Verdicts: map[string]map[string]int{"fork": {"unsettled": 2}}},
	} {
		r.RunID, r.UUID, r.Mount, r.Device = fmt.Sprint("r", i), uuid, "/srv", "/dev/sda"
		r.Began = now.Add(time.Duration(i-3) * 24 * time.Hour)
		r.Ended = r.Began.Add(time.Hour)
		require.NoError(t, store.Add(r, nil))
	}
	f := Filesystem{
		UUID: uuid, Mount: "/srv", Device: "/dev/sda", State: "queued", Next: now.Add(time.Hour),
		Overdue: true, OverdueAfter: 3 * 7 * 24 * time.Hour,
	}
	require.NoError(t, f.Fill(store))
	calls, err := KernelCalls(store)
	require.NoError(t, err)
	return &Snapshot{
		Now: now, Version: "1.2", KernelCalls: calls,
		Filesystems: []Filesystem{f, {UUID: "00", Mount: "/a \"b\"\n\xff", Device: "/dev/x"}},
	}
}

// text is what a reader of the textfile gets.
func text(t *testing.T, s *Snapshot) string {
	t.Helper()
	dir := t.TempDir()
	require.NoError(t, WriteTextfile(dir, s))
	out, err := os.ReadFile(filepath.Join(dir, Textfile))
	require.NoError(t, err)
	return string(out)
}

// has looks for a line.
func has(t *testing.T, text, line string) {
	t.Helper()
	if !strings.Contains(text, "\n"+line+"\n") {
		t.Errorf("no line %s", line) // and not the whole text
	}
}

// number is a time as the text format has it.
func number(at time.Time) string { return strconv.FormatFloat(float64(at.Unix()), 'g', -1, 64) }

func TestValues(t *testing.T) {
	got := text(t, sample(t))
	of := `{mountpoint="/srv",uuid="` + uuid + `"`
	for _, want := range []string{
		`scrubd_build_info{version="1.2"} 1`,
		`scrubd_filesystem_info{device="/dev/sda",mountpoint="/srv",uuid="` + uuid + `"} 1`,
		`scrubd_filesystem_state{mountpoint="/srv",state="queued",uuid="` + uuid + `"} 1`,
		`scrubd_filesystem_state{mountpoint="/srv",state="idle",uuid="` + uuid + `"} 0`,
		`scrubd_next_run_timestamp_seconds` + of + "} " + number(now.Add(time.Hour)),
		`scrubd_overdue` + of + `} 1`,
		`scrubd_overdue_after_seconds` + of + `} 1.8144e+06`,
		// The run that was stopped proved nothing: the age is that of the one before.
		// It had left out what an earlier one had checked, and is as old as that.
		`scrubd_coverage_age_seconds` + of + `} 259200`,
		`scrubd_coverage_oldest_age_seconds` + of + `} 432000`,
		`scrubd_coverage_unproven_ags` + of + `} 1`,
		`scrubd_last_run_duration_seconds` + of + `} 3600`,
		`scrubd_last_run_exit_status` + of + `} 4`,
		`scrubd_last_run_findings{mountpoint="/srv",outcome="unsettled",uuid="` + uuid + `",verdict="fork"} 2`,
		`scrubd_last_run_result{mountpoint="/srv",result="stopped",uuid="` + uuid + `"} 1`,
		`scrubd_last_run_result{mountpoint="/srv",result="clean",uuid="` + uuid + `"} 0`,
		`scrubd_runs_total{mountpoint="/srv",result="corruption",uuid="` + uuid + `"} 1`,
		`scrubd_runs_total{mountpoint="/srv",result="incomplete",uuid="` + uuid + `"} 0`,
		`scrubd_findings_total{mountpoint="/srv",outcome="held",uuid="` + uuid + `",verdict="undecided"} 1`,
		`scrubd_repairs_total{mountpoint="/srv",outcome="done",uuid="` + uuid + `"} 2`,
		`scrubd_repairs_total{mountpoint="/srv",outcome="failed",uuid="` + uuid + `"} 1`,
		`scrubd_checked_inodes_total` + of + `} 30`,
		`scrubd_checked_bytes_total` + of + `} 2.147483648e+09`,
		`scrubd_run_seconds_total` + of + `} 10800`,
		`scrubd_throttled_seconds_total` + of + `} 1.5`,
		`scrubd_kernel_call_duration_seconds_bucket{operation="check",scrub_type="rmapbt",le="0.1"} 1`,
		`scrubd_kernel_call_duration_seconds_bucket{operation="check",scrub_type="rmapbt",le="60"} 3`,
		`scrubd_kernel_call_duration_seconds_bucket{operation="check",scrub_type="rmapbt",le="+Inf"} 4`,
		`scrubd_kernel_call_duration_seconds_count{operation="repair",scrub_type="rmapbt"} 1`,
		// A name that is no text, and of which nothing else is known.
		`scrubd_filesystem_info{device="/dev/x",mountpoint="/a \"b\"\n` + "\uFFFD" + `",uuid="00"} 1`,
		`scrubd_runs_total{mountpoint="/a \"b\"\n` + "\uFFFD" + `",result="clean",uuid="00"} 0`,
	} {
		has(t, got, want)
	}
	// Success, completeness and the end are three times.
	times := map[string]time.Duration{
		"scrubd_last_run_timestamp_seconds": -24 * time.Hour, "scrubd_last_complete_run_timestamp_seconds": -48 * time.Hour,
		"scrubd_last_success_timestamp_seconds": -72 * time.Hour,
	}
	for name, ago := range times {
		has(t, got, name+of+"} "+number(now.Add(ago+time.Hour)))
	}
	for _, never := range []string{"last_run_", "last_complete_run_", "last_success_", "next_run_", "coverage_age_", "filesystem_state"} {
		assert.False(t, regexp.MustCompile(`(?m)^scrubd_`+never+`.*uuid="00"`).MatchString(got), "%s is not known and left out", never)
	}
}

// The sample has every metric, so that what is checked of it is checked of all.
func TestSampleIsWhole(t *testing.T) {
	got := text(t, sample(t))
	for _, m := range all {
		if !strings.Contains(got, "\n# TYPE "+m.Name+" ") {
			t.Errorf("no %s", m.Name)
		}
	}
	r := prometheus.NewPedanticRegistry()
	require.NoError(t, r.Register(collector{clean(sample(t))}))
	_, err := r.Gather()
	require.NoError(t, err)
}

func TestHandler(t *testing.T) {
	s := sample(t)
	server := httptest.NewServer(Handler(func() Snapshot { return *s }))
	defer server.Close()
	get := func(accept string) (string, string) {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, server.URL, http.NoBody)
		require.NoError(t, err)
		r.Header.Set("Accept", accept)
		answer, err := http.DefaultClient.Do(r)
		require.NoError(t, err)
		defer func() { _ = answer.Body.Close() }()
		body, err := io.ReadAll(answer.Body)
		require.NoError(t, err)
		return answer.Header.Get("Content-Type"), string(body)
	}
	kind, body := get("application/openmetrics-text; version=1.0.0")
	assert.Contains(t, kind, "application/openmetrics-text")
	assert.True(t, strings.HasSuffix(body, "# EOF\n"))
	assert.Contains(t, body, "\n# TYPE scrubd_runs counter\n")
	kind, body = get("*/*")
	assert.Contains(t, kind, "text/plain")
	assert.Equal(t, text(t, s), body, "the file says the same")
}

func TestTextfile(t *testing.T) {
	dir := t.TempDir()
	old, fresh := filepath.Join(dir, Textfile+"123"), filepath.Join(dir, Textfile+"456")
	for _, name := range []string{old, fresh} {
		require.NoError(t, os.WriteFile(name, nil, 0o600))
	}
	require.NoError(t, os.Chtimes(old, now, now.AddDate(-10, 0, 0)))
	require.NoError(t, WriteTextfile(dir, sample(t)))
	info, err := os.Stat(filepath.Join(dir, Textfile))
	require.NoError(t, err)
	assert.Equal(t, os.FileMode(0o644), info.Mode(), "another user reads it")
	assert.NoFileExists(t, old, "left by a crash")
	assert.FileExists(t, fresh, "another writer's, perhaps")
	err = WriteTextfile(filepath.Join(dir, "none"), sample(t))
	require.ErrorIs(t, err, os.ErrNotExist)
	assert.ErrorContains(t, err, "write metrics to "+dir)
}

// promtool runs it with a standard input and returns what it says.
func promtool(t *testing.T, stdin string, args ...string) string {
	t.Helper()
	path, err := lab.PromtoolPath()
	require.NoError(t, err)
	cmd := exec.CommandContext(t.Context(), path, args...)
	cmd.Stdin = strings.NewReader(stdin)
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, "promtool %v: %s", args, out)
	return string(out)
}

func TestPromtoolCheckMetrics(t *testing.T) {
	lab.Require(t, lab.Promtool)
	assert.Empty(t, promtool(t, text(t, sample(t)), "check", "metrics"))
}

const contrib = "../../contrib"

// The rules do what their tests say, and there is a test of every alert.
func TestPromtoolRules(t *testing.T) {
	lab.Require(t, lab.Promtool)
	rules := filepath.Join(contrib, "prometheus", "scrubd.rules.yml")
	promtool(t, "", "check", "rules", rules)
	promtool(t, "", "test", "rules", filepath.Join(contrib, "prometheus", "scrubd.rules.test.yml"))
}

func TestRulesAreTested(t *testing.T) {
	rules, err := os.ReadFile(filepath.Join(contrib, "prometheus", "scrubd.rules.yml"))
	require.NoError(t, err)
	tests, err := os.ReadFile(filepath.Join(contrib, "prometheus", "scrubd.rules.test.yml"))
	require.NoError(t, err)
	alerts := regexp.MustCompile(`- alert: (\w+)`).FindAllSubmatch(rules, -1)
	require.NotEmpty(t, alerts)
	for _, a := range alerts {
		assert.Regexp(t, `alertname: `+string(a[1])+`(, |\n +)exp_alerts`, string(tests), "a test in which it fires")
	}
	for _, expr := range regexp.MustCompile(`(?s)expr: (.*?)\n +(?:for|labels):`).FindAllSubmatch(rules, -1) {
		isOurs(t, string(expr[1]))
	}
}

// dashboard is as much of Grafana's model as is looked at.
type dashboard struct {
	Panels []struct {
		Title   string
		Targets []struct{ Expr string }
	}
	Templating struct {
		List []struct{ Name, Definition string }
	}
}

// Every query of the dashboard is one, and asks for what is exported.
func TestDashboard(t *testing.T) {
	raw, err := os.ReadFile(filepath.Join(contrib, "grafana", "scrubd.json"))
	require.NoError(t, err)
	var d dashboard
	require.NoError(t, json.Unmarshal(raw, &d))
	var exprs []string
	for _, p := range d.Panels {
		require.NotEmpty(t, p.Targets, p.Title)
		for _, target := range p.Targets {
			exprs = append(exprs, target.Expr)
		}
	}
	for _, v := range d.Templating.List {
		if v.Definition != "" {
			isOurs(t, v.Definition)
		}
	}
	asked := strings.Join(exprs, "\n")
	for _, expr := range exprs {
		isOurs(t, expr)
	}
	unseen := []string{
		"scrubd_filesystem_info", "scrubd_overdue_after_seconds", "scrubd_last_run_timestamp_seconds",
		"scrubd_last_complete_run_timestamp_seconds", "scrubd_last_run_result", "scrubd_coverage_unproven_ags",
	}
	for _, m := range all {
		if !slices.Contains(unseen, m.Name) {
			assert.Contains(t, asked, m.Name, "nobody sees it")
		}
	}
	lab.Require(t, lab.Promtool)
	var rules bytes.Buffer
	rules.WriteString("groups:\n- name: dashboard\n  rules:\n")
	for i, expr := range exprs {
		fmt.Fprintf(&rules, "  - record: q%d\n    expr: %q\n", i, expr)
	}
	name := filepath.Join(t.TempDir(), "rules.yml")
	require.NoError(t, os.WriteFile(name, rules.Bytes(), 0o600))
	promtool(t, "", "check", "rules", name)
}

// isOurs looks at every metric that a query names: it is exported, and has the
// labels that are asked for.
func isOurs(t *testing.T, query string) {
	t.Helper()
	labels := map[string][]string{}
	for _, m := range all {
		names := []string{m.Name}
		if m.Histogram {
			names = []string{m.Name + "_bucket", m.Name + "_sum", m.Name + "_count"}
		}
		for _, name := range names {
			labels[name] = append([]string{"instance", "job"}, m.Labels...)
		}
	}
	used := regexp.MustCompile(`scrubd_[a-z_]+(\{[^}]*\})?`).FindAllString(query, -1)
	require.NotEmpty(t, used, query)
	matcher := regexp.MustCompile(`([a-z_]+)(=~|!~|!=|=)"`)
	for _, u := range used {
		name, selector, _ := strings.Cut(u, "{")
		require.Contains(t, labels, name, query)
		for _, m := range matcher.FindAllStringSubmatch(selector, -1) {
			assert.Contains(t, labels[name], m[1], query)
		}
	}
	first, _, _ := strings.Cut(used[0], "{")
	for _, by := range regexp.MustCompile(`by \(([a-z_, ]+)\)`).FindAllStringSubmatch(query, -1) {
		for label := range strings.SplitSeq(by[1], ", ") {
			if label != "le" {
				assert.Contains(t, labels[first], label, query)
			}
		}
	}
}

// docs/operations.md has every metric with its labels, and no other.
func TestOperationsListsTheMetrics(t *testing.T) {
	doc, err := os.ReadFile("../../docs/operations.md")
	require.NoError(t, err)
	for _, m := range all {
		own := slices.DeleteFunc(slices.Clone(m.Labels), func(l string) bool { return slices.Contains(ofFilesystem, l) })
		for i := range own {
			own[i] = "`" + own[i] + "`"
		}
		line := regexp.MustCompile("(?m)^\\| `" + m.Name + "` \\| " + regexp.QuoteMeta(strings.Join(own, ", ")) + ` ?\| .+ \|$`)
		assert.True(t, line.Match(doc), m.Name)
	}
	assert.Len(t, regexp.MustCompile("(?m)^\\| `scrubd_[a-z_]+` ").FindAll(doc, -1), len(all), "and no other")
}
