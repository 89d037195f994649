package lab

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
)

// promtoolDir is where promtool is kept when the machine has none.
func promtoolDir() string { return filepath.Join(CacheDir(), "promtool") }

// PromtoolPath returns promtool, which checks metrics, rules and tests of rules:
// the machine's own, else the one in the cache.
//
// Errors: [ErrNotBuilt].
func PromtoolPath() (string, error) {
	if path, err := exec.LookPath("promtool"); err == nil {
		return path, nil
	}
	path := filepath.Join(promtoolDir(), "promtool")
	if _, err := os.Stat(path); err != nil {
		return "", fmt.Errorf("promtool: %w (go run ./internal/lab/labctl deps)", ErrNotBuilt)
	}
	return path, nil
}

// BuildPromtool returns [PromtoolPath], taking it out of Debian's package first
// if need be. The package itself is not installed: that would start a server.
func BuildPromtool(ctx context.Context, log io.Writer) (string, error) {
	return built(ctx, "promtool", log, PromtoolPath, func() (string, error) { return takePromtool(ctx, log) })
}

// takePromtool takes promtool out of its package.
func takePromtool(ctx context.Context, log io.Writer) (string, error) {
	if err := os.MkdirAll(CacheDir(), 0o755); err != nil {
		return "", fmt.Errorf("get promtool: %w", err)
	}
	dir, err := os.MkdirTemp(CacheDir(), "promtool-")
	if err != nil {
		return "", fmt.Errorf("get promtool: %w", err)
	}
	defer func() { _ = os.RemoveAll(dir) }()
	fmt.Fprintf(log, "lab: taking promtool out of the package prometheus\n")
	tree := filepath.Join(dir, "tree")
	if err := unpackPackages(ctx, log, dir, tree, "download", "prometheus"); err != nil {
		return "", fmt.Errorf("get promtool: %w", err)
	}
	if err := os.MkdirAll(promtoolDir(), 0o755); err != nil {
		return "", fmt.Errorf("get promtool: %w", err)
	}
	path := filepath.Join(promtoolDir(), "promtool")
	if err := os.Rename(filepath.Join(tree, "usr", "bin", "promtool"), path); err != nil {
		return "", fmt.Errorf("get promtool: %w", err)
	}
	return path, nil
}
