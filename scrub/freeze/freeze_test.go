package freeze

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/scrubd/scrubd/ioctl"
)

// fakeFS is a filesystem that takes its time, and remembers how long it was
// frozen at most.
type fakeFS struct {
	mu       sync.Mutex
	frozen   bool
	since    time.Time // of the call that froze it
	longest  time.Duration
	freezing time.Duration // how long that takes
	refuse   error
	thawErrs []error
	thaws    int
	freezes  int
	noHead   bool
	longHead bool // while it is frozen, one that no marker has room for
}

// LogHead moves with each freeze.
func (f *fakeFS) LogHead() (ioctl.LogHead, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.noHead {
		return "", os.ErrNotExist
	}
	if f.longHead && f.frozen {
		return ioctl.LogHead(strings.Repeat("1", markerSize)), nil
	}
	return ioctl.LogHead(fmt.Sprintf("1:%d", f.freezes)), nil
}

func (f *fakeFS) Freeze() error {
	began := time.Now()
	time.Sleep(f.freezing)
	f.mu.Lock()
	defer f.mu.Unlock()
	switch {
	case f.refuse != nil:
		return f.refuse
	case f.frozen:
		return ioctl.ErrFrozen
	}
	f.frozen, f.since = true, began
	f.freezes++
	return nil
}

func (f *fakeFS) Thaw() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.thaws++
	if len(f.thawErrs) > 0 {
		err := f.thawErrs[0]
		f.thawErrs = f.thawErrs[1:]
		return err
	}
	if !f.frozen {
		return ioctl.ErrNotFrozen
	}
	f.frozen = false
	f.longest = max(f.longest, time.Since(f.since))
	return nil
}

func (f *fakeFS) isFrozen() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.frozen
}

// pair is a client and its supervisor, in a bubble of fake time.
type pair struct {
	fs     *fakeFS
	s      *Supervisor
	c      *Client
	client net.Conn
	stop   chan struct{}
	served chan error
	quiet  bool
	sync   time.Duration // how long writing back takes
	killed bool
	stales int
}

func inPair(t *testing.T, test func(t *testing.T, p *pair)) {
	t.Helper()
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		p := &pair{fs: new(fakeFS), stop: make(chan struct{}), served: make(chan error, 1)}
		marker, err := NewMarker(dir, "/mnt", "the-uuid", unix.Mkdev(259, 3))
		require.NoError(t, err)
		p.s = &Supervisor{
			FS: p.fs, Ready: func() error { return nil }, Marker: marker, Stop: p.stop,
			Sync: func() error { time.Sleep(p.sync); return nil },
		}
		ours, theirs := net.Pipe()
		p.client = ours
		go func() {
			p.served <- p.s.Serve(theirs)
			_ = theirs.Close()
		}()
		p.c = NewClient(ours)
		p.c.Wake = func() {}
		p.c.Kill = func() { p.killed = true }
		p.c.Thaw = p.fs.Thaw
		p.c.Stale = func() error {
			p.stales++
			_, err := ThawStale(dir, func(*Marker) (Filesystem, func(), error) { return p.fs, func() {}, nil })
			return err
		}
		defer func() {
			_ = p.c.Close()
			synctest.Wait()
			assert.False(t, p.fs.isFrozen(), "nothing stays frozen")
			left, err := os.ReadDir(dir)
			require.NoError(t, err)
			assert.Empty(t, left, "no marker stays")
		}()
		require.NoError(t, p.c.Arm(t.Context()))
		test(t, p)
	})
}

func (p *pair) freeze(ctx context.Context, limit time.Duration, look func(ctx context.Context)) error {
	return p.c.Frozen(ctx, limit, func() func() {
		p.quiet = true
		return func() { p.quiet = false }
	}, look)
}

func TestFrozen(t *testing.T) {
	inPair(t, func(t *testing.T, p *pair) {
		p.fs.freezing = 50 * time.Millisecond
		for range 3 {
			looked := false
			require.NoError(t, p.freeze(t.Context(), 500*time.Millisecond, func(ctx context.Context) {
				looked = true
				assert.True(t, p.fs.isFrozen())
				assert.True(t, p.quiet)
				end, ok := ctx.Deadline()
				require.True(t, ok)
				assert.Equal(t, 405*time.Millisecond, time.Until(end), "the freeze itself counts, and so does the way back")
				stale, err := ThawStale(p.s.Marker.Dir, nil)
				require.NoError(t, err)
				require.Len(t, stale, 1)
				assert.True(t, stale[0].Alive)
				assert.Equal(t, "/mnt", stale[0].MountPoint)
				assert.Equal(t, "259:3", stale[0].DeviceName)
				assert.Equal(t, "the-uuid", stale[0].UUID)
				assert.True(t, stale[0].Frozen)
				assert.Equal(t, logHead(p.fs), stale[0].LogHead)
				time.Sleep(100 * time.Millisecond)
			}))
			assert.True(t, looked)
			assert.False(t, p.quiet)
			assert.False(t, p.fs.isFrozen())
		}
		assert.Equal(t, 150*time.Millisecond, p.fs.longest)
		assert.Equal(t, 3, p.fs.thaws)
	})
}

