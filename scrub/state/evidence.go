package state

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"sync/atomic"
)

// Evidence is the directory of one finding of one run, open for writing. Its
// methods may be called by several goroutines.
type Evidence struct {
	dir  *Dir
	root *os.Root
	path string

	mu     sync.Mutex
	blocks *blockImage // nil until RawBlocks
	closed bool
}

// temporary numbers unfinished files, which begin with a dot.
var temporary atomic.Uint64

// Evidence makes the directory <run>/<finding> of the filesystem's state
// directory, or opens it again. Both ids have to be plain names.
//
// Errors: [ErrBadName], and those of the system calls.
func (d *Dir) Evidence(runID, findingID string) (*Evidence, error) {
	if err := errors.Join(checkName("run", runID), checkName("finding", findingID)); err != nil {
		return nil, fmt.Errorf("save evidence: %w", err)
	}
	if err := d.mkdir(runID); err != nil {
		return nil, fmt.Errorf("save evidence in %s: %w", d.path, err)
	}
	name := filepath.Join(runID, findingID)
	if err := d.mkdir(name); err != nil {
		return nil, fmt.Errorf("save evidence in %s: %w", d.path, err)
	}
	root, err := d.root.OpenRoot(name)
	if err != nil {
		return nil, fmt.Errorf("save evidence in %s: %w", d.path, err)
	}
	return &Evidence{dir: d, root: root, path: filepath.Join(d.path, name)}, nil
}

// mkdir makes a directory below the state directory and has its name on disk.
func (d *Dir) mkdir(name string) error {
	switch err := d.root.Mkdir(name, dirMode); {
	case errors.Is(err, fs.ErrExist):
		return nil
	case err != nil:
		return err
	}
	return syncIn(d.root, filepath.Dir(name))
}

// Path returns the directory.
func (e *Evidence) Path() string { return e.path }

// JSON writes v to the file name, which gets the ending .json if it has none:
// indented, for people to read. A file of that name is replaced.
//
// Errors: [ErrBadName], [fs.ErrClosed], what json says about v, and those of
// the system calls.
func (e *Evidence) JSON(name string, v any) error {
	if filepath.Ext(name) != ".json" {
		name += ".json"
	}
	if err := checkName("file", name); err != nil {
		return fmt.Errorf("save evidence: %w", err)
	}
	var buf bytes.Buffer
	enc := json.NewEncoder(&buf)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	if err := enc.Encode(v); err != nil {
		return fmt.Errorf("save evidence %s: %w", name, err)
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if err := e.replace(name, buf.Bytes()); err != nil {
		return fmt.Errorf("save evidence in %s: %w", e.path, err)
	}
	return nil
}

// replace puts contents under a name, as a whole: a reader, or a crash, finds
// the old file or the new one. The caller holds mu.
func (e *Evidence) replace(name string, contents []byte) error {
	if e.closed {
		return fs.ErrClosed
	}
	return replaceIn(e.root, name, contents)
}

// replaceIn puts contents under a name in root, as a whole, and has it on disk.
func replaceIn(root *os.Root, name string, contents []byte) error {
	unfinished := ".new-" + strconv.Itoa(os.Getpid()) + "-" + strconv.FormatUint(temporary.Add(1), 10)
	file, err := root.OpenFile(unfinished, os.O_WRONLY|os.O_CREATE|os.O_EXCL, fileMode)
	if err != nil {
		return err
	}
	_, err = file.Write(contents)
	err = errors.Join(err, file.Sync(), file.Close())
	if err == nil {
		err = root.Rename(unfinished, name)
	}
	if err != nil {
		return errors.Join(err, root.Remove(unfinished))
	}
	return syncIn(root, ".")
}

// Close has everything on disk, the names of the directories included. Closing
// twice is fine.
func (e *Evidence) Close() error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.closed {
		return nil
	}
	var errs []error
	if e.blocks != nil {
		errs = append(errs, e.blocks.close())
	}
	e.closed = true
	errs = append(errs, syncIn(e.root, "."), syncDir(filepath.Dir(e.path)), syncDir(e.dir.path), e.root.Close())
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("save evidence in %s: %w", e.path, err)
	}
	return nil
}

// syncIn has the names in a directory below root on disk.
func syncIn(root *os.Root, name string) error {
	d, err := root.Open(name)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
