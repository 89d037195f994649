package scrub

import (
	"testing"

	"github.com/sirupsen/logrus"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/scrubd/scrubd/ioctl"
	"github.com/scrubd/scrubd/ioctl/ioctltest"
	"github.com/scrubd/scrubd/scrub/kernel"
	"github.com/scrubd/scrubd/scrub/walk"
)

// Which scrubs that found nothing wrong prove nothing, and of what.
func TestNoteInode(t *testing.T) {
	const (
		xfail      = ioctl.ScrubXFail
		incomplete = ioctl.ScrubIncomplete
	)
	for _, c := range []struct {
		name string
		res  kernel.Result
		want uncompared
		kept bool // among those to report
	}{
		{"a fork", kernel.Result{Object: kernel.Object{Type: ioctl.ScrubTypeBMBTD}, Ran: true, Flags: xfail}, uncompared{parts: 1, forks: 1}, false},
		{"the other", kernel.Result{Object: kernel.Object{Type: ioctl.ScrubTypeBMBTA}, Ran: true, Flags: xfail}, uncompared{parts: 1, forks: 1}, false},
		{"a core", kernel.Result{Object: kernel.Object{Type: ioctl.ScrubTypeINODE}, Ran: true, Flags: xfail}, uncompared{parts: 1, cores: 1}, false},
		{"one that could be better", kernel.Result{Object: kernel.Object{Type: ioctl.ScrubTypeINODE}, Ran: true, Flags: xfail | ioctl.ScrubPreen}, uncompared{parts: 1, cores: 1}, true},
		{"no end", kernel.Result{Object: kernel.Object{Type: ioctl.ScrubTypeBMBTD}, Ran: true, Flags: incomplete | xfail}, uncompared{parts: 1, unfinished: 1}, false},
		{"not begun", kernel.Result{Object: kernel.Object{Type: ioctl.ScrubTypeINODE}}, uncompared{parts: 1, unfinished: 1}, false},
		{"because of its core", kernel.Result{Object: kernel.Object{Type: ioctl.ScrubTypeBMBTD}, Because: ioctl.ScrubTypeINODE}, uncompared{parts: 1}, false},
		{"of a directory", kernel.Result{Object: kernel.Object{Type: ioctl.ScrubTypeDIR}, Ran: true, Flags: xfail}, uncompared{parts: 1}, false},
		{"bad is bad", kernel.Result{Object: kernel.Object{Type: ioctl.ScrubTypeBMBTD}, Ran: true, Flags: xfail | ioctl.ScrubXCorrupt}, uncompared{}, true},
		{"an error", kernel.Result{Object: kernel.Object{Type: ioctl.ScrubTypeBMBTD}, Err: unix.EIO}, uncompared{}, true},
		{"odd", kernel.Result{Object: kernel.Object{Type: ioctl.ScrubTypeBMBTD}, Ran: true, Flags: ioctl.ScrubWarning}, uncompared{}, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := &pass{inodeBad: make(map[ioctl.Ino][]kernel.Result)}
			p.noteInode(c.res)
			assert.Equal(t, c.want, p.open)
			assert.Equal(t, c.kept, len(p.inodeBad) > 0)
		})
	}
}

// markedPass is a pass whose kernel has the given marks in both of its AGs.
func markedPass(t *testing.T, marks *ioctl.AGHealth) (*pass, *ioctltest.Kernel) {
	t.Helper()
	fs, k := ioctltest.New(t)
	k.OnAGGeometry = func(ioctl.AGNumber) (ioctl.AGGeometry, unix.Errno) { return ioctl.AGGeometry{Sick: *marks}, 0 }
	log := logrus.New()
	log.SetOutput(t.Output())
	p := &pass{
		r:        &run{ctx: t.Context(), fs: fs, log: log, workers: 1, kern: kernel.New(fs, kernel.Options{}), sum: &Summary{}},
		inodeBad: make(map[ioctl.Ino][]kernel.Result), groups: make([]group, 2),
	}
	var err error
	p.walk, err = walk.Run(t.Context(), fs, walk.Options{Workers: 1})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, p.walk.Close()) })
	p.groups[1].agno = 1
	p.r.progress = newProgress(p.r)
	t.Cleanup(p.r.progress.stop)
	return p, k
}

