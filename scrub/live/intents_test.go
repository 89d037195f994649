package live

import (
	"context"
	"os"
	"path/filepath"
	"strconv"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/scrubd/scrubd/internal/lab"
	"github.com/scrubd/scrubd/ioctl"
)

func TestParseHolds(t *testing.T) {
	const header = "# tracer: nop\n#\n# entries-in-buffer/entries-written: 1/1   #P:2\n"
	line := func(text string) []byte {
		return []byte(header + "  scrubd-77  [001] .....  12.000001: xfs_group_intent_hold: " + text + "\n")
	}
	for name, c := range map[string]struct {
		trace []byte
		held  bool
	}{
		"empty":               {[]byte(header), false},
		"this group":          {line("dev 7:0 agno 0x1 intents 0 caller xfs_x+0x1/0x2"), true},
		"another group":       {line("dev 7:0 agno 0x11 intents 0 caller xfs_x+0x1/0x2"), false},
		"this realtime group": {line("dev 7:0 rtgno 0x1 intents 0 caller xfs_x+0x1/0x2"), true},
		"no group at all":     {line("something else"), true},
		"lost events":         {[]byte("CPU:1 [LOST 7 EVENTS]\n"), true},
	} {
		t.Run(name, func(t *testing.T) {
			held, err := parseHolds(c.trace, 1)
			require.NoError(t, err)
			assert.Equal(t, c.held, held)
		})
	}
}

func FuzzParseHolds(f *testing.F) {
	f.Add([]byte("x-1 [000] 1.0: xfs_group_intent_hold: dev 7:0 agno 0x1 intents 0"), uint32(1))
	f.Fuzz(func(_ *testing.T, trace []byte, agno uint32) {
		_, _ = parseHolds(trace, ioctl.AGNumber(agno))
	})
}

// TestLabQuiet: an observation in which a file gets and loses blocks is not
// quiet, one in which nothing happens is; a stale instance is removed.
func TestLabQuiet(t *testing.T) {
	lab.InKernel(t, func(t *testing.T) {
		fs := lab.NewLoopFS(t, lab.MkfsOptions{Args: []string{"-m", "rmapbt=1,reflink=1"}})
		x, err := ioctl.Open(fs.Dir())
		require.NoError(t, err)
		defer x.Close()
		stale := filepath.Join(tracefs[0], "instances", instancePrefix+strconv.Itoa(1<<30))
		require.NoError(t, os.Mkdir(stale, 0o700))

		w, err := WatchIntents(unix.Major(x.Device()), unix.Minor(x.Device()))
		require.NoError(t, err)
		defer func() {
			require.NoError(t, w.Close())
			assert.NoDirExists(t, w.dir)
		}()
		assert.NoDirExists(t, stale)

		drain := func(_ context.Context, agno ioctl.AGNumber) error {
			_, err := x.Scrub(ioctl.ScrubRequest{Type: ioctl.ScrubTypeAGFL, AGNo: agno})
			return err
		}
		file, err := os.Create(fs.Path("file"))
		require.NoError(t, err)
		defer file.Close()
		busy, err := w.Quiet(t.Context(), 0, drain, func() error {
			if err := unix.Fallocate(int(file.Fd()), 0, 0, 1<<20); err != nil {
				return err
			}
			return file.Truncate(0)
		})
		require.NoError(t, err)
		assert.False(t, busy, "blocks were allocated and freed, and no intent was seen")
		require.NoError(t, fs.Sync())
		quiet, err := w.Quiet(t.Context(), 0, drain, func() error { return nil })
		require.NoError(t, err)
		assert.True(t, quiet)
	})
}

func TestNoTracing(t *testing.T) {
	old := tracefs
	tracefs = []string{t.TempDir()}
	defer func() { tracefs = old }()
	_, err := WatchIntents(7, 0)
	require.ErrorIs(t, err, ErrNoTracing)
}
