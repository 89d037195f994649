package scrub

import (
	"context"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/scrubd/scrubd/ioctl"
	"github.com/scrubd/scrubd/ioctl/ioctltest"
	"github.com/scrubd/scrubd/scrub/state"
)

// crowd is how many files each AG of a [crowded] model has.
const crowd = 1200

// longAgo is before what synctest begins with.
var longAgo = ioctl.Timestamp{Sec: time.Date(1999, 1, 1, 0, 0, 0, 0, time.UTC).Unix()}

func crowded() *ioctltest.Model {
	m := ioctltest.NewModel()
	for agno := range ioctl.AGNumber(m.Geometry.AGCount) {
		for i := range ioctl.Ino(crowd) {
			m.AddInode(&ioctltest.Inode{Ino: m.Geometry.AGToIno(agno, 64, 0) + i, Gen: 3, CTime: longAgo})
		}
	}
	m.Inodes[m.RootIno].CTime = longAgo
	m.Derive()
	return m
}

// resumeRig makes runs over one model, with one state directory, and counts what
// they have the kernel scrub.
type resumeRig struct {
	t     *testing.T
	model *ioctltest.Model
	dir   string
	o     Options

	mu      sync.Mutex
	inodes  map[ioctl.Ino]int
	groups  map[ioctl.ScrubType]int // of all AGs
	repairs []ioctl.ScrubType
	// before is called before each scrub; it may sleep.
	before func(inodes int)
}

func newResumeRig(t *testing.T) *resumeRig {
	return &resumeRig{t: t, model: crowded(), dir: t.TempDir(), o: Options{Resume: true}}
}

// run makes one run, which stop may end: it is called with the number of inodes
// scrubbed before each scrub.
func (r *resumeRig) run(stop func(req ioctl.ScrubRequest, inodes int) bool) (sum *Summary, err error) {
	r.t.Helper()
	r.inodes, r.groups, r.repairs = map[ioctl.Ino]int{}, map[ioctl.ScrubType]int{}, nil
	synctest.Test(r.t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		fs, k := ioctltest.NewWithModel(t, r.model)
		k.LogCalls(false)
		k.OnScrub = func(req ioctl.ScrubRequest) (ioctl.ScrubFlags, unix.Errno) {
			r.mu.Lock()
			switch {
			case req.Type == ioctl.ScrubTypeProbe:
			case req.Flags.Has(ioctl.ScrubRepair):
				r.repairs = append(r.repairs, req.Type)
			case req.Type == ioctl.ScrubTypeINODE:
				r.inodes[req.Ino]++
			case req.Type.Object() == ioctl.ScrubObjectAG:
				r.groups[req.Type]++
			}
			end := stop != nil && stop(req, len(r.inodes))
			n := len(r.inodes)
			r.mu.Unlock()
			if end {
				cancel()
			}
			if r.before != nil {
				r.before(n)
			}
			return k.DefaultScrub(req)
		}
		o := r.o
		o.NoLive, o.StateDir, o.Workers = true, r.dir, 2
		sum, err = Run(ctx, fs, o)
	})
	return sum, err
}

// stopped makes a run that is stopped after so many inodes.
func (r *resumeRig) stopped(inodes int) *Summary {
	r.t.Helper()
	sum, err := r.run(func(_ ioctl.ScrubRequest, n int) bool { return n >= inodes })
	require.ErrorIs(r.t, err, context.Canceled)
	return sum
}

// through makes a run to its end.
func (r *resumeRig) through() *Summary {
	r.t.Helper()
	sum, err := r.run(nil)
	require.NoError(r.t, err)
	return sum
}

func (r *resumeRig) file() string {
	r.t.Helper()
	found, err := filepath.Glob(filepath.Join(r.dir, "*", "checkpoint"))
	require.NoError(r.t, err)
	if len(found) == 0 {
		return ""
	}
	return found[0]
}

// edit changes the checkpoint.
func (r *resumeRig) edit(change func(*state.Checkpoint)) {
	r.t.Helper()
	fs, _ := ioctltest.NewWithModel(r.t, r.model)
	c, err := state.ReadCheckpoint(r.dir, fs)
	require.NoError(r.t, err)
	require.NotNil(r.t, c)
	change(c)
	d, err := state.Open(r.dir, fs)
	require.NoError(r.t, err)
	require.NoError(r.t, d.WriteCheckpoint(c))
	require.NoError(r.t, d.Close())
}

