package main

import (
	"os"
	"syscall"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
	"github.com/stretchr/testify/require"
)

// TestMain lets this test binary be the command scrubd in scripts, and in what
// the command starts of itself.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && (os.Args[1] == tryThawed || os.Args[1] == freezerName) {
		main()
	}
	if os.Getenv(writerEnv) != "" {
		helpMeasure()
	}
	if os.Getenv(latencyEnv) != "" {
		helpMeasureLatency()
	}
	if len(os.Args) > 1 && os.Args[1] == freezeAndHang {
		hang(os.Args[2:])
		return
	}
	testscript.Main(m, map[string]func(){"scrubd": main})
}

// TestScripts runs testdata/cli: what a person types and gets. The scripts
// there need neither root nor XFS.
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:                 "../../testdata/cli",
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		Setup: func(env *testscript.Env) error {
			env.Setenv("SCRUBD_CONSISTENT_OUTPUT", "1")
			return nil
		},
		UpdateScripts: os.Getenv("SCRUBD_UPDATE_GOLDEN") != "",
	})
}

// raise stops this process as kill(1) would.
func raise(t *testing.T) {
	t.Helper()
	self, err := os.FindProcess(os.Getpid())
	require.NoError(t, err)
	require.NoError(t, self.Signal(syscall.SIGTERM))
}
