package campaign

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/scrubd/scrubd/internal/lab"
)

// lost mounts an image, makes synced changes and puts one object of the draw's
// kind back as it was before them.
func (r *rig) lost(path string) (*lab.LoopFS, error) {
	fs, err := lab.OpenLoopFS(path, mountPoint, "noatime")
	if err != nil {
		return nil, err
	}
	r.fs = fs
	rng := rand.New(rand.NewPCG(r.Draw.Seed, 0x105))
	edit := func(f func(img *lab.Image) error) error { return lab.EditLive(fs, f) }
	if !r.Draw.Live {
		edit = func(f func(img *lab.Image) error) error {
			if err := fs.Unmount(); err != nil {
				return err
			}
			img, err := lab.OpenImage(path)
			if err != nil {
				return err
			}
			if err := errors.Join(f(img), img.Close()); err != nil {
				return err
			}
			if err := fs.Mount(); err != nil {
				return redraw{"the damaged filesystem does not mount: " + err.Error()}
			}
			return nil
		}
	}
	if err := r.tell(stageMount); err != nil {
		return nil, err
	}
	if err := fs.Mount(); err != nil {
		return nil, err
	}
	var saved []lab.SavedObject
	err = edit(func(img *lab.Image) error {
		saved, err = saveObjects(img, r.Draw.Lost)
		return err
	})
	if err != nil {
		return nil, err
	}
	if err := changeFiles(fs.Dir(), r.Draw.Lost, rng); err != nil {
		return nil, fmt.Errorf("change what will be lost: %w", err)
	}
	if err := fs.DropCaches(); err != nil {
		return nil, err
	}
	if err := r.snapshot(fs, fileClean); err != nil {
		return nil, err
	}
	if err := edit(func(img *lab.Image) error { return r.forget(img, saved, rng) }); err != nil {
		return nil, err
	}
	if err := r.snapshot(fs, fileBefore); err != nil {
		return nil, err
	}
	return fs, survives(fs)
}

func (r *rig) snapshot(fs *lab.LoopFS, file string) error {
	snap, err := lab.TakeSnapshot(fs.Dir())
	if err != nil {
		return err
	}
	return saveSnapshot(filepath.Join(r.Dir, file), snap)
}

func saveObjects(img *lab.Image, class lab.FaultClass) ([]lab.SavedObject, error) {
	refs, err := img.Objects(class)
	if err != nil {
		return nil, err
	}
	var out []lab.SavedObject
	for _, ref := range refs {
		o, err := lab.SaveObject(img, ref)
		if err != nil {
			return nil, err
		}
		out = append(out, o)
	}
	return out, nil
}

// forget puts back one of the objects that have changed and are still in use
// for the same.
func (r *rig) forget(img *lab.Image, saved []lab.SavedObject, rng *rand.Rand) error {
	before, err := readTruth(img)
	if err != nil {
		return err
	}
	now, err := img.Objects(r.Draw.Lost)
	if err != nil {
		return err
	}
	saved = slices.DeleteFunc(saved, func(o lab.SavedObject) bool {
		if !slices.Contains(now, o.Ref) {
			return true
		}
		would, err := o.Compare(img)
		return err != nil || !tells(would)
	})
	if len(saved) == 0 {
		return redraw{fmt.Sprintf("no write to an object of %s that anybody else knows of", r.Draw.Lost)}
	}
	done, err := saved[rng.IntN(len(saved))].Restore(img)
	if err != nil {
		return err
	}
	r.inside.Injected = []string{done.Describe()}
	r.inside.Oracle = before.oracle([]lab.Injected{done})
	r.inside.Contradictions = lab.CheckImage(img)
	return nil
}

// tells reports whether a lost write leaves a contradiction. Mode and size of
// an inode are in no other structure: an inode that only forgets these is a
// good inode.
func tells(would lab.Injected) bool {
	for _, e := range would.Edits {
		if would.Class != lab.FaultLostDinode || !strings.HasSuffix(e.Where, ", mode") && !strings.HasSuffix(e.Where, ", size") {
			return true
		}
	}
	return false
}

// changer changes files of a sample.
type changer struct {
	dir   string
	rng   *rand.Rand
	files []string // plain files, relative
	made  int
}

// changeFiles makes a few synced changes that touch objects of a kind.
func changeFiles(dir string, class lab.FaultClass, rng *rand.Rand) error {
	c := &changer{dir: dir, rng: rng}
	found, err := filepath.Glob(filepath.Join(dir, "plain", "*", "*"))
	if err != nil {
		return err
	}
	for _, path := range found {
		if st, err := os.Lstat(path); err == nil && st.Mode().IsRegular() {
			c.files = append(c.files, path)
		}
	}
	slices.Sort(c.files)
	all := map[string]func() error{
		"append": c.appendTo, "create": c.create, "remove": c.remove, "clone": c.clone, "rewrite": c.rewrite,
		"punch": c.punch, "fragment": c.fragment, "crowd": c.crowd, "preallocate": c.preallocate,
	}
	var steps []string
	switch class {
	case lab.FaultLostBmbt:
		steps = []string{"fragment", "fragment"}
	case lab.FaultLostRefcount:
		steps = []string{"clone", "rewrite"}
	case lab.FaultLostInobt, lab.FaultLostFinobt:
		steps = []string{"crowd", "remove"}
	case lab.FaultLostDinode:
		steps = []string{"append", "append", "punch", "preallocate", "fragment", "rewrite"}
	default:
		steps = []string{"append", "create", "remove", "punch", "preallocate"}
	}
	for range 1 + rng.IntN(3) {
		if err := all[steps[rng.IntN(len(steps))]](); err != nil {
			return err
		}
	}
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(unix.Syncfs(int(d.Fd())), d.Close())
}

