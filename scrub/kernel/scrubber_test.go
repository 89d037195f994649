package kernel_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
	"pgregory.net/rapid"

	"github.com/scrubd/scrubd/ioctl"
	"github.com/scrubd/scrubd/ioctl/ioctltest"
	"github.com/scrubd/scrubd/scrub/kernel"
	"github.com/scrubd/scrubd/scrub/throttle"
)

var agOrder = []ioctl.ScrubType{
	ioctl.ScrubTypeSB, ioctl.ScrubTypeAGF, ioctl.ScrubTypeAGFL, ioctl.ScrubTypeAGI,
	ioctl.ScrubTypeINOBT, ioctl.ScrubTypeFINOBT, ioctl.ScrubTypeBNOBT, ioctl.ScrubTypeCNTBT,
	ioctl.ScrubTypeREFCNTBT, ioctl.ScrubTypeRMAPBT,
}

func TestAGChecksEveryTypeInOrder(t *testing.T) {
	s, k, _ := newFake(t)
	results, err := s.AG(t.Context(), 2)
	require.NoError(t, err)
	assert.Equal(t, agOrder, types(results))
	assert.Equal(t, agOrder, scrubbed(k))
	for _, r := range results {
		assert.True(t, r.Clean(), "%s", r)
		assert.Equal(t, ioctl.AGNumber(2), r.AGNo)
		assert.Equal(t, 1, r.Attempts)
	}
	// The headers share a call; each btree has its own.
	assert.Len(t, k.Calls(ioctltest.OpScrubVec), 1)
	assert.Empty(t, s.InFlight())
	assert.Equal(t, uint64(7), s.Calls())
}

func TestAGLeavesOutWhatTheFilesystemDoesNotHave(t *testing.T) {
	m := ioctltest.NewModel()
	m.Geometry.Flags &^= ioctl.FlagRmapbt | ioctl.FlagReflink | ioctl.FlagFinobt
	s, k, _ := newFakeWith(t, m)
	results, err := s.AG(t.Context(), 0)
	require.NoError(t, err)
	want := []ioctl.ScrubType{
		ioctl.ScrubTypeSB, ioctl.ScrubTypeAGF, ioctl.ScrubTypeAGFL, ioctl.ScrubTypeAGI,
		ioctl.ScrubTypeINOBT, ioctl.ScrubTypeBNOBT, ioctl.ScrubTypeCNTBT,
	}
	assert.Equal(t, want, types(results))
	assert.Equal(t, want, scrubbed(k))
}

func TestCorruptHeaderHoldsBackWhatHangsFromIt(t *testing.T) {
	s, k, _ := newFake(t)
	find(k, kernel.Object{Type: ioctl.ScrubTypeAGF, AGNo: 1}, ioctl.ScrubCorrupt)
	results, err := s.AG(t.Context(), 1)
	require.NoError(t, err)
	assert.Equal(t, agOrder, types(results))
	for _, r := range results {
		switch r.Type {
		case ioctl.ScrubTypeAGF:
			assert.True(t, r.Bad())
		case ioctl.ScrubTypeSB, ioctl.ScrubTypeAGI, ioctl.ScrubTypeINOBT, ioctl.ScrubTypeFINOBT:
			assert.True(t, r.Clean(), "%s", r)
		default:
			assert.False(t, r.Ran, "%s", r)
			assert.Equal(t, ioctl.ScrubTypeAGF, r.Because, "%s", r)
			assert.True(t, r.Noteworthy())
		}
	}
}

func TestDisagreementHoldsNothingBack(t *testing.T) {
	for _, flags := range []ioctl.ScrubFlags{
		ioctl.ScrubXCorrupt, ioctl.ScrubXFail, ioctl.ScrubPreen, ioctl.ScrubWarning, ioctl.ScrubXFail | ioctl.ScrubXCorrupt,
	} {
		s, k, _ := newFake(t)
		find(k, kernel.Object{Type: ioctl.ScrubTypeAGF}, flags)
		results, err := s.AG(t.Context(), 0)
		require.NoError(t, err)
		assert.Equal(t, agOrder, scrubbed(k), "%s", flags)
		assert.Equal(t, flags, byType(t, results, ioctl.ScrubTypeAGF).Flags)
	}
}

