package main

import (
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/scrubd/scrubd/internal/lab"
)

// A run in the midst of the kernel's scrub of thousands of inodes, and what
// may happen to it: signals, a freeze, a lazy unmount, a shutdown. It ends, in
// time, with one sentence, and lets go of the mount.
func TestRunEndsInOrderInLab(t *testing.T) {
	image := labImage(t, lab.MkfsOptions{Size: 1 << 30}, func(fs *lab.LoopFS) {
		require.NoError(t, lab.Sample(fs.Dir(), lab.SampleSpec{Files: 10_000, SmallFiles: true, Workers: 4}))
	})
	lab.InKernel(t, func(t *testing.T) {
		scrubd := program(t)
		fs := mountLab(t, image)
		run := func(t *testing.T) *started {
			t.Helper()
			s := start(t, scrubd, "run", "--now", "--workers", "1", fs.Dir())
			// Into the scrub of the inodes, which SIGUSR1 tells.
			for began := time.Now(); !strings.Contains(s.log.String(), "% inodes "); time.Sleep(50 * time.Millisecond) {
				require.Less(t, time.Since(began), 2*time.Minute, s.log.String())
				require.NoError(t, s.cmd.Process.Signal(syscall.SIGUSR1))
			}
			return s
		}
		for _, signal := range []syscall.Signal{syscall.SIGINT, syscall.SIGTERM} {
			t.Run(signal.String(), func(t *testing.T) {
				s := run(t)
				began := time.Now()
				require.NoError(t, s.cmd.Process.Signal(signal))
				a := s.end(t)
				assert.Equal(t, exitOperational, a.status, a.out+a.log)
				assert.Contains(t, a.out, ": not finished: stopped by a signal ("+signal.String()+"); it was in phase inodes, ")
				assert.Contains(t, a.out, " inodes walked\n")
				require.NoError(t, unix.Unmount(fs.Dir(), 0), "the mount is free")
				assert.Less(t, time.Since(began), 5*time.Second)
				require.NoError(t, fs.Remount("rw"))
			})
		}
		t.Run("freeze", func(t *testing.T) {
			s := run(t)
			require.NoError(t, fs.Freeze())
			time.Sleep(time.Second)
			require.NoError(t, fs.Thaw())
			require.NoError(t, s.cmd.Process.Signal(syscall.SIGTERM))
			a := s.end(t)
			assert.Equal(t, exitOperational, a.status)
			assert.Contains(t, a.out, ": not finished: stopped by a signal")
		})
		t.Run("lazy unmount", func(t *testing.T) {
			s := run(t)
			began := time.Now()
			require.NoError(t, unix.Unmount(fs.Dir(), unix.MNT_DETACH))
			a := s.end(t)
			assert.Less(t, time.Since(began), 5*time.Second)
			assert.Equal(t, exitOperational, a.status)
			assert.Contains(t, a.out, ": not finished: "+fs.Dir()+": no longer mounted; it was in phase inodes")
			assert.Contains(t, a.log, "scrubd: what to do: it was unmounted lazily")
			require.NoError(t, fs.Remount("rw"))
		})
		t.Run("shutdown", func(t *testing.T) {
			s := run(t)
			began := time.Now()
			require.NoError(t, exec.Command("xfs_io", "-x", "-c", "shutdown", fs.Dir()).Run())
			a := s.end(t)
			assert.Less(t, time.Since(began), 5*time.Second)
			assert.Equal(t, exitOperational, a.status)
			assert.Contains(t, a.out, ": not finished: ")
			assert.Contains(t, a.out, "filesystem is shut down")
			assert.Contains(t, a.log, "scrubd: what to do: read the kernel's log (dmesg)")
			require.NoError(t, fs.Remount("rw"))
		})
	}, lab.WithTimeout(400*time.Second))
}

