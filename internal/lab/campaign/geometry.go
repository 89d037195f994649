package campaign

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/scrubd/scrubd/internal/lab"
)

// Geometry is a kind of filesystem that cases are tried on.
type Geometry struct {
	Name string         `json:"name"`
	Size int64          `json:"size_bytes"`
	Mkfs []string       `json:"mkfs"` // arguments of mkfs.xfs
	Spec lab.SampleSpec `json:"spec"`
}

// geometries differ in what changes the shape of metadata: block size, number
// and size of AGs, inode size, extent counters, and features that a tree or a
// witness hangs on.
var geometries = []Geometry{
	{Name: "4k", Mkfs: []string{"-d", "agcount=2"}},
	{Name: "1k", Mkfs: []string{"-d", "agcount=4", "-b", "size=1024"}},
	{Name: "2k-big-inodes", Mkfs: []string{"-d", "agcount=3", "-b", "size=2048", "-i", "size=1024,nrext64=0"}},
	{Name: "nofinobt", Mkfs: []string{"-d", "agcount=2", "-m", "finobt=0,inobtcount=0", "-i", "sparse=0"}},
	{Name: "noreflink", Mkfs: []string{"-d", "agcount=3", "-m", "reflink=0"}, Spec: lab.SampleSpec{NoReflink: true}},
	{Name: "many-ags", Mkfs: []string{"-d", "agcount=8", "-i", "nrext64=1"}, Size: 640 << 20},
	{Name: "nrext32", Mkfs: []string{"-d", "agcount=2", "-i", "nrext64=0"}},
}

// Geometries returns all geometries that a campaign draws from.
func Geometries() []Geometry {
	out := make([]Geometry, len(geometries))
	for i, g := range geometries {
		if g.Size == 0 {
			g.Size = lab.DefaultLoopSize
		}
		g.Spec.Seed = uint64(i + 1)
		g.Spec.Files = 120
		out[i] = g
	}
	return out
}

// baseVersion changes when a base image has to be made anew although its
// geometry has not changed.
const baseVersion = 1

// key names the base image of a geometry in the cache.
func (g Geometry) key() (string, error) {
	kernel, err := lab.KernelPath()
	if err != nil {
		return "", err
	}
	text, err := json.Marshal([]any{g, kernel, baseVersion})
	if err != nil {
		return "", err
	}
	sum := sha256.Sum256(text)
	return g.Name + "-" + hex.EncodeToString(sum[:6]), nil
}

// base is the undamaged filesystem of a geometry.
type base struct {
	Geometry
	image string
	clean lab.Snapshot
}

// Names of a base's files in the cache.
const (
	baseImage = "base.img"
	baseClean = "clean.json"
)

// ensure returns the base of a geometry, making it in the lab kernel if the
// cache has none. All campaigns on a machine share it, so that a case is the
// same for everybody.
func (c *Campaign) ensure(ctx context.Context, g Geometry) (*base, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if b, ok := c.bases[g.Name]; ok {
		return b, nil
	}
	key, err := g.key()
	if err != nil {
		return nil, err
	}
	dir := filepath.Join(lab.CacheDir(), "campaign", key)
	if _, err := os.Stat(dir); errors.Is(err, os.ErrNotExist) {
		if err := c.makeBase(ctx, g, dir); err != nil {
			return nil, fmt.Errorf("make the filesystem %s: %w", g.Name, err)
		}
	}
	b := &base{Geometry: g, image: filepath.Join(dir, baseImage)}
	if b.clean, err = loadSnapshot(filepath.Join(dir, baseClean)); err != nil {
		return nil, err
	}
	c.bases[g.Name] = b
	return b, nil
}

// makeBase makes a base beside its place and moves it there.
func (c *Campaign) makeBase(ctx context.Context, g Geometry, dir string) error {
	if err := os.MkdirAll(filepath.Dir(dir), 0o755); err != nil {
		return err
	}
	half, err := os.MkdirTemp(filepath.Dir(dir), "half-")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(half) }()
	bin, err := lab.SidBin()
	if err != nil {
		return err
	}
	j := job{Do: doBase, Dir: half, Image: filepath.Join(half, baseImage), Geometry: g}
	if err := lab.MakeImage(ctx, j.Image, lab.MkfsOptions{Size: g.Size, Args: g.Mkfs, Binary: filepath.Join(bin, "mkfs.xfs")}); err != nil {
		return err
	}
	result, err := c.boot(ctx, []job{j})
	if err != nil {
		return err
	}
	if err := result.Err(); err != nil {
		return err
	}
	if result.ExitCode != 0 {
		return fmt.Errorf("exit status %d: %s", result.ExitCode, strings.TrimSpace(result.Output))
	}
	if found, err := lab.CheckImageFile(j.Image); err != nil || len(found) > 0 {
		return fmt.Errorf("the undamaged image contradicts itself: %v %w", found, err)
	}
	if err := os.Rename(half, dir); err != nil && !errors.Is(err, os.ErrExist) {
		if _, serr := os.Stat(filepath.Join(dir, baseClean)); serr != nil {
			return err
		} // else somebody else was faster
	}
	return nil
}

func loadSnapshot(path string) (lab.Snapshot, error) {
	f, err := os.Open(path)
	if err != nil {
		return lab.Snapshot{}, err
	}
	defer f.Close()
	return lab.LoadSnapshot(f)
}

func saveSnapshot(path string, snap lab.Snapshot) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	return errors.Join(snap.Save(f), f.Sync(), f.Close())
}