// Whatever the other end does, the time that writers wait is bounded.
func TestFrozenIsBounded(t *testing.T) {
	t.Run("a look that takes too long", func(t *testing.T) {
		inPair(t, func(t *testing.T, p *pair) {
			err := p.freeze(t.Context(), 500*time.Millisecond, func(context.Context) { time.Sleep(time.Minute) })
			require.ErrorIs(t, err, ErrLate)
			assert.Equal(t, 500*time.Millisecond, p.fs.longest)
			require.NoError(t, p.freeze(t.Context(), time.Second, func(context.Context) {}), "the next one works")
		})
	})
	t.Run("no limit", func(t *testing.T) {
		inPair(t, func(t *testing.T, p *pair) {
			require.ErrorIs(t, p.freeze(t.Context(), time.Hour, func(context.Context) { time.Sleep(time.Hour) }), ErrLate)
			assert.Less(t, p.fs.longest, MaxLimit)
		})
	})
	t.Run("a freeze that takes too long", func(t *testing.T) {
		inPair(t, func(t *testing.T, p *pair) {
			p.fs.freezing = 700 * time.Millisecond // the kernel cannot be told to give up
			err := p.freeze(t.Context(), 500*time.Millisecond, func(context.Context) { t.Error("there is no time left") })
			require.ErrorIs(t, err, ErrLate)
			assert.Equal(t, 700*time.Millisecond, p.fs.longest)
		})
	})
	t.Run("a freeze that takes for ever", func(t *testing.T) {
		inPair(t, func(t *testing.T, p *pair) {
			p.fs.freezing = time.Minute
			began := time.Now()
			err := p.freeze(t.Context(), 500*time.Millisecond, func(context.Context) { t.Error("there is no time left") })
			require.ErrorIs(t, err, ErrGone)
			assert.Equal(t, 800*time.Millisecond, time.Since(began))
			assert.False(t, p.killed, "it has to thaw")
			require.NoError(t, <-p.served)
			assert.Equal(t, time.Minute, p.fs.longest)
		})
	})
	t.Run("too much to write back", func(t *testing.T) {
		inPair(t, func(t *testing.T, p *pair) {
			p.sync = 300 * time.Millisecond
			err := p.freeze(t.Context(), 500*time.Millisecond, func(context.Context) { t.Error("not frozen") })
			require.ErrorIs(t, err, ErrSlow)
			assert.Zero(t, p.fs.longest)
			p.sync = 200 * time.Millisecond
			require.NoError(t, p.freeze(t.Context(), 500*time.Millisecond, func(context.Context) {}))
		})
	})
	t.Run("the client dies", func(t *testing.T) {
		inPair(t, func(t *testing.T, p *pair) {
			_ = p.freeze(t.Context(), time.Second, func(context.Context) {
				time.Sleep(100 * time.Millisecond)
				require.NoError(t, p.client.Close()) // as the kernel does
				synctest.Wait()
				assert.False(t, p.fs.isFrozen())
			})
			assert.Equal(t, 100*time.Millisecond, p.fs.longest)
			require.NoError(t, <-p.served)
		})
	})
	t.Run("the run is told to end", func(t *testing.T) {
		inPair(t, func(t *testing.T, p *pair) {
			ctx, cancel := context.WithCancel(t.Context())
			err := p.freeze(ctx, time.Second, func(ctx context.Context) {
				time.AfterFunc(10*time.Millisecond, cancel)
				<-ctx.Done()
			})
			require.ErrorIs(t, err, context.Canceled)
			assert.Equal(t, 10*time.Millisecond, p.fs.longest)
		})
	})
	t.Run("the run is told to end before", func(t *testing.T) {
		inPair(t, func(t *testing.T, p *pair) {
			p.fs.freezing = 300 * time.Millisecond
			ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
			defer cancel()
			require.ErrorIs(t, p.freeze(ctx, time.Second, func(context.Context) { t.Error("told to end") }), context.DeadlineExceeded)
			require.NoError(t, <-p.served)
			assert.Equal(t, 300*time.Millisecond, p.fs.longest)
		})
	})
	t.Run("the supervisor is told to end", func(t *testing.T) {
		inPair(t, func(t *testing.T, p *pair) {
			err := p.freeze(t.Context(), time.Second, func(context.Context) {
				close(p.stop)
				synctest.Wait()
				assert.False(t, p.fs.isFrozen())
			})
			require.Error(t, err)
			require.NoError(t, <-p.served)
		})
	})
}