// What is refused, and what is checked, where the kernel has online scrub.
func TestMountsInLab(t *testing.T) {
	image := labImage(t, lab.MkfsOptions{}, func(fs *lab.LoopFS) {
		rootFS(t, fs)
		for _, name := range []string{"leased", "file"} {
			require.NoError(t, os.WriteFile(fs.Path(name), make([]byte, 16*4096), 0o600))
		}
	})
	lab.InKernel(t, func(t *testing.T) {
		scrubd := program(t)
		fs := mountLab(t, image)
		run := func(flags ...string) answer {
			return call(t, "/", append(append([]string{scrubd, "run", "--now"}, flags...), fs.Dir())...)
		}
		well := func(t *testing.T, a answer, mode string) {
			t.Helper()
			assert.Zero(t, a.status, a.out+a.log)
			assert.Contains(t, a.out, ", mode "+mode+"\nchecked: kernel-scrub, rmapbt, bnobt\n")
			assert.Contains(t, a.out, ": clean: all that this kernel and filesystem allow to check is well\n")
		}

		t.Run("probe", func(t *testing.T) {
			a := call(t, "/", scrubd, "probe", fs.Dir())
			assert.Zero(t, a.status, a.log)
			assert.Empty(t, a.log)
			for _, line := range []string{
				"kernel-scrub      yes", "repair            yes", "rmapbt            yes",
				"rmapbt        yes    yes", "bnobt         yes    yes", "bmapbtd       yes    yes",
				"fscounters    yes    yes", "usrquota      no     no      no quotas are in use",
				"directory     yes    no      the repair needs exchange-range, and this filesystem was made without it",
				"sb            yes    yes     the secondary superblocks; the primary one only offline",
			} {
				assert.Contains(t, a.out, "\n"+line+"\n")
			}
		})
		t.Run("writable", func(t *testing.T) {
			a := run("--require", "kernel-scrub,repair,rmapbt")
			well(t, a, "repair")
			assert.Empty(t, a.log)
		})
		t.Run("root of a mount namespace", func(t *testing.T) {
			for _, enter := range []string{enterChroot, enterPivot} {
				a := asRoot(t, fs, enter+"run --now --require kernel-scrub,repair,rmapbt /")
				well(t, a, "repair")
				assert.Contains(t, a.out, "\n/: clean: ")
			}
		})
		t.Run("lease", func(t *testing.T) {
			held, err := os.OpenFile(fs.Path("leased"), os.O_RDWR, 0)
			require.NoError(t, err)
			defer func() { _ = held.Close() }()
			_, err = unix.FcntlInt(held.Fd(), unix.F_SETLEASE, unix.F_WRLCK)
			require.NoError(t, err)
			began := time.Now()
			a := run()
			assert.Less(t, time.Since(began), 20*time.Second)
			well(t, a, "repair")
			assert.Contains(t, a.out, "note: 1 inode could not be opened because of leases, delegations or access scanners; the kernel's scrub checked them\n")
		})
		t.Run("read-only", func(t *testing.T) {
			require.NoError(t, fs.Remount("ro"))
			a := run("-n")
			assert.Zero(t, a.status, a.out+a.log)
			assert.Contains(t, a.out, ", mode check\nchecked: kernel-scrub, rmapbt, bnobt\n")
			assert.Empty(t, a.log)
			a = run()
			assert.Zero(t, a.status, a.out+a.log)
			assert.Equal(t, []string{fs.Dir() + ": " + gapReadOnly.String()}, sentences(t, a.log))
			oneSentence(t, run("--require", "repair"), "filesystem is read-only", "remount,rw")
			require.NoError(t, fs.Remount("ro", "norecovery"))
			oneSentence(t, run(), "filesystem is mounted without log recovery", "without norecovery")
			require.NoError(t, fs.Remount("rw"))
		})
		t.Run("without privilege", func(t *testing.T) {
			a := call(t, "/", "setpriv", "--bounding-set", "-sys_admin", "--inh-caps", "-sys_admin", scrubd, "run", "--now", fs.Dir())
			oneSentence(t, a, "not permitted", "CAP_SYS_ADMIN")
		})
		t.Run("without rmapbt", func(t *testing.T) {
			bare := lab.NewLoopFS(t, lab.MkfsOptions{Args: []string{"-m", "rmapbt=0,reflink=0"}})
			require.NoError(t, os.WriteFile(bare.Path("file"), make([]byte, 16*4096), 0o600))
			a := call(t, "/", scrubd, "run", "--now", bare.Dir())
			assert.Zero(t, a.status, a.out+a.log)
			assert.Contains(t, a.out, "\nchecked: kernel-scrub, bnobt\nnot checked: rmapbt (")
			assert.Contains(t, a.out, "repair (it needs the rmapbt as its source)")
			assert.Equal(t, []string{bare.Dir() + ": " + gapRmapbt.String()}, sentences(t, a.log))
			require.NoError(t, bare.Sync())
			ino := inodeOf(t, bare.Path("file"))
			require.NoError(t, bare.Unmount())
			_, err := lab.InjectImage(bare.Image(), lab.Fault{Class: lab.FaultForkStart, Ino: ino, Delta: 16})
			require.NoError(t, err)
			require.NoError(t, bare.Mount())
			a = call(t, "/", scrubd, "run", "--now", bare.Dir())
			t.Log(a.out)
			assert.Equal(t, exitCorruption, a.status, a.out+a.log)
			assert.Contains(t, a.out, "\nHELD critical: ")
			assert.Contains(t, a.out, bare.Dir()+": 1 finding: 1 held\n")
		})
	}, lab.WithTimeout(400*time.Second))
}
