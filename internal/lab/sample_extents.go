package lab

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// clones makes files that share blocks: a chain in which each clone is cloned
// from the one before and rewrites a piece of its own, a fan of clones of one
// file, and shifted ranges that one file shares with itself.
func (s *sampler) clones(sub string) error {
	const (
		baseSize = 256 * sampleBlock
		depth    = 8
		fan      = 24
	)
	base := sub + "/base"
	if err := s.write(base, baseSize); err != nil {
		return err
	}
	prev := base
	for i := range depth {
		name := fmt.Sprintf("%s/depth%d", sub, i+1)
		err := s.clone(name, prev, func(w *sampleFile) error {
			// Overlaps the piece of the clone before by half.
			return w.fill(int64(16+8*i)*sampleBlock, 16*sampleBlock, uint64(i+1))
		})
		if err != nil {
			return err
		}
		prev = name
	}
	for i := range fan {
		err := s.clone(fmt.Sprintf("%s/fan%02d", sub, i), base, func(w *sampleFile) error {
			switch i % 4 {
			case 0: // stays whole
				return nil
			case 1: // one block unshared
				return w.fill(int64(3+5*i)*sampleBlock, sampleBlock, uint64(100+i))
			case 2:
				return w.punch(int64(2+7*i)*sampleBlock, 3*sampleBlock)
			default: // shares its head only, and appends
				if err := w.Truncate(int64(100+i) * sampleBlock); err != nil {
					return err
				}
				return w.fill(int64(120+i)*sampleBlock, 5000, uint64(100+i))
			}
		})
		if err != nil {
			return err
		}
	}
	if err := s.sync(); err != nil {
		return err
	}
	return s.edit(sub+"/shifted", func(w *sampleFile) error {
		src, err := os.Open(s.path(base))
		if err != nil {
			return err
		}
		defer src.Close()
		for _, at := range []uint64{0, 100, 300, 301 + 64} {
			err := unix.IoctlFileCloneRange(int(w.Fd()), &unix.FileCloneRange{
				Src_fd: int64(src.Fd()), Src_offset: 64 * sampleBlock, Src_length: 64 * sampleBlock, Dest_offset: at * sampleBlock,
			})
			if err != nil {
				return fmt.Errorf("clone a range of %s: %w", base, err)
			}
		}
		return nil
	})
}

// clone makes name share all blocks of src, then runs f on it.
func (s *sampler) clone(name, src string, f func(w *sampleFile) error) error {
	from, err := os.Open(s.path(src))
	if err != nil {
		return err
	}
	defer from.Close()
	return s.edit(name, func(w *sampleFile) error {
		if err := unix.IoctlFileClone(int(w.Fd()), int(from.Fd())); err != nil {
			return fmt.Errorf("clone %s to %s: %w", src, name, err)
		}
		if err := f(w); err != nil {
			return err
		}
		// Copy on write happens at writeback: before the next clone.
		return w.Sync()
	})
}

// fragmented makes files of many one-block extents: their forks have the
// btree format, and the free space between them fills several bnobt blocks.
func (s *sampler) fragmented(sub string) error {
	const extents = 700
	err := s.edit(sub+"/holes", func(w *sampleFile) error {
		for i := range int64(extents) {
			if err := w.fill(2*i*sampleBlock, sampleBlock, 0); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	// Two files that grow in turn, so that neither is contiguous on disk.
	err = s.edit(sub+"/left", func(left *sampleFile) error {
		return s.edit(sub+"/right", func(right *sampleFile) error {
			for i := range int64(extents) {
				for _, w := range []*sampleFile{left, right} {
					if err := w.fallocate(0, i*sampleBlock, sampleBlock); err != nil {
						return err
					}
					if err := w.fill(i*sampleBlock, sampleBlock, 0); err != nil {
						return err
					}
				}
			}
			return nil
		})
	})
	if err != nil {
		return err
	}
	// Grows backwards: offsets fall where blocks rise.
	err = s.edit(sub+"/backwards", func(w *sampleFile) error {
		for i := int64(400); i >= 0; i-- {
			if err := w.fallocate(unix.FALLOC_FL_KEEP_SIZE, i*sampleBlock, sampleBlock); err != nil {
				return err
			}
		}
		return w.fill(0, 401*sampleBlock-100, 0)
	})
	if err != nil {
		return err
	}
	// Every other block given back: as many records of free space.
	return s.edit(sub+"/punched", func(w *sampleFile) error {
		if err := w.fill(0, 2*1500*sampleBlock, 0); err != nil {
			return err
		}
		if err := w.Sync(); err != nil {
			return err
		}
		for i := range int64(1500) {
			if err := w.punch((2*i+1)*sampleBlock, sampleBlock); err != nil {
				return err
			}
		}
		return nil
	})
}

// unwritten makes preallocations inside files, past their end, and between
// written pieces.
func (s *sampler) unwritten(sub string) error {
	shapes := []struct {
		name string
		make func(w *sampleFile) error
	}{
		{"past-eof", func(w *sampleFile) error {
			if err := w.fill(0, 10000, 0); err != nil {
				return err
			}
			return w.fallocate(unix.FALLOC_FL_KEEP_SIZE, 4*sampleBlock, 64*sampleBlock)
		}},
		{"past-eof-empty", func(w *sampleFile) error {
			return w.fallocate(unix.FALLOC_FL_KEEP_SIZE, 0, 32*sampleBlock)
		}},
		{"inside", func(w *sampleFile) error {
			if err := w.fallocate(0, 0, 128*sampleBlock); err != nil {
				return err
			}
			for _, at := range []int64{0, 40, 127} {
				if err := w.fill(at*sampleBlock, sampleBlock, 0); err != nil {
					return err
				}
			}
			return nil
		}},
		{"whole", func(w *sampleFile) error { return w.fallocate(0, 0, 16*sampleBlock) }},
		{"zeroed", func(w *sampleFile) error {
			if err := w.fill(0, 64*sampleBlock, 0); err != nil {
				return err
			}
			if err := w.Sync(); err != nil {
				return err
			}
			return w.fallocate(unix.FALLOC_FL_ZERO_RANGE|unix.FALLOC_FL_KEEP_SIZE, 20*sampleBlock, 8*sampleBlock)
		}},
		{"stripes", func(w *sampleFile) error { return w.stripes(600) }},
	}
	for _, shape := range shapes {
		if err := s.edit(sub+"/"+shape.name, shape.make); err != nil {
			return err
		}
	}
	return nil
}

// stripes makes n extents of one block, in turn written and unwritten: the
// cheapest way to many extents that hold data, one transaction for two.
func (w *sampleFile) stripes(n int64) error {
	if err := w.fallocate(0, 0, n*sampleBlock); err != nil {
		return err
	}
	for i := int64(0); i < n; i += 2 {
		if err := w.fill(i*sampleBlock, sampleBlock, 0); err != nil {
			return err
		}
	}
	return nil
}

// sparse makes files with holes at the head, in the middle and at the end.
func (s *sampler) sparse(sub string) error {
	for name, at := range map[string][]int64{"head": {300}, "middle": {0, 256, 4096}, "both": {1000, 1001, 2000}} {
		err := s.edit(sub+"/"+name, func(w *sampleFile) error {
			for _, block := range at {
				if err := w.fill(block*sampleBlock, 3000, 0); err != nil {
					return err
				}
			}
			if name == "both" {
				return w.Truncate(3000 * sampleBlock)
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	return s.edit(sub+"/nothing", func(w *sampleFile) error { return w.Truncate(8 << 20) })
}