func TestKernelWithoutVectors(t *testing.T) {
	s, k, _ := newFake(t)
	k.OnScrubVec = func(ioctltest.ScrubVecRequest) unix.Errno { return unix.ENOTTY }
	find(k, kernel.Object{Type: ioctl.ScrubTypeAGI, AGNo: 1}, ioctl.ScrubCorrupt)
	for agno := range ioctl.AGNumber(2) {
		results, err := s.AG(t.Context(), agno)
		require.NoError(t, err)
		require.Equal(t, agOrder, types(results))
		assert.Equal(t, agno == 0, byType(t, results, ioctl.ScrubTypeINOBT).Clean())
	}
	assert.Len(t, k.Calls(ioctltest.OpScrubVec), 1, "it is asked for once")
}

func TestVectorOfWhichNothingRuns(t *testing.T) {
	s, k, _ := newFake(t)
	k.OnScrubVec = func(ioctltest.ScrubVecRequest) unix.Errno { return 0 }
	results, err := s.AG(t.Context(), 0)
	require.NoError(t, err)
	for _, r := range results {
		assert.True(t, r.Clean(), "%s", r)
	}
}

func TestVectorThatFailsAsAWhole(t *testing.T) {
	for _, errno := range []unix.Errno{unix.ENOMEM, unix.EINTR, unix.EIO, unix.EINVAL} {
		s, k, _ := newFake(t)
		k.OnScrubVec = func(ioctltest.ScrubVecRequest) unix.Errno { return errno }
		results, err := s.AG(t.Context(), 0)
		require.NoError(t, err)
		assert.Equal(t, agOrder, types(results))
		for _, r := range results {
			assert.True(t, r.Clean(), "%s", r)
		}
	}
}

// What a check finds, and what is run on its account, does not depend on
// whether the kernel knows vectors.
func TestVectorsAndSingleCallsAgree(t *testing.T) {
	const ino, gen = 131, 7
	rapid.Check(t, func(rt *rapid.T) {
		model := func() *ioctltest.Model {
			m := ioctltest.NewModel()
			m.AddInode(&ioctltest.Inode{Ino: ino, Gen: gen, Mode: unix.S_IFDIR | 0o755, Inline: true})
			return m
		}
		flags := rapid.SampledFrom([]ioctl.ScrubFlags{
			0, 0, 0, ioctl.ScrubCorrupt, ioctl.ScrubXCorrupt, ioctl.ScrubXFail, ioctl.ScrubIncomplete, ioctl.ScrubPreen,
		})
		errnos := rapid.SampledFrom([]unix.Errno{0, 0, 0, 0, unix.ENOENT, unix.EBUSY, unix.EDEADLK, unix.EIO, unix.EUCLEAN})
		verdicts := make(map[ioctl.ScrubType]ioctl.ScrubFlags)
		failures := make(map[ioctl.ScrubType]unix.Errno)
		for typ := range ioctl.ScrubTypeCount {
			verdicts[typ] = flags.Draw(rt, "flags of "+typ.String())
			failures[typ] = errnos.Draw(rt, "errno of "+typ.String())
		}
		loadable := rapid.Bool().Draw(rt, "loadable")
		check := func(vectors bool) [2][]kernel.Result {
			s, k, _ := newFakeWith(t, model())
			k.OnScrub = func(req ioctl.ScrubRequest) (ioctl.ScrubFlags, unix.Errno) {
				if errno := failures[req.Type]; errno != 0 {
					return 0, errno
				}
				return verdicts[req.Type], 0
			}
			if !loadable {
				k.OnBulkstat = func(ioctltest.BulkRequest) ([]ioctl.BulkstatRecord, ioctl.Ino, unix.Errno) {
					return nil, 0, unix.EUCLEAN
				}
			}
			if !vectors {
				k.OnScrubVec = func(ioctltest.ScrubVecRequest) unix.Errno { return unix.ENOTTY }
			}
			ag, err := s.AG(t.Context(), 1)
			require.NoError(t, err)
			inode, err := s.Inode(t.Context(), ino, gen, unix.S_IFDIR, nil)
			require.NoError(t, err)
			return [2][]kernel.Result{forget(ag), forget(inode)}
		}
		assert.Equal(rt, check(false), check(true))
	})
}

