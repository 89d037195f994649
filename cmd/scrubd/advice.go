package main

import (
	"errors"
	"fmt"
	"io/fs"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/scrubd/scrubd/ioctl"
	"github.com/scrubd/scrubd/scrub"
	"github.com/scrubd/scrubd/scrub/kernel"
	"github.com/scrubd/scrubd/service/daemon"
)

// advice is what to do about one kind of trouble. The libraries say what went
// wrong; only here is said what a person can do about it.
type advice struct {
	// problem is the part of the message that never changes. README.md has it
	// as a heading under "Troubleshooting", and a test holds the two together.
	problem string
	matches func(error) bool
	// todo is one sentence.
	todo func(error) string
}

// adviceBook is searched from the top: the particular stands above the general.
var adviceBook = []advice{
	{
		problem: "a run without --now is for a daemon to queue",
		matches: isA[*noDaemonError],
		todo: func(err error) string {
			var e *noDaemonError
			errors.As(err, &e)
			return "start the daemon (systemctl enable --now scrubd.service), or run in the foreground: " + runCommand(e.Paths...)
		},
	},
	{
		problem: "the daemon is not running",
		matches: func(err error) bool { return errors.Is(err, daemon.ErrNoDaemon) },
		todo:    func(error) string { return "systemctl enable --now scrubd.service starts it" },
	},
	{
		problem: "not a mount point",
		matches: isA[*notMountPointError],
		todo: func(err error) string {
			var e *notMountPointError
			errors.As(err, &e)
			return "a filesystem is checked as a whole; type: " + runCommand(e.MountPoint)
		},
	},
	{
		problem: "shows only a part of its filesystem",
		matches: isA[*partialMountError],
		todo: func(err error) string {
			var e *partialMountError
			errors.As(err, &e)
			if e.MountPoint != "" {
				return "name the mount that shows its root; type: " + runCommand(e.MountPoint)
			}
			return "run scrubd where the root of that filesystem is mounted: on the host, if this is a container"
		},
	},
	{
		problem: "a block device, not a mount point",
		matches: isA[*deviceError],
		todo: func(err error) string {
			var e *deviceError
			errors.As(err, &e)
			if e.MountPoint != "" {
				return "it is mounted; type: " + runCommand(e.MountPoint)
			}
			return "mount it and name the mount point; an unmounted filesystem is a matter for xfs_repair -n"
		},
	},
	{
		problem: ioctl.ErrNotXFS.Error(),
		matches: func(err error) bool { return isA[*notXFSError](err) || errors.Is(err, ioctl.ErrNotXFS) },
		todo: just("name the mount point of an XFS filesystem (findmnt -t xfs lists them); " +
			"if one should be here, it is not mounted"),
	},
	{
		problem: "no longer mounted",
		matches: isA[*unmountedError],
		todo: just("it was unmounted lazily, or is in another mount namespace; " +
			"go to where it is mounted and name that path"),
	},
	{
		problem: "no such file or directory",
		matches: func(err error) bool { return isLookup(err) && errors.Is(err, fs.ErrNotExist) },
		todo:    just("check the spelling; if a filesystem should be mounted there, mount it first"),
	},
	{
		problem: "/proc is not mounted",
		matches: isA[*noProcError],
		todo:    just("scrubd finds mounts there; type: mount -t proc proc /proc"),
	},
	{
		problem: ioctl.ErrNoRecovery.Error(),
		matches: func(err error) bool { return isA[*noRecoveryError](err) || errors.Is(err, ioctl.ErrNoRecovery) },
		todo: just("what the log still holds would look like damage; " +
			"unmount it and mount it without norecovery, so that the log is replayed"),
	},
	{
		problem: scrub.ErrForbidden.Error(),
		matches: func(err error) bool { return errors.Is(err, scrub.ErrForbidden) },
		todo: just("its owner wants no check; to check it all the same give --ignore-autofsck, " +
			"or change the property with xfs_property set autofsck=check"),
	},
	{
		problem: "is missing",
		matches: func(err error) bool { return errors.Is(err, scrub.ErrRequired) },
		todo: just("without --require it is checked as far as it can be; " +
			"scrubd probe PATH says what would bring the rest"),
	},
	{
		problem: ioctl.ErrShutdown.Error(),
		matches: func(err error) bool { return errors.Is(err, ioctl.ErrShutdown) },
		todo: just("read the kernel's log (dmesg) for the cause, unmount, mount again to replay the log, " +
			"and run scrubd again; if it does not mount, xfs_repair"),
	},
	{
		problem: ioctl.ErrLocked.Error(),
		matches: func(err error) bool { return errors.Is(err, ioctl.ErrLocked) },
		todo: just("another scrubd is at work on this filesystem, perhaps in a container or by another mount of it; " +
			"wait for it (fuser on the mount point names it)"),
	},
	{
		problem: ioctl.ErrFrozen.Error(),
		matches: func(err error) bool { return errors.Is(err, ioctl.ErrFrozen) },
		todo:    just("wait for the snapshot that froze it, or thaw it with xfs_freeze -u"),
	},
	{
		problem: "permission denied",
		matches: func(err error) bool { return isLookup(err) && errors.Is(err, fs.ErrPermission) },
		todo:    just("run scrubd as root"),
	},
	{
		problem: opLookup,
		matches: isLookup,
		todo:    just("name a path that leads to a mount point; namei -l shows where this one ends"),
	},
	{
		problem: ioctl.ErrPrivilege.Error(),
		matches: func(err error) bool { return errors.Is(err, ioctl.ErrPrivilege) },
		todo: just("run scrubd as root; in a container or a service it needs CAP_SYS_ADMIN in the host's user namespace " +
			"(--cap-add SYS_ADMIN, CapabilityBoundingSet=)"),
	},
	{
		problem: ioctl.ErrReadOnly.Error(),
		matches: func(err error) bool { return errors.Is(err, ioctl.ErrReadOnly) },
		todo:    just(todoReadOnly),
	},
	{
		problem: "is not supported",
		matches: func(err error) bool { return errors.Is(err, ioctl.ErrNotSupported) },
		todo: just("this kernel or this filesystem does not have what that needs; " +
			"scrubd probe PATH says what it has and what would bring the rest"),
	},
	{
		problem: ioctl.ErrCorrupt.Error(),
		matches: func(err error) bool { return errors.Is(err, ioctl.ErrCorrupt) },
		todo: just("the kernel could not read what scrubd needs to go on; " +
			"save what is dear, unmount, and look at what xfs_repair -n says"),
	},
	{
		problem: scrub.ErrForeign.Error(),
		matches: func(err error) bool { return errors.Is(err, scrub.ErrForeign) },
		todo: just("two that repair at once undo each other's work; run scrubd again when the other one is done, " +
			"or give it longer with --wait"),
	},
	{
		problem: "cannot be carried out",
		matches: isA[*scrub.ChoiceError],
		todo: just("nothing was done; scrubd run --now -n PATH shows the findings as they are now, their IDs, and what can be decided; " +
			"what stands against the repair has to be settled first"),
	},
	{
		problem: "the state directory cannot be used",
		matches: isA[*scrub.StateError],
		todo: just("no repair is run without its evidence and intent on disk; make room there (1 MiB and what the metadata blocks take), " +
			"make it writable, or name another place with --state-dir, on another filesystem"),
	},
	{
		problem: "refused the repairs",
		matches: isA[*vetoError],
		todo:    just("nothing was repaired; once the command agrees (exit status 0), run scrubd again"),
	},
	{
		problem: "a kernel call had not come back",
		matches: isA[*callStuckError],
		todo: func(err error) string {
			var e *callStuckError
			if errors.As(err, &e) && e.Hold != nil {
				return e.Hold.todo(e.Path) + "; the process of scrubd may last until then"
			}
			return "the end of scrubd makes the kernel give the call up where it looks for a fatal signal; " +
				"until then the mount stays busy, and if that lasts, read dmesg: only a reboot ends a call that hangs"
		},
	},
	{
		problem: "a bug in scrubd",
		matches: isA[*bugError],
		todo:    just("nothing more was done to the filesystem; please report this with the lines that follow"),
	},
	{
		problem: "write the report",
		matches: isA[*outputError],
		todo:    just("the run was stopped because nobody could read it; give scrubd an output that takes its report"),
	},
}

