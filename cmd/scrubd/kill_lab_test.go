package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/scrubd/scrubd/internal/lab"
	"github.com/scrubd/scrubd/scrub/state"
)

// How many runs are killed, and what draws the moments (make killtest).
const (
	envKills    = "SCRUBD_TEST_KILLS"
	envKillSeed = "SCRUBD_TEST_SEED"
)

func killEnv(t *testing.T, name string, unset int) int {
	t.Helper()
	text, ok := os.LookupEnv(name)
	if !ok {
		return unset
	}
	n, err := strconv.Atoi(text)
	require.NoError(t, err)
	return n
}

// killFaults are healed by one repair or several, of every order.
var killFaults = []lab.FaultClass{
	lab.FaultRmapOffset, lab.FaultForkLost, lab.FaultFreeUsed, lab.FaultRmapOwnerMissing,
	lab.FaultBnoShorter, lab.FaultRmapRemoved, lab.FaultRefcountRemoved, lab.FaultLeak,
}

// Where a run is killed: anywhere, within the kernel's repair call, or between
// it and its proof.
const (
	killAnywhere = iota
	killInCall
	killUnproven
	killKinds
)

var killNames = [killKinds]string{"anywhere", "in the call", "unproven"}

// killsPerBoot bounds what one kernel goes through.
const killsPerBoot = 10

// A repairing run that is killed at any moment harms nothing: the next run says
// what was going on, and leaves the filesystem clean and every file as it was.
func TestKilledRunsInLab(t *testing.T) {
	n, seed := killEnv(t, envKills, 2), killEnv(t, envKillSeed, 1)
	image := labImage(t, lab.MkfsOptions{Args: []string{"-d", "agcount=2", "-m", "rmapbt=1,reflink=1"}}, func(fs *lab.LoopFS) {
		require.NoError(t, lab.Sample(fs.Dir(), lab.SampleSpec{Files: 10}))
		saveSnapshot(t, fs)
	})
	for from := 0; from < n; from += killsPerBoot {
		t.Run(fmt.Sprintf("from %d", from), func(t *testing.T) {
			lab.InKernel(t, func(t *testing.T) {
				k := &killer{t: t, image: image, scrubd: program(t), usual: 3 * time.Second}
				for i := from; i < min(from+killsPerBoot, n); i++ {
					k.round(i, rand.New(rand.NewPCG(uint64(seed), uint64(i))))
				}
			}, lab.WithTimeout(killTimeout(min(killsPerBoot, n))), lab.WithMem(1500))
		})
	}
}

// killTimeout is generous: the machine may be busy with other things.
func killTimeout(rounds int) time.Duration { return time.Duration(60+120*rounds) * time.Second }

// saveSnapshot keeps what the files of an image read beside it.
func saveSnapshot(t *testing.T, fs *lab.LoopFS) {
	t.Helper()
	snap, err := lab.TakeSnapshot(fs.Dir())
	require.NoError(t, err)
	out, err := os.Create(fs.Image() + ".json")
	require.NoError(t, err)
	require.NoError(t, errors.Join(snap.Save(out), out.Close()))
}

func loadSnapshot(t *testing.T, image string) lab.Snapshot {
	t.Helper()
	in, err := os.Open(image + ".json")
	require.NoError(t, err)
	defer func() { _ = in.Close() }()
	snap, err := lab.LoadSnapshot(in)
	require.NoError(t, err)
	return snap
}

type killer struct {
	t             *testing.T
	image, scrubd string
	usual         time.Duration // of a whole run
}

// damage makes a damaged copy of the image.
func (k *killer) damage(dir string, rng *rand.Rand) (string, lab.Injected) {
	k.t.Helper()
	for {
		copied := filepath.Join(dir, "fs.img")
		require.NoError(k.t, lab.CopyImage(copied, k.image))
		class := killFaults[rng.IntN(len(killFaults))]
		done, err := lab.InjectImage(copied, lab.Fault{Class: class, Seed: rng.Uint64()})
		if errors.Is(err, lab.ErrNoVictim) {
			continue
		}
		require.NoError(k.t, err)
		return copied, done
	}
}