// Scrubs that left out a comparison on account of a mark are made once more when
// it is gone, and count with the marks under which they were made.
func TestRescrubInodes(t *testing.T) {
	for _, c := range []struct {
		name          string
		before, after ioctl.AGHealth
		again         bool
	}{
		{"gone", ioctl.AGHealthRmapbt, ioctl.AGHealthBnobt, true},
		{"still there", ioctl.AGHealthRmapbt, ioctl.AGHealthRmapbt | ioctl.AGHealthBnobt, false},
		{"none", 0, ioctl.AGHealthBnobt, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			marks := c.before
			p, k := markedPass(t, &marks)
			k.OnScrub = func(req ioctl.ScrubRequest) (ioctl.ScrubFlags, unix.Errno) {
				switch {
				case req.Type.Object() != ioctl.ScrubObjectInode:
					return 0, 0
				case marks != 0:
					return ioctl.ScrubXFail, 0
				}
				return 0, 0
			}
			require.NoError(t, p.scrubInodes(t.Context()))
			first := p.open.uncomparedForks()
			assert.Equal(t, c.before != 0, first.Count > 0)
			assert.Equal(t, c.before, first.Marks)
			marks = c.after
			k.ResetCalls()
			require.NoError(t, p.rescrubInodes(t.Context()))
			if !c.again {
				assert.Equal(t, first, p.open.uncomparedForks())
				return
			}
			assert.Positive(t, p.open.forks)
			assert.Equal(t, c.after, p.open.allMarks(), "those of before count no more")
		})
	}
}

// The forks of an inode whose core is corrupt were left out because of it: they
// are asked for by themselves, also if the core is well the next time.
func TestSpoiledForksAreAskedFor(t *testing.T) {
	for _, c := range []struct {
		name  string
		core  ioctl.ScrubFlags // when it is asked again
		fork  ioctl.ScrubFlags
		bad   []ioctl.ScrubType
		forks uint64
	}{
		{"all well now", 0, 0, nil, 0},
		{"the core", ioctl.ScrubCorrupt, 0, []ioctl.ScrubType{ioctl.ScrubTypeINODE}, 0},
		{"a record is missing", 0, ioctl.ScrubXCorrupt, []ioctl.ScrubType{ioctl.ScrubTypeBMBTD}, 0},
		{"both", ioctl.ScrubCorrupt, ioctl.ScrubXCorrupt, []ioctl.ScrubType{ioctl.ScrubTypeINODE, ioctl.ScrubTypeBMBTD}, 0},
		{"not compared", 0, ioctl.ScrubXFail, nil, 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			var marks ioctl.AGHealth
			p, k := markedPass(t, &marks)
			k.OnScrub = func(req ioctl.ScrubRequest) (ioctl.ScrubFlags, unix.Errno) {
				switch req.Type {
				case ioctl.ScrubTypeINODE:
					return c.core, 0
				case ioctl.ScrubTypeBMBTD:
					return c.fork, 0
				}
				return 0, unix.ENOENT
			}
			core := kernel.Object{Type: ioctl.ScrubTypeINODE, Ino: 131, Gen: 1}
			p.noteInode(kernel.Result{Object: core, Ran: true, Flags: ioctl.ScrubCorrupt})
			require.NoError(t, p.recheckInodes(t.Context()))
			var bad []ioctl.ScrubType
			for _, r := range p.inodeBad[131] {
				bad = append(bad, r.Type)
			}
			assert.Equal(t, c.bad, bad)
			assert.Equal(t, c.forks, p.open.forks)
			assert.Equal(t, len(c.bad) > 0 && c.fork != 0, len(p.unprovenForks()) > 0)
		})
	}
}
