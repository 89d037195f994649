package daemon

import (
	"errors"
	"time"

	"github.com/scrubd/scrubd/service/config"
	"github.com/scrubd/scrubd/service/metrics"
	"github.com/scrubd/scrubd/service/record"
	"github.com/scrubd/scrubd/service/schedule"
)

// MetricsAlone is what the metrics tell where there is no daemon: the records of
// the filesystems that are mounted where their last run found them.
//
// Errors: those of reading; what could be read is in the snapshot.
func MetricsAlone(store *record.Store, c *config.Config, mounts []Mount, now time.Time) (metrics.Snapshot, error) {
	s := metrics.Snapshot{Now: now}
	uuids, failed := store.Filesystems()
	at := map[string]*Mount{}
	for i := range mounts {
		at[mounts[i].Point] = &mounts[i]
	}
	newest := map[string]int{} // by mount point, the filesystem that was there last
	for _, uuid := range uuids {
		runs, err := store.History(uuid)
		failed = errors.Join(failed, err)
		last := record.Last(runs)
		if last == nil {
			continue
		}
		m := at[last.Mount]
		if m == nil {
			continue
		}
		f := metrics.Filesystem{UUID: uuid, Mount: m.Point, Device: m.Source, Since: runs[0].Began}
		failed = errors.Join(failed, f.Fill(store))
		if e := c.For(uuid, m.Point); !e.Skip {
			h := schedule.History{Known: runs[0].Began}
			if f.LastComplete != nil {
				h.Complete = f.LastComplete.Began
			}
			f.OverdueAfter, f.Overdue = e.Policy.Overdue, schedule.Overdue(e.Policy, h, now)
		}
		if i, taken := newest[m.Point]; taken {
			if f.Last.Ended.After(s.Filesystems[i].Last.Ended) {
				s.Filesystems[i] = f
			}
			continue
		}
		newest[m.Point] = len(s.Filesystems)
		s.Filesystems = append(s.Filesystems, f)
	}
	calls, err := metrics.KernelCalls(store)
	s.KernelCalls = calls
	return s, errors.Join(failed, err)
}
