// Package metrics says how the filesystems are, and what their runs came to, in
// the words of Prometheus: over HTTP, and as a file that node_exporter reads.
package metrics

import (
	"time"

	"github.com/scrubd/scrubd/service/record"
)

// Snapshot is what is told at one moment.
type Snapshot struct {
	Now time.Time
	// Version is that of the program.
	Version string
	// Filesystems are the mounted ones, each UUID once.
	Filesystems []Filesystem
	// KernelCalls are those of all filesystems that have records, mounted or not.
	KernelCalls []record.KernelCalls
}

// Filesystem is how one filesystem is.
type Filesystem struct {
	UUID, Mount, Device string
	// State is one of States, "" where no daemon knows.
	State string
	// Next is when the next run is planned, zero where none is, or nobody plans.
	Next time.Time
	// Overdue says that the last complete run is older than OverdueAfter, which is
	// 0 where that does not matter.
	Overdue      bool
	OverdueAfter time.Duration
	// Since is when the last complete run began, or the oldest check that it left
	// out was made; without one, since when the
	// filesystem is known: what is there was proven no later than then.
	Since time.Time
	// Last is the newest run over all of it, LastComplete the newest that got through, LastSuccess
	// the newest of these that left no corruption; nil where there is none.
	Last, LastComplete, LastSuccess *record.Run
	Totals                          record.Totals
}

// States are the states that a daemon knows.
var States = []string{"idle", "queued", "running", "paused", "skipped"}

// Fill adds what the records of a store say to a filesystem, whose UUID is set.
//
// Errors: those of reading the records; what could be read is filled in.
func (f *Filesystem) Fill(store *record.Store) error {
	runs, err := store.History(f.UUID)
	f.Last, f.LastComplete, f.LastSuccess = record.Last(runs), record.LastComplete(runs), record.LastSuccess(runs)
	if f.LastComplete != nil {
		f.Since = f.LastComplete.ProvenSince()
	}
	return f.FillTotals(store, err)
}

// FillTotals adds the totals alone, and their error to another.
func (f *Filesystem) FillTotals(store *record.Store, before error) error {
	totals, err := store.Totals(f.UUID)
	if err != nil {
		return err
	}
	f.Totals = *totals
	return before
}

// KernelCalls adds up the kernel calls of all filesystems that a store knows.
//
// Errors: those of reading; what could be read is in the sum.
func KernelCalls(store *record.Store) ([]record.KernelCalls, error) {
	uuids, err := store.Filesystems()
	var sum []record.KernelCalls
	for _, uuid := range uuids {
		totals, e := store.Totals(uuid)
		if e != nil {
			err = e
			continue
		}
		sum = record.AddKernelCalls(sum, totals.KernelCalls)
	}
	return sum, err
}