// forget drops the texts of errors, which name the call.
func forget(results []kernel.Result) []kernel.Result {
	for i := range results {
		var errno unix.Errno
		if errors.As(results[i].Err, &errno) {
			results[i].Err = errno
		}
	}
	return results
}

func TestErrnoTable(t *testing.T) {
	object := kernel.Object{Type: ioctl.ScrubTypeRMAPBT, AGNo: 3}
	type outcome struct {
		absent, unknown, bad, fatal bool
		err                         error
		attempts                    int
	}
	const bounded = 8
	for errno, want := range map[unix.Errno]outcome{
		unix.ENOENT:          {absent: true, attempts: 1},
		unix.ESTALE:          {absent: true, attempts: 1},
		unix.EUCLEAN:         {bad: true, attempts: 1},
		unix.EBADMSG:         {bad: true, attempts: 1},
		unix.EBUSY:           {err: ioctl.ErrBusy, attempts: bounded},
		unix.EDEADLK:         {err: ioctl.ErrBusy, attempts: bounded},
		unix.EAGAIN:          {err: ioctl.ErrBusy, attempts: bounded},
		unix.EINTR:           {err: ioctl.ErrInterrupted, attempts: bounded},
		unix.ENOMEM:          {err: unix.ENOMEM, attempts: bounded},
		unix.ECANCELED:       {err: unix.ECANCELED, attempts: bounded},
		unix.ETIMEDOUT:       {err: unix.ETIMEDOUT, attempts: bounded},
		unix.EIO:             {err: unix.EIO, attempts: 1},
		unix.EINVAL:          {err: unix.EINVAL, attempts: 1},
		unix.EFBIG:           {err: unix.EFBIG, attempts: 1},
		unix.EOPNOTSUPP:      {unknown: true, attempts: 1},
		unix.ESHUTDOWN:       {fatal: true, err: ioctl.ErrShutdown, attempts: 1},
		unix.ENOTRECOVERABLE: {fatal: true, err: ioctl.ErrNoRecovery, attempts: 1},
		unix.EPERM:           {fatal: true, err: ioctl.ErrPrivilege, attempts: 1},
		unix.ENOTTY:          {fatal: true, err: ioctl.ErrNotSupported, attempts: 1},
	} {
		t.Run(unix.ErrnoName(errno), func(t *testing.T) {
			s, k, _ := newFake(t)
			k.OnScrub = func(req ioctl.ScrubRequest) (ioctl.ScrubFlags, unix.Errno) {
				if req.Type == object.Type && req.Gen == 0 {
					return 0, errno
				}
				return k.DefaultScrub(req)
			}
			r, err := s.One(t.Context(), object)
			var dead *kernel.FatalError
			require.Equal(t, want.fatal, errors.As(err, &dead), "%v", err)
			if want.fatal {
				assert.Equal(t, object, dead.Object)
				require.ErrorIs(t, err, want.err)
			}
			assert.Equal(t, want.absent, r.Absent)
			assert.Equal(t, want.unknown, r.Unknown)
			assert.Equal(t, want.bad, r.Bad())
			assert.Equal(t, want.attempts, r.Attempts)
			if want.err != nil {
				require.ErrorIs(t, r.Err, want.err)
			} else {
				require.NoError(t, r.Err)
			}
			assert.False(t, r.Clean())
		})
	}
}

