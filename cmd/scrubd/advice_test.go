package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/scrubd/scrubd/ioctl"
	"github.com/scrubd/scrubd/scrub"
	"github.com/scrubd/scrubd/scrub/kernel"
	"github.com/scrubd/scrubd/service/daemon"
)

// adviceCases is one error for each entry of the advice book, as it comes up.
var adviceCases = []struct {
	name    string
	err     error
	problem string // what the message has to contain
	todo    string // what the advice has to contain
}{
	{
		"no daemon to queue", &noDaemonError{Paths: []string{"/data", "/my srv"}, Err: daemon.ErrNoDaemon},
		"a run without --now is for a daemon to queue", "scrubd run --now /data '/my srv'",
	},
	{
		"no daemon", fmt.Errorf("ask the daemon at /run/scrubd.sock: %w", daemon.ErrNoDaemon),
		"the daemon is not running", "systemctl enable --now scrubd.service",
	},
	{
		"directory of an XFS", &notMountPointError{Path: "/data/sub", MountPoint: "/data"},
		"/data/sub: not a mount point", "type: scrubd run --now /data",
	},
	{
		"bind mount", &partialMountError{Path: "/bind", Root: "/sub", MountPoint: "/data"},
		"/bind: shows only a part of its filesystem (the directory /sub)", "type: scrubd run --now /data",
	},
	{
		"container volume", &partialMountError{Path: "/vol", Root: "/sub"},
		"shows only a part of its filesystem", "on the host",
	},
	{
		"device", &deviceError{Path: "/dev/sda1", MountPoint: "/data"},
		"a block device, not a mount point", "type: scrubd run --now /data",
	},
	{
		"unmounted device", &deviceError{Path: "/dev/sda1"},
		"a block device, not a mount point", "mount it",
	},
	{
		"other filesystem", &notXFSError{Path: "/boot", FSType: "ext4", MountPoint: "/boot"},
		"/boot: not an XFS filesystem (ext4 is mounted at /boot)", "findmnt -t xfs",
	},
	{
		"other filesystem, seen late", fmt.Errorf("open /boot: %w", ioctl.ErrNotXFS),
		"not an XFS filesystem", "findmnt -t xfs",
	},
	{
		"lazy unmount", &unmountedError{Path: "."},
		".: no longer mounted", "unmounted lazily",
	},
	{
		"no such path", &fs.PathError{Op: opLookup, Path: "/nope", Err: unix.ENOENT},
		"look up /nope: no such file or directory", "check the spelling",
	},
	{
		"norecovery", &noRecoveryError{Path: "/data"},
		"/data: filesystem is mounted without log recovery", "without norecovery",
	},
	{
		"norecovery, said by the kernel", &ioctl.Error{Op: "scrub", Path: "/data", Errno: unix.ENOTRECOVERABLE},
		"filesystem is mounted without log recovery", "without norecovery",
	},
	{
		"autofsck=none", fmt.Errorf("run on /data: %w", scrub.ErrForbidden),
		"run on /data: its autofsck property forbids any check", "--ignore-autofsck",
	},
	{
		"a required part", &scrub.RequireError{Path: "/data", Missing: []scrub.Uncovered{{What: "rmapbt", Why: "made without it"}}},
		"run on /data: required rmapbt is missing: made without it", "scrubd probe",
	},
	{
		"shut down", &ioctl.Error{Op: "bulkstat", Path: "/data", Errno: unix.EIO, Down: true},
		"filesystem is shut down", "dmesg",
	},
	{
		"second run", fmt.Errorf("lock /data: %w", ioctl.ErrLocked),
		ioctl.ErrLocked.Error(), "another scrubd",
	},
	{
		"frozen", fmt.Errorf("/data: %w", ioctl.ErrFrozen),
		"filesystem is already frozen", "xfs_freeze -u",
	},
	{
		"unreadable path", &fs.PathError{Op: opLookup, Path: "/data", Err: unix.EACCES},
		"permission denied", "as root",
	},
	{
		"a path that leads nowhere", &fs.PathError{Op: opLookup, Path: "/data", Err: unix.ELOOP},
		"look up /data: too many levels of symbolic links", "namei",
	},
	{
		"no /proc", fmt.Errorf("find the mount of /: %w", &noProcError{Err: fs.ErrNotExist}),
		"find the mount of /: /proc is not mounted", "mount -t proc proc /proc",
	},
	{
		"no CAP_SYS_ADMIN", &ioctl.Error{Op: "bulkstat", Path: "/data", Errno: unix.EPERM},
		"not permitted (CAP_SYS_ADMIN is needed)", "CapabilityBoundingSet=",
	},
	{
		"read-only", &ioctl.Error{Op: "repair", Path: "/data", Errno: unix.EROFS},
		"filesystem is read-only", "remount,rw",
	},
	{
		"kernel without scrub",
		&ioctl.Error{
			Op: "scrub", Path: "/data", Errno: unix.ENOTTY,
			Unsupported: &ioctl.UnsupportedFeatureError{
				Feature: "online scrub", Reason: "the kernel is built without CONFIG_XFS_ONLINE_SCRUB",
			},
		},
		"online scrub is not supported: the kernel is built without CONFIG_XFS_ONLINE_SCRUB", "scrubd probe",
	},
	{
		"unreadable metadata", &ioctl.Error{Op: "fsmap", Path: "/data", Errno: unix.EUCLEAN},
		"metadata is corrupt", "xfs_repair -n",
	},
	{
		"xfs_scrub at work", &scrub.ForeignError{Path: "/data", Who: []string{"xfs_scrub, process 7"}, Waited: 600e9},
		"/data: another program scrubs or repairs this filesystem (xfs_scrub, process 7), and still does after 10m0s", "--wait",
	},
	{
		"a decision about what is gone", &scrub.ChoiceError{FindingID: "1a2b", Trust: "rmap", Unknown: true, Whys: []string{"there is no such finding now"}},
		"trusting the rmap in finding 1a2b cannot be carried out: there is no such finding now", "scrubd run --now -n PATH",
	},
	{
		"full state directory", &scrub.StateError{Err: &fs.PathError{Op: "write", Path: "/var/lib/scrubd/x/intents", Err: unix.ENOSPC}},
		"the state directory cannot be used: write /var/lib/scrubd/x/intents: no space left on device", "--state-dir",
	},
	{
		"veto", &vetoError{Command: "false", Err: errors.New("exit status 1")},
		"refused the repairs (false: exit status 1)", "run scrubd again",
	},
	{
		"stuck call", &callStuckError{Call: "scrub rmapbt AG 3"},
		"a kernel call had not come back (scrub rmapbt AG 3)", "reboot",
	},
	{
		"panic", &bugError{Panic: "index out of range"},
		"a bug in scrubd: index out of range", "report this",
	},
	{
		"closed pipe", &outputError{Err: unix.EPIPE},
		"write the report: broken pipe", "an output that takes its report",
	},
}