func (c *changer) any() string { return c.files[c.rng.IntN(len(c.files))] }

// bytes are n bytes without a zero.
func (c *changer) bytes(n int) []byte {
	out := make([]byte, n)
	for i := range out {
		out[i] = byte(1 + c.rng.IntN(255))
	}
	return out
}

// writeAt writes whole blocks.
func (c *changer) writeAt(path string, off int64, n int) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE, 0o644)
	if err != nil {
		return err
	}
	_, err = f.WriteAt(c.bytes(n), off)
	return errors.Join(err, f.Sync(), f.Close())
}

// appendTo writes behind the end of a file, at once or with a hole between.
func (c *changer) appendTo() error {
	path := c.any()
	st, err := os.Stat(path)
	if err != nil {
		return err
	}
	off := (st.Size() + 65535) &^ 4095
	if c.rng.IntN(2) == 0 {
		off = st.Size()
	}
	return c.writeAt(path, off, 4096*(1+c.rng.IntN(20)))
}

func (c *changer) create() error {
	c.made++
	return c.writeAt(filepath.Join(c.dir, fmt.Sprintf("made%d", c.made)), 0, 4096*(1+c.rng.IntN(30)))
}

// crowd makes more files than one chunk of inodes has.
func (c *changer) crowd() error {
	for range 20 + c.rng.IntN(80) {
		c.made++
		path := filepath.Join(c.dir, fmt.Sprintf("made%d", c.made))
		if err := os.WriteFile(path, c.bytes(100), 0o644); err != nil {
			return err
		}
	}
	return nil
}

func (c *changer) remove() error {
	for range 1 + c.rng.IntN(6) {
		if len(c.files) < 2 {
			return nil
		}
		i := c.rng.IntN(len(c.files))
		if err := os.Remove(c.files[i]); err != nil {
			return err
		}
		c.files = slices.Delete(c.files, i, i+1)
	}
	return nil
}

// clone makes a file that shares all blocks of another; without reflink it
// makes a copy of its own.
func (c *changer) clone() error {
	src, err := os.Open(c.any())
	if err != nil {
		return err
	}
	defer src.Close()
	c.made++
	dst, err := os.Create(filepath.Join(c.dir, fmt.Sprintf("made%d", c.made)))
	if err != nil {
		return err
	}
	err = unix.IoctlFileClone(int(dst.Fd()), int(src.Fd()))
	if errors.Is(err, unix.EOPNOTSUPP) {
		_, err = dst.Write(c.bytes(8192))
	}
	return errors.Join(err, dst.Sync(), dst.Close())
}

// rewrite writes over a piece of a file that shares its blocks, if there is one.
func (c *changer) rewrite() error {
	path := c.any()
	if clones, err := filepath.Glob(filepath.Join(c.dir, "clones", "*")); err == nil && len(clones) > 0 {
		path = clones[c.rng.IntN(len(clones))]
	}
	return c.writeAt(path, 4096*c.rng.Int64N(64), 4096*(1+c.rng.IntN(16)))
}

func (c *changer) punch() error {
	f, err := os.OpenFile(filepath.Join(c.dir, "fragmented", []string{"holes", "left", "right"}[c.rng.IntN(3)]), os.O_RDWR, 0)
	if err != nil {
		return err
	}
	err = unix.Fallocate(int(f.Fd()), unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, 4096*c.rng.Int64N(500), 4096*(1+c.rng.Int64N(60)))
	return errors.Join(err, f.Sync(), f.Close())
}

// fragment writes single blocks into a file whose fork is a btree.
func (c *changer) fragment() error {
	for range 1 + c.rng.IntN(10) {
		if err := c.writeAt(filepath.Join(c.dir, "fragmented", "holes"), 4096*(2*c.rng.Int64N(900)+1), 4096); err != nil {
			return err
		}
	}
	return nil
}

func (c *changer) preallocate() error {
	f, err := os.OpenFile(c.any(), os.O_RDWR, 0)
	if err != nil {
		return err
	}
	err = unix.Fallocate(int(f.Fd()), unix.FALLOC_FL_KEEP_SIZE, 1<<20, 4096*(1+c.rng.Int64N(30)))
	return errors.Join(err, f.Sync(), f.Close())
}
