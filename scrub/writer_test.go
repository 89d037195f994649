package scrub_test

import (
	"context"
	"crypto/rand"
	"fmt"
	mrand "math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// startWriters runs one goroutine of each kind of writer below dir until ctx
// ends, and returns a function that waits for them and says how often each
// went round.
func startWriters(ctx context.Context, t *testing.T, dir string) (wait func() map[string]int) {
	t.Helper()
	kinds := map[string]func(w *writer) error{
		"falloc/punch":         (*writer).fallocPunch,
		"reflink/punch":        (*writer).reflinkPunch,
		"setxattr/remove":      (*writer).xattrs,
		"append/truncate":      (*writer).appendTruncate,
		"create/unlink":        (*writer).createUnlink,
		"symlink/rename/rmdir": (*writer).names,
	}
	var wg sync.WaitGroup
	var mu sync.Mutex
	rounds := make(map[string]int)
	seed := uint64(0)
	for name, round := range kinds {
		seed++
		w, err := newWriter(filepath.Join(dir, fmt.Sprintf("writer%d", seed)), seed)
		require.NoError(t, err)
		wg.Go(func() {
			defer w.close()
			n := 0
			var err error
			for ctx.Err() == nil && err == nil {
				err = round(w)
				n++
			}
			mu.Lock()
			defer mu.Unlock()
			rounds[name] = n
			if err != nil {
				t.Errorf("writer %s: %v", name, err)
			}
		})
	}
	return func() map[string]int {
		wg.Wait()
		return rounds
	}
}

// writer is one writer's directory, with a file to clone from and one to change.
type writer struct {
	dir        string
	rng        *mrand.Rand
	from, file *os.File
	data       []byte
	turn       int
}

const mib = 1 << 20

func newWriter(dir string, seed uint64) (*writer, error) {
	w := &writer{dir: dir, rng: mrand.New(mrand.NewPCG(seed, 7)), data: make([]byte, mib)}
	_, _ = rand.Read(w.data)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	var err error
	if w.from, err = os.Create(filepath.Join(dir, "from")); err != nil {
		return nil, err
	}
	if w.file, err = os.Create(filepath.Join(dir, "file")); err != nil {
		return nil, err
	}
	if _, err := w.from.Write(w.data); err != nil {
		return nil, err
	}
	return w, w.from.Sync()
}

func (w *writer) close() {
	_ = w.from.Close()
	_ = w.file.Close()
}

func (w *writer) punch() error {
	return unix.Fallocate(int(w.file.Fd()), unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, 0, mib)
}

func (w *writer) fallocPunch() error {
	if err := unix.Fallocate(int(w.file.Fd()), 0, 0, int64(64<<10*(1+w.rng.IntN(8)))); err != nil {
		return err
	}
	return w.punch()
}

func (w *writer) reflinkPunch() error {
	r := unix.FileCloneRange{Src_fd: int64(w.from.Fd()), Src_length: 64 << 10, Dest_offset: uint64(64 << 10 * w.rng.IntN(8))}
	if err := unix.IoctlFileCloneRange(int(w.file.Fd()), &r); err != nil {
		return err
	}
	return w.punch()
}

func (w *writer) xattrs() error {
	if err := unix.Fsetxattr(int(w.file.Fd()), "user.x", w.data[:3000], 0); err != nil {
		return err
	}
	return unix.Fremovexattr(int(w.file.Fd()), "user.x")
}

func (w *writer) appendTruncate() error {
	end, err := w.file.Seek(0, 2)
	if err != nil {
		return err
	}
	if _, err := w.file.Write(w.data[:1+w.rng.IntN(200_000)]); err != nil {
		return err
	}
	if w.rng.IntN(3) == 0 {
		if err := w.file.Sync(); err != nil {
			return err
		}
	}
	if end > 8*mib || w.rng.IntN(5) == 0 {
		return w.file.Truncate(int64(w.rng.IntN(100_000)))
	}
	return nil
}

func (w *writer) createUnlink() error {
	name := func() string { return filepath.Join(w.dir, fmt.Sprint("f", w.rng.IntN(200))) }
	if err := os.WriteFile(name(), w.data[:1+w.rng.IntN(20_000)], 0o644); err != nil {
		return err
	}
	if err := os.Remove(name()); err != nil && !os.IsNotExist(err) {
		return err
	}
	return nil
}

// names makes and renames links whose targets need a block, and directories.
func (w *writer) names() error {
	w.turn++
	link := filepath.Join(w.dir, fmt.Sprint("l", w.turn%50))
	_ = os.Remove(link)
	target := string(make([]byte, 0, 900))
	for len(target) < 900 {
		target += "/directory"
	}
	if err := os.Symlink(target, link+".new"); err != nil {
		return err
	}
	if err := os.Rename(link+".new", link); err != nil {
		return err
	}
	dir := filepath.Join(w.dir, fmt.Sprint("d", w.turn%20))
	_ = os.RemoveAll(dir)
	if err := os.Mkdir(dir, 0o755); err != nil {
		return err
	}
	for i := range 100 {
		if err := os.WriteFile(filepath.Join(dir, fmt.Sprint("a rather long name of a file ", i)), nil, 0o644); err != nil {
			return err
		}
	}
	return nil
}
