package main

import (
	"errors"
	"fmt"
)

// The exit status is a sum of these, as xfs_scrub(8) documents it, so that
// scrubd can stand where xfs_scrub stood. 0 means that all that this kernel
// and filesystem allow to check was checked and is well.
const (
	exitCorruption  = 1 // corruption is left
	exitWarnings    = 2 // optimization possible, or warnings left
	exitOperational = 4 // the check could not be done or finished
	exitUsage       = 8 // the command line is wrong
)

// With --service two more, which the unit takes for no failure.
const (
	exitSkipped = 77  // its autofsck property forbids a check
	exitStopped = 143 // the service manager, or a person, stopped it
)

// exitError ends a command with a status. Its text is printed unless it was
// reported already.
type exitError struct {
	status   int
	err      error
	reported bool
}

func (e *exitError) Error() string {
	if e.err == nil {
		return fmt.Sprintf("exit status %d", e.status)
	}
	return e.err.Error()
}

func (e *exitError) Unwrap() error { return e.err }

// usageErrorf returns an error of the command line.
func usageErrorf(format string, args ...any) error {
	return &exitError{status: exitUsage, err: fmt.Errorf(format, args...)}
}

// exitStatusOf maps the error of a command to the status of the process. What
// cobra refuses by itself (an unknown flag, a missing argument) never was an
// exitError, so anything else is an error of the command line.
func exitStatusOf(err error) int {
	if err == nil {
		return 0
	}
	var exit *exitError
	if errors.As(err, &exit) {
		return exit.status
	}
	return exitUsage
}
