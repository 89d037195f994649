package xfile

import (
	"bytes"
	"io"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
	"pgregory.net/rapid"
)

// newTestFile makes a file that ends with the test.
func newTestFile(t testing.TB, o Options) *File {
	t.Helper()
	f, err := New(o)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, f.Close()) })
	return f
}

// requireCounted checks the accounting: what the file says that it holds is
// what the budget counts and what the kernel has given.
func requireCounted(t require.TestingT, f *File, b *Budget) {
	used, _ := b.Used(f.Place())
	require.Equal(t, f.Allocated(), used)
	require.Zero(t, b.pending)
	var st unix.Stat_t
	require.NoError(t, unix.Fstat(f.fd, &st))
	require.Equal(t, f.Allocated(), int64(st.Blocks)*512)
}

// TestFileTwin compares a file with a plain slice under every call that
// changes bytes, size or space. Small windows make all calls cross them.
func TestFileTwin(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		budget := NewBudget(Unlimited)
		f, err := newFile(Options{Name: "twin", Budget: budget}, 2*sysPage)
		require.NoError(t, err)
		defer f.Close()
		var twin []byte
		const limit = 80 << 10
		part := func(name string) (off, n int) {
			off = rapid.IntRange(0, len(twin)).Draw(t, name)
			return off, rapid.IntRange(0, len(twin)-off).Draw(t, "n")
		}
		t.Repeat(map[string]func(*rapid.T){
			"": func(t *rapid.T) {
				require.EqualValues(t, len(twin), f.Size())
				got := make([]byte, len(twin))
				n, err := f.ReadAt(got, 0)
				require.NoError(t, err)
				require.Equal(t, len(twin), n)
				require.True(t, bytes.Equal(twin, got))
				requireCounted(t, f, budget)
			},
			"write": func(t *rapid.T) {
				off := rapid.IntRange(0, limit).Draw(t, "off")
				b := rapid.SliceOfN(rapid.Byte(), 0, 9000).Draw(t, "bytes")
				n, err := f.WriteAt(b, int64(off))
				require.NoError(t, err)
				require.Equal(t, len(b), n)
				if len(b) == 0 {
					return
				}
				if grow := off + len(b) - len(twin); grow > 0 {
					twin = append(twin, make([]byte, grow)...)
				}
				copy(twin[off:], b)
			},
			"window": func(t *rapid.T) {
				off, n := part("off")
				w, err := f.Window(int64(off), int64(n))
				require.NoError(t, err)
				require.Equal(t, n == 0, len(w) == 0)
				require.True(t, bytes.Equal(twin[off:off+len(w)], w))
				if n > 0 {
					w[len(w)-1] ^= 0xff
					twin[off+len(w)-1] ^= 0xff
				}
			},
			"punch": func(t *rapid.T) {
				off, n := part("off")
				require.NoError(t, f.Punch(int64(off), int64(n)))
				clear(twin[off : off+n])
			},
			"truncate": func(t *rapid.T) {
				off, _ := part("size")
				require.NoError(t, f.Truncate(int64(off)))
				twin = twin[:off:off]
			},
		})
	})
}

// TestPagesTwin does the same for the calls in pages.
func TestPagesTwin(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		budget := NewBudget(Unlimited)
		f, err := New(Options{Name: "pages", Budget: budget})
		require.NoError(t, err)
		defer f.Close()
		type page struct {
			mark    byte
			punched bool
		}
		var twin []page
		t.Repeat(map[string]func(*rapid.T){
			"": func(t *rapid.T) {
				require.EqualValues(t, len(twin), f.Pages())
				for i, p := range twin {
					if !p.punched {
						require.Equal(t, p.mark, f.Page(int64(i))[7])
					}
				}
				require.Nil(t, f.Page(int64(len(twin))))
				require.Nil(t, f.Page(-1))
				requireCounted(t, f, budget)
			},
			"alloc": func(t *rapid.T) {
				n := rapid.IntRange(0, 40).Draw(t, "n")
				first, err := f.AllocPages(int64(n))
				require.NoError(t, err)
				require.EqualValues(t, len(twin), first)
				twin = append(twin, make([]page, n)...)
			},
			"mark": func(t *rapid.T) {
				if len(twin) == 0 {
					return
				}
				i := rapid.IntRange(0, len(twin)-1).Draw(t, "page")
				if twin[i].punched {
					require.NoError(t, f.EnsurePages(int64(i), 1))
					twin[i].punched = false
				}
				twin[i].mark = rapid.Byte().Draw(t, "mark")
				f.Page(int64(i))[7] = twin[i].mark
			},
			"punch": func(t *rapid.T) {
				i := rapid.IntRange(0, len(twin)).Draw(t, "first")
				n := rapid.IntRange(0, len(twin)-i).Draw(t, "n")
				require.NoError(t, f.PunchPages(int64(i), int64(n)))
				for ; n > 0; i, n = i+1, n-1 {
					twin[i] = page{punched: true}
				}
			},
		})
	})
}

