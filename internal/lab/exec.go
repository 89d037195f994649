package lab

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// runLogged runs one program of the host, its output going to log as it comes.
// The error names the program and repeats the end of what it wrote.
func runLogged(ctx context.Context, log io.Writer, dir, name string, args ...string) error {
	return runCommand(log, buildCommand(ctx, dir, name, args...))
}

// buildCommand prepares a program that a cancelled context ends with all its
// children, in an environment that no outer make or kernel build leaks into.
func buildCommand(ctx context.Context, dir, name string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir = dir
	cmd.Env = cleanEnviron()
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGTERM) }
	cmd.WaitDelay = 10 * time.Second
	return cmd
}

// runCommand runs cmd with its output going to log and to the error.
func runCommand(log io.Writer, cmd *exec.Cmd) error {
	end := newTailBuffer(8 << 10)
	out := io.MultiWriter(log, end)
	cmd.Stdout, cmd.Stderr = out, out
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("run %s: %w\n%s", strings.Join(cmd.Args, " "), err, lastLines(end.String(), 20))
	}
	return nil
}

// cleanEnviron is the environment less what changes what make and apt do.
func cleanEnviron() []string {
	env := []string{"LC_ALL=C", "DEBIAN_FRONTEND=noninteractive"}
	for _, entry := range os.Environ() {
		switch name, _, _ := strings.Cut(entry, "="); name {
		case "MAKEFLAGS", "MFLAGS", "MAKELEVEL", "MAKEOVERRIDES", "ARCH", "SUBARCH", "CROSS_COMPILE",
			"KBUILD_OUTPUT", "O", "CFLAGS", "LDFLAGS", "LC_ALL", "DEBIAN_FRONTEND":
		default:
			env = append(env, entry)
		}
	}
	return env
}

// tailBuffer keeps the last limit bytes written to it. It is not safe for
// several goroutines.
type tailBuffer struct {
	limit int
	kept  []byte
}

func newTailBuffer(limit int) *tailBuffer { return &tailBuffer{limit: limit} }

// Write keeps p and drops what is older than the limit. It never fails.
func (b *tailBuffer) Write(p []byte) (int, error) {
	b.kept = append(b.kept, p...)
	// Dropping only at twice the limit keeps the copying linear.
	if len(b.kept) > 2*b.limit {
		b.kept = append(b.kept[:0], b.kept[len(b.kept)-b.limit:]...)
	}
	return len(p), nil
}

// String returns the last bytes, at most the limit.
func (b *tailBuffer) String() string {
	kept := b.kept
	if len(kept) > b.limit {
		kept = kept[len(kept)-b.limit:]
	}
	return string(kept)
}

// lastLines returns the last n lines of text, without carriage returns.
func lastLines(text string, n int) string {
	clean := bytes.TrimRight(bytes.ReplaceAll([]byte(text), []byte("\r"), nil), "\n")
	lines := strings.Split(string(clean), "\n")
	if len(lines) > n {
		lines = lines[len(lines)-n:]
	}
	return strings.Join(lines, "\n")
}

// lookProgram finds a program of the host, in the system directories too: a
// plain user's $PATH lacks them.
func lookProgram(name string) (string, error) {
	if path, err := exec.LookPath(name); err == nil {
		return path, nil
	}
	for _, dir := range []string{"/usr/sbin", "/sbin"} {
		if path, err := exec.LookPath(filepath.Join(dir, name)); err == nil {
			return path, nil
		}
	}
	return "", fmt.Errorf("find %s: %w", name, exec.ErrNotFound)
}