func TestShutdownThatShowsAsEIO(t *testing.T) {
	s, k, _ := newFake(t)
	answerWith(k, ioctl.ScrubTypeBNOBT, unix.EIO)
	k.OnBulkstat = func(ioctltest.BulkRequest) ([]ioctl.BulkstatRecord, ioctl.Ino, unix.Errno) { return nil, 0, unix.EIO }
	results, err := s.AG(t.Context(), 0)
	var dead *kernel.FatalError
	require.ErrorAs(t, err, &dead)
	require.ErrorIs(t, err, ioctl.ErrShutdown)
	assert.Equal(t, ioctl.ScrubTypeBNOBT, dead.Object.Type)
	assert.True(t, byType(t, results, ioctl.ScrubTypeINOBT).Clean(), "what was checked before stays")
}

func TestBadSectorIsNoReasonToStop(t *testing.T) {
	s, k, _ := newFake(t)
	answerWith(k, ioctl.ScrubTypeBNOBT, unix.EIO)
	results, err := s.AG(t.Context(), 0)
	require.NoError(t, err)
	require.ErrorIs(t, byType(t, results, ioctl.ScrubTypeBNOBT).Err, unix.EIO)
	assert.True(t, byType(t, results, ioctl.ScrubTypeRMAPBT).Clean())
}

func TestNothingButIOErrorsEndsTheRun(t *testing.T) {
	s, k, _ := newFake(t)
	k.OnScrub = func(ioctl.ScrubRequest) (ioctl.ScrubFlags, unix.Errno) { return 0, unix.EIO }
	calls := 0
	for ; calls < 1000; calls++ {
		if _, err := s.One(t.Context(), kernel.Object{Type: ioctl.ScrubTypeAGF}); err != nil {
			var dead *kernel.FatalError
			require.ErrorAs(t, err, &dead)
			require.ErrorIs(t, err, unix.EIO)
			break
		}
	}
	assert.Equal(t, 63, calls)
}

func TestRetriesAreBoundedRandomAndGrow(t *testing.T) {
	s, k, n := newFake(t)
	answerWith(k, ioctl.ScrubTypeAGF, unix.EBUSY, unix.EBUSY, unix.EDEADLK, unix.ENOMEM)
	r, err := s.One(t.Context(), kernel.Object{Type: ioctl.ScrubTypeAGF})
	require.NoError(t, err)
	assert.True(t, r.Clean(), "%s", r)
	assert.Equal(t, 5, r.Attempts)
	naps := n.all()
	require.Len(t, naps, 4)
	for i, nap := range naps {
		full := 5 * time.Millisecond << i
		assert.GreaterOrEqual(t, nap, full/2)
		assert.LessOrEqual(t, nap, full)
	}
}

func TestIncompleteIsRetriedAndSaid(t *testing.T) {
	s, k, n := newFake(t)
	o := kernel.Object{Type: ioctl.ScrubTypeNLINKS}
	find(k, o, ioctl.ScrubIncomplete)
	r, err := s.One(t.Context(), o)
	require.NoError(t, err)
	assert.Equal(t, 8, r.Attempts)
	assert.Equal(t, ioctl.ScrubIncomplete, r.Flags)
	assert.False(t, r.Clean())
	assert.Len(t, n.all(), 7)
}

func TestContextEndsNapsAndRuns(t *testing.T) {
	fs, k := ioctltest.New(t)
	s := kernel.New(fs, kernel.Options{}) // with the real pauses
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	k.OnScrub = func(ioctl.ScrubRequest) (ioctl.ScrubFlags, unix.Errno) {
		cancel()
		return 0, unix.EBUSY
	}
	_, err := s.One(ctx, kernel.Object{Type: ioctl.ScrubTypeAGF})
	require.ErrorIs(t, err, context.Canceled)
	assert.Len(t, k.Calls(ioctltest.OpScrub), 1)

	k.ResetCalls()
	_, err = s.AG(ctx, 0)
	require.ErrorIs(t, err, context.Canceled)
	_, err = s.One(ctx, kernel.Object{Type: ioctl.ScrubTypeAGF})
	require.ErrorIs(t, err, context.Canceled)
	assert.Empty(t, k.Calls(), "nothing is begun under a context that is done")
}

