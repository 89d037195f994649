// Package xfiletest has what tests of packages over xfile share.
package xfiletest

import (
	"fmt"
	"os"

	"github.com/scrubd/scrubd/xfile"
)

// Runner is *testing.M.
type Runner interface{ Run() int }

// Main runs the tests of a package and fails it if they leave xfiles open:
//
//	func TestMain(m *testing.M) { xfiletest.Main(m) }
func Main(m Runner) { os.Exit(run(m)) }

func run(m Runner) int {
	code := m.Run()
	if n := xfile.OpenFiles(); n > 0 && code == 0 {
		fmt.Fprintf(os.Stderr, "%d xfiles were left open\n", n)
		return 1
	}
	return code
}
