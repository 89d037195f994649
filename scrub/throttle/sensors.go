package throttle

import (
	"io/fs"
	"os"
	"time"
)

// sensors read the system and know what it was like before.
type sensors struct {
	root  fs.FS
	disks []string
	pid   int

	last reading
}

// reading is the state of all counters at one time.
type reading struct {
	at          time.Time
	system, own stalls
	pressure    bool // system is known
	group       string
	disks       diskCounts
	hasDisks    bool
	bytes       uint64 // of this process
	hasBytes    bool
}

func newSensors(root string, disks []string) sensors {
	return sensors{root: os.DirFS(root), disks: disks, pid: os.Getpid()}
}

// How much of the traffic of a disk has to be somebody else's for it to count
// as used by others: bytes a second, and a share.
const (
	othersBytes = 256 << 10
	othersShare = 0.1
)

// leastRequests is how many requests it takes to tell how long one does: the
// kernel counts their time in milliseconds.
const leastRequests = 10

// read looks at the system. The first time there is nothing to compare with, so
// that it tells nothing.
func (s *sensors) read(now time.Time) sample {
	next := reading{at: now}
	next.system, next.pressure = readStalls(s.root, systemFiles)
	if dir, alone := ownGroup(s.root, s.pid); alone {
		var names [resources]string
		for i, name := range groupFiles {
			names[i] = dir + "/" + name
		}
		if own, ok := readStalls(s.root, names); ok {
			next.own, next.group = own, dir
		}
	}
	next.disks, next.hasDisks = readDisks(s.root, s.disks)
	next.bytes, next.hasBytes = readOwnBytes(s.root)
	last := s.last
	s.last = next
	if last.at.IsZero() || !next.at.After(last.at) {
		return sample{blind: true}
	}
	return compare(&last, &next)
}

// compare says what happened between two readings.
func compare(last, next *reading) sample {
	took := next.at.Sub(last.at)
	out := sample{took: took, blind: !next.pressure && !next.hasDisks}
	disks := next.hasDisks && last.hasDisks && next.disks.requests >= last.disks.requests
	if disks {
		d := next.disks
		requests := d.requests - last.disks.requests
		if requests >= leastRequests && d.waited >= last.disks.waited {
			out.latency = (d.waited - last.disks.waited) / time.Duration(requests)
		}
		out.others = usedByOthers(last, next)
	}
	if !next.pressure || !last.pressure {
		return out
	}
	share := func(what int) float64 {
		others := next.system[what] - last.system[what]
		if next.group != "" && next.group == last.group {
			others -= next.own[what] - last.own[what]
		}
		return min(1, max(0, others.Seconds()/took.Seconds()))
	}
	known := next.group != ""
	out.memory = share(memory)
	if known {
		out.cpu = share(cpu)
	}
	// Where whoever waits for a disk cannot be told from us, others have to be seen
	// there; where nothing of disks is known, all that wait count.
	if known || out.others || !disks {
		out.io = share(disk)
	}
	return out
}

// usedByOthers tells whether the disks moved more bytes than this process had
// them move.
func usedByOthers(last, next *reading) bool {
	if !next.hasBytes || !last.hasBytes {
		return true
	}
	all, own := next.disks.bytes-last.disks.bytes, next.bytes-last.bytes
	if all <= own {
		return false
	}
	others := float64(all - own)
	return others >= othersBytes*next.at.Sub(last.at).Seconds() && others >= othersShare*float64(all)
}
