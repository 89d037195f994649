package xfile

import (
	"fmt"
	"io/fs"
	"math"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/stretchr/testify/require"
)

// tree makes a file system of the lines "path: content".
func tree(files map[string]string) fstest.MapFS {
	m := fstest.MapFS{}
	for name, content := range files {
		m[name] = &fstest.MapFile{Data: []byte(content + "\n")}
	}
	return m
}

// with returns files and more over them; an empty content removes a file.
func with(files, more map[string]string) map[string]string {
	all := map[string]string{}
	for _, m := range []map[string]string{files, more} {
		for k, v := range m {
			all[k] = v
			if v == "" {
				delete(all, k)
			}
		}
	}
	return all
}

const mib = 1 << 20

var machine = map[string]string{
	"proc/meminfo":        "MemTotal: 8388608 kB\nMemAvailable: 4194304 kB\nSwapTotal: 1048576 kB\nSwapFree: 0 kB\nHugePages_Total: 0",
	"proc/self/cgroup":    "0::/system.slice/scrubd.service",
	"proc/self/mountinfo": "21 1 0:20 / /proc rw - proc proc rw\n30 1 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate",
}

var machineV1 = with(machine, map[string]string{
	"proc/self/cgroup":    "12:pids:/\n4:cpu,memory:/job/one\n1:name=systemd:/job\n0::/",
	"proc/self/mountinfo": "31 1 0:29 / /cg/cpu\\040x rw - cgroup cgroup rw,cpu,memory\n32 1 0:30 / /cg/pids rw - cgroup cgroup rw,pids",
})

// unlimitedV1 is what a v1 kernel says where there is no limit.
var unlimitedV1 = fmt.Sprint(int64(math.MaxInt64 &^ 4095))

