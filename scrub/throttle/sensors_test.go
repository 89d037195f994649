package throttle

import (
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestParseStall(t *testing.T) {
	for text, want := range map[string]time.Duration{
		"some avg10=0.00 avg60=0.00 avg300=0.00 total=0\n":                                         0,
		"some avg10=89.66 avg60=62.09 avg300=54.52 total=11292821752\nfull avg10=0.00 total=5\n":   11292821752 * time.Microsecond,
		"full avg10=0.00 avg60=0.00 avg300=0.00 total=7\nsome avg10=1 avg60=1 avg300=1 total=12\n": 12 * time.Microsecond,
	} {
		got, err := parseStall(strings.NewReader(text))
		require.NoError(t, err, text)
		assert.Equal(t, want, got, text)
	}
	for _, text := range []string{
		"", "some", "some avg10=0.00\n", "some avg10=0.00 total=\n", "some total=-1\n", "some total=99999999999999999999\n",
		"full avg10=0.00 total=5\n", strings.Repeat("x", 1<<17),
	} {
		_, err := parseStall(strings.NewReader(text))
		require.Error(t, err, text)
	}
}

func FuzzParse(f *testing.F) {
	f.Add("some avg10=0.00 avg60=0.00 avg300=0.00 total=12\n")
	f.Add(" 1 2 3 4 5 6 7 8 9\n")
	f.Fuzz(func(_ *testing.T, text string) {
		_, _ = parseStall(strings.NewReader(text)) // no panic is all that there is to want
		_, _ = parseDisk(text)
	})
}

func TestParseDisk(t *testing.T) {
	got, err := parseDisk("  100   5   2000    30   50   1   1000   20   0  40  50  0 0 0 0 3 4\n")
	require.NoError(t, err)
	assert.Equal(t, diskCounts{requests: 150, waited: 50 * time.Millisecond, bytes: 3000 * 512}, got)
	for _, text := range []string{"", "1 2 3", "1 2 3 4 5 6 7 x"} {
		_, err := parseDisk(text)
		require.Error(t, err, text)
	}
}

// What the sensors make of machines after ten seconds of each.
func TestSensors(t *testing.T) {
	const ours = 4 << 20
	pid := os.Getpid()
	for name, c := range map[string]struct {
		system func(s *system)
		want   sample
	}{
		"nothing there": {func(*system) {}, sample{blind: true}},
		"calm": {func(s *system) {
			s.stall(systemFiles[cpu], 0.01)
			s.stall(systemFiles[disk], 0)
		}, sample{}},
		"all that wait count where nobody can be told from another": {func(s *system) {
			s.stall(systemFiles[cpu], 0.9) // but for the CPU, where this run's own threads do
			s.stall(systemFiles[disk], 0.5)
			s.stall(systemFiles[memory], 0.3)
		}, sample{io: 0.5, memory: 0.3}},
		"who waits is this run's own group": {func(s *system) {
			s.group("/scrubd.slice/x.service", pid)
			for i := range systemFiles {
				s.stall(systemFiles[i], 0.9)
				s.stall("sys/fs/cgroup/scrubd.slice/x.service/"+groupFiles[i], 0.9)
			}
		}, sample{}},
		"others wait too": {func(s *system) {
			s.group("/scrubd.slice/x.service", pid)
			for i := range systemFiles {
				s.stall(systemFiles[i], 0.9)
				s.stall("sys/fs/cgroup/scrubd.slice/x.service/"+groupFiles[i], 0.6)
			}
		}, sample{cpu: 0.3, io: 0.3, memory: 0.3}},
		"a group with others in it is nobody's own": {func(s *system) {
			s.group("/user.slice/session-1.scope", 1, pid)
			for i := range systemFiles {
				s.stall(systemFiles[i], 0.9)
				s.stall("sys/fs/cgroup/user.slice/session-1.scope/"+groupFiles[i], 0.9)
			}
		}, sample{io: 0.9, memory: 0.9}},
		"only this run uses the disk": {func(s *system) {
			s.stall(systemFiles[disk], 0.9)
			s.disk("8:0", ours/4096, 2*time.Millisecond)
			s.own(ours)
		}, sample{latency: 2 * time.Millisecond}},
		"others use the disk": {func(s *system) {
			s.stall(systemFiles[disk], 0.9)
			s.disk("8:0", 2*ours/4096, 2*time.Millisecond)
			s.own(ours)
		}, sample{io: 0.9, latency: 2 * time.Millisecond, others: true}},
		"too few requests to tell": {func(s *system) {
			s.stall(systemFiles[disk], 0)
			s.disk("8:0", 1, 20*time.Millisecond)
			s.files["sys/dev/block/8:0/stat"] = func(time.Duration) string { return "1 0 8 20 0 0 0 0" }
			s.own(0)
		}, sample{}},
		"without pressure files the disk speaks": {func(s *system) {
			s.disk("8:0", 2*ours/4096, 3*time.Millisecond)
			s.own(ours)
		}, sample{latency: 3 * time.Millisecond, others: true}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newSystem()
				c.system(s)
				sense := sensors{root: s, disks: []string{"8:0"}, pid: pid}
				assert.True(t, sense.read(time.Now()).blind, "nothing to compare with yet")
				time.Sleep(10 * time.Second)
				got := sense.read(time.Now())
				assert.Equal(t, 10*time.Second, got.took)
				assert.InDelta(t, c.want.cpu, got.cpu, 0.01, "cpu")
				assert.InDelta(t, c.want.io, got.io, 0.01, "io")
				assert.InDelta(t, c.want.memory, got.memory, 0.01, "memory")
				assert.InDelta(t, c.want.latency, got.latency, float64(time.Microsecond))
				assert.Equal(t, c.want.others, got.others)
				assert.Equal(t, c.want.blind, got.blind)
			})
		})
	}
}

// Counters that went back (a disk that was exchanged, a group that was made
// anew) say nothing.
func TestCountersGoBack(t *testing.T) {
	now := time.Now()
	last := reading{
		at: now, pressure: true, group: "a", system: stalls{time.Hour, time.Hour, time.Hour}, own: stalls{time.Hour, time.Hour, time.Hour},
		hasDisks: true, disks: diskCounts{requests: 1000, waited: time.Hour, bytes: 1 << 30}, hasBytes: true, bytes: 1 << 30,
	}
	next := reading{at: now.Add(time.Second), pressure: true, group: "b", own: stalls{1, 1, 1}, hasDisks: true, disks: diskCounts{requests: 10}}
	assert.Equal(t, sample{took: time.Second}, compare(&last, &next))
}

// The machine that the test runs on has these files, if its kernel is made so.
func TestRealFiles(t *testing.T) {
	s := newSensors("/", nil)
	if _, err := os.Stat("/proc/pressure/io"); err == nil {
		_, ok := readStalls(s.root, systemFiles)
		assert.True(t, ok)
	}
	if _, err := os.Stat("/proc/self/io"); err == nil {
		_, ok := readOwnBytes(s.root)
		assert.True(t, ok)
	}
	disks, err := os.ReadDir("/sys/dev/block")
	if err != nil || len(disks) == 0 {
		return
	}
	_, ok := readDisks(s.root, []string{disks[0].Name()})
	assert.True(t, ok)
}
