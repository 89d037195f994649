package main

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"testing"

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

	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	require.ErrorAs(t, beforeRepair("sleep 60", &testTarget, &out)(ctx, nil), &veto,
		"a command that was stopped is no consent")
}

// A command need not read the plan.
func TestBeforeRepairMayIgnoreThePlan(t *testing.T) {
	plan := make([]string, 100_000)
	for i := range plan {
		plan[i] = "rebuild something"
	}
	require.NoError(t, beforeRepair("true", &testTarget, &bytes.Buffer{})(t.Context(), plan))
}
