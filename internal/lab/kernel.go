package lab

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"
)

const (
	// EnvKernel names a User Mode Linux executable to use instead of building one.
	EnvKernel = "SCRUBD_LAB_KERNEL"

	// preferredSource is the kernel that the project's facts were measured on.
	preferredSource = "linux-source-7.2"
	sourcePattern   = `^linux-source-[0-9]+\.[0-9]+$`
	// oldestSource is the first series whose XFS has all that scrubd uses.
	oldestSource = 7.0
)

// KernelPath returns the lab kernel that is ready for use: the one that
// $SCRUBD_LAB_KERNEL names, else the newest in the cache that was built with
// the repository's configuration fragment. It builds nothing.
//
// Errors: [ErrNotBuilt].
func KernelPath() (string, error) {
	if path := os.Getenv(EnvKernel); path != "" {
		if _, err := os.Stat(path); err != nil {
			return "", fmt.Errorf("use the kernel of $%s: %w", EnvKernel, err)
		}
		return path, nil
	}
	fragment, err := readKernelFragment()
	if err != nil {
		return "", err
	}
	kernels, err := filepath.Glob(filepath.Join(CacheDir(), "kernel", "*-"+fragment.hash(), "linux"))
	if err != nil || len(kernels) == 0 {
		return "", fmt.Errorf("lab kernel: %w (go run ./internal/lab/labctl kernel)", ErrNotBuilt)
	}
	slices.SortFunc(kernels, compareVersions)
	return kernels[len(kernels)-1], nil
}

// BuildKernel returns the lab kernel, making it first if need be: Debian's
// kernel source is downloaded into the cache, configured for User Mode Linux
// with testdata/lab/kernel.config, checked, built (7-9 minutes on two cores)
// and stripped. A second call finds the result and returns at once. Two
// processes never build at the same time. Progress goes to log.
func BuildKernel(ctx context.Context, log io.Writer) (string, error) {
	return built(ctx, "kernel", log, KernelPath, func() (string, error) { return makeKernel(ctx, log) })
}

// makeKernel makes the kernel.
func makeKernel(ctx context.Context, log io.Writer) (string, error) {
	if runtime.GOARCH != "amd64" {
		return "", fmt.Errorf("build the lab kernel on %s: User Mode Linux runs on x86-64 only", runtime.GOARCH)
	}
	fragment, err := readKernelFragment()
	if err != nil {
		return "", err
	}
	source, err := kernelSource(ctx, log)
	if err != nil {
		return "", fmt.Errorf("fetch the kernel's source: %w", err)
	}
	_, version, _ := strings.Cut(filepath.Base(source), "_")
	build := kernelBuild{
		source:   source,
		dir:      filepath.Join(CacheDir(), "kernel", version+"-"+fragment.hash()),
		fragment: fragment,
		log:      log,
	}
	return build.run(ctx)
}

// kernelBuild is one build of one source with one fragment.
type kernelBuild struct {
	source   string
	dir      string
	fragment kernelFragment
	log      io.Writer
}

// run configures, checks, builds and strips; the result appears under its final
// name only when it is whole.
func (b kernelBuild) run(ctx context.Context) (string, error) {
	start := time.Now()
	objects := filepath.Join(b.dir, "build")
	if err := os.MkdirAll(objects, 0o755); err != nil {
		return "", fmt.Errorf("create the kernel's build directory: %w", err)
	}
	config, err := b.configure(ctx, objects)
	if err != nil {
		return "", fmt.Errorf("configure the lab kernel: %w", err)
	}
	fmt.Fprintf(b.log, "lab: building %s for User Mode Linux (some minutes)\n", filepath.Base(b.source))
	err = runLogged(ctx, b.log, b.source, "nice", "make", "-s", "ARCH=um", "O="+objects,
		"-j"+strconv.Itoa(runtime.NumCPU()), "linux")
	if err != nil {
		return "", fmt.Errorf("build the lab kernel: %w", err)
	}
	if err := os.WriteFile(filepath.Join(b.dir, "config"), config, 0o644); err != nil {
		return "", fmt.Errorf("keep the lab kernel's configuration: %w", err)
	}
	done, half := filepath.Join(b.dir, "linux"), filepath.Join(b.dir, "linux.new")
	if err := runLogged(ctx, b.log, b.dir, "strip", "-o", half, filepath.Join(objects, "linux")); err != nil {
		return "", fmt.Errorf("strip the lab kernel: %w", err)
	}
	if err := os.Rename(half, done); err != nil {
		return "", fmt.Errorf("keep the lab kernel: %w", err)
	}
	if err := os.RemoveAll(objects); err != nil {
		return "", fmt.Errorf("remove the kernel's build directory: %w", err)
	}
	fmt.Fprintf(b.log, "lab: built %s in %s\n", done, time.Since(start).Round(time.Second))
	return done, nil
}

