package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/scrubd/scrubd/internal/lab"
)

// injectedRmap damages an rmap record on the image, and leaves what was done
// beside it for the body inside.
func injectedRmap(t *testing.T, image string) (done lab.Injected, path string) {
	t.Helper()
	type note struct {
		Done lab.Injected
		Path string
	}
	file := image + ".json"
	if lab.Inside() {
		var n note
		text, err := os.ReadFile(file)
		require.NoError(t, err)
		require.NoError(t, json.Unmarshal(text, &n))
		return n.Done, n.Path
	}
	done, err := lab.InjectImage(image, lab.Fault{
		Class: lab.FaultRmapOwnerMissing, Seed: 3,
		Match: func(rec any) bool { return rec.(lab.RmapRec).BlockCount > 1 },
	})
	require.NoError(t, err)
	fs, err := lab.OpenLoopFS(image, filepath.Join(t.TempDir(), "mnt"), "ro")
	require.NoError(t, err)
	require.NoError(t, fs.Mount())
	snap, err := lab.TakeSnapshot(fs.Dir())
	require.NoError(t, err)
	require.NoError(t, fs.Close())
	names := snap.PathsOf(uint64(done.Ino))
	require.NotEmpty(t, names)
	text, err := json.Marshal(note{done, names[0]})
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(file, text, 0o644))
	return done, names[0]
}

// One wrong rmap record on a filesystem of ten thousand files: a report that
// fits a screen, and the same as JSON with the repair.
func TestReportOfOneFaultInLab(t *testing.T) {
	image := labImage(t, lab.MkfsOptions{Size: 1 << 30}, func(fs *lab.LoopFS) {
		require.NoError(t, lab.Sample(fs.Dir(), lab.SampleSpec{Files: 10_000, SmallFiles: true}))
	})
	done, path := injectedRmap(t, image)
	lab.InKernel(t, func(t *testing.T) {
		scrubd := program(t)
		fs := mountLab(t, image)
		state := filepath.Join(t.TempDir(), "state")
		t.Log(done.Describe(), path)

		a := call(t, "/", scrubd, "run", "--now", "-n", fs.Dir())
		t.Log(a.out + a.log)
		assert.Equal(t, exitCorruption, a.status)
		oneFinding(t, a.out, fs.Dir(), "repairable", done, path)
		assert.Empty(t, a.log, "all is said in the report")

		a = call(t, "/", scrubd, "run", "--now", "--json", "--state-dir", state, fs.Dir())
		t.Log(a.out + a.log)
		assert.Zero(t, a.status)
		assert.Empty(t, a.log)
		lines := jsonLines(t, []byte(a.out))
		require.GreaterOrEqual(t, len(lines), 4)
		var order []string
		ids := map[any]bool{}
		for _, m := range lines {
			kind, _ := m["message_type"].(string)
			assert.Equal(t, fs.Dir(), m["path"], "every line stands alone")
			if kind == "finding" {
				f, ok := m["finding"].(map[string]any)
				if !ok {
					f = m
				}
				ids[f["id"]] = true
			}
			if len(order) == 0 || order[len(order)-1] != kind && kind != "progress" {
				order = append(order, kind)
			}
		}
		assert.Len(t, ids, 1, "one fault, one finding: %v", ids)
		assert.Equal(t, "start", order[0])
		assert.Equal(t, "summary", order[len(order)-1])
		assert.Contains(t, order, "finding")
		assert.Contains(t, order, "repair")
		summary := lines[len(lines)-1]
		assert.Equal(t, true, summary["complete"])
		assert.InDelta(t, 0, summary["exit_status"], 0)
		assert.GreaterOrEqual(t, summary["inodes"], 10_000.0)
		findings, ok := summary["findings"].(map[string]any)
		require.True(t, ok, summary)
		assert.Equal(t, map[string]any{"repaired": 1.0}, findings)
		assert.DirExists(t, state)

		a = call(t, "/", scrubd, "run", "--now", "-n", fs.Dir())
		assert.Zero(t, a.status, a.out+a.log)
		assert.True(t, strings.HasPrefix(a.out, fs.Dir()+": XFS on DEVICE, mode check\nchecked: kernel-scrub, rmapbt, bnobt\n\n"+fs.Dir()+": clean: "), a.out)
	}, lab.WithTimeout(400*time.Second), lab.WithMem(1500))
}