func TestContextIsCheckedBetweenCalls(t *testing.T) {
	s, k, _ := newFake(t)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	k.OnScrub = func(req ioctl.ScrubRequest) (ioctl.ScrubFlags, unix.Errno) {
		if req.Type == ioctl.ScrubTypeINOBT {
			cancel()
		}
		return k.DefaultScrub(req)
	}
	results, err := s.AG(ctx, 0)
	require.ErrorIs(t, err, context.Canceled)
	assert.True(t, byType(t, results, ioctl.ScrubTypeINOBT).Clean())
	assert.False(t, byType(t, results, ioctl.ScrubTypeFINOBT).Ran)
}

// Of inodes that are not there the kernel waits long, for each anew.
func TestSummaryWithoutInodes(t *testing.T) {
	s, k, _ := newFakeWith(t, ioctltest.NewModel())
	results, err := s.Summary(t.Context(), false)
	require.NoError(t, err)
	require.Len(t, results, 1)
	assert.True(t, byType(t, results, ioctl.ScrubTypeFSCOUNTERS).Clean())
	assert.NotContains(t, scrubbed(k), ioctl.ScrubTypeNLINKS)
	assert.NotContains(t, scrubbed(k), ioctl.ScrubTypeQUOTACHECK)
}

func TestTypesThatTheKernelDoesNotKnow(t *testing.T) {
	for _, errno := range []unix.Errno{unix.ENOENT, unix.EINVAL} {
		m := ioctltest.NewModel()
		m.Release = "6.1.0-37-amd64"
		s, k, _ := newFakeWith(t, m)
		k.OnScrub = func(req ioctl.ScrubRequest) (ioctl.ScrubFlags, unix.Errno) {
			switch req.Type {
			case ioctl.ScrubTypeNLINKS, ioctl.ScrubTypeQUOTACHECK, ioctl.ScrubTypeDIRTREE:
				if req.Type != ioctl.ScrubTypeDIRTREE && req.Gen == 0 {
					return 0, errno
				}
				return 0, unix.ENOENT
			}
			return k.DefaultScrub(req)
		}
		for range 2 {
			results, err := s.Summary(t.Context(), true)
			require.NoError(t, err)
			require.Len(t, results, 3)
			assert.True(t, byType(t, results, ioctl.ScrubTypeNLINKS).Unknown)
			assert.True(t, byType(t, results, ioctl.ScrubTypeQUOTACHECK).Unknown)
			assert.True(t, byType(t, results, ioctl.ScrubTypeFSCOUNTERS).Clean())
		}
		results, err := s.Inode(t.Context(), 128, 1, unix.S_IFDIR, nil)
		require.NoError(t, err)
		assert.True(t, byType(t, results, ioctl.ScrubTypeDIRTREE).Unknown)
		assert.Equal(t, []ioctl.ScrubType{ioctl.ScrubTypeQUOTACHECK, ioctl.ScrubTypeNLINKS, ioctl.ScrubTypeDIRTREE}, s.Uncovered())
		asked := 0
		for _, typ := range scrubbed(k) {
			if typ == ioctl.ScrubTypeNLINKS {
				asked++
			}
		}
		assert.Equal(t, 1, asked, "a type that is not known is asked for once")
	}
}

func TestQuotasThatAreOffAreAbsent(t *testing.T) {
	s, k, _ := newFake(t)
	k.OnScrub = func(req ioctl.ScrubRequest) (ioctl.ScrubFlags, unix.Errno) {
		switch req.Type {
		case ioctl.ScrubTypeUQUOTA, ioctl.ScrubTypeGQUOTA, ioctl.ScrubTypePQUOTA, ioctl.ScrubTypeQUOTACHECK:
			if req.Gen == 0 {
				return 0, unix.ENOENT
			}
		}
		return k.DefaultScrub(req)
	}
	results, err := s.Filesystem(t.Context())
	require.NoError(t, err)
	for _, typ := range []ioctl.ScrubType{ioctl.ScrubTypeUQUOTA, ioctl.ScrubTypeGQUOTA, ioctl.ScrubTypePQUOTA} {
		assert.True(t, byType(t, results, typ).Absent)
	}
	results, err = s.Summary(t.Context(), true)
	require.NoError(t, err)
	assert.True(t, byType(t, results, ioctl.ScrubTypeQUOTACHECK).Absent)
	assert.Empty(t, s.Uncovered())
}

