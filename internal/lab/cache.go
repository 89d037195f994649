package lab

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// modulePath is how [RepoRoot] knows the project's own go.mod.
const modulePath = "github.com/scrubd/scrubd"

// ErrNotBuilt says that something the lab needs has not been made on this
// machine yet. The message names the labctl command that makes it.
var ErrNotBuilt = errors.New("not built yet")

// CacheDir is where the lab keeps what is costly to make: $XDG_CACHE_HOME/scrubd,
// else ~/.cache/scrubd, else /var/cache/scrubd. The directory may not exist yet.
func CacheDir() string {
	base, err := os.UserCacheDir()
	if err != nil {
		base = "/var/cache"
	}
	return filepath.Join(base, "scrubd")
}

// RepoRoot returns the directory of the project's go.mod, searched upwards from
// the working directory, then from where this file was compiled.
func RepoRoot() (string, error) {
	var starts []string
	if wd, err := os.Getwd(); err == nil {
		starts = append(starts, wd)
	}
	if _, file, _, ok := runtime.Caller(0); ok && filepath.IsAbs(file) {
		starts = append(starts, filepath.Dir(file))
	}
	for _, dir := range starts {
		for {
			mod, err := os.ReadFile(filepath.Join(dir, "go.mod"))
			if err == nil && strings.HasPrefix(string(mod), "module "+modulePath+"\n") {
				return dir, nil
			}
			parent := filepath.Dir(dir)
			if parent == dir {
				break
			}
			dir = parent
		}
	}
	return "", fmt.Errorf("find the repository of %s: no go.mod above %s", modulePath, strings.Join(starts, " or "))
}

// built returns what find has in the cache. What is not built yet is built first,
// by one process at a time.
func built(ctx context.Context, name string, log io.Writer, find, build func() (string, error)) (string, error) {
	path, err := find()
	if !errors.Is(err, ErrNotBuilt) {
		return path, err
	}
	unlock, err := lockCache(ctx, name, log)
	if err != nil {
		return "", err
	}
	defer unlock()
	// Another process may have built it while this one waited.
	if path, err = find(); !errors.Is(err, ErrNotBuilt) {
		return path, err
	}
	return build()
}

// lockCache takes the cache's lock of that name, waiting while another process
// holds it. The lock goes with the process, so a killed build leaves none.
func lockCache(ctx context.Context, name string, log io.Writer) (unlock func(), err error) {
	dir := CacheDir()
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, fmt.Errorf("create the lab's cache: %w", err)
	}
	file, err := os.OpenFile(filepath.Join(dir, name+".lock"), os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return nil, fmt.Errorf("open the lab's lock: %w", err)
	}
	said := false
	for {
		err := unix.Flock(int(file.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if err == nil {
			return func() { _ = file.Close() }, nil
		}
		if !errors.Is(err, unix.EWOULDBLOCK) && !errors.Is(err, unix.EINTR) {
			_ = file.Close()
			return nil, fmt.Errorf("lock %s: %w", file.Name(), err)
		}
		if !said {
			fmt.Fprintf(log, "lab: waiting for another process that holds %s\n", file.Name())
			said = true
		}
		select {
		case <-ctx.Done():
			_ = file.Close()
			return nil, fmt.Errorf("lock %s: %w", file.Name(), ctx.Err())
		case <-time.After(200 * time.Millisecond):
		}
	}
}
