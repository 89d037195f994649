package state

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"github.com/scrubd/scrubd/ioctl"
)

// ErrDamaged is a checkpoint that is not what was written.
var ErrDamaged = errors.New("it is damaged")

// Checkpoint is how far the kernel's checks of a filesystem were when a run
// stopped: a later one can leave out what it says. It is about checks that found
// nothing; what something was found in is checked again. It is no evidence:
// no repair rests on it. What belongs to no AG is checked by every run.
type Checkpoint struct {
	// RunID is the run that wrote it, Release its kernel. Began is when the oldest
	// check was made, Written when this was written.
	RunID   string    `json:"run_id"`
	Release string    `json:"kernel_release"`
	Began   time.Time `json:"began"`
	Written time.Time `json:"written"`
	Shape   Shape     `json:"shape"`
	// Lacking are the types that the kernel did not know.
	Lacking []ioctl.ScrubType `json:"lacking_types,omitempty"`
	Groups  []CheckedGroups   `json:"groups,omitempty"`
	// Found are the faults that the run knew of.
	Found []FoundBefore `json:"found,omitempty"`
}

// Shape is what a filesystem has to have in common with what it was.
type Shape struct {
	BlockSize  uint32              `json:"block_bytes"`
	AGBlocks   uint32              `json:"ag_blocks"`
	InodeSize  uint32              `json:"inode_bytes"`
	SectorSize uint32              `json:"sector_bytes"`
	Features   ioctl.GeometryFlags `json:"features"`
}

// ShapeOf is the shape of a filesystem now.
func ShapeOf(g *ioctl.Geometry) Shape {
	return Shape{
		BlockSize: g.BlockSize, AGBlocks: uint32(g.AGBlocks), InodeSize: g.InodeSize, SectorSize: g.SectorSize, Features: g.Flags,
	}
}

// CheckedGroups is what was checked of the AGs from First to Last.
type CheckedGroups struct {
	First ioctl.AGNumber `json:"first_agno"`
	Last  ioctl.AGNumber `json:"last_agno"`
	// Length is their length in blocks; another one means another AG.
	Length uint32 `json:"blocks"`
	// Types are those that were found well.
	Types []ioctl.ScrubType `json:"types,omitempty"`
	// Next is the first inode that was not checked; AllInodes that there is none.
	Next      ioctl.Ino `json:"next_inode,omitempty"`
	AllInodes bool      `json:"all_inodes,omitempty"`
	// Inodes counts those that were checked, in all of these AGs.
	Inodes uint64 `json:"inodes,omitempty"`
	// Again are the inodes that something was found in.
	Again []ioctl.Ino `json:"again,omitempty"`
}

// FoundBefore is a fault that was known when a run stopped.
type FoundBefore struct {
	ID      string `json:"finding_id"`
	Outcome string `json:"outcome"`
	Summary string `json:"summary"`
}

const (
	checkpointFile = "checkpoint"
	checkpointHead = "scrubd checkpoint 1 crc32c="
	// maxCheckpoint bounds the file, in bytes.
	maxCheckpoint = 1 << 20
)

// WriteCheckpoint replaces the checkpoint, as a whole: whoever reads, or a crash,
// finds the old one or the new one. What does not fit is an error, and nothing
// is written.
//
// Errors: those of the system calls, such as ENOSPC and EROFS.
func (d *Dir) WriteCheckpoint(c *Checkpoint) error {
	body, err := json.Marshal(c)
	if err != nil {
		return fmt.Errorf("write the checkpoint: %w", err)
	}
	text := checkpointText(body)
	if len(text) > maxCheckpoint {
		return fmt.Errorf("write the checkpoint: %d bytes are more than %d", len(text), maxCheckpoint)
	}
	if err := replaceIn(d.root, checkpointFile, text); err != nil {
		return fmt.Errorf("write the checkpoint in %s: %w", d.path, err)
	}
	return nil
}

// checkpointText is the file for a body: a line with its checksum before it.
func checkpointText(body []byte) []byte {
	text := fmt.Appendf(nil, "%s%08x\n", checkpointHead, crc32.Checksum(body, castagnoli))
	return append(append(text, body...), '\n')
}

