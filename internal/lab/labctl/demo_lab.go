package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/scrubd/scrubd/internal/lab"
	"github.com/scrubd/scrubd/ioctl"
)

const (
	// demoMount is where a copy is mounted inside the lab kernel, in its memory.
	demoMount = "/run/demo"
	// demoFile is the file of text, whose record is damaged first.
	demoFile = "letters.txt"
	// demoBlocks is how many blocks a damaged record has at least.
	demoBlocks = 16
	// demoTimeout limits one boot.
	demoTimeout = 5 * time.Minute
)

// demoMake makes the filesystem: the sample and a file of text.
const demoMake = `set -e
"$LABCTL" sample --image "$IMAGE" --size 320MiB
mkdir "$MOUNT"
mount -o loop "$IMAGE" "$MOUNT"
seq -f 'Letter %06.0f: all is well here, and I hope it is with you.' 10000 > "$MOUNT/$FILE"
sync -f "$MOUNT"
"$LABCTL" snapshot "$MOUNT" --save "$OUT/clean.json"
umount "$MOUNT"
uname -r > "$OUT/kernel"
xfs_scrub -V > "$OUT/version"
`

// demoRun runs one program on a copy. What the file reads afterwards is read
// from a fresh mount. The program keeps its state in the kernel's memory.
const demoRun = `set -e
mkdir "$MOUNT"
mount -t tmpfs state /var/lib
mount -o loop "$IMAGE" "$MOUNT"
cat "$MOUNT/$FILE" > "$OUT/before" || true
status=0
"$@" > "$OUT/said" 2>&1 < /dev/null || status=$?
umount "$MOUNT"
mount -o loop "$IMAGE" "$MOUNT"
cat "$MOUNT/$FILE" > "$OUT/after" 2> "$OUT/unreadable" || true
"$LABCTL" snapshot "$MOUNT" --save "$OUT/after.json"
umount "$MOUNT"
echo "$status" > "$OUT/status"
`

// demoRig is the undamaged filesystem and what it reads.
type demoRig struct {
	dir, image      string
	labctl          string
	kernel, version string // of the lab, of its xfs_scrub
	clean           lab.Snapshot
}

// newDemoRig makes the filesystem in the lab kernel, which needs no root and
// takes the newest mkfs.xfs, whose features not every kernel can mount.
func newDemoRig(ctx context.Context, dir string) (*demoRig, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("find labctl: %w", err)
	}
	rig := &demoRig{dir: dir, image: filepath.Join(dir, "clean.img"), labctl: self}
	result, err := rig.boot(ctx, dir, rig.image, demoFile, demoMake)
	if err != nil {
		return nil, err
	}
	if err := result.Err(); err != nil {
		return nil, fmt.Errorf("make a filesystem in the lab: %w", err)
	}
	if result.ExitCode != 0 {
		return nil, fmt.Errorf("make a filesystem in the lab: exit status %d: %s", result.ExitCode, result.Output)
	}
	kernel, err := os.ReadFile(filepath.Join(dir, "kernel"))
	if err != nil {
		return nil, err
	}
	version, err := os.ReadFile(filepath.Join(dir, "version"))
	if err != nil {
		return nil, err
	}
	rig.kernel = strings.TrimSpace(string(kernel))
	rig.version = strings.TrimPrefix(strings.TrimSpace(string(version)), "xfs_scrub version ")
	rig.clean, err = loadSnapshot(filepath.Join(dir, "clean.json"))
	return rig, err
}

// boot runs a script in the lab kernel, with the newest xfsprogs first in its
// path, and the words of argv as its arguments.
func (rig *demoRig) boot(ctx context.Context, out, image, file, script string, argv ...string) (lab.Result, error) {
	bin, err := lab.SidBin()
	if err != nil {
		return lab.Result{}, err
	}
	env := append(os.Environ(), "PATH="+bin+":"+os.Getenv("PATH"),
		"LABCTL="+rig.labctl, "IMAGE="+image, "MOUNT="+demoMount, "OUT="+out, "FILE="+file)
	return lab.Boot(ctx, lab.BootSpec{
		Argv: append([]string{"/bin/sh", "-c", script, "demo"}, argv...), Env: env, Timeout: demoTimeout,
	})
}

// demoVictim is a record to damage and the file that it belongs to.
type demoVictim struct {
	agno ioctl.AGNumber
	rec  lab.RmapRec
	ino  ioctl.Ino
	path string // relative to the mount point
}

// victims lists data of at least demoBlocks blocks that one file has for
// itself: those of the text first, then the sample's.
func (rig *demoRig) victims() ([]demoVictim, error) {
	img, err := lab.OpenImage(rig.image)
	if err != nil {
		return nil, err
	}
	defer img.Close()
	var letters, others []demoVictim
	for agno := range ioctl.AGNumber(img.SB.AGCount) {
		tree, err := img.RmapBT(agno)
		if err != nil {
			return nil, err
		}
		for e, err := range tree.All() {
			if err != nil {
				return nil, err
			}
			r := e.Rec
			if !r.IsInode() || r.AttrFork || r.BMBTBlock || r.Unwritten || r.BlockCount < demoBlocks {
				continue
			}
			core, err := img.Inode(ioctl.Ino(r.Owner))
			if err != nil {
				return nil, err
			}
			paths := rig.clean.PathsOf(r.Owner)
			if !core.IsRegular() || core.Reflink() || len(paths) == 0 {
				continue
			}
			v := demoVictim{agno: agno, rec: r, ino: ioctl.Ino(r.Owner), path: paths[0]}
			if v.path == demoFile {
				letters = append(letters, v)
			} else {
				others = append(others, v)
			}
		}
	}
	return slices.Concat(letters, others), nil
}

