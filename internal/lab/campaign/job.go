package campaign

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"github.com/scrubd/scrubd/internal/lab"
)

// What a job does.
const (
	doBase = "base" // make the undamaged filesystem of a geometry
	doCase = "case" // damage an image, run a program on it, say what became of it
)

// The stages of a case, in order. The last one that was begun is on the host
// when a kernel hangs or crashes.
const (
	stageProbe = "probe" // mount and unmount the damage without any scrub
	stageMount = "mount"
	stageRun   = "run"
	stageAfter = "remount"
	stageCheck = "check"
	stageDone  = "done"
)

// job is what one boot does, as a file that the boot reads.
type job struct {
	Do       string   `json:"do"`
	Name     string   `json:"name"`  // of the case
	Dir      string   `json:"dir"`   // where the outcome goes, on the host
	Image    string   `json:"image"` // on the host
	Probe    string   `json:"probe"` // a second copy, to look at what a mount makes of the damage; may be ""
	Geometry Geometry `json:"geometry"`
	Draw     draw     `json:"draw"`
	Program  []string `json:"program"` // to run; the mount point is added
	Check    []string `json:"check"`   // to run afterwards, on a fresh mount; may be empty
}

// inside is what is known inside the kernel and told to the host, kept up to
// date on the host's disk.
type inside struct {
	Stage    string   `json:"stage"`
	Seconds  []string `json:"seconds"`          // since the job began, when each stage did
	Redraw   string   `json:"redraw,omitempty"` // why the draw is no case
	Error    string   `json:"error,omitempty"`  // why the case could not be carried out
	Hung     string   `json:"hung,omitempty"`   // which program did not come back
	Injected []string `json:"injected"`         // in words
	Oracle   Oracle   `json:"oracle"`
	Status   int      `json:"status"` // of the program
	// Contradictions of the image (lab.CheckImage) once it was damaged.
	Contradictions []string `json:"contradictions,omitempty"`
	Shutdown       string   `json:"shutdown"` // why the filesystem would not sync after the program
	Remount        string   `json:"remount"`  // why it could not be mounted again
	Check          int      `json:"check"`    // exit status of the check
}

// Names of the files in a job's directory.
const (
	fileInside = "inside.json"
	fileBefore = "before.json"
	fileAfter  = "after.json"
	fileClean  = "clean.json" // of lost writes: with the changes that were synced
	fileSaid   = "said"
	fileCheck  = "check"
)

// mountPoint is where images are mounted inside, in the kernel's memory.
const mountPoint = "/run/campaign"

// beginMark is before the name of a case in the kernel's log, where it begins.
const beginMark = "campaign: begin "