// DropCheckpoint removes the checkpoints of a filesystem from all places where
// there may be one, so that not even a crash brings them back.
func DropCheckpoint(dir string, fsys *ioctl.FS) error {
	return places{DefaultDir, RuntimeDir}.dropCheckpoint(dir, fsys)
}

func (p places) dropCheckpoint(dir string, fsys *ioctl.FS) error {
	paths, failed := p.checkpoints(dir, fsys)
	for _, path := range paths {
		// A mount that is read-only refuses to remove what is not there, too.
		_, err := os.Lstat(path)
		if err == nil {
			err = os.Remove(path)
		}
		if err == nil {
			err = syncDir(filepath.Dir(path))
		}
		if err != nil && !isMissing(err) {
			failed = errors.Join(failed, fmt.Errorf("remove the checkpoint: %w", err))
		}
	}
	return failed
}

// checkpoints are the names that a checkpoint of a filesystem may have. There is
// none on the filesystem itself, and nothing is looked for or removed there.
func (p places) checkpoints(dir string, fsys *ioctl.FS) (paths []string, err error) {
	if dir == "" {
		dir = p.standard
	}
	for _, parent := range []string{dir, p.runtime} {
		own, e := LiesOn(parent, fsys.Device())
		switch {
		case errors.Is(e, unix.ENOTDIR):
		case e != nil:
			err = errors.Join(err, e)
		case !own:
			paths = append(paths, filepath.Join(parent, UUID(fsys), checkpointFile))
		}
	}
	return paths, err
}

func isMissing(err error) bool {
	return errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENOTDIR)
}

// ReadCheckpoint returns the newest checkpoint of a filesystem, nil when there
// is none. Nothing is made or changed.
//
// Errors: [ErrDamaged], [ErrUnsafe], and those of the system calls.
func ReadCheckpoint(dir string, fsys *ioctl.FS) (*Checkpoint, error) {
	return places{DefaultDir, RuntimeDir}.readCheckpoint(dir, fsys)
}

func (p places) readCheckpoint(dir string, fsys *ioctl.FS) (*Checkpoint, error) {
	var newest *Checkpoint
	paths, err := p.checkpoints(dir, fsys)
	if err != nil {
		return nil, fmt.Errorf("read the checkpoint: %w", err)
	}
	for _, path := range paths {
		c, err := readCheckpoint(path)
		if isMissing(err) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("read the checkpoint %s: %w", path, err)
		}
		if newest == nil || c.Written.After(newest.Written) {
			newest = c
		}
	}
	return newest, nil
}

func readCheckpoint(path string) (*Checkpoint, error) {
	file, err := openLog(path, os.O_RDONLY|unix.O_NOATIME)
	if err != nil {
		return nil, err
	}
	defer func() { _ = file.Close() }() // opened for reading
	text, err := io.ReadAll(io.LimitReader(file, maxCheckpoint+1))
	if err != nil {
		return nil, err
	}
	return parseCheckpoint(text)
}

// parseCheckpoint reads what WriteCheckpoint has written.
func parseCheckpoint(text []byte) (*Checkpoint, error) {
	if len(text) > maxCheckpoint {
		return nil, fmt.Errorf("more than %d bytes: %w", maxCheckpoint, ErrDamaged)
	}
	head, body, ok := bytes.Cut(text, []byte{'\n'})
	body = bytes.TrimSuffix(body, []byte{'\n'})
	sum, known := bytes.CutPrefix(head, []byte(checkpointHead))
	if !ok || !known || string(sum) != fmt.Sprintf("%08x", crc32.Checksum(body, castagnoli)) {
		return nil, ErrDamaged
	}
	c := new(Checkpoint)
	if err := json.Unmarshal(body, c); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	for i := range c.Groups {
		if g := &c.Groups[i]; g.Last < g.First {
			return nil, fmt.Errorf("AGs %d to %d: %w", g.First, g.Last, ErrDamaged)
		}
	}
	return c, nil
}
