package main

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestBeforeRepairGetsThePlan(t *testing.T) {
	file := filepath.Join(t.TempDir(), "plan")
	var out bytes.Buffer
	hook := beforeRepair(`cat > "`+file+`"; echo "on $SCRUBD_MOUNT_POINT, $SCRUBD_DEVICE"`, &testTarget, &out)
	require.NoError(t, hook(t.Context(), []string{"rebuild rmapbt of AG 0", "rebuild a file's\nfork"}))
	plan, err := os.ReadFile(file)
	require.NoError(t, err)
	assert.Equal(t, "rebuild rmapbt of AG 0\nrebuild a file's\\x0afork\n", string(plan), "a step a line")
	assert.Equal(t, "on /data, /dev/sda2\n", out.String())
}

func TestBeforeRepairVetoes(t *testing.T) {
	var out bytes.Buffer
	err := beforeRepair("echo no room for a snapshot >&2; exit 3", &testTarget, &out)(t.Context(), []string{"rebuild"})
	var veto *vetoError
	require.ErrorAs(t, err, &veto)
	require.ErrorContains(t, err, "exit status 3")
	assert.Equal(t, "no room for a snapshot\n", out.String())

	require.ErrorAs(t, beforeRepair("/nope/nope", &testTarget, &out)(t.Context(), nil), &veto,
		"a command that cannot be run is no consent")

	require.ErrorAs(t, beforeRepair("kill -TERM $$", &testTarget, &out)(t.Context(), nil), &veto,
		"a command that was stopped by itself is no consent")
}

// A run that is to end has no veto, whichever of the two the signal reaches first.
func TestBeforeRepairOfARunThatEnds(t *testing.T) {
	why := errors.New("told to stop")
	for _, c := range []struct {
		command string
		after   time.Duration
	}{{"sleep 60", 0}, {"sleep 60", 100 * time.Millisecond}, {"kill -TERM $$", 100 * time.Millisecond}, {"exit 143", 100 * time.Millisecond}} {
		ctx, cancel := context.WithCancelCause(t.Context())
		time.AfterFunc(c.after, func() { cancel(why) })
		require.ErrorIs(t, beforeRepair(c.command, &testTarget, io.Discard)(ctx, nil), why, c.command)
	}
}

// A command need not read the plan.
func TestBeforeRepairMayIgnoreThePlan(t *testing.T) {
	plan := make([]string, 100_000)
	for i := range plan {
		plan[i] = "rebuild something"
	}
	require.NoError(t, beforeRepair("true", &testTarget, &bytes.Buffer{})(t.Context(), plan))
}
