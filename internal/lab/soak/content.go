package soak

import (
	"encoding/binary"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
)

// unitSize is the grain in which a writer remembers what a file holds: the
// sector, below the block size of every geometry.
const unitSize = 512

// content is what a file has to read: one word for each unit, from which the
// unit's bytes follow. Zero stands for zeros.
type content []uint64

func (c content) size() int64 { return int64(len(c)) * unitSize }

// resize cuts off or adds zeros.
func (c content) resize(n int) content {
	if n <= len(c) {
		return c[:n]
	}
	return append(c, make(content, n-len(c))...)
}

// put replaces the units from at on, after zeros where the file was shorter.
func (c content) put(at int, with content) content {
	if at+len(with) > len(c) {
		c = c.resize(at + len(with))
	}
	copy(c[at:], with)
	return c
}

// zero zeroes the part of [at, at+n) that there is.
func (c content) zero(at, n int) {
	at = min(at, len(c))
	clear(c[at:min(at+n, len(c))])
}

// collapse takes [at, at+n) out.
func (c content) collapse(at, n int) content { return slices.Delete(c, at, at+n) }

// insert puts n zero units before at.
func (c content) insert(at, n int) content { return slices.Insert(c, at, make(content, n)...) }

// fresh returns n units that no file holds yet.
func fresh(rng *rand.Rand, n int) content {
	c := make(content, n)
	for i := range c {
		c[i] = rng.Uint64() | 1
	}
	return c
}

// expand writes the bytes of c to buf, which is as long as c needs.
func (c content) expand(buf []byte) {
	for i, word := range c {
		unit := buf[i*unitSize : (i+1)*unitSize]
		if word == 0 {
			clear(unit)
			continue
		}
		for at := 0; at < unitSize; at += 8 {
			binary.LittleEndian.PutUint64(unit[at:], word)
			word = word*6364136223846793005 + 1442695040888963407
		}
	}
}

// checkChunk is how many units are compared at once.
const checkChunk = 1024

// check compares what r reads from its start with c.
func (c content) check(r io.ReaderAt) error {
	want, got := make([]byte, checkChunk*unitSize), make([]byte, checkChunk*unitSize)
	for at := 0; at < len(c); at += checkChunk {
		part := c[at:min(at+checkChunk, len(c))]
		n := len(part) * unitSize
		part.expand(want[:n])
		if m, err := r.ReadAt(got[:n], int64(at)*unitSize); m < n {
			return fmt.Errorf("read %d bytes at %d: only %d: %w", n, at*unitSize, m, err)
		}
		for i := range n {
			if got[i] == want[i] {
				continue
			}
			unit := i / unitSize
			what := "something else"
			switch {
			case !slices.ContainsFunc(got[unit*unitSize:(unit+1)*unitSize], func(b byte) bool { return b != 0 }):
				what = "zeros"
			case part[unit] == 0:
				what = "data where zeros belong"
			}
			return fmt.Errorf("byte %d: %s", at*unitSize+i, what)
		}
	}
	return nil
}
