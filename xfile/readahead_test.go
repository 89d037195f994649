package xfile

import (
	"sync"
	"testing"
	"unsafe"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// TestSortReadsAhead sorts on disk: the kernel's own guesses are switched off
// first, and then every page is asked for, in whole pages, before it is read.
func TestSortReadsAhead(t *testing.T) {
	for name, answer := range map[string]error{"advice taken": nil, "no advice here": unix.EINVAL} {
		t.Run(name, func(t *testing.T) {
			var mu sync.Mutex
			var random, asked bitmap
			var base uintptr
			advise := func(b []byte, advice int) error {
				mu.Lock()
				defer mu.Unlock()
				p := uintptr(unsafe.Pointer(&b[0]))
				require.Zero(t, p%uintptr(sysPage))
				if base == 0 {
					base = p
				}
				set := &random
				if advice != unix.MADV_RANDOM {
					require.Equal(t, unix.MADV_WILLNEED, advice)
					set = &asked
				}
				set.set(int64(p-base)/sysPage, pageUp(int64(p-base)+int64(len(b)))/sysPage)
				return answer
			}
			a := newTestArray[rmapRecord](t, Options{Name: "disk", Dir: t.TempDir(), kernel: (&faulty{madvise: advise}).kernel()})
			require.Equal(t, Disk, a.Place(), "this test needs a directory on disk")
			require.NoError(t, fillRmaps(300_000, a.Append))
			pages := pageUp(a.Len()*24) / sysPage
			for _, sort := range []func() error{
				func() error { return a.SortKeyed(t.Context(), keyRmap, compareRmap) },
				func() error { return a.Sort(t.Context(), compareRmap) },
			} {
				random, asked, base = bitmap{}, bitmap{}, 0
				require.NoError(t, sort())
				require.Equal(t, pages, random.count)
				require.Equal(t, pages, asked.count)
				var last rmapRecord
				for c, err := range a.Chunks(t.Context()) {
					require.NoError(t, err)
					for i := range c {
						if compareRmap(&last, &c[i]) > 0 {
							t.Fatalf("%v after %v", c[i], last)
						}
						last = c[i]
					}
				}
			}
		})
	}
}

// TestInMemoryNoAdvice: in memory there is nothing to read ahead.
func TestInMemoryNoAdvice(t *testing.T) {
	calls := 0
	advise := func([]byte, int) error { calls++; return nil }
	a := newTestArray[rmapRecord](t, Options{Name: "memory", kernel: (&faulty{madvise: advise}).kernel()})
	require.NoError(t, fillRmaps(100_000, a.Append))
	require.NoError(t, a.SortKeyed(t.Context(), keyRmap, compareRmap))
	require.Zero(t, calls)
}