// What somebody else has frozen is left alone, and what somebody else thawed
// proves nothing.
func TestSomebodyElse(t *testing.T) {
	inPair(t, func(t *testing.T, p *pair) {
		require.NoError(t, p.fs.Freeze())
		err := p.freeze(t.Context(), 500*time.Millisecond, func(context.Context) { t.Error("not ours") })
		require.ErrorIs(t, err, ErrBusy)
		assert.True(t, p.fs.isFrozen())
		assert.Zero(t, p.fs.thaws)
		require.NoError(t, p.fs.Thaw())

		require.ErrorIs(t, p.freeze(t.Context(), 500*time.Millisecond, func(context.Context) {
			require.NoError(t, p.fs.Thaw())
		}), ErrBroken)

		p.fs.refuse = unix.EIO
		require.EqualError(t, p.freeze(t.Context(), 500*time.Millisecond, func(context.Context) {}), "input/output error")
	})
}

// A thaw that fails is tried again.
func TestThawInsists(t *testing.T) {
	inPair(t, func(t *testing.T, p *pair) {
		p.fs.thawErrs = []error{unix.EINTR, unix.EIO, unix.ENOMEM}
		require.NoError(t, p.freeze(t.Context(), 500*time.Millisecond, func(context.Context) {}))
		assert.Equal(t, 4, p.fs.thaws)
	})
}

// A supervisor that was stopped, in the midst of a freeze, is killed; what it
// leaves is thawed by the marker.
func TestSupervisorThatDoesNotAnswer(t *testing.T) {
	inPair(t, func(t *testing.T, p *pair) {
		p.c.Kill = func() {
			p.killed = true
			// What the kernel does to its descriptors.
			p.s.Marker.mustUnlock(t)
		}
		p.fs.thawErrs = nil
		hang := make(chan struct{})
		defer close(hang)
		p.s.FS = stopped{p.fs, hang}
		began := time.Now()
		err := p.freeze(t.Context(), 500*time.Millisecond, func(context.Context) {})
		require.ErrorIs(t, err, ErrGone)
		assert.True(t, p.killed)
		assert.Equal(t, 1, p.stales)
		assert.False(t, p.fs.isFrozen())
		assert.Equal(t, answerTime, time.Since(began))
	})
}

// stopped never comes to thaw.
type stopped struct {
	*fakeFS
	hang chan struct{}
}

func (s stopped) Thaw() error {
	<-s.hang
	return ioctl.ErrNotFrozen
}

// mustUnlock replaces the marker's file by an equal one that nobody has locked.
func (m *Marker) mustUnlock(t *testing.T) {
	t.Helper()
	text, err := os.ReadFile(m.path())
	require.NoError(t, err)
	require.NoError(t, os.Remove(m.path()))
	require.NoError(t, os.WriteFile(m.path(), text, 0o600))
}

func TestArm(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		odd := errors.New("memory cannot be locked")
		ours, theirs := net.Pipe()
		s := &Supervisor{Ready: func() error { return odd }}
		served := make(chan error, 1)
		go func() { served <- s.Serve(theirs) }()
		c := NewClient(ours)
		require.EqualError(t, c.Arm(t.Context()), odd.Error())
		require.ErrorIs(t, <-served, odd)
		require.NoError(t, c.Close())
		require.NoError(t, theirs.Close())
	})
}

