package lab

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// fragmentHashLen is how much of the fragment's SHA-256 names a built kernel.
const fragmentHashLen = 16

// kernelFragment is the project's kernel configuration fragment: what the lab
// wants on top of the architecture's defconfig.
type kernelFragment struct {
	path string
	text []byte
}

// readKernelFragment reads testdata/lab/kernel.config of the repository.
func readKernelFragment() (kernelFragment, error) {
	root, err := RepoRoot()
	if err != nil {
		return kernelFragment{}, err
	}
	path := filepath.Join(root, "testdata", "lab", "kernel.config")
	text, err := os.ReadFile(path)
	if err != nil {
		return kernelFragment{}, fmt.Errorf("read the lab kernel's configuration: %w", err)
	}
	return kernelFragment{path: path, text: text}, nil
}

// hash names the fragment's content.
func (f kernelFragment) hash() string {
	sum := sha256.Sum256(f.text)
	return hex.EncodeToString(sum[:])[:fragmentHashLen]
}

// lost returns the fragment's lines that the resulting .config does not hold
// up: a wanted option that is absent or different, or an unwanted one that is
// set. Kconfig drops an option silently when one of its dependencies is off.
func (f kernelFragment) lost(config []byte) []string {
	have := map[string]string{}
	for line := range strings.Lines(string(config)) {
		if name, value, ok := strings.Cut(strings.TrimSpace(line), "="); ok && strings.HasPrefix(name, "CONFIG_") {
			have[name] = value
		}
	}
	var lost []string
	for line := range strings.Lines(string(f.text)) {
		line = strings.TrimSpace(line)
		if name, value, ok := strings.Cut(line, "="); ok && strings.HasPrefix(name, "CONFIG_") {
			if have[name] != value {
				lost = append(lost, line)
			}
			continue
		}
		if name, ok := strings.CutSuffix(line, " is not set"); ok {
			if _, set := have[strings.TrimPrefix(name, "# ")]; set {
				lost = append(lost, line)
			}
		}
	}
	slices.Sort(lost)
	return lost
}
