package lab

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

const (
	// EnvLevels lists the levels of tests that may run beside the plain ones:
	// "root" and "lab", separated by commas.
	EnvLevels = "SCRUBD_TEST"
	// EnvSkipLog names a file to which every skipped test appends a line.
	EnvSkipLog = "SCRUBD_TEST_SKIPLOG"
	// EnvDisallowSkip turns every skip into a failure when it is 1.
	EnvDisallowSkip = "SCRUBD_TEST_DISALLOW_SKIP"
)

// Need is something that a test cannot do without.
type Need int

const (
	// Root is the superuser (level root).
	Root Need = iota
	// Loop is a mounted XFS on a loop device: devices, mkfs.xfs and a kernel
	// that knows XFS (level root).
	Loop
	// Kernel is the lab kernel, ready to boot (level lab).
	Kernel
	// SidTools is the root with the newest xfsprogs, ready to use (no level).
	SidTools
	// Promtool is Prometheus' tool (no level).
	Promtool
	// Fio makes load (no level).
	Fio
)

// Require skips the test, loudly, unless every need is selected by $SCRUBD_TEST
// and there: the test and the reason go to the file of $SCRUBD_TEST_SKIPLOG, and
// where $SCRUBD_TEST_DISALLOW_SKIP is 1 the test fails instead. Inside the lab
// kernel every level is selected. No test skips itself in any other way.
func Require(t testing.TB, needs ...Need) {
	t.Helper()
	for _, need := range needs {
		if reason := need.missing(); reason != "" {
			skip(t, reason)
		}
	}
}

// missing says why the need is not met, or nothing.
func (n Need) missing() string {
	switch n {
	case Root:
		if !levelSelected("root") {
			return fmt.Sprintf("$%s does not select level root", EnvLevels)
		}
		if os.Geteuid() != 0 {
			return "needs root"
		}
	case Loop:
		if !levelSelected("root") {
			return fmt.Sprintf("$%s does not select level root", EnvLevels)
		}
		return loopMissing()
	case Kernel:
		if Inside() {
			return ""
		}
		if !levelSelected("lab") {
			return fmt.Sprintf("$%s does not select level lab", EnvLevels)
		}
		if _, err := KernelPath(); err != nil {
			return err.Error()
		}
	case SidTools:
		if _, err := SidRoot(); err != nil {
			return err.Error()
		}
	case Promtool:
		if _, err := PromtoolPath(); err != nil {
			return err.Error()
		}
	case Fio:
		if _, err := FioPath(); err != nil {
			return err.Error()
		}
	default:
		return fmt.Sprintf("no such need: %d", n)
	}
	return ""
}

// levelSelected says whether that level of tests may run.
func levelSelected(level string) bool {
	return Inside() || slices.Contains(strings.Split(os.Getenv(EnvLevels), ","), level)
}

// loopMissing says what a loop-mounted XFS lacks here, or nothing.
func loopMissing() string {
	if os.Geteuid() != 0 {
		return "loop-mounted XFS needs root"
	}
	if err := unix.Access("/dev/loop-control", unix.W_OK); err != nil {
		return fmt.Sprintf("no loop devices: /dev/loop-control: %v", err)
	}
	if _, err := lookProgram("mkfs.xfs"); err != nil {
		return fmt.Sprintf("no mkfs.xfs: %v", err)
	}
	return ""
}

// skip and skipAsInside are the only places of the project that skip a test.
func skip(t testing.TB, reason string) {
	t.Helper()
	if os.Getenv(EnvDisallowSkip) == "1" {
		t.Fatalf("may not be skipped ($%s): %s", EnvDisallowSkip, reason)
	}
	if path := os.Getenv(EnvSkipLog); path != "" {
		// Tests of two packages may share a name; a package's test program is
		// called PACKAGE.test.
		pkg := strings.TrimSuffix(filepath.Base(os.Args[0]), ".test")
		if err := appendLine(path, pkg+"."+t.Name()+": "+reason); err != nil {
			t.Fatalf("log the skip (%s): %v", reason, err)
		}
	}
	t.Skip(reason)
}

// skipAsInside gives t the verdict of its body that Require has skipped, and
// logged, inside the lab kernel.
func skipAsInside(t testing.TB, reason string) {
	t.Helper()
	t.Skip(reason)
}

func appendLine(path, line string) error {
	file, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o644)
	if err != nil {
		return fmt.Errorf("open the skip log: %w", err)
	}
	_, err = file.WriteString(strings.ReplaceAll(line, "\n", " ") + "\n")
	if closeErr := file.Close(); err == nil {
		err = closeErr
	}
	if err != nil {
		return fmt.Errorf("write the skip log: %w", err)
	}
	return nil
}
