package soak

import (
	"context"
	"os"

	"golang.org/x/sys/unix"
)

const (
	// poolFiles is how many files a writer of files has.
	poolFiles = 8
	// maxUnits bounds them: 2 MiB.
	maxUnits = 2 << 20 / unitSize
)

// fileWriter does with a few files whatever can be done with a file.
type fileWriter struct {
	*place
	*files
	ops   []fileOp
	total int // of the weights
}

// fileOp is one thing to do with a file.
type fileOp struct {
	weight  int
	reflink bool
	do      func(w *fileWriter, f *file) error
}

var fileOps = []fileOp{
	{10, false, (*fileWriter).rewrite},
	{6, false, (*fileWriter).extend},
	{6, false, (*fileWriter).direct},
	{5, false, (*fileWriter).mapped},
	{4, false, (*fileWriter).scatter},
	{5, false, (*fileWriter).truncate},
	{4, false, (*fileWriter).preallocate},
	{3, false, (*fileWriter).preallocateBeyond},
	{5, false, (*fileWriter).punch},
	{4, false, (*fileWriter).zero},
	{4, false, (*fileWriter).collapse},
	{4, false, (*fileWriter).insert},
	{3, false, (*fileWriter).unshare},
	{6, true, (*fileWriter).cloneOther},
	{4, true, (*fileWriter).cloneGolden},
	{4, true, (*fileWriter).dedupe},
	{1, false, (*fileWriter).exchange},
	{4, false, (*fileWriter).sync},
	{3, false, (*fileWriter).reopen},
	{2, false, (*fileWriter).rename},
	{2, false, (*fileWriter).chown},
	{1, false, (*fileWriter).recreate},
}

func newFileWriter(p *place) (writer, error) {
	w := &fileWriter{place: p}
	for _, op := range fileOps {
		if op.reflink && p.golden == nil {
			continue
		}
		w.ops = append(w.ops, op)
		w.total += op.weight
	}
	var err error
	w.files, err = newFiles(p.dir, poolFiles)
	return w, err
}

func (w *fileWriter) turn(context.Context) error {
	i, f := w.any(w.rng)
	pick := w.rng.IntN(w.total)
	for _, op := range w.ops {
		if pick -= op.weight; pick >= 0 {
			continue
		}
		err := op.do(w, f)
		if noSpace(err) {
			// How far it got is not known.
			if rerr := w.replace(i); rerr != nil {
				return rerr
			}
		}
		return err
	}
	return nil
}

func (w *fileWriter) room() error {
	i, _ := w.any(w.rng)
	return w.replace(i)
}

// span draws a piece of the file of at most that many units, past its end too.
func (w *fileWriter) span(most int) (at, n int) {
	n = 1 + w.rng.IntN(most)
	return w.rng.IntN(maxUnits - n), n
}

// blocks draws a piece of whole blocks within the file's first n units.
func (w *fileWriter) blocks(n, most int) (at, count int, ok bool) {
	have := n / w.block
	if have == 0 {
		return 0, 0, false
	}
	count = 1 + w.rng.IntN(min(have, max(most/w.block, 1)))
	at = w.rng.IntN(have - count + 1)
	return at * w.block, count * w.block, true
}

func (w *fileWriter) rewrite(f *file) error {
	at, n := w.span(256)
	return f.write(at, fresh(w.rng, n))
}

func (w *fileWriter) extend(f *file) error {
	n := 1 + w.rng.IntN(300)
	if len(f.holds)+n > maxUnits {
		return w.truncate(f)
	}
	return f.write(len(f.holds), fresh(w.rng, n))
}

func (w *fileWriter) direct(f *file) error {
	at, n := w.span(256)
	return f.writeDirect(at, fresh(w.rng, n))
}

func (w *fileWriter) mapped(f *file) error {
	n := 1 + w.rng.IntN(256)
	if n > len(f.holds) {
		return nil
	}
	return f.writeMapped(w.rng.IntN(len(f.holds)-n+1), fresh(w.rng, n), w.rng.IntN(2) == 0)
}

// scatter writes every other block of a piece, so that the fork gets long.
func (w *fileWriter) scatter(f *file) error {
	at, _ := w.span(1)
	at -= at % w.block
	for i := range 16 + w.rng.IntN(64) {
		to := at + 2*i*w.block
		if to+w.block > maxUnits {
			break
		}
		if err := f.write(to, fresh(w.rng, w.block)); err != nil {
			return err
		}
	}
	return f.Sync()
}

func (w *fileWriter) truncate(f *file) error {
	n := w.rng.IntN(maxUnits)
	if w.rng.IntN(3) > 0 {
		n = w.rng.IntN(len(f.holds) + 1)
	}
	if err := f.Truncate(int64(n) * unitSize); err != nil {
		return err
	}
	f.holds = f.holds.resize(n)
	return nil
}

