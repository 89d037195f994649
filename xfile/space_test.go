package xfile

import (
	"bytes"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/scrubd/scrubd/internal/lab"
)

// TestFullTmpfs fills a real tmpfs: the error comes before the touch, with
// the numbers, and what there was stays usable.
func TestFullTmpfs(t *testing.T) {
	lab.Require(t, lab.Root)
	dir := t.TempDir()
	const room = 1 << 20
	require.NoError(t, unix.Mount("tmpfs", dir, "tmpfs", 0, "size=1m"))
	defer func() { require.NoError(t, unix.Unmount(dir, unix.MNT_DETACH)) }()
	budget := NewBudget(Unlimited)
	f, err := New(Options{Name: "full", Dir: dir, Budget: budget})
	require.NoError(t, err)
	defer f.Close()
	require.Equal(t, Memory, f.Place(), "a tmpfs is memory")

	var space *SpaceError
	for err == nil {
		var first int64
		if first, err = f.AllocPages(1); err == nil {
			f.Page(first)[0] = 1
		}
	}
	require.ErrorAs(t, err, &space)
	require.ErrorIs(t, err, unix.ENOSPC)
	require.EqualValues(t, room, f.Size(), "every byte of the tmpfs is used before it is full")
	require.Equal(t, SpaceError{Purpose: "full", Dir: dir, Want: max(PageSize, sysPage), Held: room, Free: 0, Err: unix.ENOSPC}, *space)
	require.ErrorContains(t, err, "1048576 bytes held, 0 bytes free")
	requireCounted(t, f, budget)
	require.EqualValues(t, 1, f.Page(f.Pages() - 1)[0])

	require.NoError(t, f.PunchPages(0, 16))
	requireCounted(t, f, budget)
	require.NoError(t, f.EnsurePages(0, 16))
	require.ErrorIs(t, second(f.AllocPages(1)), unix.ENOSPC)
}

// TestNoSpace refuses the n-th allocation, for every n of a run: the file
// stays as it was, and the accounting with it.
func TestNoSpace(t *testing.T) {
	for n := range 12 {
		calls := 0
		k := (&faulty{fallocate: func(mode uint32, _, _ int64) error {
			if mode != 0 {
				return nil
			}
			if calls++; calls > n {
				return unix.ENOSPC
			}
			return nil
		}}).kernel()
		budget := NewBudget(Unlimited)
		f := newTestFile(t, Options{Name: "refused", Budget: budget, kernel: k})
		var err error
		want := []byte{}
		for err == nil {
			before := f.Size()
			b := bytes.Repeat([]byte{byte(len(want))}, 3000)
			if _, err = f.WriteAt(b, before); err == nil {
				want = append(want, b...)
			} else {
				require.Equal(t, before, f.Size())
			}
		}
		var space *SpaceError
		require.ErrorAs(t, err, &space)
		require.EqualValues(t, -1, space.Free)
		require.ErrorContains(t, err, "for refused in memory")
		requireCounted(t, f, budget)
		got := make([]byte, len(want))
		_, err = f.ReadAt(got, 0)
		require.NoError(t, err)
		require.True(t, bytes.Equal(want, got))
	}
}

// TestBudgetToTheByte: the step ahead gives way to what is needed now, so that
// a budget can be used up to its last page.
func TestBudgetToTheByte(t *testing.T) {
	for pages := range int64(40) {
		budget := NewBudget(pages * sysPage)
		f := newTestFile(t, Options{Name: "exact", Budget: budget})
		for range pages {
			_, err := f.AllocPages(sysPage / PageSize)
			require.NoError(t, err)
		}
		_, err := f.AllocPages(1)
		var over *BudgetError
		require.ErrorAs(t, err, &over)
		require.ErrorIs(t, err, ErrBudget)
		require.Equal(t, BudgetError{Purpose: "exact", Want: sysPage, Used: pages * sysPage, Limit: pages * sysPage}, *over)
		requireCounted(t, f, budget)
	}
}

// TestInterrupted: a signal undoes a whole call on tmpfs, so that pieces get
// smaller until one gets through.
func TestInterrupted(t *testing.T) {
	var sizes []int64
	k := (&faulty{fallocate: func(_ uint32, _, n int64) error {
		sizes = append(sizes, n)
		if n > 2*sysPage {
			return unix.EINTR
		}
		return nil
	}}).kernel()
	budget := NewBudget(Unlimited)
	f := newTestFile(t, Options{Name: "signals", Budget: budget, kernel: k})
	_, err := f.AllocPages(16 * sysPage / PageSize)
	require.NoError(t, err)
	require.Greater(t, len(sizes), 8)
	requireCounted(t, f, budget)

	again := once(unix.EINTR)
	k.fallocate = (&faulty{fallocate: func(uint32, int64, int64) error { return again() }}).kernel().fallocate
	require.NoError(t, f.PunchPages(0, 4*sysPage/PageSize))
	requireCounted(t, f, budget)
}