func TestAdviceNamesProblemAndWayOut(t *testing.T) {
	for _, c := range adviceCases {
		t.Run(c.name, func(t *testing.T) {
			// Wrapped as it may come out of a run.
			err := fmt.Errorf("phase walk: %w", c.err)
			assert.Contains(t, c.err.Error(), c.problem)
			todo := advise(err)
			assert.Contains(t, todo, c.todo)
			assert.NotContains(t, todo, "\n", "one sentence, one line")
			assert.NotContains(t, todo, ". ", "one sentence")
		})
	}
}

// Each entry has to be reachable: an entry above may not take its errors.
func TestEveryAdviceIsReached(t *testing.T) {
	for i, a := range adviceBook {
		reached := slices.ContainsFunc(adviceCases, func(c struct {
			name    string
			err     error
			problem string
			todo    string
		},
		) bool {
			first := slices.IndexFunc(adviceBook, func(a advice) bool { return a.matches(c.err) })
			return first == i && strings.Contains(c.err.Error(), a.problem)
		})
		assert.True(t, reached, "no error reaches the advice for %q", a.problem)
	}
}

// Each class of failed repairs has its own advice, found by an error as the
// kernel room gives it, and each entry of the book is reached.
func TestAdviceOnFailedRepairs(t *testing.T) {
	call := func(errno unix.Errno) error {
		return &kernel.RepairError{Err: &ioctl.Error{Op: "repair", Type: ioctl.ScrubTypeRMAPBT, Scope: ioctl.ScopeAG, Errno: errno}}
	}
	reached := make([]bool, len(repairBook))
	for _, c := range []struct {
		err  error
		todo string
	}{
		{nil, "xfs_repair"},
		{errors.New("something new"), "xfs_repair"},
		{call(unix.ENOSPC), "delete or move files"},
		{call(unix.EDEADLK), "less busy"},
		{call(unix.EBUSY), "less busy"},
		{&kernel.RepairError{Err: kernel.ErrIncomplete}, "less busy"},
		{call(unix.EUCLEAN), "corrupt as well"},
		{call(unix.EBADMSG), "corrupt as well"},
		{&kernel.RepairError{Err: kernel.ErrStillBad}, "corrupt as well"},
		{call(unix.ESHUTDOWN), "dmesg"},
		{call(unix.EOPNOTSUPP), "no such repair"},
		{call(unix.EROFS), "remount,rw"},
		{call(unix.ENOENT), "gone"},
		{call(unix.EINTR), "signal"},
		{call(unix.ENOMEM), "memory"},
		{&kernel.RepairError{Err: kernel.ErrUnproven}, "marked sick"},
	} {
		todo := adviseRepair(c.err)
		assert.Contains(t, todo, c.todo, "%v", c.err)
		assert.NotContains(t, todo, "\n")
		if i := slices.IndexFunc(repairBook, func(a advice) bool { return c.err != nil && a.matches(c.err) }); i >= 0 {
			reached[i] = true
		}
	}
	for i := range reached {
		assert.True(t, reached[i], "entry %d is never reached: %s", i, repairBook[i].todo(nil))
	}
}

func TestAdviceIsSilentOnWhatItDoesNotKnow(t *testing.T) {
	assert.Empty(t, advise(nil))
	assert.Empty(t, advise(errors.New("something new")))
	assert.Empty(t, advise(context.Canceled))
	// A missing state directory is not a missing mount point.
	assert.Empty(t, advise(&fs.PathError{Op: "open", Path: "/state", Err: unix.ENOENT}))
}

// README.md's troubleshooting has exactly the problems that advice exists for,
// word for word, so that a search for a message finds its heading.
func TestReadmeHasEveryProblemAsHeading(t *testing.T) {
	readme, err := os.ReadFile("../../README.md")
	require.NoError(t, err)
	_, section, found := strings.Cut(string(readme), "\n## Troubleshooting\n")
	require.True(t, found, "README.md has no section Troubleshooting")
	section, _, _ = strings.Cut(section, "\n## ")

	var headings []string
	for _, m := range regexp.MustCompile("(?m)^### `(.+)`$").FindAllStringSubmatch(section, -1) {
		headings = append(headings, m[1])
	}
	var problems []string
	for _, a := range adviceBook {
		problems = append(problems, a.problem)
	}
	for _, g := range allGaps {
		if !slices.Contains(problems, g.problem) {
			problems = append(problems, g.problem)
		}
	}
	assert.ElementsMatch(t, problems, headings)
}