func (w *fileWriter) preallocate(f *file) error {
	at, n := w.span(1024)
	if err := f.allocate(0, at, n); err != nil {
		return err
	}
	if at+n > len(f.holds) {
		f.holds = f.holds.resize(at + n)
	}
	return nil
}

func (w *fileWriter) preallocateBeyond(f *file) error {
	return f.allocate(unix.FALLOC_FL_KEEP_SIZE, len(f.holds), 1+w.rng.IntN(1024))
}

func (w *fileWriter) punch(f *file) error {
	at, n := w.span(512)
	if err := f.allocate(unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, at, n); err != nil {
		return err
	}
	f.holds.zero(at, n)
	return nil
}

func (w *fileWriter) zero(f *file) error {
	at, n := w.span(512)
	if err := f.allocate(unix.FALLOC_FL_ZERO_RANGE|unix.FALLOC_FL_KEEP_SIZE, at, n); err != nil {
		return err
	}
	f.holds.zero(at, n)
	return nil
}

func (w *fileWriter) collapse(f *file) error {
	// It may not reach the end.
	at, n, ok := w.blocks(len(f.holds)-1, 256)
	if !ok {
		return nil
	}
	if err := f.allocate(unix.FALLOC_FL_COLLAPSE_RANGE, at, n); err != nil {
		return err
	}
	f.holds = f.holds.collapse(at, n)
	return nil
}

func (w *fileWriter) insert(f *file) error {
	at, n, ok := w.blocks(len(f.holds)-1, 256)
	if !ok || len(f.holds)+n > maxUnits {
		return nil
	}
	if err := f.allocate(unix.FALLOC_FL_INSERT_RANGE, at, n); err != nil {
		return err
	}
	f.holds = f.holds.insert(at, n)
	return nil
}

func (w *fileWriter) unshare(f *file) error {
	at, n, ok := w.blocks(len(f.holds), 512)
	if !ok {
		return nil
	}
	return ignore(f.allocate(unix.FALLOC_FL_UNSHARE_RANGE, at, n), unix.EOPNOTSUPP)
}

func (w *fileWriter) cloneOther(f *file) error {
	_, from := w.any(w.rng)
	return w.cloneFrom(f, from)
}

func (w *fileWriter) cloneGolden(f *file) error { return w.cloneFrom(f, w.golden) }

// cloneFrom clones whole blocks of one file into another, or into itself.
func (w *fileWriter) cloneFrom(f, from *file) error {
	src, n, ok := w.blocks(len(from.holds), 512)
	if !ok {
		return nil
	}
	at := w.rng.IntN(maxUnits - n)
	at -= at % w.block
	if f == from && src < at+n && at < src+n {
		return nil
	}
	return f.cloneRange(from, src, n, at)
}

// dedupe writes what another file holds and has the kernel share it.
func (w *fileWriter) dedupe(f *file) error {
	_, from := w.any(w.rng)
	src, n, ok := w.blocks(len(from.holds), 128)
	if !ok || f == from || src+n > maxUnits {
		return nil
	}
	if err := f.write(src, append(content(nil), from.holds[src:src+n]...)); err != nil {
		return err
	}
	return f.dedupe(from, src, n, src)
}

// exchange has the kernel swap a piece of two files.
func (w *fileWriter) exchange(f *file) error {
	_, other := w.any(w.rng)
	at, n, ok := w.blocks(min(len(f.holds), len(other.holds)), 512)
	if !ok || f == other || !w.tools.exchange {
		return nil
	}
	if err := w.tools.exchangeRange(f.path, other.path, int64(at)*unitSize, int64(n)*unitSize); err != nil {
		return err
	}
	for i := at; i < at+n; i++ {
		f.holds[i], other.holds[i] = other.holds[i], f.holds[i]
	}
	return nil
}

func (w *fileWriter) sync(f *file) error {
	if w.rng.IntN(2) == 0 {
		return unix.Fdatasync(f.fd())
	}
	return f.Sync()
}

func (w *fileWriter) reopen(f *file) error { return f.reopen() }

func (w *fileWriter) rename(f *file) error {
	to := f.path + "-moved"
	if err := os.Rename(f.path, to); err != nil {
		return err
	}
	return os.Rename(to, f.path)
}

// chown moves what the file has from one quota to another.
func (w *fileWriter) chown(f *file) error {
	return f.Chown(1000+w.rng.IntN(4), 1000+w.rng.IntN(4))
}

func (w *fileWriter) recreate(f *file) error {
	for i := range w.list {
		if w.list[i] == f {
			return w.replace(i)
		}
	}
	return nil
}

func (w *fileWriter) close() error { return w.files.close() }
func (w *fileWriter) check() error { return w.files.check() }