// round kills one run and has another one clean up.
func (k *killer) round(i int, rng *rand.Rand) {
	t := k.t
	dir := t.TempDir()
	image, done := k.damage(dir, rng)
	fs, err := lab.OpenLoopFS(image, filepath.Join(dir, "mnt"))
	require.NoError(t, err)
	require.NoError(t, fs.Mount())
	defer func() { assert.NoError(t, fs.Close()) }()
	stateDir := filepath.Join(dir, "state")

	kind := rng.IntN(killKinds)
	began := time.Now()
	s := start(t, k.scrubd, "run", "--now", "--state-dir", stateDir, fs.Dir())
	gone := make(chan struct{})
	go func() { _ = s.cmd.Wait(); close(gone) }()
	k.wait(kind, stateDir, rng, gone)
	at := time.Since(began)
	late := false
	select {
	case <-gone:
		late = true // it was through before its moment came
	default:
		require.NoError(t, s.cmd.Process.Kill())
	}
	thawed := writable(t, fs.Path("alive"))
	<-gone
	open := readIntents(stateDir)

	began = time.Now()
	a := call(t, "/", k.scrubd, "run", "--now", "--state-dir", stateDir, fs.Dir())
	k.usual = time.Since(began)
	t.Logf("round %d: %s, killed %s after %s (late %t), left %q, writable after %s; then status %d in %s",
		i, done.Class, killNames[kind], at.Round(time.Millisecond), late, open, thawed.Round(time.Millisecond),
		a.status, k.usual.Round(time.Millisecond))
	what := fmt.Sprintf("round %d: %s\n%s\n%s%s", i, done.Describe(), s.log.String(), a.out, a.log)
	assert.Zero(t, a.status, what)
	assert.Equal(t, len(open) > 0, strings.Contains(a.out, "\ninterrupted: "), "left %q\n%s", open, what)
	assert.Empty(t, readIntents(stateDir), "explained, and so closed\n%s", what)
	left, err := filepath.Glob("/sys/kernel/tracing/instances/scrubd*")
	require.NoError(t, err)
	assert.Empty(t, left, "tracing instances are left behind")
	require.NoError(t, os.Remove(fs.Path("alive")))
	require.NoError(t, fs.Remount())
	after, err := lab.TakeSnapshot(fs.Dir())
	require.NoError(t, err)
	assert.Empty(t, harmedFiles(loadSnapshot(t, k.image), after), what)
	require.NoError(t, fs.Unmount())
	out, err := lab.SidCommand(t.Context(), "xfs_repair", "-n", image).CombinedOutput()
	require.NoError(t, err, "%s\n%s", out, what)
}

// harmedFiles lists what reads otherwise than in the clean image. The root
// directory is left out: a file was made and removed in it.
func harmedFiles(clean, after lab.Snapshot) []string {
	var out []string
	for _, line := range lab.Diff(clean, after) {
		if !strings.HasPrefix(line, ".: ") {
			out = append(out, line)
		}
	}
	return out
}

// wait waits for the moment to kill.
func (k *killer) wait(kind int, stateDir string, rng *rand.Rand, gone <-chan struct{}) {
	if kind == killAnywhere {
		select {
		case <-gone:
		case <-time.After(rand.N(k.usual)):
		}
		return
	}
	mark := []byte(`"state":"began"`)
	if kind == killUnproven {
		mark = []byte(`"state":"ended"`)
	}
	for {
		select {
		case <-gone:
			return
		default:
		}
		if bytes.Contains(intentBytes(stateDir), mark) {
			break
		}
		time.Sleep(200 * time.Microsecond)
	}
	if kind == killInCall {
		time.Sleep(time.Duration(rng.IntN(3000)) * time.Microsecond)
		return
	}
	select {
	case <-gone:
	case <-time.After(time.Duration(rng.Int64N(int64(k.usual / 2)))):
	}
}

// intentBytes are the first slots of the log as they are on disk.
func intentBytes(stateDir string) []byte {
	logs, _ := filepath.Glob(filepath.Join(stateDir, "*", state.IntentsFile))
	if len(logs) == 0 {
		return nil
	}
	file, err := os.Open(logs[0])
	if err != nil {
		return nil
	}
	defer func() { _ = file.Close() }()
	head, _ := io.ReadAll(io.LimitReader(file, 32<<10))
	return head
}