// configure writes objects/.config and returns it, or says which of the wanted
// options did not survive Kconfig.
func (b kernelBuild) configure(ctx context.Context, objects string) ([]byte, error) {
	steps := [][]string{
		{"make", "-s", "ARCH=um", "O=" + objects, "defconfig"},
		{
			filepath.Join(b.source, "scripts", "kconfig", "merge_config.sh"), "-m", "-Q", "-O", objects,
			filepath.Join(objects, ".config"), b.fragment.path,
		},
		{"make", "-s", "ARCH=um", "O=" + objects, "olddefconfig"},
	}
	for _, step := range steps {
		// The merge script names every option it sets; only a failure is news.
		if err := runLogged(ctx, io.Discard, b.source, step[0], step[1:]...); err != nil {
			return nil, err
		}
	}
	config, err := os.ReadFile(filepath.Join(objects, ".config"))
	if err != nil {
		return nil, fmt.Errorf("read the merged configuration: %w", err)
	}
	if lost := b.fragment.lost(config); len(lost) > 0 {
		return nil, fmt.Errorf("%s did not give what %s asks for: %s",
			filepath.Base(b.source), b.fragment.path, strings.Join(lost, ", "))
	}
	return config, nil
}

// kernelSource returns an unpacked kernel source in the cache, named
// linux-source-X.Y_VERSION, downloading it if there is none.
func kernelSource(ctx context.Context, log io.Writer) (string, error) {
	sources := filepath.Join(CacheDir(), "src")
	unpacked, err := filepath.Glob(filepath.Join(sources, "linux-source-*_*", "Makefile"))
	if err != nil {
		return "", fmt.Errorf("look for a kernel source in %s: %w", sources, err)
	}
	if len(unpacked) > 0 {
		slices.SortFunc(unpacked, compareVersions)
		for _, makefile := range unpacked {
			if strings.HasPrefix(filepath.Base(filepath.Dir(makefile)), preferredSource+"_") {
				return filepath.Dir(makefile), nil
			}
		}
		return filepath.Dir(unpacked[len(unpacked)-1]), nil
	}
	deb, err := downloadKernelSource(ctx, log)
	if err != nil {
		return "", err
	}
	return unpackKernelSource(ctx, log, deb, sources)
}

// downloadKernelSource fetches the package from Debian's unstable suite, and
// from the stable suite's backports where unstable has moved on.
func downloadKernelSource(ctx context.Context, log io.Writer) (string, error) {
	mirror, err := machineMirror("/etc/apt")
	if err != nil {
		return "", err
	}
	var tried []string
	for _, suite := range []string{"sid", "trixie-backports"} {
		fmt.Fprintf(log, "lab: looking for a kernel source in %s\n", suite)
		apt, err := openPrivateApt(filepath.Join(CacheDir(), "apt"), mirror, suite)
		if err != nil {
			return "", err
		}
		if err := apt.update(ctx, log); err != nil {
			tried = append(tried, err.Error())
			continue
		}
		names, err := apt.names(ctx, sourcePattern)
		if err != nil {
			return "", err
		}
		name := chooseSource(names)
		if name == "" {
			tried = append(tried, fmt.Sprintf("%s has no linux-source-%.1f or newer", suite, oldestSource))
			continue
		}
		fmt.Fprintf(log, "lab: downloading %s from %s\n", name, suite)
		return apt.download(ctx, log, name)
	}
	return "", fmt.Errorf("no suite has a kernel source: %s", strings.Join(tried, "; "))
}

