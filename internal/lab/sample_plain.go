package lab

import (
	"fmt"
	"math/rand/v2"
	"os"
)

// plainPerDir is the number of plain files in a directory, and extentsPerFile
// the number of extents of a file under "extents".
const (
	plainPerDir    = 500
	extentsPerFile = 2000
)

// plain makes the bulk of ordinary files. For every seven that stay one is
// removed again, so that inode chunks have free inodes and the space between
// files is in pieces.
func (s *sampler) plain(sub string) error {
	dirs := (s.spec.Files + plainPerDir - 1) / plainPerDir
	return s.parallel(dirs, func(d int) error {
		dir := fmt.Sprintf("%s/%04d", sub, d)
		if err := s.mkdirs(dir); err != nil {
			return err
		}
		rng := rand.New(rand.NewPCG(s.spec.Seed, uint64(d)))
		var doomed []string
		for i := range min(plainPerDir, s.spec.Files-d*plainPerDir) {
			if err := s.write(fmt.Sprintf("%s/%03d", dir, i), s.plainSize(rng)); err != nil {
				return err
			}
			if i%7 != 3 {
				continue
			}
			name := fmt.Sprintf("%s/doomed%03d", dir, i)
			if err := s.write(name, 1+rng.Int64N(sampleBlock)); err != nil {
				return err
			}
			doomed = append(doomed, name)
		}
		for _, name := range doomed {
			if err := os.Remove(s.path(name)); err != nil {
				return err
			}
		}
		return nil
	})
}

// plainSize draws a size in bytes: mostly one block, a few large ones, 10 KiB
// on average.
func (s *sampler) plainSize(rng *rand.Rand) int64 {
	p := rng.IntN(100)
	switch {
	case p < 3:
		return 0
	case p < 75 || s.spec.SmallFiles:
		return 1 + rng.Int64N(sampleBlock)
	case p < 95:
		return sampleBlock + rng.Int64N(4*sampleBlock)
	case p < 99:
		return 64 << 10
	default:
		return 1 + rng.Int64N(512<<10)
	}
}

// extents makes files of 2,000 extents each until there are as many as the
// spec wants.
func (s *sampler) extents(sub string) error {
	files := (s.spec.Extents + extentsPerFile - 1) / extentsPerFile
	return s.parallel(files, func(i int) error {
		return s.edit(fmt.Sprintf("%s/%05d", sub, i), func(w *sampleFile) error { return w.stripes(extentsPerFile) })
	})
}