// readIntents lists the states of the intents that are open.
func readIntents(stateDir string) []string {
	var open []string
	raw := intentBytes(stateDir)
	for _, mark := range []string{"began", "ended"} {
		for range bytes.Count(raw, []byte(`"state":"`+mark+`"`)) {
			open = append(open, mark)
		}
	}
	return open
}

// writable makes a file, which a freeze would not let it, and says how long that
// took. A freeze that is forgotten stays for good; what a busy machine takes says
// nothing.
func writable(t *testing.T, path string) time.Duration {
	t.Helper()
	began := time.Now()
	made := make(chan error, 1)
	go func() { made <- os.WriteFile(path, []byte("alive"), 0o600) }()
	select {
	case err := <-made:
		require.NoError(t, err)
	case <-time.After(20 * time.Second):
		t.Fatal("the filesystem is frozen after the run was killed")
	}
	return time.Since(began)
}

// A power loss in the midst of a repair: the machine comes up again, the log is
// replayed, and the next run says what was going on and leaves all well.
func TestPowerLossInLab(t *testing.T) {
	lab.Require(t, lab.Kernel)
	if lab.Inside() {
		return
	}
	n, seed := (killEnv(t, envKills, 1)+4)/5, killEnv(t, envKillSeed, 1)
	dir := t.TempDir()
	fs := lab.NewLoopFS(t, lab.MkfsOptions{Args: []string{"-d", "agcount=2", "-m", "rmapbt=1,reflink=1"}})
	require.NoError(t, lab.Sample(fs.Dir(), lab.SampleSpec{Files: 10}))
	saveSnapshot(t, fs)
	require.NoError(t, fs.Unmount())
	k := &killer{t: t, image: fs.Image(), scrubd: program(t)}
	for i := range n {
		rng := rand.New(rand.NewPCG(uint64(seed), uint64(1000+i)))
		round := filepath.Join(dir, strconv.Itoa(i))
		require.NoError(t, os.Mkdir(round, 0o700))
		image, done := k.damage(round, rng)
		stateDir := filepath.Join(round, "state")
		script := fmt.Sprintf(`set -e
mkdir -p /run/mnt; mount -o loop %s /run/mnt
status=0; %s run --now --state-dir %s /run/mnt || status=$?
umount /run/mnt; exit $status`, image, k.scrubd, stateDir)
		ctx, powerOff := context.WithCancel(t.Context())
		go func() {
			k.wait(killInCall+rng.IntN(2)*(killUnproven-killInCall), stateDir, rng, ctx.Done())
			powerOff()
		}()
		k.usual = 2 * time.Second
		_, err := lab.Boot(ctx, lab.BootSpec{Script: script, Timeout: 150 * time.Second, MemMiB: 1000, Env: commandEnv()})
		powerOff()
		cut := errors.Is(err, context.Canceled)
		open := readIntents(stateDir)

		result, err := lab.Boot(t.Context(), lab.BootSpec{Script: script, Timeout: 150 * time.Second, MemMiB: 1000, Env: commandEnv()})
		require.NoError(t, err)
		require.NoError(t, result.Err())
		what := fmt.Sprintf("power loss %d: %s\n%s", i, done.Describe(), result.Output)
		t.Logf("power loss %d: %s, power cut %t, left %q; then status %d", i, done.Class, cut, open, result.ExitCode)
		assert.Zero(t, result.ExitCode, what)
		if cut && len(open) > 0 {
			assert.Contains(t, result.Output, "was ended by the end of the machine", what)
		}
		assert.Empty(t, readIntents(stateDir), what)
		out, err := exec.Command("xfs_repair", "-n", image).CombinedOutput()
		require.NoError(t, err, "%s\n%s", out, what)
		again, err := lab.OpenLoopFS(image, filepath.Join(round, "mnt"))
		require.NoError(t, err)
		require.NoError(t, again.Mount())
		after, err := lab.TakeSnapshot(again.Dir())
		require.NoError(t, err)
		assert.Empty(t, harmedFiles(loadSnapshot(t, k.image), after), what)
		require.NoError(t, again.Close())
	}
}
