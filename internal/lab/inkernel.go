package lab

import (
	"context"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"
)

// The environment of a test that runs inside the lab kernel.
const (
	envInside  = "SCRUBD_LAB_INSIDE"  // 1
	envTest    = "SCRUBD_LAB_TEST"    // the name of the test whose body is wanted
	envVerdict = "SCRUBD_LAB_VERDICT" // the file that its verdict goes to
	envLimit   = "SCRUBD_LAB_LIMIT"   // the boot's time limit, as time.ParseDuration reads it
)

// The verdicts of a test body. None means that it did not run to its end.
const (
	verdictPassed  = "passed"
	verdictFailed  = "failed"
	verdictSkipped = "skipped"
)

// Option changes the machine that [InKernel] boots.
type Option func(*BootSpec)

// WithMem gives the machine that much memory instead of 1 GiB. t.TempDir
// inside may take up to 80 percent of it.
func WithMem(mib int) Option { return func(s *BootSpec) { s.MemMiB = mib } }

// WithCPUs gives the machine that many CPUs instead of 2.
func WithCPUs(n int) Option { return func(s *BootSpec) { s.CPUs = n } }

// WithTimeout limits boot and body to that time instead of five minutes.
func WithTimeout(limit time.Duration) Option { return func(s *BootSpec) { s.Timeout = limit } }

// WithDisk adds an image of the host as the next of /dev/ubda, /dev/ubdb, ...
func WithDisk(path string) Option { return func(s *BootSpec) { s.Disks = append(s.Disks, path) } }

// Inside says whether this process runs inside the lab kernel.
func Inside() bool { return os.Getenv(envInside) == "1" }

// InKernel runs body inside the lab kernel, as root, and gives t its output and
// verdict as if it had run here. It calls [Require] for the [Kernel] level.
//
// Outside, it boots a kernel of its own and runs this very test binary in it
// with this test alone selected, in the same directory; there InKernel finds
// itself inside and calls body. So what a test does before InKernel is done
// twice, once on either side, and body cannot reach the variables of the outer
// process. Several may run in parallel, and subtests may call it.
//
// The host's whole tree is visible inside, /tmp included. t.TempDir there is in
// the kernel's memory. It works under the race detector too.
//
// Where the body does not end within the limit (default five minutes), or the kernel
// crashes, t fails with the end of the console; other tests go on.
func InKernel(t *testing.T, body func(t *testing.T), options ...Option) {
	t.Helper()
	if Inside() {
		runInside(t, body)
		return
	}
	Require(t, Kernel)
	self, err := os.Executable()
	if err != nil {
		t.Fatalf("find the test's own program: %v", err)
	}
	// Not t.TempDir: its removal would fail the test should a killed kernel
	// still be letting go of a file.
	dir, err := os.MkdirTemp("", "scrubd-lab-test-")
	if err != nil {
		t.Fatalf("create a directory for the verdict: %v", err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	verdict := filepath.Join(dir, "verdict")
	spec := BootSpec{Timeout: defaultTimeout, Output: t.Output()}
	for _, option := range options {
		option(&spec)
	}
	spec.Argv = append([]string{self}, insideFlags(t.Name())...)
	spec.Env = append(os.Environ(), envInside+"=1", envTest+"="+t.Name(), envVerdict+"="+verdict,
		envLimit+"="+spec.Timeout.String())
	result, err := Boot(t.Context(), spec)
	if err != nil {
		t.Fatalf("%v", err)
	}
	judge(t, result, verdict)
}

// judge gives t the verdict of the test that ran inside. A pass needs both the
// exit status and the body's own word, so that a selection that matched no test
// does not count as one.
func judge(t *testing.T, result Result, verdict string) {
	t.Helper()
	if err := result.Err(); err != nil {
		t.Fatalf("in the lab: %v", err)
	}
	said, err := os.ReadFile(verdict)
	if err != nil {
		t.Fatalf("in the lab: the test's body did not run to its end (exit status %d); the console's last lines:\n%s",
			result.ExitCode, result.ConsoleTail)
	}
	if complaints := result.Complaints(); len(complaints) > 0 {
		t.Logf("in the lab the kernel complained:\n%s", strings.Join(complaints, "\n"))
	}
	switch word, reason, _ := strings.Cut(string(said), ": "); {
	case word == verdictSkipped && result.ExitCode == 0:
		skipAsInside(t, reason)
	case word != verdictPassed || result.ExitCode != 0:
		t.Fatalf("in the lab: %s, exit status %d", word, result.ExitCode)
	}
}

// insideFlags selects exactly the test of that name and repeats what else the
// outer run was given that the body may ask for.
func insideFlags(name string) []string {
	flags := []string{
		"-test.run=" + exactly(name), "-test.v=true", "-test.count=1", "-test.timeout=0",
		"-test.short=" + strconv.FormatBool(testing.Short()),
	}
	flag.Visit(func(f *flag.Flag) {
		if !strings.HasPrefix(f.Name, "test.") {
			flags = append(flags, "-"+f.Name+"="+f.Value.String())
		}
	})
	return flags
}

// exactly is the -run pattern that matches that test or subtest alone: every
// level is anchored and quoted.
func exactly(name string) string {
	levels := strings.Split(name, "/")
	for i, level := range levels {
		levels[i] = "^" + regexp.QuoteMeta(level) + "$"
	}
	return strings.Join(levels, "/")
}

// runInside runs the body and writes its verdict to the host.
func runInside(t *testing.T, body func(t *testing.T)) {
	t.Helper()
	if os.Getenv(envTest) != t.Name() {
		body(t) // nested in the body that is wanted
		return
	}
	stop := dumpBeforeDeadline(t.Context())
	// Cleanups run last in first out: this one sees what all others did.
	t.Cleanup(func() {
		stop()
		word := verdictPassed
		switch {
		case t.Failed():
			word = verdictFailed
		case t.Skipped():
			word = verdictSkipped + ": in the lab"
		}
		if err := os.WriteFile(os.Getenv(envVerdict), []byte(word), 0o644); err != nil {
			t.Errorf("write the verdict: %v", err)
		}
	})
	body(t)
}

// dumpBeforeDeadline prints every goroutine's stack shortly before the kernel
// would be killed, so that a hang shows where the test stood.
func dumpBeforeDeadline(ctx context.Context) (stop func()) {
	limit, err := time.ParseDuration(os.Getenv(envLimit))
	if err != nil {
		return func() {}
	}
	// The limit began with the boot, about half a second ago.
	timer := time.AfterFunc(limit-min(limit/3, 3*time.Second), func() {
		if ctx.Err() != nil {
			return
		}
		stacks := make([]byte, 1<<20)
		stacks = stacks[:runtime.Stack(stacks, true)]
		fmt.Fprintf(os.Stderr, "lab: the time limit is near; all goroutines:\n%s\n", stacks)
	})
	return func() { timer.Stop() }
}