const everyInode = 4*crowd + 1

// A run that was stopped in the middle of the inodes leaves a checkpoint, and the next
// one has the kernel scrub what is left; it walks and compares everything.
func TestResume(t *testing.T) {
	r := newResumeRig(t)
	whole := r.through()
	require.Len(t, r.inodes, everyInode)
	headers := r.groups[ioctl.ScrubTypeINOBT]
	assert.Nil(t, whole.Resumed)
	assert.False(t, whole.Checkpoint)
	assert.Empty(t, r.file(), "a run that got through leaves none")
	require.Equal(t, []WellAGs{{First: 0, Last: 3, Since: whole.Began}}, whole.Well)

	first := r.stopped(everyInode / 2)
	assert.True(t, first.Checkpoint)
	assert.Empty(t, first.Well)
	require.NotEmpty(t, r.file())

	second := r.stopped(everyInode / 4)
	require.NotNil(t, second.Resumed)
	require.True(t, second.Checkpoint)

	last := r.through()
	require.NotNil(t, last.Resumed)
	assert.Equal(t, second.RunID, last.Resumed.RunID)
	assert.Equal(t, first.Began.Unix(), last.Resumed.Since.Unix(), "the oldest check counts")
	assert.Empty(t, last.Resumed.Anew)
	assert.Zero(t, last.ExitStatus())
	assert.Equal(t, whole.Inodes, last.Inodes, "the walk is whole")
	assert.Equal(t, whole.ComparedBytes, last.ComparedBytes)
	assert.Equal(t, everyInode, len(r.inodes)+int(last.Resumed.Inodes), "each is scrubbed or said to be left out")
	assert.Positive(t, last.Resumed.Inodes)
	assert.Less(t, r.groups[ioctl.ScrubTypeINOBT], headers, "types that were done are not done again")
	require.Len(t, last.Well, 1)
	assert.Equal(t, last.Resumed.Since, last.Well[0].Since, "nothing is newer than its oldest check")
	assert.Empty(t, r.file())

	r.stopped(everyInode / 2)
	r.o.Resume = false
	anew := r.through()
	assert.Nil(t, anew.Resumed, "nobody has asked for it")
	assert.Len(t, r.inodes, everyInode)
}

// A run that is killed leaves what it wrote last.
func TestResumeAfterKill(t *testing.T) {
	r := newResumeRig(t)
	r.o.CheckpointEvery = time.Second
	var left []byte
	var once sync.Once
	r.before = func(n int) {
		if time.Sleep(time.Millisecond); n == everyInode/2 {
			once.Do(func() {
				var err error
				left, err = os.ReadFile(r.file())
				assert.NoError(t, err)
			})
		}
	}
	r.stopped(everyInode/2 + 100)
	r.before = nil
	require.NotEmpty(t, left)
	require.NoError(t, os.WriteFile(r.file(), left, 0o600))
	sum := r.through()
	require.NotNil(t, sum.Resumed)
	assert.Positive(t, sum.Resumed.Inodes)
	assert.Equal(t, everyInode, len(r.inodes)+int(sum.Resumed.Inodes))
	assert.Zero(t, sum.ExitStatus())
}

// What changed since it was checked is checked again, and what something was found
// in, be it no more than a warning.
func TestResumeChecksWhatChanged(t *testing.T) {
	r := newResumeRig(t)
	warned := r.model.Geometry.AGToIno(0, 64, 0) + 9
	r.model.Verdicts[ioctl.ScrubRequest{Type: ioctl.ScrubTypeINODE, Ino: warned, Gen: 3}] = ioctl.ScrubWarning
	r.stopped(everyInode * 3 / 4)
	changed, marked, left := warned+1, warned+2, warned+3
	r.model.Inodes[changed].CTime.Sec += 2 * 365 * 24 * 3600
	r.model.Inodes[marked].Sick = ioctl.InodeHealthBMBTD
	sum := r.through()
	require.NotNil(t, sum.Resumed)
	assert.Empty(t, sum.Resumed.Anew)
	assert.Equal(t, 1, r.inodes[warned])
	assert.Equal(t, 1, r.inodes[changed])
	assert.Equal(t, 1, r.inodes[marked])
	assert.Zero(t, r.inodes[left])
	assert.Equal(t, uint64(1), sum.Warnings)
}

