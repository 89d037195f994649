package lab

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"
)

// sidPackages is what the root with the newest tools holds beside Debian's
// required packages. systemd and dbus make it bootable as a whole system.
var sidPackages = []string{
	"acl", "attr", "dbus", "dmsetup", "e2fsprogs", "kmod", "mount", "procps",
	"systemd", "systemd-sysv", "util-linux", "xfsprogs",
}

// sidToolPackages are the packages whose programs [SidCommand] and [SidBin] give.
var sidToolPackages = []string{"acl", "attr", "xfsprogs"}

// sidRootDir is where the root with this list of packages lives.
func sidRootDir() string {
	sum := sha256.Sum256([]byte(strings.Join(sidPackages, " ")))
	return filepath.Join(CacheDir(), "root", "sid-"+hex.EncodeToString(sum[:])[:fragmentHashLen])
}

// SidRoot returns the root directory of Debian's unstable suite that carries
// the newest xfsprogs and a bootable systemd. It builds nothing.
//
// Errors: [ErrNotBuilt].
func SidRoot() (string, error) {
	dir := sidRootDir()
	if _, err := os.Stat(dir); err != nil {
		return "", fmt.Errorf("root with the newest xfsprogs: %w (go run ./internal/lab/labctl root)", ErrNotBuilt)
	}
	return dir, nil
}

// BuildSidRoot returns [SidRoot], making it first if need be (under a minute).
// Needs root, or unprivileged user namespaces. Progress goes to log.
func BuildSidRoot(ctx context.Context, log io.Writer) (string, error) {
	return built(ctx, "root", log, SidRoot, func() (string, error) { return makeSidRoot(ctx, log) })
}

// makeSidRoot makes the root.
func makeSidRoot(ctx context.Context, log io.Writer) (string, error) {
	start := time.Now()
	fmt.Fprintf(log, "lab: making a root with the newest xfsprogs (under a minute)\n")
	mirror, err := machineMirror("/etc/apt")
	if err != nil {
		return "", err
	}
	dir := sidRootDir()
	half := dir + ".new"
	if err := os.RemoveAll(half); err != nil {
		return "", fmt.Errorf("remove a half-made root: %w", err)
	}
	if err := os.MkdirAll(filepath.Dir(dir), 0o755); err != nil {
		return "", fmt.Errorf("create the cache of roots: %w", err)
	}
	args := []string{
		"--quiet", "--variant=minbase", "--include=" + strings.Join(sidPackages, ","),
		// A mirror's Release file may be past its date; signatures are still checked.
		"--aptopt=Acquire::Check-Valid-Until \"false\"",
		"--aptopt=Acquire::Languages \"none\"",
		"--dpkgopt=path-exclude=/usr/share/man/*",
		"--dpkgopt=path-exclude=/usr/share/doc/*",
		"--dpkgopt=path-exclude=/usr/share/locale/*",
	}
	if keyring := mirror.keyring(); keyring != "" {
		args = append(args, "--keyring="+keyring)
	}
	args = append(args, "sid", half, mirror.uri)
	if err := runLogged(ctx, log, filepath.Dir(dir), "mmdebstrap", args...); err != nil {
		return "", fmt.Errorf("make the root with the newest xfsprogs: %w", err)
	}
	if err := writeSidWrappers(half, dir); err != nil {
		return "", fmt.Errorf("make the root with the newest xfsprogs: %w", err)
	}
	if err := os.Rename(half, dir); err != nil {
		return "", fmt.Errorf("keep the root with the newest xfsprogs: %w", err)
	}
	fmt.Fprintf(log, "lab: made %s in %s\n", dir, time.Since(start).Round(time.Second))
	return dir, nil
}

// SidBin returns a directory for the front of $PATH that holds every program of
// the newest xfsprogs, attr and acl as small wrapper scripts. They run on the
// host and in the lab alike, with all paths as they are outside the root.
//
// Errors: [ErrNotBuilt].
func SidBin() (string, error) {
	root, err := SidRoot()
	if err != nil {
		return "", err
	}
	return filepath.Join(root, sidBinDir), nil
}