func TestPageStaysInPlace(t *testing.T) {
	f := newTestFile(t, Options{Name: "still"})
	_, err := f.AllocPages(1)
	require.NoError(t, err)
	p := f.Page(0)
	p[0] = 42
	// More than one window, which moves the table of windows.
	_, err = f.AllocPages(1<<pageWindowShift + 10)
	require.NoError(t, err)
	require.Same(t, p, f.Page(0))
	last := f.Page(f.Pages() - 1)
	last[PageSize-1] = 1
	require.NoError(t, f.EnsurePages(0, f.Pages()))
	require.Same(t, last, f.Page(f.Pages()-1))
	require.EqualValues(t, 42, p[0])
}

// TestSmallFilesStaySmall: a thousand trees of one page each must not take
// megabytes each, and a large file must not be half empty.
func TestSmallFilesStaySmall(t *testing.T) {
	f := newTestFile(t, Options{Name: "small"})
	require.Zero(t, f.Allocated())
	_, err := f.AllocPages(1)
	require.NoError(t, err)
	require.LessOrEqual(t, f.Allocated(), max(5*PageSize, 2*sysPage))
	_, err = f.AllocPages(999)
	require.NoError(t, err)
	for range 1000 {
		_, err = f.AllocPages(1)
		require.NoError(t, err)
		require.LessOrEqual(t, float64(f.Allocated()), 1.15*float64(f.Size())+aheadMin)
	}
}

func TestRanges(t *testing.T) {
	f := newTestFile(t, Options{Name: "ranges"})
	_, err := f.AllocPages(4)
	require.NoError(t, err)
	size := f.Size()
	for what, err := range map[string]error{
		"punch below":      f.Punch(-1, 1),
		"punch negative":   f.Punch(0, -1),
		"punch beyond":     f.Punch(size, 1),
		"punch long":       f.Punch(0, size+1),
		"truncate up":      f.Truncate(size + 1),
		"truncate below":   f.Truncate(-1),
		"ensure beyond":    f.EnsurePages(4, 1),
		"ensure negative":  f.EnsurePages(0, -1),
		"punch page":       f.PunchPages(5, 0),
		"punch page below": f.PunchPages(-1, 1),
		"window below":     second(f.Window(-1, 1)),
		"window beyond":    second(f.Window(size+1, 1)),
		"window negative":  second(f.Window(0, -1)),
		"read below":       second(f.ReadAt(make([]byte, 1), -1)),
		"write below":      second(f.WriteAt(make([]byte, 1), -1)),
		"write huge":       second(f.WriteAt(make([]byte, 1), maxFile)),
		"alloc huge":       second(f.AllocPages(maxFile)),
		"alloc negative":   second(f.AllocPages(-1)),
	} {
		require.ErrorIs(t, err, ErrRange, what)
	}
	require.Equal(t, size, f.Size())
	f.mu.Lock()
	defer f.mu.Unlock()
	require.ErrorIs(t, f.ensure(0, maxFile+1), ErrRange)
}

// second returns the error of a call with two results.
func second[T any](_ T, err error) error { return err }

func TestReadAtEnd(t *testing.T) {
	f := newTestFile(t, Options{Name: "eof"})
	_, err := f.WriteAt([]byte("abc"), 0)
	require.NoError(t, err)
	b := make([]byte, 5)
	n, err := f.ReadAt(b, 1)
	require.Equal(t, 2, n)
	require.ErrorIs(t, err, io.EOF)
	require.Equal(t, "bc", string(b[:n]))
	n, err = f.ReadAt(b, 3)
	require.Zero(t, n)
	require.ErrorIs(t, err, io.EOF)
	_, err = f.ReadAt(nil, 3)
	require.NoError(t, err)
}

