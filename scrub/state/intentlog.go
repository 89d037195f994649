package state

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/scrubd/scrubd/ioctl"
)

// IntentsFile is the log of intents in the directory of a filesystem.
const IntentsFile = "intents"

// ErrLogFull is a log with no slot left: that many repairs were begun and never
// proven.
var ErrLogFull = errors.New("the log of intents is full")

// IntentLog is the log of intents, open for writing. There is one writer: who
// has the lock of the filesystem ([ioctl.FS.TryLock]).
//
// Nothing is created, appended or renamed once it is open: each change
// overwrites one slot in place, and has it on disk before it returns.
type IntentLog struct {
	mu      sync.Mutex
	files   []*os.File // each of them holds every record
	paths   []string
	durable bool
	own     bool // the last of the files is on the filesystem under repair
	slots   [slotCount]*record
	torn    []int // slots whose record is torn
	seq     uint64
	boot    string
}

// OpenIntent is an intent of a run that goes on.
type OpenIntent struct {
	log  *IntentLog
	slot int
}

// Interrupted is what earlier runs left behind.
type Interrupted struct {
	// Intents are the repairs that were begun and not proven, in the order in
	// which they were begun.
	Intents []Intent
	// Torn is the number of records that were cut off while they were written:
	// a repair was about to begin, or had ended.
	Torn int
	// Boot is the boot of the machine that goes on: an intent of another one was
	// interrupted by the machine's end.
	Boot string
}

// Any tells whether there is anything to explain.
func (i *Interrupted) Any() bool { return len(i.Intents) > 0 || i.Torn > 0 }

// ReadInterrupted reads what earlier runs on a filesystem left behind. dir is
// that of [Open]. Nothing is created, and nothing is changed.
//
// Errors: those of the system calls; a log that is not there is no error.
func ReadInterrupted(dir string, fs *ioctl.FS) (*Interrupted, error) {
	return places{DefaultDir, RuntimeDir}.readInterrupted(dir, fs)
}

func (p places) readInterrupted(dir string, fs *ioctl.FS) (*Interrupted, error) {
	if dir == "" {
		dir = p.standard
	}
	l := &IntentLog{boot: bootID()}
	for _, d := range []string{dir, p.runtime} {
		err := l.read(filepath.Join(d, UUID(fs), IntentsFile))
		if err != nil && !errors.Is(err, os.ErrNotExist) && !errors.Is(err, unix.ENOTDIR) {
			return nil, fmt.Errorf("read the log of intents: %w", err)
		}
	}
	return l.interrupted(), nil
}

func (l *IntentLog) read(path string) error {
	// Without a new access time: the log may lie on the filesystem that is about to be
	// checked, and its inode not be where it may be written.
	file, err := openLog(path, os.O_RDONLY|unix.O_NOATIME)
	if err != nil {
		return err
	}
	defer func() { _ = file.Close() }() // opened for reading: nothing can get lost
	return l.load(file)
}

// openLog opens a log that is there: a plain file of this user.
func openLog(path string, flags int) (*os.File, error) {
	file, err := os.OpenFile(path, flags|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	var st unix.Stat_t
	err = unix.Fstat(int(file.Fd()), &st)
	switch {
	case err != nil:
		err = &fs.PathError{Op: "stat", Path: path, Err: err}
	case st.Mode&unix.S_IFMT != unix.S_IFREG || st.Nlink != 1 || st.Mode&0o022 != 0 || int(st.Uid) != os.Geteuid():
		err = fmt.Errorf("%s is not a plain file of this user alone: %w", path, ErrUnsafe)
	}
	if err != nil {
		return nil, errors.Join(err, file.Close())
	}
	return file, nil
}

// load merges the records of a file into the log: of two for one slot the newer
// one counts, and any counts against a torn one.
func (l *IntentLog) load(file *os.File) error {
	buf := make([]byte, logSize)
	n, err := io.ReadFull(io.NewSectionReader(file, 0, logSize), buf)
	if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
		return err
	}
	for i := range n / slotSize {
		r, err := decode(buf[i*slotSize : (i+1)*slotSize])
		switch {
		case err != nil && l.slots[i] == nil:
			if !slices.Contains(l.torn, i) {
				l.torn = append(l.torn, i)
			}
		case err == nil && r != nil && (l.slots[i] == nil || l.slots[i].seq < r.seq):
			l.slots[i] = r
			l.seq = max(l.seq, r.seq)
			l.torn = slices.DeleteFunc(l.torn, func(t int) bool { return t == i })
		}
	}
	return nil
}

func (l *IntentLog) interrupted() *Interrupted {
	var open []*record
	for _, r := range &l.slots {
		if r != nil && r.open() {
			open = append(open, r)
		}
	}
	slices.SortFunc(open, func(a, b *record) int {
		if a.seq < b.seq {
			return -1
		}
		return 1
	})
	out := &Interrupted{Torn: len(l.torn), Boot: l.boot}
	for _, r := range open {
		out.Intents = append(out.Intents, r.Intent)
	}
	return out
}