func TestMarker(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "scrubd")
	device := unix.Mkdev(7, 300)
	m, err := NewMarker(dir, "/mnt", "the-uuid", device)
	require.NoError(t, err)
	fs := new(fakeFS)
	opened := 0
	open := func(m *Marker) (Filesystem, func(), error) {
		opened++
		assert.Equal(t, "7:300", m.DeviceName)
		return fs, func() {}, nil
	}
	stale := func() []Stale {
		got, err := ThawStale(dir, open)
		require.NoError(t, err)
		return got
	}
	// orphan leaves a marker as a killed supervisor does.
	orphan := func(change func(m *Marker)) {
		o := m
		held, err := o.set(time.Second, "1:0")
		require.NoError(t, err)
		require.NoError(t, o.claim(held, logHead(fs)))
		change(&o)
		require.NoError(t, held.write(&o))
		require.NoError(t, held.file.Close())
	}
	assert.Empty(t, stale(), "there is no directory yet")

	held, err := m.set(time.Second, logHead(fs))
	require.NoError(t, err)
	require.NoError(t, fs.Freeze())
	got := stale()
	require.Len(t, got, 1)
	assert.True(t, got[0].Alive)
	assert.Equal(t, os.Getpid(), got[0].PID)
	assert.WithinDuration(t, time.Now().Add(time.Second), got[0].Deadline, time.Minute)
	assert.True(t, fs.isFrozen())
	_, err = m.set(time.Second, "")
	require.ErrorIs(t, err, errHeld)
	held.remove()
	assert.Empty(t, stale())
	assert.True(t, fs.isFrozen(), "without a marker it is somebody else's")
	assert.Zero(t, opened)

	orphan(func(*Marker) {})
	got = stale()
	require.Len(t, got, 1)
	assert.True(t, got[0].Thawed)
	assert.False(t, fs.isFrozen())
	assert.Empty(t, stale(), "once")

	// Thawed just before its supervisor died.
	orphan(func(*Marker) {})
	assert.Empty(t, stale())
	require.NoFileExists(t, m.path())

	for name, prepare := range map[string]func(){
		"another boot": func() { orphan(func(m *Marker) { m.BootID = "other" }) },
		"never written": func() {
			require.NoError(t, os.WriteFile(m.path(), nil, 0o600))
		},
		"not written to its end": func() {
			require.NoError(t, os.WriteFile(m.path(), []byte(`{"device":"7:300","boot_id":"`+m.BootID+`"}`), 0o600))
		},
	} {
		t.Run(name, func(t *testing.T) {
			require.NoError(t, fs.Freeze())
			prepare()
			assert.Empty(t, stale())
			assert.True(t, fs.isFrozen(), "nothing of ours was frozen")
			require.NoFileExists(t, m.path())
			require.NoError(t, fs.Thaw())
		})
	}

	orphan(func(*Marker) {})
	fs.frozen, fs.thawErrs = true, []error{unix.EPERM}
	got = stale()
	require.Len(t, got, 1)
	require.ErrorIs(t, got[0].Err, unix.EPERM)
	require.FileExists(t, m.path())
	require.True(t, stale()[0].Thawed)

	_, err = NewMarker(dir, "/mnt", "the-uuid", device)
	require.NoError(t, err)
	var st unix.Stat_t
	require.NoError(t, unix.Stat(dir, &st))
	own, err := NewMarker(dir, "/", "", st.Dev)
	require.NoError(t, err)
	_, err = own.set(time.Second, "")
	require.ErrorContains(t, err, "lies on the filesystem that is to be frozen")
}

// A marker is a claim on one freeze: not on one that was there before, and not
// on a later one.
func TestWhose(t *testing.T) {
	const soon, late = time.Second, time.Hour
	for _, c := range []struct {
		name         string
		frozen       bool
		marked, head ioctl.LogHead
		age          time.Duration
		want         error
	}{
		{"ours", true, "1:4", "1:4", late, nil},
		{"another's, later", true, "1:4", "1:6", soon, ErrBroken},
		{"ours for all that is known", true, "", "", soon, nil},
		{"ours, and no head now", true, "1:4", "", soon, nil},
		{"too late to be told", true, "", "1:6", late, ErrUnclear},
		{"killed before it froze", false, "1:4", "1:4", soon, errNever},
		{"killed before it froze, and nothing happened since", false, "1:4", "1:4", late, errNever},
		{"killed while it froze", false, "1:4", "1:6", soon, nil},
		{"killed before or while it froze, long ago", false, "1:4", "1:6", late, ErrUnclear},
		{"killed before or while it froze", false, "", "", soon, ErrUnclear},
		{"the clock of another machine", false, "1:4", "1:6", -time.Hour, ErrUnclear},
	} {
		t.Run(c.name, func(t *testing.T) {
			m := Marker{Frozen: c.frozen, LogHead: c.marked}
			require.ErrorIs(t, m.whose(c.head, c.age), c.want)
		})
	}
}

