package metrics

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// Textfile is the name of the file for node_exporter in its directory.
const Textfile = "scrubd.prom"

// unix is a time as Prometheus has it.
func unix(t time.Time) float64 { return float64(t.UnixMilli()) / 1000 }

// gather has a snapshot told.
func gather(s *Snapshot) prometheus.Gatherer {
	r := prometheus.NewRegistry()
	r.MustRegister(collector{clean(s)})
	return r
}

// clean makes text of names that are none: labels are UTF-8, and names of mount
// points are bytes.
func clean(s *Snapshot) *Snapshot {
	c := *s
	c.Filesystems = make([]Filesystem, len(s.Filesystems))
	for i, f := range s.Filesystems {
		f.Mount = strings.ToValidUTF8(f.Mount, "\uFFFD")
		f.Device = strings.ToValidUTF8(f.Device, "\uFFFD")
		c.Filesystems[i] = f
	}
	return &c
}

// Handler answers with what take says then: in the text format of Prometheus, or
// as OpenMetrics where that is asked for.
func Handler(take func() Snapshot) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s := take()
		promhttp.HandlerFor(gather(&s), promhttp.HandlerOpts{EnableOpenMetrics: true}).ServeHTTP(w, r)
	})
}

// WriteTextfile writes the file for node_exporter into a directory: whoever reads
// finds the old one or the new one, whole, and anybody may read it.
//
// Errors: those of the system calls.
func WriteTextfile(dir string, s *Snapshot) error {
	name := filepath.Join(dir, Textfile)
	// A file that a crash left half written has a name of its own each time.
	left, err := filepath.Glob(name + "[0-9]*")
	if err == nil {
		for _, old := range left {
			if info, err := os.Lstat(old); err == nil && time.Since(info.ModTime()) > time.Hour {
				_ = os.Remove(old) // in nobody's way
			}
		}
	}
	if err := prometheus.WriteToTextfile(name, gather(s)); err != nil {
		return fmt.Errorf("write metrics to %s: %w", name, err)
	}
	return nil
}