// A checkpoint that is no good costs time and nothing else: everything is checked, and
// the report says why.
func TestResumeRefuses(t *testing.T) {
	r := newResumeRig(t)
	r.stopped(everyInode / 2)
	good, err := os.ReadFile(r.file())
	require.NoError(t, err)
	path := r.file()
	ago := func(by time.Duration) func(*state.Checkpoint) {
		return func(c *state.Checkpoint) { c.Began, c.Written = c.Began.Add(-by), c.Written.Add(-by) }
	}
	for _, c := range []struct {
		name   string
		change func(*state.Checkpoint)
		text   []byte
		why    string
	}{
		{name: "cut off", text: good[:len(good)/2], why: "it is damaged"},
		{name: "empty", text: []byte{}, why: "it is damaged"},
		{name: "too long ago", change: ago(maxPause + time.Hour), why: "that was stopped 193h0m0s ago"},
		{name: "too old", change: func(c *state.Checkpoint) { c.Began = c.Began.Add(-maxAge - time.Hour) }, why: "its first checks were made 673h0m0s ago"},
		{name: "from the future", change: ago(-time.Hour), why: "the clock was set since"},
		{name: "another geometry", change: func(c *state.Checkpoint) { c.Shape.AGBlocks++ }, why: "the filesystem was changed since"},
		{name: "another feature", change: func(c *state.Checkpoint) { c.Shape.Features ^= ioctl.FlagBigtime }, why: "the filesystem was changed since"},
	} {
		t.Run(c.name, func(t *testing.T) {
			r.t = t
			require.NoError(t, os.WriteFile(path, good, 0o600))
			if c.change != nil {
				r.edit(c.change)
			} else {
				require.NoError(t, os.WriteFile(path, c.text, 0o600))
			}
			sum := r.through()
			assert.Nil(t, sum.Resumed)
			require.Len(t, sum.Notes, 1)
			assert.Contains(t, sum.Notes[0], c.why)
			assert.Zero(t, sum.ExitStatus())
			assert.Len(t, r.inodes, everyInode)
			assert.Empty(t, r.file())
		})
	}
	// It is not broken: as it was, it would have been used.
	r.t = t
	require.NoError(t, os.WriteFile(path, good, 0o600))
	assert.NotNil(t, r.through().Resumed)
}

// A filesystem that has grown, a kernel that checks more, and marks of the kernel: what
// they are about is checked again, and the rest is left out.
func TestResumeReplans(t *testing.T) {
	inAG := func(r *resumeRig, agno ioctl.AGNumber) (n int) {
		for ino := range r.inodes {
			if at, _, _ := r.model.Geometry.InoToAG(ino); at == agno {
				n++
			}
		}
		return n
	}
	for _, c := range []struct {
		name   string
		change func(*resumeRig)
		anew   []ioctl.AGNumber
		least  int
	}{
		{"another boot and kernel", func(r *resumeRig) { r.model.Release = "7.3.0" }, nil, 0},
		{"a longer last AG", func(r *resumeRig) { r.model.Geometry.DataBlocks += 50; r.model.Derive() }, []ioctl.AGNumber{3}, crowd},
		{"another AG", func(r *resumeRig) {
			g := &r.model.Geometry
			g.DataBlocks, g.AGCount = 4500, 5
			r.model.Derive()
		}, []ioctl.AGNumber{3}, crowd},
		{"a kernel that checks more", func(r *resumeRig) {
			r.edit(func(c *state.Checkpoint) {
				c.Release, c.Lacking = "6.9.0", []ioctl.ScrubType{ioctl.ScrubTypePARENT}
			})
		}, []ioctl.AGNumber{0, 1, 2, 3}, crowd},
		{"a mark", func(r *resumeRig) { r.model.AGSick[1] = ioctl.AGHealthInobt }, []ioctl.AGNumber{1}, crowd},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := newResumeRig(t)
			// Stopped after all inodes.
			_, err := r.run(func(req ioctl.ScrubRequest, _ int) bool { return req.Type == ioctl.ScrubTypeRMAPBT })
			require.ErrorIs(t, err, context.Canceled)
			c.change(r)
			sum := r.through()
			require.NotNil(t, sum.Resumed)
			assert.Empty(t, sum.Resumed.Anew)
			assert.Zero(t, sum.ExitStatus(), sum.Notes)
			for agno := range ioctl.AGNumber(r.model.Geometry.AGCount) {
				want := 0
				for _, a := range c.anew {
					if a == agno {
						want = c.least
					}
				}
				if want == 0 {
					assert.Zero(t, inAG(r, agno), "AG %d", agno)
					continue
				}
				assert.GreaterOrEqual(t, inAG(r, agno), want, "AG %d", agno)
			}
		})
	}
}

