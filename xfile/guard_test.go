package xfile

import (
	"errors"
	"os"
	"runtime"
	"runtime/debug"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// cutFile returns a file whose last pages were taken away behind its back, so
// that touching them is a real SIGBUS.
func cutFile(t *testing.T) *File {
	f := newTestFile(t, Options{Name: "cut"})
	_, err := f.AllocPages(64)
	require.NoError(t, err)
	require.NoError(t, unix.Ftruncate(f.fd, 16*sysPage))
	return f
}

func TestGuardFault(t *testing.T) {
	f := cutFile(t)
	last := f.Size() - sysPage
	var deferred bool
	for what, touch := range map[string]func(){
		"read":  func() { _ = f.Page(last / PageSize)[5] },
		"write": func() { f.Page(last / PageSize)[5] = 1 },
		"copy": func() {
			w, _ := f.Window(last+5, 100)
			copy(w, make([]byte, 100))
		},
	} {
		err := Guard(func() error {
			defer func() { deferred = true }()
			touch()
			return nil
		})
		var fault *FaultError
		require.ErrorAs(t, err, &fault, what)
		require.Equal(t, FaultError{Purpose: "cut", Offset: last}, *fault, what)
		require.ErrorContains(t, err, "of cut: cannot be read or written")
	}
	require.True(t, deferred)
	require.NoError(t, Guard(func() error {
		f.Page(0)[0] = 1
		return nil
	}))
}

func TestGuardPasses(t *testing.T) {
	mine := errors.New("mine")
	require.ErrorIs(t, Guard(func() error { return mine }), mine)
	require.NoError(t, Guard(func() error { return nil }))
	require.PanicsWithValue(t, "bug", func() { _ = Guard(func() error { panic("bug") }) })
	// A nil dereference is a bug and not a failing disk.
	require.Panics(t, func() {
		_ = Guard(func() error {
			p := []*int{nil}
			*p[0] = 1
			return nil
		})
	})
	require.Panics(t, func() {
		_ = Guard(func() error {
			a := make([]int, len(os.Args))
			a[len(os.Args)] = 1
			return nil
		})
	})
	// What the goroutine had set before is set again.
	was := debug.SetPanicOnFault(false)
	require.NoError(t, Guard(func() error { return nil }))
	require.False(t, debug.SetPanicOnFault(was))
}

func TestGuardNests(t *testing.T) {
	f := cutFile(t)
	err := Guard(func() error {
		inner := Guard(func() error {
			f.Page(f.Pages() - 1)[0] = 1
			return nil
		})
		require.Error(t, inner)
		f.Page(f.Pages() - 1)[1] = 1 // still guarded
		return nil
	})
	var fault *FaultError
	require.ErrorAs(t, err, &fault)
	require.Equal(t, pageDown(f.Size()-PageSize), fault.Offset)
}

// TestSortFault: a sort meets pages that cannot be had, in its own goroutines
// too.
func TestSortFault(t *testing.T) {
	old := runtime.GOMAXPROCS(4)
	defer runtime.GOMAXPROCS(old)
	a := newTestArray[rmapRecord](t, Options{Name: "sorted"})
	require.NoError(t, fillRmaps(200_000, a.Append))
	require.NoError(t, unix.Ftruncate(a.f.fd, a.f.Size()/2))
	for what, err := range map[string]error{
		"keyed":   a.SortKeyed(t.Context(), keyRmap, compareRmap),
		"compare": a.Sort(t.Context(), compareRmap),
	} {
		var fault *FaultError
		require.ErrorAs(t, err, &fault, what)
		require.Equal(t, "sorted", fault.Purpose)
		require.GreaterOrEqual(t, fault.Offset, a.f.Size()/2)
	}
	// The array can still be used where it is whole, and closed.
	_, err := a.Get(0)
	require.NoError(t, err)
	require.Error(t, Guard(func() error {
		for _, err := range a.Chunks(t.Context()) {
			if err != nil {
				return err
			}
		}
		_, err := a.Get(a.Len() - 1)
		return err
	}))
}