// repairBook is what to do about a repair that failed twice, by what the kernel
// said. The finding has the error itself.
var repairBook = []advice{
	{
		matches: func(err error) bool { return errors.Is(err, ioctl.ErrNoSpace) },
		todo: just("there is no room in its allocation group to build the new structure: delete or move files away, " +
			"then run scrubd again"),
	},
	{
		matches: func(err error) bool { return errors.Is(err, ioctl.ErrBusy) || errors.Is(err, kernel.ErrIncomplete) },
		todo: just("the kernel did not get the locks, or met blocks that were just freed: " +
			"run scrubd again when the filesystem is less busy"),
	},
	{
		matches: func(err error) bool { return errors.Is(err, ioctl.ErrReadOnly) },
		todo:    just(todoReadOnly),
	},
	{
		matches: func(err error) bool { return errors.Is(err, ioctl.ErrShutdown) },
		todo: just("the filesystem shut itself down: read dmesg, unmount, mount again to replay the log, run scrubd again; " +
			"if it does not mount, xfs_repair"),
	},
	{
		matches: func(err error) bool { return errors.Is(err, ioctl.ErrNotSupported) },
		todo: just("this kernel or filesystem has no such repair (scrubd probe says what would bring it): " +
			todoOffline),
	},
	{
		matches: func(err error) bool {
			return errors.Is(err, ioctl.ErrNoEntry) || errors.Is(err, ioctl.ErrStale)
		},
		todo: just("it was gone when the repair came to it: run scrubd again"),
	},
	{
		matches: func(err error) bool { return errors.Is(err, kernel.ErrUnproven) },
		todo: just("nothing bad is left to see, but what it is compared with is marked sick: run scrubd again, and if that stays so, " +
			todoOffline),
	},
	{
		matches: func(err error) bool { return errors.Is(err, ioctl.ErrCorrupt) || errors.Is(err, kernel.ErrStillBad) },
		todo:    just("the kernel finds what it would rebuild from corrupt as well: " + todoOffline),
	},
	{
		matches: func(err error) bool { return errors.Is(err, ioctl.ErrInterrupted) || errors.Is(err, unix.ENOMEM) },
		todo:    just("the kernel gave it up for want of memory or because of a signal: run scrubd again"),
	},
}