func TestFilesystemWithRealtimeGroups(t *testing.T) {
	m := ioctltest.NewModel()
	m.Geometry.Flags |= ioctl.FlagMetadir
	m.Geometry.RGCount, m.Geometry.RGExtents, m.Geometry.RTBlocks, m.Geometry.RTExtents = 2, 1000, 2000, 2000
	s, _, _ := newFakeWith(t, m)
	results, err := s.Filesystem(t.Context())
	require.NoError(t, err)
	count := make(map[ioctl.ScrubType]int)
	paths := make(map[ioctl.Ino]int)
	for _, r := range results {
		assert.True(t, r.Clean(), "%s", r)
		count[r.Type]++
		if r.Type == ioctl.ScrubTypeMETAPATH {
			paths[r.Ino]++
		}
	}
	for _, typ := range []ioctl.ScrubType{
		ioctl.ScrubTypeRGSUPER, ioctl.ScrubTypeRTBITMAP, ioctl.ScrubTypeRTSUM, ioctl.ScrubTypeRTREFCBT, ioctl.ScrubTypeRTRMAPBT,
	} {
		assert.Equal(t, 2, count[typ], "%s", typ)
	}
	for path := ioctl.MetapathRTDir; path < ioctl.MetapathCount; path++ {
		want := 1
		switch path {
		case ioctl.MetapathRTBitmap, ioctl.MetapathRTSummary, ioctl.MetapathRTRmapbt, ioctl.MetapathRTRefcountbt:
			want = 2
		}
		assert.Equal(t, want, paths[ioctl.Ino(path)], "metapath %d", path)
	}
}

// Together, the four entry points ask for every type that there is.
func TestEveryTypeIsAskedFor(t *testing.T) {
	m := ioctltest.NewModel()
	m.Geometry.Flags |= ioctl.FlagMetadir
	m.Geometry.RGCount, m.Geometry.RGExtents, m.Geometry.RTBlocks, m.Geometry.RTExtents = 1, 1000, 1000, 1000
	m.AddInode(&ioctltest.Inode{Ino: 131, Gen: 7, HasAttrFork: true})
	m.AddInode(&ioctltest.Inode{Ino: 132, Gen: 7, Mode: unix.S_IFLNK | 0o777, Inline: true})
	s, k, _ := newFakeWith(t, m)
	_, err := s.AG(t.Context(), 0)
	require.NoError(t, err)
	_, err = s.Filesystem(t.Context())
	require.NoError(t, err)
	_, err = s.Summary(t.Context(), true)
	require.NoError(t, err)
	_, err = s.Inodes(t.Context(), 2, func(kernel.Result) {}, nil)
	require.NoError(t, err)
	r, err := s.ForgetSickness(t.Context())
	require.NoError(t, err)
	assert.True(t, r.Clean())
	asked := make(map[ioctl.ScrubType]bool)
	for _, typ := range scrubbed(k) {
		asked[typ] = true
	}
	for typ := ioctl.ScrubTypeSB; typ < ioctl.ScrubTypeCount; typ++ {
		assert.True(t, asked[typ], "%s is never checked", typ)
	}
}

func TestRealtimeWithoutGroups(t *testing.T) {
	s, k, _ := newFake(t)
	results, err := s.RTGroup(t.Context(), 0)
	require.NoError(t, err)
	assert.Equal(t, []ioctl.ScrubType{ioctl.ScrubTypeRTBITMAP, ioctl.ScrubTypeRTSUM}, types(results))
	assert.Equal(t, types(results), scrubbed(k))
	assert.Equal(t, uint32(1), s.RTGroups())
}