// A run that leaves something out and finds something begins anew: the repair comes
// after a pass that has scrubbed everything, and no checkpoint outlives it.
func TestResumeBeginsAnewBeforeARepair(t *testing.T) {
	for name, fault := range map[string]ioctl.ScrubRequest{
		"in what is left": {Type: ioctl.ScrubTypeREFCNTBT, AGNo: 2},
		"a sum":           {Type: ioctl.ScrubTypeFSCOUNTERS},
	} {
		t.Run(name, func(t *testing.T) {
			r := newResumeRig(t)
			r.stopped(everyInode / 2)
			r.model.Verdicts[fault] = ioctl.ScrubCorrupt
			before := map[ioctl.Ino]int{}
			sum, err := r.run(func(req ioctl.ScrubRequest, _ int) bool {
				if req.Flags.Has(ioctl.ScrubRepair) && len(r.repairs) == 1 && len(before) == 0 {
					for ino, n := range r.inodes {
						before[ino] = n
					}
					assert.Empty(t, r.file(), "what was known before the repair is gone")
				}
				return false
			})
			require.NoError(t, err)
			require.NotNil(t, sum.Resumed)
			assert.NotEmpty(t, sum.Resumed.Anew)
			assert.Zero(t, sum.Resumed.Inodes)
			require.Contains(t, r.repairs, fault.Type)
			assert.Len(t, before, everyInode, "everything was scrubbed before the first repair")
			require.Len(t, sum.Findings, 1)
			assert.Equal(t, Repaired, sum.Findings[0].Outcome)
			assert.Empty(t, r.file())
		})
	}
}

// A run that is stopped after a repair leaves nothing to go on with.
func TestNoCheckpointAfterARepair(t *testing.T) {
	r := newResumeRig(t)
	r.model.Verdicts[ioctl.ScrubRequest{Type: ioctl.ScrubTypeREFCNTBT, AGNo: 2}] = ioctl.ScrubCorrupt
	repaired := false
	sum, err := r.run(func(req ioctl.ScrubRequest, _ int) bool {
		stop := repaired && req.Type == ioctl.ScrubTypeINODE
		repaired = repaired || len(r.repairs) > 0
		return stop
	})
	require.ErrorIs(t, err, context.Canceled)
	assert.False(t, sum.Checkpoint)
	assert.Empty(t, r.file())
	sum = r.through()
	assert.Nil(t, sum.Resumed)
	assert.Len(t, r.inodes, everyInode)
}

// Whoever repairs, if only to carry out a person's decision, removes the checkpoint of
// an earlier run first; and where it cannot be removed, nothing is repaired.
func TestRepairsDropTheCheckpoint(t *testing.T) {
	r := newResumeRig(t)
	r.stopped(everyInode / 2)
	require.NotEmpty(t, r.file())
	fs, _ := ioctltest.NewWithModel(t, r.model)
	other, err := newRun(t.Context(), fs, Options{NoLive: true, StateDir: r.dir, Choice: &Choice{}})
	require.NoError(t, err)
	defer other.close()
	require.NoError(t, other.repairsBegin())
	assert.Empty(t, r.file())

	r.stopped(everyInode / 2)
	r.edit(func(c *state.Checkpoint) { c.Began, c.Written = time.Now(), time.Now() }) // this is no bubble
	left, err := newRun(t.Context(), fs, Options{NoLive: true, StateDir: r.dir, Resume: true})
	require.NoError(t, err)
	defer left.close()
	require.True(t, left.partial())
	var unwritten *StateError
	require.ErrorAs(t, left.repairsBegin(), &unwritten, "and no pass that leaves something out repairs")
	require.NotEmpty(t, r.file())

	anew, err := newRun(t.Context(), fs, Options{NoLive: true, StateDir: r.dir})
	require.NoError(t, err)
	defer anew.close()
	require.NoError(t, os.Remove(r.file()))
	require.NoError(t, os.MkdirAll(filepath.Join(r.dir, state.UUID(fs), "checkpoint", "x"), 0o700)) // cannot be removed
	require.ErrorAs(t, anew.repairsBegin(), &unwritten)
}