const todoOffline = "unmount and run xfs_repair -n, then xfs_repair"

// adviseRepair returns what to do about a repair that failed with err, nil when
// the kernel claimed success and the fault is still there.
func adviseRepair(err error) string {
	if err == nil {
		return todoOffline
	}
	for _, a := range repairBook {
		if a.matches(err) {
			return a.todo(err)
		}
	}
	return todoOffline
}

// advise returns what to do about an error, "" when there is nothing to say.
func advise(err error) string {
	if err == nil {
		return ""
	}
	for _, a := range adviceBook {
		if a.matches(err) {
			return a.todo(err)
		}
	}
	return ""
}

// gap is a part of the check that is missing here, and what would bring it.
type gap struct{ problem, todo string }

const todoReadOnly = "it is checked, but nothing can be repaired; " +
	"to repair, mount -o remount,rw and run scrubd again"

// The gaps. Their problems are headings of README.md, too.
var (
	gapScrub = gap{
		"this kernel has no online scrub",
		"only what the shadow can compare is checked; boot a kernel built with CONFIG_XFS_ONLINE_SCRUB=y " +
			"(and CONFIG_XFS_ONLINE_REPAIR=y to repair)",
	}
	gapRepair = gap{
		"this kernel has no online repair",
		"faults are reported, not repaired; boot a kernel built with CONFIG_XFS_ONLINE_REPAIR=y",
	}
	gapRmapbt = gap{
		"this filesystem has no rmapbt",
		"forks can be compared with free space and with each other only, and little can be repaired; " +
			"rmapbt is chosen when a filesystem is made (mkfs.xfs -m rmapbt=1)",
	}
	gapV4 = gap{
		"this filesystem has the V4 format",
		"it has no checksums and nothing of it can be repaired online; " +
			"move its files to a filesystem that mkfs.xfs made in its default format",
	}
	gapReadOnly = gap{ioctl.ErrReadOnly.Error(), todoReadOnly}
)

// allGaps is for the test that compares them with README.md.
var allGaps = []gap{gapScrub, gapRepair, gapRmapbt, gapV4, gapReadOnly}

// runCommand is the command line for a run, to copy and paste.
func runCommand(paths ...string) string {
	words := []string{"scrubd run --now"}
	for _, p := range paths {
		words = append(words, shellQuote(p))
	}
	return strings.Join(words, " ")
}

// just makes a todo that is the same for every error.
func just(s string) func(error) string { return func(error) string { return s } }

// isLookup tells whether the path of the command line is what could not be found.
func isLookup(err error) bool {
	var e *fs.PathError
	return errors.As(err, &e) && e.Op == opLookup
}

// isA tells whether an error of type T is in err's tree.
func isA[T error](err error) bool {
	var e T
	return errors.As(err, &e)
}

// String puts a gap in one line.
func (g gap) String() string { return fmt.Sprintf("%s: %s", g.problem, g.todo) }
