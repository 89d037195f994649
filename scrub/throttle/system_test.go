package throttle

import (
	"fmt"
	"io/fs"
	"testing/fstest"
	"time"
)

// system is a machine of which every number is made up; its counters go on with
// the clock.
type system struct {
	began time.Time
	files map[string]func(up time.Duration) string
}

func newSystem() *system {
	return &system{began: time.Now(), files: map[string]func(time.Duration) string{}}
}

// Open implements fs.FS.
func (s *system) Open(name string) (fs.File, error) {
	text, ok := s.files[name]
	if !ok {
		return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrNotExist}
	}
	return fstest.MapFS{name: {Data: []byte(text(time.Since(s.began)))}}.Open(name)
}

// stall has some task wait for a share of the time.
func (s *system) stall(name string, share float64) {
	s.files[name] = func(up time.Duration) string {
		total := time.Duration(share * float64(up)).Microseconds()
		return fmt.Sprintf("some avg10=1.00 avg60=1.00 avg300=1.00 total=%d\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=0\n", total)
	}
}

// disk has a disk do requests of 4 KiB, so many a second.
func (s *system) disk(number string, requests int, latency time.Duration) {
	s.files["sys/dev/block/"+number+"/stat"] = func(up time.Duration) string {
		n := int(up.Seconds() * float64(requests))
		return fmt.Sprintf("%8d 0 %8d %8d 0 0 0 0 0 0 0 0 0 0 0 0 0\n", n, 8*n, (time.Duration(n) * latency).Milliseconds())
	}
}

// own has this process read that much a second.
func (s *system) own(bytes int) {
	s.files["proc/self/io"] = func(up time.Duration) string {
		return fmt.Sprintf("rchar: 1\nwchar: 2\nsyscr: 3\nsyscw: 4\nread_bytes: %d\nwrite_bytes: 0\ncancelled_write_bytes: 0\n",
			int(up.Seconds()*float64(bytes)))
	}
}

// group puts this process and others into a control group.
func (s *system) group(path string, pids ...int) {
	s.files["proc/self/cgroup"] = func(time.Duration) string { return "0::" + path + "\n" }
	s.files["sys/fs/cgroup"+path+"/cgroup.procs"] = func(time.Duration) string {
		text := ""
		for _, pid := range pids {
			text += fmt.Sprintln(pid)
		}
		return text
	}
}