func TestSystemLeft(t *testing.T) {
	const (
		leaf = "sys/fs/cgroup/system.slice/scrubd.service/"
		mid  = "sys/fs/cgroup/system.slice/"
		job  = "cg/cpu x/job/one/"
	)
	free := int64(4096*mib) - headroom(8192*mib)
	mb := func(n int64) string { return fmt.Sprint(n * mib) }
	for _, test := range []struct {
		name  string
		base  map[string]string
		files map[string]string
		left  int64
		bound string
	}{
		{"no cgroups at all", machine, map[string]string{"proc/self/cgroup": "\n"}, free, "MemAvailable of /proc/meminfo"},
		{"no limits", machine, map[string]string{leaf + "memory.max": "max", leaf + "memory.high": "max"}, free, "MemAvailable of /proc/meminfo"},
		{"swap of the machine", machine, map[string]string{
			"proc/meminfo": "MemTotal: 8388608 kB\nMemAvailable: 4194304 kB\nSwapFree: 819200 kB",
		}, free + 700*mib, "MemAvailable of /proc/meminfo"},
		{"memory.max", machine, map[string]string{
			leaf + "memory.max": mb(800), leaf + "memory.high": "max", leaf + "memory.current": mb(300),
		}, (800 - 300 - 100) * mib, "/" + leaf + "memory.max"},
		{"memory.high below memory.max", machine, map[string]string{
			leaf + "memory.max": mb(800), leaf + "memory.high": mb(400), leaf + "memory.current": mb(300),
		}, (400 - 300 - 50) * mib, "/" + leaf + "memory.high"},
		{"a level above", machine, map[string]string{
			leaf + "memory.max": mb(3000), leaf + "memory.current": mb(10),
			mid + "memory.max": mb(1600), mid + "memory.current": mb(1000),
		}, (1600 - 1000 - 200) * mib, "/" + mid + "memory.max"},
		{"cache would be dropped", machine, map[string]string{
			leaf + "memory.max": mb(800), leaf + "memory.current": mb(700),
			leaf + "memory.stat": fmt.Sprintf("anon 5\ninactive_file %d\nactive_file %d\nslab_reclaimable %d\nshmem 7", 100*mib, 40*mib, 20*mib),
		}, (800 - 700 + 100 + 20 + 10 - 100) * mib, "/" + leaf + "memory.max"},
		{"over the limit", machine, map[string]string{
			leaf + "memory.max": mb(100), leaf + "memory.current": mb(200),
		}, 0, "/" + leaf + "memory.max"},
		{"tiny", machine, map[string]string{
			leaf + "memory.max": mb(20), leaf + "memory.current": "0",
		}, 10 * mib, "/" + leaf + "memory.max"},
		{"swap below its own limit", machine, map[string]string{
			"proc/meminfo":      "MemTotal: 8388608 kB\nMemAvailable: 4194304 kB\nSwapFree: 4096000 kB",
			leaf + "memory.max": mb(800), leaf + "memory.current": mb(300),
			leaf + "memory.swap.max": mb(100), leaf + "memory.swap.current": mb(20),
		}, (800 - 300 - 100 + 70) * mib, "/" + leaf + "memory.max"},
		{"a namespace: the root of the mount is below the hierarchy's", machine, map[string]string{
			"proc/self/cgroup":         "0::/pod/ctr",
			"proc/self/mountinfo":      "30 1 0:26 /pod /sys/fs/cgroup rw - cgroup2 cgroup2 rw",
			"sys/fs/cgroup/memory.max": mb(800), "sys/fs/cgroup/memory.current": mb(100),
			"sys/fs/cgroup/ctr/memory.max": mb(400), "sys/fs/cgroup/ctr/memory.current": mb(100),
		}, (400 - 100 - 50) * mib, "/sys/fs/cgroup/ctr/memory.max"},
		{"a cgroup outside of the mount", machine, map[string]string{
			"proc/self/cgroup":    "0::/../elsewhere",
			"proc/self/mountinfo": "30 1 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw",
		}, free, "MemAvailable of /proc/meminfo"},
		{"another tree is mounted", machine, map[string]string{
			"proc/self/cgroup":         "0::/podium/x",
			"proc/self/mountinfo":      "30 1 0:26 /pod /sys/fs/cgroup rw - cgroup2 cgroup2 rw",
			"sys/fs/cgroup/memory.max": "1",
		}, free, "MemAvailable of /proc/meminfo"},
		{"lines that say nothing", machine, map[string]string{
			"proc/self/cgroup":    "garbage\n0::/a",
			"proc/self/mountinfo": "garbage\n1 2 3 - cgroup2\n1 2 0:1 / /x rw - \n30 1 0:26 / /cg rw - cgroup2 c rw\n",
			"cg/a/memory.max":     mb(100), "cg/a/memory.current": "0",
		}, (100 - 24) * mib, "/cg/a/memory.max"},

		{"v1 without limits", machineV1, map[string]string{
			job + "memory.limit_in_bytes": unlimitedV1, job + "memory.memsw.limit_in_bytes": unlimitedV1,
		}, free, "MemAvailable of /proc/meminfo"},
		{"v1 limit", machineV1, map[string]string{
			job + "memory.limit_in_bytes": mb(800), job + "memory.usage_in_bytes": mb(500),
			job + "memory.stat":       fmt.Sprintf("inactive_file 1\ntotal_inactive_file %d", 100*mib),
			job + "memory.swappiness": "60",
		}, (800 - 500 + 100 - 100) * mib, "/" + job + "memory.limit_in_bytes"},
		{"v1 swappiness 0", machineV1, map[string]string{
			"proc/meminfo":                "MemTotal: 8388608 kB\nMemAvailable: 4194304 kB\nSwapFree: 4096000 kB",
			job + "memory.limit_in_bytes": mb(800), job + "memory.usage_in_bytes": mb(500),
			job + "memory.swappiness": "0",
		}, 200 * mib, "/" + job + "memory.limit_in_bytes"},
		{"v1 memory and swap together", machineV1, map[string]string{
			"proc/meminfo":                "MemTotal: 8388608 kB\nMemAvailable: 4194304 kB\nSwapFree: 4096000 kB",
			job + "memory.limit_in_bytes": mb(800), job + "memory.usage_in_bytes": mb(500),
			job + "memory.memsw.limit_in_bytes": mb(880), job + "memory.memsw.usage_in_bytes": mb(500),
			job + "memory.swappiness": "60",
		}, (880 - 500 - 190/2 + 0) * mib, "the limit of memory and swap together"},
	} {
		t.Run(test.name, func(t *testing.T) {
			left, bound, err := systemLeft(tree(with(test.base, test.files)))
			require.NoError(t, err)
			if strings.HasPrefix(bound, "the limit of") {
				test.left = 380*mib - headroom(380*mib)
			}
			require.Equal(t, test.bound, bound)
			require.Equal(t, test.left, left)
		})
	}
}