func TestClosed(t *testing.T) {
	budget := NewBudget(Unlimited)
	f, err := New(Options{Budget: budget})
	require.NoError(t, err)
	require.Equal(t, "xfile", f.Name())
	_, err = f.AllocPages(3)
	require.NoError(t, err)
	open := OpenFiles()
	require.NoError(t, f.Close())
	require.NoError(t, f.Close())
	require.Equal(t, open-1, OpenFiles())
	used, peak := budget.Used(Memory)
	require.Zero(t, used)
	require.Positive(t, peak)
	require.Nil(t, f.Page(0))
	require.Zero(t, f.Pages())
	require.Zero(t, f.Size())
	require.Zero(t, f.Allocated())
	for what, err := range map[string]error{
		"alloc":    second(f.AllocPages(1)),
		"ensure":   f.EnsurePages(0, 0),
		"punch":    f.Punch(0, 0),
		"pages":    f.PunchPages(0, 0),
		"truncate": f.Truncate(0),
		"window":   second(f.Window(0, 0)),
		"read":     second(f.ReadAt(nil, 0)),
		"write":    second(f.WriteAt([]byte("x"), 0)),
		"extend":   f.extend(0, 0),
		"next":     func() error { _, _, err := f.nextHeld(0, 1); return err }(),
	} {
		require.ErrorIs(t, err, ErrClosed, what)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	require.ErrorIs(t, f.ensure(0, 1), ErrClosed)
}

// TestCloseWaitsForUsers: a call under way keeps the file, and the last one
// gives everything back.
func TestCloseWaitsForUsers(t *testing.T) {
	budget := NewBudget(Unlimited)
	f, err := New(Options{Name: "used", Budget: budget})
	require.NoError(t, err)
	_, err = f.WriteAt([]byte("data"), 0)
	require.NoError(t, err)
	require.NoError(t, f.acquire())
	require.NoError(t, f.Close())
	used, _ := budget.Used(Memory)
	require.Positive(t, used)
	require.ErrorIs(t, f.acquire(), ErrClosed)
	f.release()
	used, _ = budget.Used(Memory)
	require.Zero(t, used)
}

// TestConcurrent lets writers, readers and page users at one file; the race
// detector watches.
func TestConcurrent(t *testing.T) {
	budget := NewBudget(Unlimited)
	f := newTestFile(t, Options{Name: "many", Budget: budget})
	var wg sync.WaitGroup
	for w := range 4 {
		wg.Go(func() {
			for i := range 50 {
				first, err := f.AllocPages(3)
				if err != nil {
					t.Error(err)
					return
				}
				p := f.Page(first + 1)
				p[w] = byte(i)
				b := []byte{1, 2, 3}
				if _, err := f.WriteAt(b, first*PageSize); err != nil {
					t.Error(err)
				}
				if _, err := f.ReadAt(b, first*PageSize); err != nil || b[2] != 3 {
					t.Error(b, err)
				}
				if err := f.PunchPages(first+2, 1); err != nil {
					t.Error(err)
				}
				f.Size()
				f.Allocated()
			}
		})
	}
	wg.Wait()
	require.EqualValues(t, 600, f.Pages())
	requireCounted(t, f, budget)
}

func TestMemfd(t *testing.T) {
	f := newTestFile(t, Options{Name: strings.Repeat("long name ", 40)})
	var st unix.Stat_t
	require.NoError(t, unix.Fstat(f.fd, &st))
	require.EqualValues(t, unix.S_IFREG|0o600, st.Mode)
	flags, err := unix.FcntlInt(uintptr(f.fd), unix.F_GETFD, 0)
	require.NoError(t, err)
	require.Equal(t, unix.FD_CLOEXEC, flags&unix.FD_CLOEXEC)
	link, err := os.Readlink("/proc/self/fd/" + strconv.Itoa(f.fd))
	require.NoError(t, err)
	require.Contains(t, link, "memfd:long name ")
	require.Equal(t, Memory, f.Place())
	// The seal keeps it from ever being executable, on kernels that have it.
	seals, err := unix.FcntlInt(uintptr(f.fd), unix.F_GET_SEALS, 0)
	require.NoError(t, err)
	if seals&0x20 != 0 { // F_SEAL_EXEC
		require.ErrorIs(t, unix.Fchmod(f.fd, 0o700), unix.EPERM)
	}
}

func TestMemfdFallback(t *testing.T) {
	var asked []int
	k := (&faulty{memfd: func(flags int) error {
		asked = append(asked, flags)
		if flags&unix.MFD_NOEXEC_SEAL != 0 {
			return unix.EINVAL
		}
		return nil
	}}).kernel()
	f := newTestFile(t, Options{Name: "old kernel", kernel: k})
	require.Equal(t, []int{unix.MFD_CLOEXEC | unix.MFD_NOEXEC_SEAL, unix.MFD_CLOEXEC}, asked)
	var st unix.Stat_t
	require.NoError(t, unix.Fstat(f.fd, &st))
	require.EqualValues(t, unix.S_IFREG|0o600, st.Mode)

	_, err := New(Options{Name: "none", kernel: (&faulty{memfd: func(int) error { return unix.ENFILE }}).kernel()})
	require.ErrorIs(t, err, unix.ENFILE)
	require.ErrorContains(t, err, "create memfd for none")
}

func TestUnnamed(t *testing.T) {
	dir := t.TempDir()
	budget := NewBudget(Unlimited)
	f := newTestFile(t, Options{Name: "disk", Dir: dir, Budget: budget})
	_, err := f.AllocPages(100)
	require.NoError(t, err)
	f.Page(99)[0] = 9
	entries, err := os.ReadDir(dir)
	require.NoError(t, err)
	require.Empty(t, entries)
	used, _ := budget.Used(f.Place())
	require.Equal(t, f.Allocated(), used)
	require.NoError(t, f.PunchPages(10, 80))
	used, _ = budget.Used(f.Place())
	require.Equal(t, f.Allocated(), used)
	require.EqualValues(t, 9, f.Page(99)[0])
}

func TestUnnamedFallback(t *testing.T) {
	for _, answer := range []error{unix.EOPNOTSUPP, unix.EISDIR, unix.ENOENT} {
		dir := t.TempDir()
		no := func(flags int) error {
			if flags&unix.O_TMPFILE == unix.O_TMPFILE {
				return answer
			}
			return nil
		}
		f := newTestFile(t, Options{Name: "named", Dir: dir, kernel: (&faulty{open: no}).kernel()})
		_, err := f.WriteAt([]byte("x"), 0)
		require.NoError(t, err)
		entries, err := os.ReadDir(dir)
		require.NoError(t, err)
		require.Empty(t, entries)

		_, err = New(Options{Name: "named", Dir: dir, kernel: (&faulty{open: no, unlink: func() error { return unix.EIO }}).kernel()})
		require.ErrorIs(t, err, unix.EIO)
	}
	_, err := New(Options{Name: "named", Dir: t.TempDir(), kernel: (&faulty{open: func(flags int) error {
		if flags&unix.O_CREAT != 0 {
			return unix.EROFS
		}
		return unix.EOPNOTSUPP
	}}).kernel()})
	require.ErrorIs(t, err, unix.EROFS)
	_, err = New(Options{Name: "named", Dir: "/nonexistent/dir"})
	require.ErrorIs(t, err, unix.ENOENT)
	_, err = New(Options{Name: "named", Dir: t.TempDir(), kernel: (&faulty{open: func(int) error { return unix.EACCES }}).kernel()})
	require.ErrorIs(t, err, unix.EACCES)
}

func TestAvoidDevice(t *testing.T) {
	dir := t.TempDir()
	var st unix.Stat_t
	require.NoError(t, unix.Stat(dir, &st))
	open := OpenFiles()
	_, err := New(Options{Name: "here", Dir: dir, AvoidDevice: uint64(st.Dev)})
	require.ErrorIs(t, err, ErrSameDevice)
	require.ErrorContains(t, err, dir)
	f, err := New(Options{Name: "here", Dir: dir, AvoidDevice: uint64(st.Dev) + 1})
	require.NoError(t, err)
	require.NoError(t, f.Close())

	for _, k := range []*faulty{
		{fstat: func() error { return unix.EIO }},
		{fstatfs: func() error { return unix.EIO }},
	} {
		_, err = New(Options{Name: "here", Dir: dir, kernel: k.kernel()})
		require.ErrorIs(t, err, unix.EIO)
	}
	require.Equal(t, open, OpenFiles())
}

func TestPlaceOfType(t *testing.T) {
	require.Equal(t, Memory, placeOfType(unix.TMPFS_MAGIC))
	magic := uint32(unix.RAMFS_MAGIC)
	require.Equal(t, Memory, placeOfType(int64(int32(magic)))) // as a 32-bit kernel says it
	require.Equal(t, Disk, placeOfType(unix.XFS_SUPER_MAGIC))
	require.Equal(t, "memory", Memory.String())
	require.Equal(t, "disk", Disk.String())
}
