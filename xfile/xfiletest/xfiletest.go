// Package xfiletest has what the tests of packages over xfile share. It is not
// for programs.
package xfiletest

import (
	"fmt"
	"io"
	"os"

	"github.com/scrubd/scrubd/xfile"
)

// Runner is *testing.M.
type Runner interface{ Run() int }

// Main runs the tests of a package, fails it if they leave xfiles open, and
// ends the process:
//
//	func TestMain(m *testing.M) { xfiletest.Main(m) }
func Main(m Runner) {
	os.Exit(run(m, os.Stderr)) //nolint:forbidigo // this is the main function of a test
}

func run(m Runner, stderr io.Writer) (code int) {
	code = m.Run()
	if n := xfile.OpenFiles(); n > 0 && code == 0 {
		_, _ = fmt.Fprintf(stderr, "xfiletest: %d xfiles were left open\n", n)
		return 1
	}
	return code
}
