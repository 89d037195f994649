package xfile

import (
	"fmt"
	"os"
	"testing"
)

// TestMain runs the tests, or what a test wants done in a process of its own
// (see child_test.go), and fails when files are left open.
func TestMain(m *testing.M) {
	if job := os.Getenv(childEnv); job != "" {
		os.Exit(runChild(job))
	}
	code := m.Run()
	if n := OpenFiles(); n > 0 && code == 0 {
		fmt.Fprintf(os.Stderr, "%d xfiles were left open\n", n)
		code = 1
	}
	os.Exit(code)
}