// What an earlier run knew of and could not report is looked for, and said to be there
// or not.
func TestResumeCarriesFindings(t *testing.T) {
	fault := ioctl.ScrubRequest{Type: ioctl.ScrubTypeREFCNTBT, AGNo: 2}
	counters := func(req ioctl.ScrubRequest, _ int) bool { return req.Type == ioctl.ScrubTypeFSCOUNTERS }
	damaged := func(t *testing.T) *resumeRig {
		r := newResumeRig(t)
		r.o.Mode = ModeCheck
		r.model.Verdicts[fault] = ioctl.ScrubCorrupt
		sum, err := r.run(counters)
		require.ErrorIs(t, err, context.Canceled)
		require.Len(t, sum.Findings, 1)
		assert.False(t, sum.Checkpoint, "where something was found the next run looks at everything")
		return r
	}
	t.Run("it is still there", func(t *testing.T) {
		r := damaged(t)
		sum := r.through()
		assert.Nil(t, sum.Resumed)
		assert.Len(t, r.inodes, everyInode)
		require.Len(t, sum.Findings, 1)
		assert.Empty(t, sum.Notes)
		assert.Equal(t, 1, sum.ExitStatus())
		assert.Equal(t, []WellAGs{{First: 0, Last: 1, Since: sum.Began}, {First: 3, Last: 3, Since: sum.Began}}, sum.Well)
	})
	t.Run("it is gone", func(t *testing.T) {
		r := damaged(t)
		delete(r.model.Verdicts, fault)
		early := r.stopped(10)
		require.Len(t, early.Notes, 1)
		assert.Contains(t, early.Notes[0], "did not come to: the kernel finds the refcountbt of AG 2")
		sum := r.through()
		assert.Empty(t, sum.Findings)
		require.Len(t, sum.Notes, 1)
		assert.Contains(t, sum.Notes[0], "not there any more")
		assert.Zero(t, sum.ExitStatus())
	})
	t.Run("found by a run that goes on", func(t *testing.T) {
		r := newResumeRig(t)
		r.o.Mode = ModeCheck
		r.stopped(everyInode / 2)
		r.model.Verdicts[fault] = ioctl.ScrubCorrupt
		seen := 0
		sum, err := r.run(func(req ioctl.ScrubRequest, _ int) bool {
			if req.Type == ioctl.ScrubTypeINOBT && r.groups[ioctl.ScrubTypeREFCNTBT] > 3 {
				seen++ // the second pass has begun
			}
			return seen > 0
		})
		require.ErrorIs(t, err, context.Canceled)
		require.NotNil(t, sum.Resumed)
		assert.Contains(t, sum.Resumed.Anew, "refcountbt of AG 2")
		r.edit(func(c *state.Checkpoint) { require.Len(t, c.Found, 1) })
		sum = r.through()
		require.Len(t, sum.Findings, 1)
	})
}

// A run that fails of itself, and was not stopped, leaves nothing to go on with.
func TestNoCheckpointOfAFailure(t *testing.T) {
	r := newResumeRig(t)
	sum, err := r.run(func(_ ioctl.ScrubRequest, n int) bool {
		if n > everyInode/2 {
			r.model.Shutdown = true
		}
		return false
	})
	require.ErrorIs(t, err, ioctl.ErrShutdown)
	assert.False(t, sum.Checkpoint)
	r.model.Shutdown = false
	sum = r.through()
	assert.Nil(t, sum.Resumed)
	assert.Len(t, r.inodes, everyInode)
}

// A state directory that takes nothing costs the checkpoint and no more.
func TestCheckpointCannotBeWritten(t *testing.T) {
	r := newResumeRig(t)
	r.dir = filepath.Join(r.dir, "file")
	require.NoError(t, os.WriteFile(r.dir, nil, 0o600))
	sum := r.stopped(everyInode / 2)
	assert.False(t, sum.Checkpoint)
	require.Len(t, sum.Notes, 1)
	assert.Contains(t, sum.Notes[0], "could not be written down")
	r.o.Mode = ModeCheck
	assert.Zero(t, r.through().ExitStatus())
}
