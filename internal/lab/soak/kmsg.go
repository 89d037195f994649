package soak

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// kmsg reads what the kernel says from now on.
type kmsg struct{ fd int }

func openKmsg() (*kmsg, error) {
	fd, err := unix.Open("/dev/kmsg", unix.O_RDONLY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("read the kernel's messages: %w", err)
	}
	if _, err := unix.Seek(fd, 0, unix.SEEK_END); err != nil {
		_ = unix.Close(fd)
		return nil, fmt.Errorf("read the kernel's messages: %w", err)
	}
	return &kmsg{fd}, nil
}

func (k *kmsg) close() { _ = unix.Close(k.fd) }

// lines returns what has been said since.
func (k *kmsg) lines() []string {
	var lines []string
	buf := make([]byte, 8192)
	for {
		n, err := unix.Read(k.fd, buf)
		switch {
		case errors.Is(err, unix.EPIPE): // some were overwritten
			lines = append(lines, "(messages lost)")
			continue
		case errors.Is(err, unix.EINTR):
			continue
		case err != nil || n <= 0:
			return lines
		}
		_, text, _ := strings.Cut(string(buf[:n]), ";")
		text, _, _ = strings.Cut(text, "\n")
		lines = append(lines, text)
	}
}

var (
	// usual is what XFS says when all is well.
	usual = regexp.MustCompile(`XFS \([^)]+\): (Mounting|Ending|Unmounting|EXPERIMENTAL|Quotacheck|Starting recovery|Deprecated|` +
		`.*EXPERIMENTAL|.*(feature|features) in use|.*discard|using|logbuf|Metadata directory)`)
	// grave is what the kernel says of itself when something is wrong.
	grave = regexp.MustCompile(`WARNING: |BUG: |Oops|Kernel panic|Internal error|blocked for more than|` +
		`possible recursive locking|rcu_sched|Assertion failed|Unable to handle|Call Trace|I/O error|soft lockup`)
	ofXFS = regexp.MustCompile(`XFS \(([^)]+)\)`)
)

// complaints picks the lines that say that something is wrong: on one of the
// devices, and anywhere else where the kernel is ours alone.
func complaints(lines []string, devices []string, ownKernel bool) []string {
	var found []string
	for _, line := range lines {
		device := deviceOf(line)
		ours := ownKernel || slices.Contains(devices, device)
		if ours && (device != "" && !usual.MatchString(line) || grave.MatchString(line)) {
			found = append(found, line)
		}
	}
	return found
}

// deviceOf is the device that XFS names in a line, or nothing.
func deviceOf(line string) string {
	if m := ofXFS.FindStringSubmatch(line); len(m) > 1 {
		return m[1]
	}
	return ""
}