// TestSystemUnreadable: what cannot be read or understood is an error, never a
// budget out of thin air.
func TestSystemUnreadable(t *testing.T) {
	const leaf = "sys/fs/cgroup/system.slice/scrubd.service/"
	const job = "cg/cpu x/job/one/"
	limited := with(machine, map[string]string{leaf + "memory.max": "1000", leaf + "memory.current": "1"})
	limitedV1 := with(machineV1, map[string]string{
		job + "memory.limit_in_bytes": "1000", job + "memory.memsw.limit_in_bytes": "1000",
	})
	for name, files := range map[string]map[string]string{
		"no meminfo":   with(machine, map[string]string{"proc/meminfo": ""}),
		"no cgroup":    with(machine, map[string]string{"proc/self/cgroup": ""}),
		"no mountinfo": with(machine, map[string]string{"proc/self/mountinfo": ""}),
		"max":          with(limited, map[string]string{leaf + "memory.max": "many"}),
		"high":         with(limited, map[string]string{leaf + "memory.high": "-1"}),
		"current":      with(limited, map[string]string{leaf + "memory.current": "x"}),
		"stat":         with(limited, map[string]string{leaf + "memory.stat/dir": "a directory"}),
		"swap max":     with(limited, map[string]string{leaf + "memory.swap.max": "x"}),
		"swap current": with(limited, map[string]string{leaf + "memory.swap.max": "1", leaf + "memory.swap.current": "x"}),
		"v1 limit":     with(limitedV1, map[string]string{job + "memory.limit_in_bytes": "x"}),
		"v1 usage":     with(limitedV1, map[string]string{job + "memory.usage_in_bytes": "x"}),
		"v1 memsw":     with(limitedV1, map[string]string{job + "memory.memsw.limit_in_bytes": "x"}),
		"v1 both":      with(limitedV1, map[string]string{job + "memory.memsw.usage_in_bytes": "x"}),
		"v1 stat":      with(limitedV1, map[string]string{job + "memory.stat/dir": "a directory"}),
		"v1 swappy":    with(limitedV1, map[string]string{job + "memory.swappiness": "x"}),
		"unreadable":   with(limited, map[string]string{leaf + "memory.max": "", leaf + "memory.max/dir": "a directory"}),
	} {
		_, err := systemBudget(tree(files))
		require.ErrorContains(t, err, "find out how much memory may be used", name)
	}
}

func TestSystemBudget(t *testing.T) {
	b, err := SystemBudget()
	require.NoError(t, err)
	require.Positive(t, b.Left(Memory))
	require.NotEmpty(t, b.Bound())
	f := newTestFile(t, Options{Name: "system", Budget: b})
	_, err = f.AllocPages(100)
	require.NoError(t, err)
	// Nobody has this much.
	require.False(t, b.WouldFit(1<<50))
	require.ErrorIs(t, second(f.AllocPages(maxFile/PageSize-200)), ErrBudget)
}

func TestUnescapeMount(t *testing.T) {
	require.Equal(t, "/a b\\c\t", unescapeMount(`/a\040b\134c\011`))
	require.Equal(t, `/a\9zz\04`, unescapeMount(`/a\9zz\04`))
}

// FuzzSystem feeds the readers garbage: any answer will do, but no panic and
// no negative budget.
func FuzzSystem(f *testing.F) {
	f.Add(machine["proc/meminfo"], machine["proc/self/cgroup"], machine["proc/self/mountinfo"], "123", "max")
	f.Add(machine["proc/meminfo"], machineV1["proc/self/cgroup"], machineV1["proc/self/mountinfo"], "9223372036854771712", "18446744073709551615")
	f.Fuzz(func(t *testing.T, meminfo, cgroup, mountinfo, number, number2 string) {
		root := everyFile{tree(map[string]string{
			"proc/meminfo": meminfo, "proc/self/cgroup": cgroup, "proc/self/mountinfo": mountinfo,
		}), []string{number, number2}, 0}
		left, _, err := systemLeft(&root)
		if err == nil && left < 0 {
			t.Fatalf("%d bytes left", left)
		}
	})
}

// everyFile answers any other name with one of its contents in turn.
type everyFile struct {
	fstest.MapFS
	contents []string
	n        int
}

func (e *everyFile) ReadFile(name string) ([]byte, error) {
	b, err := fs.ReadFile(e.MapFS, name)
	if err != nil && fs.ValidPath(name) {
		e.n++
		return []byte(e.contents[e.n%len(e.contents)]), nil
	}
	return b, err
}
