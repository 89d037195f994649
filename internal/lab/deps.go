package lab

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
)

// hostPackages are the Debian packages that the rigs need on the host: a C tool
// chain with the kernel's build dependencies, XFS's tools and header, and the
// maker of the root with the newest tools.
var hostPackages = []string{
	"gcc", "libc6-dev", "make", "flex", "bison", "bc", "perl", "libelf-dev", "libssl-dev",
	"tar", "xz-utils", "ca-certificates", "debian-archive-keyring", "mmdebstrap",
	"xfsprogs", "xfslibs-dev", "attr", "acl", "util-linux", "mount", "dmsetup",
}

// MissingPackages lists the Debian packages that the lab needs and the machine
// does not have.
func MissingPackages(ctx context.Context) ([]string, error) {
	args := append([]string{"-W", "-f", "${Package} ${db:Status-Status}\n"}, hostPackages...)
	cmd := buildCommand(ctx, "/", "dpkg-query", args...)
	out, err := cmd.Output()
	// The status is 1 where dpkg does not know one of the names.
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		return nil, fmt.Errorf("ask for installed packages: %w", err)
	}
	installed := map[string]bool{}
	for line := range strings.Lines(string(out)) {
		if name, status, _ := strings.Cut(strings.TrimSpace(line), " "); status == "installed" {
			installed[name] = true
		}
	}
	var missing []string
	for _, name := range hostPackages {
		if !installed[name] {
			missing = append(missing, name)
		}
	}
	return missing, nil
}

// InstallPackages installs [MissingPackages] with apt-get, which needs root.
// Nothing is run where nothing is missing.
func InstallPackages(ctx context.Context, log io.Writer) error {
	missing, err := MissingPackages(ctx)
	if err != nil || len(missing) == 0 {
		return err
	}
	list := strings.Join(missing, " ")
	if os.Geteuid() != 0 {
		return fmt.Errorf("install what the lab needs: not root; run: apt-get install %s", list)
	}
	fmt.Fprintf(log, "lab: installing %s\n", list)
	if err := runLogged(ctx, log, "/", "apt-get", "-qq", "update"); err != nil {
		return fmt.Errorf("install what the lab needs: %w", err)
	}
	args := append([]string{"-qq", "-y", "-o", "Dpkg::Use-Pty=0", "--no-install-recommends", "install"}, missing...)
	// dpkg names every file it unpacks; only a failure is news.
	if err := runLogged(ctx, io.Discard, "/", "apt-get", args...); err != nil {
		return fmt.Errorf("install what the lab needs: %w", err)
	}
	return nil
}
