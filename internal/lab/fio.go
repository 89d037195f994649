package lab

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
)

// fioDir is where fio is kept, with the libraries that it needs, when the machine
// has none.
func fioDir() string { return filepath.Join(CacheDir(), "fio") }

// FioPath returns fio, which makes load and measures it: the machine's own, else
// the one in the cache.
//
// Errors: [ErrNotBuilt].
func FioPath() (string, error) {
	if path, err := exec.LookPath("fio"); err == nil {
		return path, nil
	}
	path := filepath.Join(fioDir(), "fio")
	if _, err := os.Stat(path); err != nil {
		return "", fmt.Errorf("fio: %w (go run ./internal/lab/labctl deps)", ErrNotBuilt)
	}
	return path, nil
}

// BuildFio returns [FioPath], taking it out of Debian's packages first if need be.
// None of them is installed: fio brings half of a cluster's libraries.
func BuildFio(ctx context.Context, log io.Writer) (string, error) {
	path, err := FioPath()
	if !errors.Is(err, ErrNotBuilt) {
		return path, err
	}
	unlock, err := lockCache(ctx, "fio", log)
	if err != nil {
		return "", err
	}
	defer unlock()
	if path, err := FioPath(); err == nil {
		return path, nil
	}
	if err := os.MkdirAll(CacheDir(), 0o755); err != nil {
		return "", fmt.Errorf("get fio: %w", err)
	}
	dir, err := os.MkdirTemp(CacheDir(), "fio-")
	if err != nil {
		return "", fmt.Errorf("get fio: %w", err)
	}
	defer func() { _ = os.RemoveAll(dir) }()
	fmt.Fprintf(log, "lab: taking fio out of its packages\n")
	if err := os.Mkdir(filepath.Join(dir, "partial"), 0o755); err != nil {
		return "", fmt.Errorf("get fio: %w", err)
	}
	tree := filepath.Join(dir, "tree")
	if err := unpackPackages(ctx, log, dir, tree, "-y", "--download-only", "--no-install-recommends",
		"-o", "Dir::Cache::archives="+dir, "install", "fio"); err != nil {
		return "", fmt.Errorf("get fio: %w", err)
	}
	const wrapper = `#!/bin/sh
here=$(dirname "$0")
LD_LIBRARY_PATH=$(find "$here/usr/lib" "$here/lib" -name '*.so*' -printf '%h:' | tr ':' '\n' | sort -u | tr '\n' ':')
export LD_LIBRARY_PATH
exec "$here/usr/bin/fio" "$@"
`
	if err := os.WriteFile(filepath.Join(tree, "fio"), []byte(wrapper), 0o755); err != nil {
		return "", fmt.Errorf("get fio: %w", err)
	}
	if err := os.Rename(tree, fioDir()); err != nil {
		return "", fmt.Errorf("get fio: %w", err)
	}
	return filepath.Join(fioDir(), "fio"), nil
}

// unpackPackages has apt-get, with these arguments, leave packages in dir, and
// unpacks them into tree. None is installed.
func unpackPackages(ctx context.Context, log io.Writer, dir, tree string, args ...string) error {
	download := func() error {
		return runLogged(ctx, log, dir, "apt-get", append([]string{"-qq", "-o", "APT::Sandbox::User=root"}, args...)...)
	}
	if err := download(); err != nil { // the lists may be missing, or old
		if err := runLogged(ctx, log, "/", "apt-get", "-qq", "update"); err != nil {
			return err
		}
		if err := download(); err != nil {
			return err
		}
	}
	debs, err := filepath.Glob(filepath.Join(dir, "*.deb"))
	if err != nil || len(debs) == 0 {
		return fmt.Errorf("apt-get %v left no package in %s", args, dir)
	}
	for _, deb := range debs {
		if err := runLogged(ctx, log, dir, "dpkg-deb", "-x", deb, tree); err != nil {
			return err
		}
	}
	return nil
}
