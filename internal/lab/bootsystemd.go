package lab

import (
	"fmt"
	"os"
	"path/filepath"
)

// WithSystemd boots the root with the newest tools ([SidRoot]) with systemd as
// its first process, journald and D-Bus included, instead of the machine's own
// tree. What the machine has beside a system's usual directories, /tmp and the
// home directories among them, is there as it is outside; all else that is
// written goes with the kernel. No timer of the root runs (apt's and xfs_scrub's
// would, in a test that sets the clock).
func WithSystemd() Option { return func(s *BootSpec) { s.Systemd = true } }

// systemdScript is the lab kernel's first process when systemd is to follow: it
// lays a layer in memory over the root, and makes that the root.
const systemdScript = `#!/bin/sh
PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
export PATH
mount -n -t proc proc /proc
mount -n -t tmpfs -o mode=755 run /run
mkdir /run/upper /run/work /run/root
mount -n -t overlay -o lowerdir=%[1]s,upperdir=/run/upper,workdir=/run/work overlay /run/root || exit 1
root=/run/root
for dir in /*; do
	case $dir in
	/bin|/boot|/dev|/etc|/lib*|/opt|/proc|/run|/sbin|/sys|/usr|/var|/lost+found) ;;
	*) [ ! -d "$dir" ] || { mkdir -p "$root$dir" && mount -n --bind "$dir" "$root$dir"; } ;;
	esac
done
echo 0123456789abcdef0123456789abcdef > $root/etc/machine-id
echo lab > $root/etc/hostname
: > $root/etc/fstab
mkdir -p $root/etc/systemd/journald.conf.d $root/host
printf '[Journal]\nStorage=volatile\nForwardToConsole=no\nRateLimitIntervalSec=0\n' > $root/etc/systemd/journald.conf.d/lab.conf
for unit in tmp.mount systemd-resolved.service systemd-networkd.service systemd-timesyncd.service \
	getty.target systemd-logind.service systemd-udevd.service systemd-udev-trigger.service \
	systemd-udevd-kernel.socket systemd-udevd-control.socket systemd-udevd-varlink.socket \
	systemd-hwdb-update.service ldconfig.service systemd-update-done.service \
	systemd-journal-catalog-update.service systemd-firstboot.service timers.target; do
	ln -sf /dev/null "$root/etc/systemd/system/$unit"
done
printf '[Unit]\nRequires=basic.target lab-job.service\nAfter=basic.target\nAllowIsolate=yes\n' > $root/etc/systemd/system/lab.target
printf '[Unit]\nAfter=basic.target\n[Service]\nType=oneshot\nExecStart=/bin/sh %%s\nTimeoutStartSec=infinity\n' %[2]s > $root/etc/systemd/system/lab-job.service
umount -n /proc
cd $root || exit 1
pivot_root . host
exec chroot . /lib/systemd/systemd --system --unit=lab.target --log-target=journal-or-kmsg --log-level=notice --show-status=no < /dev/null
`

// systemdJob is what the unit lab-job.service runs.
const systemdJob = `#!/bin/sh
PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
export PATH
mkdir -m 1777 %[1]s
mount -n -t tmpfs -o mode=1777,size=80%% scratch %[1]s
echo %[2]d > /proc/sys/kernel/hung_task_timeout_secs
echo -1 > /proc/sys/kernel/hung_task_warnings
ulimit -n 65536
stty -F /dev/ttyS0 raw -echo
setsid /bin/sh %[3]s < /dev/null > /dev/ttyS0 2>&1
status=$?
printf '\036scrubd-lab %[4]s %%d\036' "$status" > /dev/ttyS0
echo o > /proc/sysrq-trigger
sleep 1000
`

// systemdText is the boot script of a boot with systemd; it writes what that
// needs beside into dir.
func systemdText(dir, jobPath, nonce string, hungSeconds int) (string, error) {
	root, err := SidRoot()
	if err != nil {
		return "", err
	}
	run := filepath.Join(dir, "systemd-job")
	text := fmt.Sprintf(systemdJob, scratchDir, hungSeconds, shellQuote(jobPath), nonce)
	if err := os.WriteFile(run, []byte(text), 0o700); err != nil {
		return "", fmt.Errorf("write the job of systemd: %w", err)
	}
	return fmt.Sprintf(systemdScript, shellQuote(root), shellQuote(run)), nil
}
