package record

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
)

// Totals are sums over all runs of a filesystem, those that the history has
// dropped among them: they never go down.
type Totals struct {
	// Runs counts runs by [Run.Result].
	Runs map[string]uint64 `json:"runs,omitempty"`
	// Verdicts counts findings by the structure at fault, then by outcome. A fault
	// that is held counts in every run that finds it.
	Verdicts      map[string]map[string]uint64 `json:"findings_by_verdict,omitempty"`
	RepairsDone   uint64                       `json:"repairs_done,omitempty"`
	RepairsFailed uint64                       `json:"repairs_failed,omitempty"`
	Inodes        uint64                       `json:"inodes,omitempty"`
	CheckedBytes  uint64                       `json:"checked_bytes,omitempty"`
	// RunSeconds is how long the runs took, ThrottledSeconds how much of that they
	// rested.
	RunSeconds       float64 `json:"run_seconds,omitempty"`
	ThrottledSeconds float64 `json:"throttled_seconds,omitempty"`
	// KernelCalls are by type, checks before repairs.
	KernelCalls []KernelCalls `json:"kernel_calls,omitempty"`
	// AGs is how many allocation groups there were at the last run that got through,
	// Well when each was last found well.
	AGs  uint32    `json:"ags,omitempty"`
	Well []WellAGs `json:"well_ags,omitempty"`
}

// KernelCalls counts the kernel's scrub or repair calls of one type by how long
// they took.
type KernelCalls struct {
	ScrubType string  `json:"scrub_type"`
	Repair    bool    `json:"repair,omitempty"`
	Count     uint64  `json:"count"`
	Seconds   float64 `json:"seconds"` // of all
	// Buckets are the calls that took at most Bounds[i] seconds, and more than the
	// bound before; those above all bounds are in none.
	Bounds  []float64 `json:"bounds_seconds"`
	Buckets []uint64  `json:"buckets"`
}

func (c *KernelCalls) good() bool {
	return c.ScrubType != "" && len(c.Bounds) == len(c.Buckets) && slices.IsSorted(c.Bounds)
}

// add adds calls of the same type. Those that were counted with other bounds, by
// another version of the program, keep their number and time.
func (c *KernelCalls) add(more *KernelCalls) {
	c.Count += more.Count
	c.Seconds += more.Seconds
	if slices.Equal(c.Bounds, more.Bounds) {
		for i := range c.Buckets {
			c.Buckets[i] += more.Buckets[i]
		}
	}
}

// add adds a run.
func (t *Totals) add(r *Run) {
	one := Totals{
		Runs:        map[string]uint64{r.Result(): 1},
		Verdicts:    map[string]map[string]uint64{},
		RepairsDone: uint64(max(0, r.Repairs-r.RepairsFailed)), RepairsFailed: uint64(max(0, r.RepairsFailed)),
		Inodes: r.Inodes, CheckedBytes: r.CheckedBytes,
		RunSeconds: max(0, r.Ended.Sub(r.Began).Seconds()), ThrottledSeconds: max(0, r.ThrottledSeconds),
		KernelCalls: r.KernelCalls, AGs: r.AGs, Well: r.Well,
	}
	for verdict, outcomes := range r.Verdicts {
		one.Verdicts[verdict] = map[string]uint64{}
		for outcome, n := range outcomes {
			one.Verdicts[verdict][outcome] = uint64(max(0, n))
		}
	}
	t.merge(&one)
}

// merge adds other totals.
func (t *Totals) merge(o *Totals) {
	for result, n := range o.Runs {
		if t.Runs == nil {
			t.Runs = map[string]uint64{}
		}
		t.Runs[result] += n
	}
	for verdict, outcomes := range o.Verdicts {
		if t.Verdicts == nil {
			t.Verdicts = map[string]map[string]uint64{}
		}
		if t.Verdicts[verdict] == nil {
			t.Verdicts[verdict] = map[string]uint64{}
		}
		for outcome, n := range outcomes {
			t.Verdicts[verdict][outcome] += n
		}
	}
	t.RepairsDone += o.RepairsDone
	t.RepairsFailed += o.RepairsFailed
	t.Inodes += o.Inodes
	t.CheckedBytes += o.CheckedBytes
	t.RunSeconds += o.RunSeconds
	t.ThrottledSeconds += o.ThrottledSeconds
	t.KernelCalls = AddKernelCalls(t.KernelCalls, o.KernelCalls)
	t.addWell(o.AGs, o.Well)
}

// AddKernelCalls adds calls to a list that is sorted by type, checks before
// repairs. The list has one element for each type; more is not changed.
func AddKernelCalls(list, more []KernelCalls) []KernelCalls {
	for i := range more {
		c := &more[i]
		if !c.good() {
			continue
		}
		at, found := slices.BinarySearchFunc(list, c, func(e KernelCalls, c *KernelCalls) int {
			switch {
			case e.ScrubType < c.ScrubType, e.ScrubType == c.ScrubType && !e.Repair && c.Repair:
				return -1
			case e.ScrubType > c.ScrubType, e.Repair && !c.Repair:
				return 1
			default:
				return 0
			}
		})
		if found {
			list[at].add(c)
			continue
		}
		n := *c
		n.Bounds, n.Buckets = slices.Clone(c.Bounds), slices.Clone(c.Buckets)
		list = slices.Insert(list, at, n)
	}
	return list
}

// Totals returns the sums over all runs of a filesystem.
//
// Errors: [ErrName].
func (s *Store) Totals(uuid string) (*Totals, error) {
	if !plain.MatchString(uuid) {
		return nil, fmt.Errorf("read the totals of filesystem %q: %w", uuid, ErrName)
	}
	sum := &Totals{}
	for _, p := range s.places() {
		sum.merge(p.totals(uuid))
	}
	return sum, nil
}

// totals reads the sums. Where there are none that can be read, those of the
// history are as near as can be.
func (p *place) totals(uuid string) *Totals {
	t := &Totals{}
	text, err := os.ReadFile(filepath.Join(p.of(uuid), totalsFile))
	if err == nil {
		err = json.Unmarshal(text, t)
	}
	if err == nil {
		// What somebody edited may be in any order.
		t.KernelCalls = AddKernelCalls(nil, t.KernelCalls)
		ags, well := t.AGs, t.Well
		t.AGs, t.Well = 0, nil
		t.addWell(ags, well)
		return t
	}
	t = &Totals{}
	runs, _ := p.history(uuid) // what can be read of it
	for i := range runs {
		t.add(&runs[i])
	}
	return t
}

func (p *place) writeTotals(uuid string, t *Totals) error {
	text, err := json.Marshal(t)
	if err == nil {
		err = replace(p.of(uuid), totalsFile, append(text, '\n'))
	}
	if err != nil {
		return fmt.Errorf("add to the totals: %w", err)
	}
	return nil
}