// damage copies the image and makes the record of a victim name an inode that
// does not exist.
func (rig *demoRig) damage(v demoVictim) (demoDamage, error) {
	d := demoDamage{demoVictim: v, image: filepath.Join(rig.dir, "damaged.img")}
	if err := lab.CopyImage(d.image, rig.image); err != nil {
		return d, err
	}
	var err error
	d.injected, err = lab.InjectImage(d.image, lab.Fault{
		Class: lab.FaultRmapOwnerMissing, AGNo: &v.agno, AGBno: &v.rec.StartBlock, Ino: v.ino, Seed: 1,
	})
	return d, err
}

// demoRepair is what one program made of a copy of the damaged filesystem.
type demoRepair struct {
	image         string
	lost          error // the kernel hung or crashed: the rest is unknown
	status        int
	said          []string // the lines that the program printed
	before, after []byte   // what the file reads
	unreadable    string   // why it could not be read to its end afterwards
	changed       []string // every file that reads otherwise than on the undamaged filesystem
}

// sameFile says whether the file reads as it did.
func (r demoRepair) sameFile() bool {
	return r.lost == nil && r.unreadable == "" && bytes.Equal(r.before, r.after)
}

// repair copies the image and runs a program on the copy inside the lab.
func (rig *demoRig) repair(ctx context.Context, image, name, file string, argv []string) (demoRepair, error) {
	out := filepath.Join(rig.dir, name)
	r := demoRepair{image: out + ".img"}
	if err := errors.Join(os.RemoveAll(out), os.Mkdir(out, 0o700)); err != nil {
		return r, err
	}
	if err := lab.CopyImage(r.image, image); err != nil {
		return r, err
	}
	result, err := rig.boot(ctx, out, r.image, file, demoRun, argv...)
	if err != nil {
		return r, err
	}
	if r.lost = result.Err(); r.lost == nil && result.ExitCode != 0 {
		return r, fmt.Errorf("run %s in the lab: exit status %d: %s", name, result.ExitCode, result.Output)
	}
	err = r.read(out, rig.clean)
	return r, err
}

// read takes up what the boot has left on the host. A kernel that did not reach
// the end left less.
func (r *demoRepair) read(out string, clean lab.Snapshot) error {
	var errs [6]error
	var said, status, unreadable []byte
	said, errs[0] = os.ReadFile(filepath.Join(out, "said"))
	r.said = programLines(said)
	r.before, errs[1] = os.ReadFile(filepath.Join(out, "before"))
	r.after, errs[2] = os.ReadFile(filepath.Join(out, "after"))
	unreadable, errs[3] = os.ReadFile(filepath.Join(out, "unreadable"))
	r.unreadable = strings.TrimSpace(string(unreadable))
	if status, errs[4] = os.ReadFile(filepath.Join(out, "status")); errs[4] == nil {
		r.status, errs[4] = strconv.Atoi(strings.TrimSpace(string(status)))
	}
	if r.lost != nil {
		return nil
	}
	after, err := loadSnapshot(filepath.Join(out, "after.json"))
	r.changed, errs[5] = lab.Diff(clean, after), err
	return errors.Join(errs[:]...)
}

// programLines splits what a program printed, without the codes that clear a
// terminal's line.
func programLines(said []byte) []string {
	var lines []string
	for line := range strings.Lines(strings.ReplaceAll(string(said), "\x1b[K", "")) {
		lines = append(lines, strings.TrimRight(line, "\r\n"))
	}
	return lines
}

// offlineCheck runs xfs_repair -n on an image and returns its exit status and
// what it printed beside its progress.
func offlineCheck(ctx context.Context, image string) (status int, said []string, err error) {
	out, err := lab.SidCommand(ctx, "xfs_repair", "-n", "-f", image).CombinedOutput()
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		status = exit.ExitCode()
	} else if err != nil {
		return 0, nil, fmt.Errorf("run xfs_repair -n: %w", err)
	}
	for _, line := range programLines(out) {
		if !repairProgress.MatchString(line) {
			said = append(said, line)
		}
	}
	return status, said, nil
}

// repairProgress matches the lines in which xfs_repair -n says what it is doing,
// and that the image lies on another kind of filesystem.
var repairProgress = regexp.MustCompile(`^(Phase \d|\s+- |No modify flag set|Cannot get host|Repair may fail|the image and the host)`)

func loadSnapshot(path string) (lab.Snapshot, error) {
	f, err := os.Open(path)
	if err != nil {
		return lab.Snapshot{}, err
	}
	defer f.Close()
	return lab.LoadSnapshot(f)
}
