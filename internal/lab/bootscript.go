package lab

import (
	"fmt"
	"regexp"
	"strings"
)

// scratchDir is a directory in the lab kernel's memory, and the job's TMPDIR
// there: what a test leaves in it goes with the kernel, even a killed one.
const scratchDir = "/run/scrubd-lab"

// The job's end is announced on its own output channel by a line that no job
// prints by chance: markHead, the boot's nonce, the exit status, markEnd.
const (
	markHead = "\x1escrubd-lab "
	markEnd  = "\x1e"
)

// The boot script is the lab kernel's first process. It runs in a root that is
// the host's tree: what it mounts hides the host's /proc, /sys, /dev and /run
// from the job, and /tmp stays the host's.
const bootScript = `#!/bin/sh
PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
export PATH
mount -n -t proc proc /proc
mount -n -t sysfs sysfs /sys
mount -n -t tmpfs -o mode=755 run /run
mkdir -p /dev/pts /dev/shm
mount -n -t devpts devpts /dev/pts
mount -n -t tmpfs -o mode=1777 shm /dev/shm
mount -n -t debugfs debugfs /sys/kernel/debug
mount -n -t tracefs tracefs /sys/kernel/tracing
mount -n -t cgroup2 cgroup2 /sys/fs/cgroup
mkdir -m 1777 %[1]s
mount -n -t tmpfs -o mode=1777,size=80%% scratch %[1]s
ln -s /proc/self/fd /dev/fd
echo %[2]d > /proc/sys/kernel/hung_task_timeout_secs
echo -1 > /proc/sys/kernel/hung_task_warnings
ulimit -n 65536
stty -F /dev/ttyS0 raw -echo
setsid /bin/sh %[3]s < /dev/null > /dev/ttyS0 2>&1
status=$?
# Only the host's files: a job may leave a filesystem frozen or shut down.
sync -f /
printf '\036scrubd-lab %[4]s %%d\036' "$status" > /dev/ttyS0
echo o > /proc/sysrq-trigger
sleep 1000
`

// bootText is the boot script of one boot.
func bootText(jobPath, nonce string, hungSeconds int) string {
	return fmt.Sprintf(bootScript, scratchDir, hungSeconds, shellQuote(jobPath), nonce)
}

var shellName = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)

// jobText is the script that becomes the job: its environment and nothing else,
// its working directory, then the program.
func jobText(spec BootSpec) string {
	var text strings.Builder
	text.WriteString("#!/bin/sh\n")
	for _, entry := range spec.Env {
		name, value, _ := strings.Cut(entry, "=")
		if name != "TMPDIR" && shellName.MatchString(name) {
			fmt.Fprintf(&text, "export %s=%s\n", name, shellQuote(value))
		}
	}
	fmt.Fprintf(&text, "export TMPDIR=%s\n", scratchDir)
	fmt.Fprintf(&text, "cd %s || exit 125\n", shellQuote(spec.Dir))
	if spec.Script != "" {
		text.WriteString(spec.Script)
		text.WriteString("\n")
		return text.String()
	}
	text.WriteString("exec")
	for _, arg := range spec.Argv {
		text.WriteString(" " + shellQuote(arg))
	}
	text.WriteString("\n")
	return text.String()
}

// shellQuote makes s one word of /bin/sh.
func shellQuote(s string) string {
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}
