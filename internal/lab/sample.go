package lab

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"
)

// SampleSpec says what Sample makes. The same spec gives the same tree with
// the same contents; where the blocks land is up to the allocator.
type SampleSpec struct {
	Seed       uint64 // of every byte written
	Files      int    // plain files under "plain"; 0 means 500
	SmallFiles bool   // plain files of one block at most: for benchmarks
	Extents    int    // at least so many further extents under "extents", in files of 2,000
	Workers    int    // goroutines for "plain" and "extents"; 0 means 1, which keeps the layout repeatable
	NoReflink  bool   // leave "clones" out: for filesystems made with reflink=0
}

// defaultSampleFiles is the number of plain files when the spec says nothing.
const defaultSampleFiles = 500

// Sample fills the mounted XFS at dir with a varied tree: clones of several
// depths partly unshared, files with btree-format forks, unwritten extents
// inside and past EOF, attribute forks with blocks of their own, remote
// symlinks, hard links, holes, directories of every format, special files,
// ACLs, and plain files with free inodes between them.
//
// Every byte that is written is nonzero and depends on the seed, the path and
// the position, so data that was lost, zeroed or mixed up changes a checksum.
// Everything is on disk when Sample returns. It needs root (special files,
// trusted attributes). Errors: EEXIST when dir holds a sample already.
func Sample(dir string, spec SampleSpec) error {
	if spec.Files == 0 {
		spec.Files = defaultSampleFiles
	}
	spec.Workers = max(spec.Workers, 1)
	s := &sampler{dir: dir, spec: spec}
	steps := []struct {
		name string
		make func(sub string) error
	}{
		{"clones", s.clones},
		{"fragmented", s.fragmented},
		{"unwritten", s.unwritten},
		{"attrs", s.attrs},
		{"symlinks", s.symlinks},
		{"links", s.links},
		{"sparse", s.sparse},
		{"dirs", s.dirs},
		{"special", s.special},
		{"plain", s.plain},
		{"extents", s.extents},
	}
	for _, step := range steps {
		if step.name == "clones" && spec.NoReflink || step.name == "extents" && spec.Extents == 0 {
			continue
		}
		if err := os.Mkdir(s.path(step.name), 0o755); err != nil {
			return fmt.Errorf("sample %s: %w", step.name, err)
		}
		if err := step.make(step.name); err != nil {
			return fmt.Errorf("sample %s: %w", step.name, err)
		}
	}
	return s.sync()
}

// sampler makes one sample. Names are relative to dir, so that contents do
// not depend on where the filesystem is mounted.
type sampler struct {
	dir  string
	spec SampleSpec
}

func (s *sampler) path(name string) string { return filepath.Join(s.dir, name) }

func (s *sampler) sync() error {
	d, err := os.Open(s.dir)
	if err != nil {
		return fmt.Errorf("sync sample: %w", err)
	}
	defer d.Close()
	if err := unix.Syncfs(int(d.Fd())); err != nil {
		return fmt.Errorf("sync sample %s: %w", s.dir, err)
	}
	return nil
}

// parallel calls f for 0..n-1 from the spec's number of workers and stops at
// the first error.
func (s *sampler) parallel(n int, f func(i int) error) error {
	group, ctx := errgroup.WithContext(context.Background())
	group.SetLimit(s.spec.Workers)
	for i := range n {
		if ctx.Err() != nil {
			break
		}
		group.Go(func() error { return f(i) })
	}
	return group.Wait()
}

// mkdirs makes directories below the sample.
func (s *sampler) mkdirs(names ...string) error {
	for _, name := range names {
		if err := os.Mkdir(s.path(name), 0o755); err != nil {
			return err
		}
	}
	return nil
}

// edit opens a file (made if it is not there), runs f on it and closes it.
func (s *sampler) edit(name string, f func(w *sampleFile) error) error {
	file, err := os.OpenFile(s.path(name), os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		return err
	}
	err = f(&sampleFile{File: file, name: name, seed: s.spec.Seed})
	return errors.Join(err, file.Close())
}

// write makes a file of size bytes.
func (s *sampler) write(name string, size int64) error {
	return s.edit(name, func(w *sampleFile) error { return w.fill(0, size, 0) })
}