// chooseSource picks the preferred kernel source, else the newest that is new
// enough, else nothing.
func chooseSource(names []string) string {
	if slices.Contains(names, preferredSource) {
		return preferredSource
	}
	var fit []string
	for _, name := range names {
		series, err := strconv.ParseFloat(strings.TrimPrefix(name, "linux-source-"), 64)
		if err == nil && series >= oldestSource {
			fit = append(fit, name)
		}
	}
	if len(fit) == 0 {
		return ""
	}
	return slices.MaxFunc(fit, compareVersions)
}

// unpackKernelSource unpacks the tarball inside deb below sources and removes
// deb. A symbolic link without the version is left beside it for readers.
func unpackKernelSource(ctx context.Context, log io.Writer, deb, sources string) (string, error) {
	fields := strings.Split(strings.TrimSuffix(filepath.Base(deb), ".deb"), "_")
	if len(fields) != 3 {
		return "", fmt.Errorf("unpack %s: its name is not PACKAGE_VERSION_ARCH.deb", deb)
	}
	name, version := fields[0], fields[1]
	fmt.Fprintf(log, "lab: unpacking %s %s\n", name, version)
	if err := os.MkdirAll(sources, 0o755); err != nil {
		return "", fmt.Errorf("unpack %s: %w", deb, err)
	}
	half, err := os.MkdirTemp(sources, "unpack-")
	if err != nil {
		return "", fmt.Errorf("unpack %s: %w", deb, err)
	}
	defer func() { _ = os.RemoveAll(half) }()
	if err := runLogged(ctx, log, half, "dpkg-deb", "-x", deb, "deb"); err != nil {
		return "", err
	}
	tarballs, err := filepath.Glob(filepath.Join(half, "deb", "usr", "src", name+".tar.*"))
	if err != nil || len(tarballs) != 1 {
		return "", fmt.Errorf("unpack %s: found %d tarballs in it", deb, len(tarballs))
	}
	tree := filepath.Join(half, "tree")
	if err := os.Mkdir(tree, 0o755); err != nil {
		return "", fmt.Errorf("unpack %s: %w", deb, err)
	}
	err = runLogged(ctx, log, tree, "tar", "-xf", tarballs[0], "--strip-components=1", "--no-same-owner")
	if err != nil {
		return "", err
	}
	done := filepath.Join(sources, name+"_"+version)
	if err := os.Rename(tree, done); err != nil {
		return "", fmt.Errorf("unpack %s: %w", deb, err)
	}
	link := filepath.Join(sources, name)
	_ = os.Remove(link)
	if err := os.Symlink(filepath.Base(done), link); err != nil {
		return "", fmt.Errorf("unpack %s: %w", deb, err)
	}
	return done, os.Remove(deb)
}

// compareVersions orders names by the numbers in them, so that 7.10 follows 7.9.
func compareVersions(a, b string) int {
	for a != "" && b != "" {
		digitsA, digitsB := leadingDigits(a), leadingDigits(b)
		if digitsA > 0 && digitsB > 0 {
			numberA, _ := strconv.ParseUint(a[:digitsA], 10, 64)
			numberB, _ := strconv.ParseUint(b[:digitsB], 10, 64)
			if c := cmp.Compare(numberA, numberB); c != 0 {
				return c
			}
			a, b = a[digitsA:], b[digitsB:]
			continue
		}
		if c := cmp.Compare(a[0], b[0]); c != 0 {
			return c
		}
		a, b = a[1:], b[1:]
	}
	return cmp.Compare(len(a), len(b))
}

func leadingDigits(s string) int {
	n := 0
	for n < len(s) && '0' <= s[n] && s[n] <= '9' {
		n++
	}
	return n
}