// A paced scrubber rests: inside of a vector as soon as it is known how long a
// check takes, and between calls. Who waits for an answer gets it at once.
func TestThrottle(t *testing.T) {
	fs, k := ioctltest.New(t)
	// Nothing can be measured there: the speed stays what it is at first.
	pace := throttle.New(throttle.Options{Workers: 1, Root: t.TempDir()})
	s := kernel.New(fs, kernel.Options{Throttle: pace})
	const check = 2 * time.Millisecond
	var rests []time.Duration
	k.OnScrub = func(req ioctl.ScrubRequest) (ioctl.ScrubFlags, unix.Errno) {
		time.Sleep(check)
		return k.DefaultScrub(req)
	}
	k.OnScrubVec = func(req ioctltest.ScrubVecRequest) unix.Errno {
		rests = append(rests, req.Rest)
		return k.DefaultScrubVec(req)
	}
	for range 3 {
		_, err := s.Inode(t.Context(), 128, 1, unix.S_IFDIR, nil)
		require.NoError(t, err)
	}
	require.Len(t, rests, 3)
	assert.Zero(t, rests[0])
	assert.Greater(t, rests[2], check/4, "what it takes besides is measured too")
	assert.LessOrEqual(t, rests[2], 5*time.Millisecond)
	assert.Positive(t, pace.Throttled())

	// The fake kernel does not rest within a vector: who did may go on at once.
	s = kernel.New(fs, kernel.Options{Throttle: pace})
	before := pace.Throttled()
	_, err := s.AG(t.Context(), 0)
	require.NoError(t, err)
	assert.GreaterOrEqual(t, pace.Throttled()-before, 6*check, "each of the btrees is a call of its own")

	before = pace.Throttled()
	for range 10 {
		_, err := s.One(t.Context(), kernel.Object{Type: ioctl.ScrubTypeAGF})
		require.NoError(t, err)
	}
	_, err = s.Repair(t.Context(), kernel.Object{Type: ioctl.ScrubTypeAGF}, true)
	require.NoError(t, err)
	require.NoError(t, s.Drain(t.Context(), 0))
	assert.Equal(t, before, pace.Throttled())
}

func TestInFlightNamesTheCallThatDoesNotReturn(t *testing.T) {
	s, k, _ := newFake(t)
	entered, leave := make(chan struct{}), make(chan struct{})
	k.OnScrub = func(req ioctl.ScrubRequest) (ioctl.ScrubFlags, unix.Errno) {
		if req.Type == ioctl.ScrubTypeRMAPBT || req.Type == ioctl.ScrubTypePARENT {
			entered <- struct{}{}
			<-leave
		}
		return k.DefaultScrub(req)
	}
	done := make(chan error, 2)
	go func() {
		_, err := s.Repair(t.Context(), kernel.Object{Type: ioctl.ScrubTypeRMAPBT, AGNo: 3}, true)
		done <- err
	}()
	<-entered
	go func() {
		_, err := s.Inode(t.Context(), 128, 1, unix.S_IFDIR, nil)
		done <- err
	}()
	<-entered
	calls := s.InFlight()
	require.Len(t, calls, 2)
	assert.Equal(t, kernel.Object{Type: ioctl.ScrubTypeRMAPBT, AGNo: 3}, calls[0].Object)
	assert.True(t, calls[0].Repair)
	assert.True(t, calls[0].Forced)
	assert.WithinDuration(t, time.Now(), calls[0].Since, time.Minute)
	assert.Equal(t, "forced repair of rmapbt of AG 3", calls[0].String())
	assert.Equal(t, "scrub of core of inode 128 (inode, bmapbtd, bmapbta, directory, xattr, parent, dirtree)", calls[1].String())
	close(leave)
	require.NoError(t, <-done)
	require.NoError(t, <-done)
	assert.Empty(t, s.InFlight())
	assert.Equal(t, uint64(1), s.Timing(ioctl.ScrubTypeRMAPBT, true).Calls)
	assert.Positive(t, s.Timing(ioctl.ScrubTypeRMAPBT, true).Longest)
	assert.Zero(t, s.Timing(ioctl.ScrubTypeRMAPBT, false).Calls)
	all := s.Timings()
	require.Len(t, all, 2, "types without a call are left out")
	assert.Equal(t, ioctl.ScrubTypeRMAPBT, all[0].Type)
	assert.True(t, all[0].Repair)
	assert.Equal(t, ioctl.ScrubTypeINODE, all[1].Type)
}