// What nobody of scrubd's thaws any more is not thawed because another froze it.
func TestStaleMarkerAndAnothersFreeze(t *testing.T) {
	for _, c := range []struct {
		name  string
		leave func(t *testing.T, fs *fakeFS, m *Marker) // as a killed supervisor does
		want  error
	}{
		{"thawed by hand since", func(t *testing.T, fs *fakeFS, m *Marker) {
			t.Helper()
			held, err := m.set(time.Second, logHead(fs))
			require.NoError(t, err)
			require.NoError(t, fs.Freeze())
			require.NoError(t, m.claim(held, logHead(fs)))
			require.NoError(t, held.file.Close())
			require.NoError(t, fs.Thaw())
			require.NoError(t, fs.Freeze())
		}, ErrBroken},
		{"frozen before", func(t *testing.T, fs *fakeFS, m *Marker) {
			t.Helper()
			require.NoError(t, fs.Freeze())
			held, err := m.set(time.Second, logHead(fs))
			require.NoError(t, err)
			require.NoError(t, held.file.Close())
		}, nil},
		{"frozen long after", func(t *testing.T, fs *fakeFS, m *Marker) {
			t.Helper()
			held, err := m.set(time.Second, logHead(fs))
			require.NoError(t, err)
			m.Uptime -= claimTime
			require.NoError(t, held.write(m))
			require.NoError(t, held.file.Close())
			require.NoError(t, fs.Freeze())
		}, ErrUnclear},
		{"nothing to tell it by", func(t *testing.T, fs *fakeFS, m *Marker) {
			t.Helper()
			fs.noHead = true
			held, err := m.set(time.Second, logHead(fs))
			require.NoError(t, err)
			require.NoError(t, held.file.Close())
			require.NoError(t, fs.Freeze())
		}, ErrUnclear},
	} {
		t.Run(c.name, func(t *testing.T) {
			fs := new(fakeFS)
			m, err := NewMarker(t.TempDir(), "/mnt", "", unix.Mkdev(7, 300))
			require.NoError(t, err)
			c.leave(t, fs, &m)
			thaws := fs.thaws
			got, err := ThawStale(m.Dir, func(*Marker) (Filesystem, func(), error) { return fs, func() {}, nil })
			require.NoError(t, err)
			if c.want == nil {
				assert.Empty(t, got)
			} else {
				require.Len(t, got, 1)
				require.ErrorIs(t, got[0].Left, c.want)
				assert.False(t, got[0].Thawed)
			}
			assert.True(t, fs.isFrozen())
			assert.Equal(t, thaws, fs.thaws, "it was not tried either")
			require.NoFileExists(t, m.path(), "the claim is given up")
		})
	}
}

// One that cannot be marked as ours does not last.
func TestUnmarkedFreeze(t *testing.T) {
	inPair(t, func(t *testing.T, p *pair) {
		p.fs.longHead = true
		err := p.freeze(t.Context(), 500*time.Millisecond, func(context.Context) { t.Error("not marked") })
		require.ErrorContains(t, err, "mark the freeze")
		assert.Equal(t, 1, p.fs.freezes)
		assert.False(t, p.fs.isFrozen())
	})
}

func FuzzMarker(f *testing.F) {
	f.Add([]byte(`{"device":"7:300","boot_id":"x"}` + "\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		path := filepath.Join(t.TempDir(), "freeze-7:300.json")
		require.NoError(t, os.WriteFile(path, text, 0o600))
		_, err := ThawStale(filepath.Dir(path), func(*Marker) (Filesystem, func(), error) {
			t.Fatalf("thawed by %q", text) // nobody can guess the boot's id
			return nil, nil, nil
		})
		require.NoError(t, err)
		require.NoFileExists(t, path)
	})
}

func TestFileMappings(t *testing.T) {
	got := fileMappings([]byte("00400000-00452000 r-xp 00000000 08:02 173521      /usr/bin/scrubd\n" +
		"00651000-00652000 rw-p 00051000 08:02 173521      /usr/bin/scrubd\n" +
		"c000000000-c000400000 rw-p 00000000 00:00 0 \n" +
		"c000400000-c004000000 ---p 00000000 00:00 0 \n" +
		"7ffc8a7b5000-7ffc8a7d6000 rw-p 00000000 00:00 0                          [stack]\n" +
		"rubbish\n00652000-zz r--p 0 0 0 /x\n"))
	assert.Equal(t, [][2]uintptr{{0x400000, 0x52000}, {0x651000, 0x1000}}, got)
}