// TestWithoutFallocate: filesystems that cannot allocate are written to, and
// those that cannot punch are zeroed; the space stays counted then.
func TestWithoutFallocate(t *testing.T) {
	for _, answer := range []error{unix.EOPNOTSUPP, unix.ENOSYS} {
		interrupted := once(unix.EINTR)
		no := &faulty{
			fallocate: func(uint32, int64, int64) error { return answer },
			pwrite:    func(int) error { return interrupted() },
		}
		budget := NewBudget(Unlimited)
		f := newTestFile(t, Options{Name: "plain", Budget: budget, kernel: no.kernel()})
		_, err := f.AllocPages(8 * sysPage / PageSize)
		require.NoError(t, err)
		requireCounted(t, f, budget)
		w, err := f.Window(0, f.Size())
		require.NoError(t, err)
		for i := range w {
			w[i] = 7
		}
		held := f.Allocated()
		require.NoError(t, f.Punch(100, 5*sysPage))
		require.Equal(t, held, f.Allocated())
		for i := range w {
			require.Equal(t, int64(i) >= 100 && int64(i) < 100+5*sysPage, w[i] == 0, i)
		}
		no.pwrite = func(int) error { return unix.EIO }
		require.ErrorIs(t, f.Punch(0, 1), unix.EIO)
		require.ErrorIs(t, second(f.AllocPages(512*sysPage/PageSize)), unix.EIO)
	}
}

func TestPunchFails(t *testing.T) {
	budget := NewBudget(Unlimited)
	no := &faulty{}
	f := newTestFile(t, Options{Name: "stuck", Budget: budget, kernel: no.kernel()})
	_, err := f.AllocPages(64)
	require.NoError(t, err)
	held := f.Allocated()
	no.fallocate = func(uint32, int64, int64) error { return unix.EPERM }
	require.ErrorIs(t, f.PunchPages(0, 32), unix.EPERM)
	require.ErrorIs(t, f.Truncate(0), unix.EPERM)
	require.Equal(t, held, f.Allocated())
	require.EqualValues(t, 64, f.Pages())
	no.fallocate = nil
	require.NoError(t, f.EnsurePages(0, 64))
	requireCounted(t, f, budget)
}

func TestMapFails(t *testing.T) {
	no := &faulty{mmap: func() error { return unix.ENOMEM }}
	budget := NewBudget(Unlimited)
	f := newTestFile(t, Options{Name: "unmapped", Budget: budget, kernel: no.kernel()})
	_, err := f.AllocPages(1)
	require.ErrorIs(t, err, unix.ENOMEM)
	require.ErrorContains(t, err, "map window 0 of unmapped")
	require.Zero(t, f.Pages())
	requireCounted(t, f, budget)
	no.mmap = nil
	_, err = f.AllocPages(1)
	require.NoError(t, err)
	f.Page(0)[0] = 1
}

// TestShortTransfers: pread and pwrite may do less than asked, be interrupted,
// or fail.
func TestShortTransfers(t *testing.T) {
	interrupted, interrupted2 := once(unix.EINTR), once(unix.EINTR)
	k := &faulty{
		short:  true,
		pread:  func(int) error { return interrupted() },
		pwrite: func(int) error { return interrupted2() },
	}
	f := newTestFile(t, Options{Name: "short", kernel: k.kernel()})
	_, err := f.WriteAt([]byte("hello"), 10)
	require.NoError(t, err)
	b := make([]byte, 5)
	_, err = f.ReadAt(b, 10)
	require.NoError(t, err)
	require.Equal(t, "hello", string(b))

	k.pread = func(n int) error {
		if n < 3 {
			return unix.EIO
		}
		return nil
	}
	k.pwrite = k.pread
	n, err := f.ReadAt(b, 10)
	require.Equal(t, 3, n)
	require.ErrorIs(t, err, unix.EIO)
	n, err = f.WriteAt(b, 10)
	require.Equal(t, 3, n)
	require.ErrorIs(t, err, unix.EIO)
}

// TestCutShort: bytes of Size that the kernel's file no longer has read as a
// hole.
func TestCutShort(t *testing.T) {
	f := newTestFile(t, Options{Name: "cut"})
	_, err := f.WriteAt(bytes.Repeat([]byte{1}, 10000), 0)
	require.NoError(t, err)
	require.NoError(t, unix.Ftruncate(f.fd, 100))
	b := bytes.Repeat([]byte{9}, 200)
	_, err = f.ReadAt(b, 0)
	require.NoError(t, err)
	require.True(t, bytes.Equal(b[:100], bytes.Repeat([]byte{1}, 100)))
	require.True(t, bytes.Equal(b[100:], make([]byte, 100)))
}
