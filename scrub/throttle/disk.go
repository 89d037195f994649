package throttle

import (
	"fmt"
	"io/fs"
	"path"
	"strconv"
	"strings"
	"time"
)

const sector = 512

// diskCounts are counters of disks, added up.
type diskCounts struct {
	requests uint64
	waited   time.Duration // by all requests together
	bytes    uint64
}

func (c *diskCounts) add(d diskCounts) {
	c.requests += d.requests
	c.waited += d.waited
	c.bytes += d.bytes
}

// parseDisk reads a line of numbers as /sys/dev/block/M:N/stat has it: of reads
// (first) and of writes (fifth) each the requests, those merged, the sectors and
// the milliseconds that they took.
//
// Source: Documentation/block/stat.rst.
func parseDisk(text string) (diskCounts, error) {
	field := strings.Fields(text)
	if len(field) < 8 {
		return diskCounts{}, fmt.Errorf("%d numbers instead of 8 or more", len(field))
	}
	var n [8]uint64
	for i := range n {
		var err error
		if n[i], err = strconv.ParseUint(field[i], 10, 64); err != nil {
			return diskCounts{}, err
		}
	}
	return diskCounts{
		requests: n[0] + n[4],
		waited:   time.Duration(n[3]+n[7]) * time.Millisecond,
		bytes:    (n[2] + n[6]) * sector,
	}, nil
}

// readDisks adds up the counters of disks. Where one has none, all of them
// together say nothing.
func readDisks(root fs.FS, disks []string) (sum diskCounts, ok bool) {
	for _, d := range disks {
		text, err := fs.ReadFile(root, path.Join("sys/dev/block", d, "stat"))
		if err != nil {
			return diskCounts{}, false
		}
		c, err := parseDisk(string(text))
		if err != nil {
			return diskCounts{}, false
		}
		sum.add(c)
	}
	return sum, len(disks) > 0
}

// readOwnBytes returns what this process has had read from disks and written to
// them.
//
// Source: man 5 proc_pid_io.
func readOwnBytes(root fs.FS) (uint64, bool) {
	text, err := fs.ReadFile(root, "proc/self/io")
	if err != nil {
		return 0, false
	}
	var sum uint64
	found := 0
	for line := range strings.Lines(string(text)) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), ": ")
		if name != "read_bytes" && name != "write_bytes" {
			continue
		}
		n, err := strconv.ParseUint(value, 10, 64)
		if err != nil {
			return 0, false
		}
		sum += n
		found++
	}
	return sum, found == 2
}
