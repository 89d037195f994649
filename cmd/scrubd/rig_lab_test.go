package main

import (
	"bytes"
	"errors"
	"fmt"
	"hash/maphash"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/scrubd/scrubd/internal/lab"
	"github.com/scrubd/scrubd/ioctl"
)

// envImage names the image for the body of a test that runs inside the lab.
const envImage = "SCRUBD_TEST_IMAGE"

// labImage makes an image outside of the lab, where that is fast, and hands
// its path to the body inside. To be called before [lab.InKernel].
func labImage(t *testing.T, options lab.MkfsOptions, fill func(fs *lab.LoopFS)) string {
	t.Helper()
	if lab.Inside() {
		return os.Getenv(envImage)
	}
	lab.Require(t, lab.Kernel)
	fs := lab.NewLoopFS(t, options)
	fill(fs)
	require.NoError(t, fs.Unmount())
	t.Setenv(envImage, fs.Image())
	return fs.Image()
}

// mountLab mounts the image inside.
func mountLab(t *testing.T, image string, options ...string) *lab.LoopFS {
	t.Helper()
	fs, err := lab.OpenLoopFS(image, filepath.Join(t.TempDir(), "mnt"), options...)
	require.NoError(t, err)
	require.NoError(t, fs.Mount())
	t.Cleanup(func() { assert.NoError(t, fs.Close()) })
	return fs
}

// blockSums are checksums of the blocks of an image that are not all zeros.
type blockSums map[int64]uint64

var sumSeed = maphash.MakeSeed()

// sumBlocks reads the whole image but its log and the first sector, which every
// mount and every freeze writes. The filesystem is frozen for it, so that all
// that has changed is there.
func sumBlocks(t *testing.T, fs *lab.LoopFS) blockSums {
	t.Helper()
	x, err := ioctl.Open(fs.Dir())
	require.NoError(t, err)
	g := x.Geometry()
	require.NoError(t, x.Close())
	agno, agbno, ok := g.InternalLog()
	require.True(t, ok)
	blockSize := int64(g.BlockSize)
	logStart := int64(g.AGByte(agno, agbno)) / blockSize
	logEnd := logStart + int64(g.LogBlocks)

	require.NoError(t, fs.Freeze())
	defer func() { require.NoError(t, fs.Thaw()) }()
	image, err := os.Open(fs.Image())
	require.NoError(t, err)
	defer func() { _ = image.Close() }()
	sums := blockSums{}
	buf, zeros := make([]byte, 1<<20), make([]byte, blockSize)
	for at := int64(0); ; at += int64(len(buf)) {
		n, err := image.ReadAt(buf, at)
		for off := int64(0); off < int64(n); off += blockSize {
			block := buf[off:min(off+blockSize, int64(n))]
			number := (at + off) / blockSize
			if number == 0 {
				block = block[g.SectorSize:]
			}
			if number >= logStart && number < logEnd || bytes.Equal(block, zeros[:len(block)]) {
				continue
			}
			sums[number] = maphash.Bytes(sumSeed, block)
		}
		if errors.Is(err, io.EOF) {
			return sums
		}
		require.NoError(t, err)
	}
}

// changed lists the blocks that differ.
func (b blockSums) changed(after blockSums) []int64 {
	var out []int64
	for number, sum := range after {
		if b[number] != sum {
			out = append(out, number)
		}
	}
	for number := range b {
		if _, ok := after[number]; !ok {
			out = append(out, number)
		}
	}
	slices.Sort(out)
	return out
}

// oneFinding checks the report of one damaged rmap record: one finding that
// names the place, the file and what both witnesses say.
func oneFinding(t *testing.T, out string, dir, outcome string, done lab.Injected, path string) {
	t.Helper()
	assert.LessOrEqual(t, strings.Count(out, "\n"), 20, out)
	assert.Contains(t, out, "\n"+strings.ToUpper(outcome)+" corruption: ")
	assert.Contains(t, out, dir+": 1 finding: 1 "+outcome+"\n")
	place := fmt.Sprintf("AG %d block %d", done.AGNo, done.AGBno)
	if done.BlockCount > 1 {
		place = fmt.Sprintf("AG %d blocks %d-%d", done.AGNo, done.AGBno, uint32(done.AGBno)+done.BlockCount-1)
	}
	assert.Contains(t, out, "\n  where: "+place+", ")
	assert.Contains(t, out, fmt.Sprintf(", inode %d %s\n", done.Ino, path))
	at := fmt.Sprintf("blocks %d+%d as inode ", done.AGBno, done.BlockCount)
	assert.Contains(t, out, fmt.Sprintf("fork: maps %s%d offset ", at, done.Ino))
	assert.Contains(t, out, fmt.Sprintf("rmapbt: has %s%d offset ", at, done.Owner))
	assert.Contains(t, out, "\n  verdict: rmapbt is at fault (row ")
}
