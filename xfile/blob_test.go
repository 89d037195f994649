package xfile

import (
	"bytes"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
	"pgregory.net/rapid"
)

func newTestBlob(t testing.TB, o Options) *Blob {
	t.Helper()
	b, err := NewBlob(o)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, b.Close()) })
	return b
}

// TestBlobTwin compares a blob with a map.
func TestBlobTwin(t *testing.T) {
	rapid.Check(t, blobTwin)
}

func FuzzBlob(f *testing.F) { f.Fuzz(rapid.MakeFuzz(blobTwin)) }

func blobTwin(t *rapid.T) {
	budget := NewBudget(Unlimited)
	b, err := NewBlob(Options{Name: "twin", Budget: budget})
	require.NoError(t, err)
	defer b.Close()
	twin := map[Cookie][]byte{}
	var cookies []Cookie
	t.Repeat(map[string]func(*rapid.T){
		"": func(t *rapid.T) {
			for c, want := range twin {
				got, err := b.Get(c)
				require.NoError(t, err)
				require.True(t, bytes.Equal(want, got))
			}
			requireCounted(t, b.f, budget)
			require.Equal(t, b.f.Allocated(), b.Allocated())
		},
		"put": func(t *rapid.T) {
			value := rapid.SliceOfN(rapid.Byte(), 0, 3000).Draw(t, "value")
			value = bytes.Repeat(value, rapid.IntRange(1, 10).Draw(t, "times"))
			c, err := b.Put(value)
			require.NoError(t, err)
			require.NotZero(t, c)
			require.NotContains(t, twin, c)
			twin[c] = value
			cookies = append(cookies, c)
		},
		"free": func(t *rapid.T) {
			if len(cookies) == 0 {
				return
			}
			c := rapid.SampledFrom(cookies).Draw(t, "cookie")
			err := b.Free(c)
			if _, there := twin[c]; !there {
				require.ErrorIs(t, err, ErrCookie)
				return
			}
			require.NoError(t, err)
			delete(twin, c)
		},
		"wrong cookie": func(t *rapid.T) {
			c := Cookie(rapid.Uint64().Draw(t, "cookie"))
			if rapid.Bool().Draw(t, "near") {
				c %= Cookie(b.f.Size() + 100)
			}
			if _, there := twin[c]; there {
				return
			}
			_, err := b.Get(c)
			require.ErrorIs(t, err, ErrCookie)
			require.ErrorIs(t, b.Free(c), ErrCookie)
		},
	})
}

// TestBlobDamage flips every byte of a small blob: wrong data is never handed
// out as right.
func TestBlobDamage(t *testing.T) {
	b := newTestBlob(t, Options{Name: "damaged"})
	value := []byte("the value")
	c, err := b.Put(value)
	require.NoError(t, err)
	all, err := b.f.Window(0, b.f.Size())
	require.NoError(t, err)
	for i := range all {
		all[i] ^= 0x5a
		got, err := b.Get(c)
		if i < blobHeader+len(value) {
			require.ErrorIs(t, err, ErrCookie, "byte %d", i)
		} else {
			require.NoError(t, err)
			require.Equal(t, value, got)
		}
		all[i] ^= 0x5a
	}
	got, err := b.Get(c)
	require.NoError(t, err)
	require.Equal(t, value, got)
}

func TestBlobConcurrent(t *testing.T) {
	b := newTestBlob(t, Options{Name: "concurrent"})
	var wg sync.WaitGroup
	for w := range 4 {
		wg.Go(func() {
			for i := range 100 {
				value := bytes.Repeat([]byte{byte(w), byte(i)}, i*20)
				c, err := b.Put(value)
				if err != nil {
					t.Error(err)
					return
				}
				if got, err := b.Get(c); err != nil || !bytes.Equal(value, got) {
					t.Error(w, i, err)
				}
				if i%2 == 0 {
					if err := b.Free(c); err != nil {
						t.Error(err)
					}
				}
			}
		})
	}
	wg.Wait()
}

func TestBlobFails(t *testing.T) {
	no := &faulty{}
	budget := NewBudget(Unlimited)
	b, err := NewBlob(Options{Name: "failing", Budget: budget, kernel: no.kernel()})
	require.NoError(t, err)
	small, err := b.Put([]byte("small"))
	require.NoError(t, err)
	big := bytes.Repeat([]byte("big"), 5000)

	no.pwrite = func(int) error { return unix.EIO }
	_, err = b.Put(big)
	require.ErrorIs(t, err, unix.EIO)
	// The value is written and its header is not: there is nothing to find.
	no.pwrite = func(n int) error {
		if n == blobHeader {
			return unix.EIO
		}
		return nil
	}
	at := b.next
	_, err = b.Put(big)
	require.ErrorIs(t, err, unix.EIO)
	_, err = b.Get(Cookie(at + blobHeader))
	require.ErrorIs(t, err, ErrCookie)
	no.pwrite = nil

	no.pread = func(int) error { return unix.EIO }
	_, err = b.Get(small)
	require.ErrorIs(t, err, unix.EIO)
	no.pread = func(n int) error {
		if n != blobHeader {
			return unix.EIO
		}
		return nil
	}
	_, err = b.Get(small)
	require.ErrorIs(t, err, unix.EIO)
	no.pread = nil

	budget.SetLimit(Memory, b.Allocated())
	_, err = b.Put(bytes.Repeat(big, 100))
	require.ErrorIs(t, err, ErrBudget)
	got, err := b.Get(small)
	require.NoError(t, err)
	require.Equal(t, "small", string(got))

	require.NoError(t, b.Close())
	require.NoError(t, b.Close())
	_, err = b.Get(small)
	require.ErrorIs(t, err, ErrClosed)
	_, err = b.Put(nil)
	require.ErrorIs(t, err, ErrClosed)
	require.ErrorIs(t, b.Free(small), ErrClosed)
	_, err = NewBlob(Options{kernel: (&faulty{memfd: func(int) error { return unix.ENFILE }}).kernel()})
	require.ErrorIs(t, err, unix.ENFILE)
}