// Inside is the part of a campaign that runs inside the lab kernel, as root:
// it carries out the jobs in files, one after the other.
func Inside(paths ...string) error {
	for _, path := range paths {
		text, err := os.ReadFile(path)
		if err != nil {
			return fmt.Errorf("read the job: %w", err)
		}
		var j job
		if err := json.Unmarshal(text, &j); err != nil {
			return fmt.Errorf("read the job %s: %w", path, err)
		}
		if j.Do == doBase {
			err = j.base()
		} else {
			err = (&rig{job: j, began: time.Now()}).carryOut()
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// carryOut runs a case and tells what came of it.
func (r *rig) carryOut() error {
	// The console shows no less than critical messages.
	if err := os.WriteFile("/dev/kmsg", []byte("<2>"+beginMark+r.Name+"\n"), 0); err != nil {
		return fmt.Errorf("mark the kernel's log: %w", err)
	}
	err := r.run()
	var hung hang
	if errors.As(err, &hung) {
		r.inside.Hung = hung.Error()
		return errors.Join(err, r.tell(r.inside.Stage)) // which ends the boot
	}
	if r.fs != nil {
		_ = r.fs.Close() // after an error it is still mounted
	}
	var no redraw
	switch {
	case errors.As(err, &no):
		r.inside.Redraw = no.Error()
	case err != nil:
		r.inside.Error = err.Error()
	}
	return r.tell(r.inside.Stage)
}

// base makes the undamaged filesystem and its snapshot.
func (j job) base() error {
	fs, err := lab.OpenLoopFS(j.Image, mountPoint)
	if err != nil {
		return err
	}
	if err := fs.Mount(); err != nil {
		return err
	}
	if err := lab.Sample(fs.Dir(), j.Geometry.Spec); err != nil {
		return err
	}
	// What is read before and after a case is read from a fresh mount.
	if err := fs.Remount(); err != nil {
		return err
	}
	snap, err := lab.TakeSnapshot(fs.Dir())
	if err != nil {
		return err
	}
	return errors.Join(saveSnapshot(filepath.Join(j.Dir, baseClean), snap), fs.Unmount())
}

// redraw is an error that says why what was drawn is no case: nothing to
// damage, nothing damaged, or a filesystem that does not mount.
type redraw struct{ why string }

func (r redraw) Error() string { return r.why }

// rig is one case inside the kernel.
type rig struct {
	job
	began    time.Time
	inside   inside
	injected []lab.Injected
	fs       *lab.LoopFS // mounted, or was
}

// tell writes what is known to the host's disk.
func (r *rig) tell(stage string) error {
	r.inside.Stage = stage
	r.inside.Seconds = append(r.inside.Seconds, fmt.Sprintf("%s %.1f", stage, time.Since(r.began).Seconds()))
	text, err := json.MarshalIndent(r.inside, "", "  ")
	if err != nil {
		return err
	}
	f, err := os.Create(filepath.Join(r.Dir, fileInside))
	if err != nil {
		return err
	}
	_, err = f.Write(text)
	return errors.Join(err, f.Sync(), f.Close())
}

func (r *rig) run() error {
	// Evidence and intents of scrubd go with the kernel.
	if err := unix.Mount("state", "/var/lib", "tmpfs", 0, ""); err != nil {
		return fmt.Errorf("mount a state directory: %w", err)
	}
	defer func() { _ = unix.Unmount("/var/lib", unix.MNT_DETACH) }()
	if r.Probe != "" {
		if err := r.probe(); err != nil {
			return err
		}
	}
	fs, err := r.damaged(r.Image, true)
	if err != nil {
		return err
	}
	if err := r.tell(stageRun); err != nil {
		return err
	}
	if r.inside.Status, err = r.program(r.Program, fs.Dir(), fileSaid); err != nil {
		return err
	}
	if err := fs.Sync(); err != nil {
		r.inside.Shutdown = err.Error()
	}
	return r.after(fs)
}

// after looks at what the program has left: what every file reads, and what the
// check says.
func (r *rig) after(fs *lab.LoopFS) error {
	if err := r.tell(stageAfter); err != nil {
		return err
	}
	if err := fs.Remount(); err != nil {
		r.inside.Remount = err.Error()
		return r.tell(stageDone)
	}
	snap, err := lab.TakeSnapshot(fs.Dir())
	if err != nil {
		return err
	}
	if err := saveSnapshot(filepath.Join(r.Dir, fileAfter), snap); err != nil {
		return err
	}
	if err := r.tell(stageCheck); err != nil {
		return err
	}
	if len(r.Check) > 0 && r.allRepaired() {
		if r.inside.Check, err = r.program(r.Check, fs.Dir(), fileCheck); err != nil {
			return err
		}
	}
	if err := fs.Unmount(); err != nil {
		return err
	}
	return r.tell(stageDone)
}

// allRepaired tells whether the report has findings and leaves none of them:
// where something is left, a check finds that again.
func (r *rig) allRepaired() bool {
	said, err := os.ReadFile(filepath.Join(r.Dir, fileSaid))
	if err != nil {
		return false
	}
	found := parseReport(splitLines(said))
	return len(found) > 0 && !slices.ContainsFunc(found, Finding.left)
}

// programLimit is how long a program may take that usually takes some seconds; on a
// machine that does much else, ten times that.
const programLimit = 4 * time.Minute

// hang is an error that says that a program did not come back. The kernel is of
// no more use then.
type hang struct{ what string }

func (h hang) Error() string { return h.what }

// program runs one program on the mount and keeps what it prints on the host.
func (r *rig) program(argv []string, dir, file string) (status int, err error) {
	out, err := os.Create(filepath.Join(r.Dir, file))
	if err != nil {
		return 0, err
	}
	defer out.Close()
	cmd := exec.Command(argv[0], append(argv[1:len(argv):len(argv)], dir)...) //nolint:noctx // one that hangs in the kernel cannot be ended
	cmd.Dir, cmd.Stdout, cmd.Stderr = "/", out, out
	if err := cmd.Start(); err != nil {
		return 0, fmt.Errorf("run %s: %w", argv[0], err)
	}
	ended := make(chan struct{})
	var how error // known once ended is closed
	go func() {
		how = cmd.Wait()
		close(ended)
	}()
	select {
	case <-ended:
		err = how
	case <-time.After(programLimit):
		// Where it is: the kernel's blocked tasks on the console, and for a Go
		// program its goroutines in what it printed.
		_ = os.WriteFile("/proc/sysrq-trigger", []byte("w"), 0)
		_ = cmd.Process.Signal(unix.SIGQUIT)
		where := "in the kernel: it cannot be ended"
		select {
		case <-ended:
			where = "it could be ended"
		case <-time.After(5 * time.Second):
		}
		_ = out.Sync()
		return 0, hang{fmt.Sprintf("%s did not come back in %s; %s", filepath.Base(argv[0]), programLimit, where)}
	}
	var exit *exec.ExitError
	switch {
	case errors.As(err, &exit):
		return exit.ExitCode(), out.Sync()
	case err != nil:
		return 0, fmt.Errorf("run %s: %w", argv[0], err)
	}
	return 0, out.Sync()
}

// probe damages a copy, mounts and unmounts it without any scrub and looks
// whether the damage is still there. What every file reads before the run is
// read here, so that the caches of the filesystem of the run are cold.
func (r *rig) probe() error {
	if err := r.tell(stageProbe); err != nil {
		return err
	}
	if r.Draw.Lost != "" {
		return nil // its own way of being damaged, see lost
	}
	fs, err := r.damaged(r.Probe, false)
	if err != nil {
		return err
	}
	snap, err := lab.TakeSnapshot(fs.Dir())
	if err != nil {
		return redraw{"the damaged filesystem cannot be read: " + err.Error()}
	}
	if err := saveSnapshot(filepath.Join(r.Dir, fileBefore), snap); err != nil {
		return err
	}
	if err := survives(fs); err != nil {
		return err
	}
	if err := fs.Remount(); err != nil {
		return redraw{"the damaged filesystem does not mount again: " + err.Error()}
	}
	if err := fs.Unmount(); err != nil {
		return redraw{"the damaged filesystem cannot be unmounted: " + err.Error()}
	}
	return r.remains(r.Probe)
}

// downAtALook begins the reason of a draw that is none for that.
const downAtALook = "the damaged filesystem does not survive being read: "

// survives drops the caches of a filesystem of which everything was read, and
// asks for it to be up still: the kernel gives back blocks behind the end of a
// file as its inode leaves the cache, and shuts down where fork and rmapbt
// disagree about them. Whoever lists the files of such a filesystem does that.
func survives(fs *lab.LoopFS) error {
	err := fs.DropCaches()
	if err == nil {
		err = fs.Sync()
	}
	if err != nil {
		return redraw{downAtALook + err.Error()}
	}
	return nil
}

// remains asks for every injection of the last to be on an unmounted image.
func (r *rig) remains(path string) error {
	img, err := lab.OpenImage(path)
	if err != nil {
		return redraw{"the damaged filesystem cannot be opened after a mount: " + err.Error()}
	}
	defer img.Close()
	for _, done := range r.injected {
		switch still, err := done.Remains(img); {
		case err != nil:
			return err
		case !still:
			return redraw{"mounting alone undoes the damage: " + done.Describe()}
		}
	}
	return nil
}

// damaged returns the mounted filesystem of an image with the damage done.
func (r *rig) damaged(path string, last bool) (*lab.LoopFS, error) {
	if r.Draw.Lost != "" {
		return r.lost(path)
	}
	fs, err := lab.OpenLoopFS(path, mountPoint, "noatime")
	if err != nil {
		return nil, err
	}
	r.fs = fs
	if last {
		if err := r.tell(stageMount); err != nil {
			return nil, err
		}
	}
	inject := func(img *lab.Image) error { return r.inject(img, last) }
	if r.Draw.Live {
		if err := fs.Mount(); err != nil {
			return nil, err
		}
		return fs, lab.EditLive(fs, inject)
	}
	img, err := lab.OpenImage(path)
	if err != nil {
		return nil, err
	}
	if err := errors.Join(inject(img), img.Close()); err != nil {
		return nil, err
	}
	if err := fs.Mount(); err != nil {
		return nil, redraw{"the damaged filesystem does not mount: " + err.Error()}
	}
	return fs, nil
}

// inject does the faults of the draw.
func (r *rig) inject(img *lab.Image, say bool) error {
	r.injected = nil
	before, err := readTruth(img)
	if err != nil {
		return err
	}
	for _, f := range r.Draw.Faults {
		done, err := lab.Fault{Class: f.Class, Seed: f.Seed}.Inject(img)
		if err != nil {
			return redraw{err.Error()}
		}
		r.injected = append(r.injected, done)
	}
	if say {
		for _, done := range r.injected {
			r.inside.Injected = append(r.inside.Injected, done.Describe())
		}
		r.inside.Oracle = before.oracle(r.injected)
		r.inside.Contradictions = lab.CheckImage(img)
	}
	return nil
}
