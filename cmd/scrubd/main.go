// Command scrubd proves that the space metadata of mounted XFS filesystems
// tells the truth, and has the kernel rebuild the part that does not.
//
// It holds what a person or a program sees: flags, reports, progress, exit
// statuses and advice. What a run does is decided in package scrub.
package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"runtime/debug"
)

// streams are the three of the process, or a test's.
type streams struct {
	in       io.Reader
	out, err io.Writer
}

func main() {
	// A panic in a goroutine of the run cannot be caught here. Go's status for it
	// is 2, which would say that warnings are left; this way it is SIGABRT.
	debug.SetTraceback("crash")
	status := execute(os.Args[1:], streams{in: os.Stdin, out: os.Stdout, err: os.Stderr})
	// A thread that the kernel does not let go keeps every descriptor open after
	// the end of the process: who reads the report would wait with it.
	_, _ = os.Stdout.Close(), os.Stderr.Close()
	os.Exit(status)
}

// execute runs the command that args name and returns the exit status.
func execute(args []string, std streams) int {
	root := newRootCommand(std)
	root.SetArgs(args)
	err := root.Execute()
	status := exitStatusOf(err)
	var exit *exitError
	if err != nil && (!errors.As(err, &exit) || !exit.reported) {
		complain(std.err, err)
		if status == exitUsage {
			fmt.Fprintln(std.err, "Type 'scrubd help' for the commands, 'scrubd help COMMAND' for their flags.")
		}
	}
	return status
}

// complain prints an error and, where there is one, what to do about it.
func complain(w io.Writer, err error) {
	fmt.Fprintf(w, "scrubd: %s\n", oneLine(err.Error()))
	if todo := advise(err); todo != "" {
		fmt.Fprintf(w, "scrubd: what to do: %s\n", oneLine(todo))
	}
	var bug *bugError
	if errors.As(err, &bug) {
		fmt.Fprintf(w, "%s\n", bug.Stack)
	}
}