// SidCommand prepares a program of the newest xfsprogs, attr or acl (xfs_scrub,
// xfs_io, xfs_db, xfs_repair, mkfs.xfs, ...), to run on the host or in the lab
// with all paths as they are outside the root: the program is started through
// the root's own dynamic linker and libraries, without chroot.
//
// Errors: the command's Err is set, and so returned by Run, where the root is
// not built ([ErrNotBuilt]) or has no such program.
func SidCommand(ctx context.Context, name string, args ...string) *exec.Cmd {
	failed := func(err error) *exec.Cmd {
		cmd := exec.CommandContext(ctx, name, args...)
		cmd.Path, cmd.Err = name, err
		return cmd
	}
	root, err := SidRoot()
	if err != nil {
		return failed(err)
	}
	program, err := sidProgram(root, name)
	if err != nil {
		return failed(err)
	}
	head := make([]byte, 2)
	if file, err := os.Open(program); err == nil {
		_, _ = io.ReadFull(file, head)
		_ = file.Close()
	}
	if bytes.Equal(head, []byte("#!")) {
		return exec.CommandContext(ctx, filepath.Join(root, sidBinDir, name), args...)
	}
	linker, libraries, err := sidLinker(root)
	if err != nil {
		return failed(err)
	}
	line := append([]string{"--argv0", name, "--library-path", libraries, program}, args...)
	return exec.CommandContext(ctx, linker, line...)
}

// sidBinDir is where inside the root the wrapper scripts lie.
const sidBinDir = "opt/lab/bin"

// sidProgram finds a program of the root by its name.
func sidProgram(root, name string) (string, error) {
	for _, dir := range []string{"usr/sbin", "usr/bin"} {
		path := filepath.Join(root, dir, name)
		if info, err := os.Stat(path); err == nil && info.Mode().IsRegular() {
			return path, nil
		}
	}
	return "", fmt.Errorf("find %s in %s: %w", name, root, os.ErrNotExist)
}

// sidLinker returns the root's dynamic linker and its directory of libraries.
func sidLinker(root string) (linker, libraries string, err error) {
	pattern := filepath.Join(root, "usr", "lib", "*-linux-gnu", "ld-linux*.so.*")
	found, err := filepath.Glob(pattern)
	if err != nil || len(found) == 0 {
		return "", "", fmt.Errorf("find the dynamic linker of %s for %s: %w", root, runtime.GOARCH, os.ErrNotExist)
	}
	slices.Sort(found)
	return found[0], filepath.Dir(found[0]), nil
}

// writeSidWrappers writes a wrapper for every program of the tool packages into
// the root being made at half, to be used once it lies at final.
func writeSidWrappers(half, final string) error {
	linker, libraries, err := sidLinker(half)
	if err != nil {
		return err
	}
	bin := filepath.Join(half, sidBinDir)
	if err := os.MkdirAll(bin, 0o755); err != nil {
		return fmt.Errorf("create the wrappers' directory: %w", err)
	}
	moved := func(path string) string { return final + strings.TrimPrefix(path, half) }
	for _, pkg := range sidToolPackages {
		lists, err := filepath.Glob(filepath.Join(half, "var", "lib", "dpkg", "info", pkg+"*.list"))
		if err != nil || len(lists) == 0 {
			return fmt.Errorf("list the files of %s: %w", pkg, os.ErrNotExist)
		}
		list, err := os.ReadFile(lists[0])
		if err != nil {
			return fmt.Errorf("list the files of %s: %w", pkg, err)
		}
		for line := range strings.Lines(string(list)) {
			line = strings.TrimSpace(line)
			if !strings.Contains(filepath.Dir(line), "bin") {
				continue
			}
			program := filepath.Join(half, line)
			text, err := os.ReadFile(program)
			if err != nil {
				continue // a directory
			}
			name := filepath.Base(line)
			var script string
			switch {
			case bytes.HasPrefix(text, []byte("\x7fELF")):
				script = fmt.Sprintf("exec '%s' --argv0 '%s' --library-path '%s' '%s' \"$@\"\n",
					moved(linker), name, moved(libraries), moved(program))
			case bytes.HasPrefix(text, []byte("#!/bin/sh")), bytes.HasPrefix(text, []byte("#!/bin/bash")):
				shell := strings.TrimPrefix(strings.Fields(string(text))[0], "#!")
				script = fmt.Sprintf("PATH='%s':$PATH exec %s '%s' \"$@\"\n", moved(bin), shell, moved(program))
			default:
				continue // needs an interpreter that the root does not have
			}
			if err := os.WriteFile(filepath.Join(bin, name), []byte("#!/bin/sh\n"+script), 0o755); err != nil {
				return fmt.Errorf("write the wrapper of %s: %w", name, err)
			}
		}
	}
	return nil
}
