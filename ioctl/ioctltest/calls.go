package ioctltest

import (
	"slices"

	"golang.org/x/sys/unix"

	"github.com/scrubd/scrubd/ioctl"
)

// Op is a kind of call.
type Op string

// The kinds of calls.
const (
	OpOpen          Op = "open"
	OpStatx         Op = "statx"
	OpGetXattr      Op = "getxattr"
	OpGeometry      Op = "geometry"
	OpCounts        Op = "counts"
	OpAGGeometry    Op = "ag geometry"
	OpRTGeometry    Op = "rtgroup geometry"
	OpScrub         Op = "scrub" // one per entry of a vector too, if it runs
	OpScrubVec      Op = "scrub vector"
	OpFSMap         Op = "fsmap"
	OpBulkstat      Op = "bulkstat"
	OpInumbers      Op = "inumbers"
	OpBmap          Op = "bmap"
	OpHandle        Op = "get handle"
	OpOpenByHandle  Op = "open by handle"
	OpFlushInodegc  Op = "flush inodegc"
	OpFreeze        Op = "freeze"
	OpThaw          Op = "thaw"
	OpParents       Op = "parents"
	OpHealthMonitor Op = "health monitor"
	OpHealthCovers  Op = "health covers"
	OpVerifyMedia   Op = "verify media"
	OpUnknown       Op = "unknown"
)

// Call is one call, with the fields that its kind has.
type Call struct {
	Op           Op
	Path         string // OpOpen; the attribute's name for OpGetXattr
	Ino          ioctl.Ino
	Gen          ioctl.Gen
	AGNo         ioctl.AGNumber
	Scrub        ioctl.ScrubRequest // OpScrub
	FSMap        FSMapRequest       // OpFSMap
	Bulk         BulkRequest        // OpBulkstat, OpInumbers
	Bmap         BmapRequest        // OpBmap
	Media        ioctl.MediaRequest // OpVerifyMedia
	Unprivileged bool               // from a thread without CAP_SYS_ADMIN
}

// begin logs a call and asks OnCall for an errno.
func (k *Kernel) begin(c Call) unix.Errno {
	k.mu.Lock()
	if !k.noLog {
		k.calls = append(k.calls, c)
	}
	k.mu.Unlock()
	if k.OnCall != nil {
		return k.OnCall(c)
	}
	return 0
}

// Calls returns the calls made so far, of the given kinds or of all, in order.
func (k *Kernel) Calls(ops ...Op) []Call {
	k.mu.RLock()
	defer k.mu.RUnlock()
	if len(ops) == 0 {
		return slices.Clone(k.calls)
	}
	var found []Call
	for _, c := range k.calls {
		if slices.Contains(ops, c.Op) {
			found = append(found, c)
		}
	}
	return found
}

// ResetCalls forgets the calls made so far.
func (k *Kernel) ResetCalls() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.calls = nil
}

// LogCalls switches the log on or off. Benchmarks and tests that count allocations switch it off.
func (k *Kernel) LogCalls(on bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.noLog = !on
}