// Intents opens the log of intents of the filesystem, and makes it where it is
// not there. Where the state directory that was asked for lies on the very
// filesystem under repair, the log is in d, and in the file there that
// [PrepareOwn] made, if that is just as own says ([FindOwnLog]); nil keeps it from
// being used. [IntentLog.Durable] tells.
//
// Errors: those of the system calls, such as ENOSPC and EROFS.
func (d *Dir) Intents(own *OwnLog) (_ *IntentLog, err error) {
	l := &IntentLog{boot: bootID(), durable: d.moved == ""}
	defer func() {
		if err != nil {
			err = fmt.Errorf("open the log of intents: %w", errors.Join(err, l.Close()))
		}
	}()
	path := filepath.Join(d.path, IntentsFile)
	if err := preallocate(d.root); err != nil {
		return l, fmt.Errorf("make %s: %w", path, err)
	}
	if err := l.add(path); err != nil {
		return l, err
	}
	if d.moved == "" || own == nil {
		return l, nil
	}
	path = filepath.Join(d.moved, UUID(d.fs), IntentsFile)
	file, found, err := openOwn(path, os.O_RDWR, d.fs)
	if err != nil {
		return l, nil //nolint:nilerr // it cannot be used, so that /run has to do: Durable tells
	}
	if !found.equal(own) {
		return l, file.Close()
	}
	if err := l.load(file); err != nil {
		return l, errors.Join(err, file.Close())
	}
	l.files, l.paths, l.durable, l.own = append(l.files, file), append(l.paths, path), true, true
	return l, nil
}

// LeaveOwn stops writing to the log on the filesystem under repair, if there is
// one in use: its blocks have come into question. What is open there stays so.
func (l *IntentLog) LeaveOwn() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.own {
		return nil
	}
	last := len(l.files) - 1
	err := l.files[last].Close()
	l.files, l.paths, l.durable, l.own = l.files[:last], l.paths[:last], false, false
	return err
}

func (l *IntentLog) add(path string) error {
	file, err := openLog(path, os.O_RDWR)
	if err != nil {
		return err
	}
	l.files, l.paths = append(l.files, file), append(l.paths, path)
	return l.load(file)
}

// Durable tells whether the log outlives the end of the machine.
func (l *IntentLog) Durable() bool { return l.durable }

// Begin writes down that a repair call is about to be made, and returns once
// that is on disk. The call must not be made after an error.
//
// Errors: [ErrLogFull], and those of the system calls.
func (l *IntentLog) Begin(in *Intent) (*OpenIntent, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	slot := l.free()
	if slot < 0 {
		return nil, fmt.Errorf("write an intent to %s: %w", l.paths[0], ErrLogFull)
	}
	i := *in
	i.Boot, i.Began, i.Ended, i.Error = l.boot, time.Now().UTC(), time.Time{}, ""
	if err := l.put(slot, &record{State: stateBegan, Intent: i}); err != nil {
		return nil, err
	}
	return &OpenIntent{log: l, slot: slot}, nil
}

// free finds a slot for a new intent: one that was never used or is closed, else
// the oldest whose call has come back.
func (l *IntentLog) free() int {
	best := -1
	for i, r := range &l.slots {
		switch {
		case r == nil && !slices.Contains(l.torn, i), r != nil && !r.open():
			return i
		case r != nil && r.State == stateEnded && (best < 0 || r.seq < l.slots[best].seq):
			best = i
		}
	}
	return best
}

// put writes a record to its slot of every file. The caller holds mu.
func (l *IntentLog) put(slot int, r *record) error {
	l.seq++
	r.seq = l.seq
	raw, err := r.encode()
	if err != nil {
		return err
	}
	for i, file := range l.files {
		_, err := file.WriteAt(raw, int64(slot)*slotSize)
		if err == nil {
			err = unix.Fdatasync(int(file.Fd()))
		}
		if err != nil {
			return fmt.Errorf("write an intent to %s: %w", l.paths[i], err)
		}
	}
	l.slots[slot] = r
	l.torn = slices.DeleteFunc(l.torn, func(t int) bool { return t == slot })
	return nil
}

// Ended writes down that the call has come back.
func (o *OpenIntent) Ended(failed error) error {
	o.log.mu.Lock()
	defer o.log.mu.Unlock()
	old := o.log.slots[o.slot]
	in := old.Intent
	in.Ended = time.Now().UTC()
	if failed != nil {
		in.Error = failed.Error()
	}
	return o.log.put(o.slot, &record{State: stateEnded, Intent: in})
}

// CloseAll writes down that everything in the log is proven, or explained:
// intents of earlier runs and torn records too.
func (l *IntentLog) CloseAll() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	for i, r := range &l.slots {
		if r == nil || !r.open() {
			continue
		}
		if err := l.put(i, &record{State: stateClosed, Intent: r.Intent}); err != nil {
			return err
		}
	}
	for len(l.torn) > 0 {
		if err := l.put(l.torn[0], &record{State: stateClosed}); err != nil {
			return err
		}
	}
	return nil
}

// Close gives the files back. What is open in the log stays so.
func (l *IntentLog) Close() error {
	var errs []error
	for _, file := range l.files {
		errs = append(errs, file.Close())
	}
	l.files = nil
	return errors.Join(errs...)
}

// preallocate makes the log in root where it is not there or too short: written
// and on disk under another name before it gets its own.
func preallocate(root *os.Root) error {
	if info, err := root.Lstat(IntentsFile); err == nil && info.Mode().IsRegular() && info.Size() == logSize {
		return nil
	}
	const unfinished = ".new-" + IntentsFile
	if err := root.Remove(unfinished); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	file, err := root.OpenFile(unfinished, os.O_WRONLY|os.O_CREATE|os.O_EXCL, fileMode)
	if err != nil {
		return err
	}
	// Written, and not only reserved: to write to reserved blocks changes the fork.
	_, err = file.Write(make([]byte, logSize))
	err = errors.Join(err, file.Sync(), file.Close())
	if err == nil {
		err = root.Rename(unfinished, IntentsFile)
	}
	if err != nil {
		return errors.Join(err, root.Remove(unfinished))
	}
	return syncIn(root, ".")
}

// bootID names this boot of the machine, "" where it is not known.
//
// Source: man 5 proc_sys_kernel (random/boot_id).
func bootID() string {
	id, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(id))
}
