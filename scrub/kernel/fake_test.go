package kernel_test

import (
	"context"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/scrubd/scrubd/ioctl"
	"github.com/scrubd/scrubd/ioctl/ioctltest"
	"github.com/scrubd/scrubd/scrub/kernel"
)

// naps records the pauses that a scrubber makes instead of making them.
type naps struct {
	mu    sync.Mutex
	taken []time.Duration
}

func (n *naps) sleep(ctx context.Context, d time.Duration) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.taken = append(n.taken, d)
	return ctx.Err()
}

func (n *naps) all() []time.Duration {
	n.mu.Lock()
	defer n.mu.Unlock()
	return append([]time.Duration(nil), n.taken...)
}

// newFake returns a scrubber on a filesystem played by a fake kernel.
func newFake(t testing.TB) (*kernel.Scrubber, *ioctltest.Kernel, *naps) {
	t.Helper()
	return newFakeWith(t, ioctltest.NewModel())
}

func newFakeWith(t testing.TB, m *ioctltest.Model) (*kernel.Scrubber, *ioctltest.Kernel, *naps) {
	t.Helper()
	fs, k := ioctltest.NewWithModel(t, m)
	n := new(naps)
	return kernel.New(fs, kernel.Options{Sleep: n.sleep}), k, n
}

// find sets what checks of that object find.
func find(k *ioctltest.Kernel, o kernel.Object, flags ioctl.ScrubFlags) {
	k.Update(func(m *ioctltest.Model) {
		m.Verdicts[ioctl.ScrubRequest{Type: o.Type, AGNo: o.AGNo, Ino: o.Ino, Gen: o.Gen}] = flags
	})
}

// answerWith makes checks of one type fail with the errnos in turn, and gives
// the model's own answer when they are used up.
func answerWith(k *ioctltest.Kernel, typ ioctl.ScrubType, errnos ...unix.Errno) {
	var mu sync.Mutex
	k.OnScrub = func(req ioctl.ScrubRequest) (ioctl.ScrubFlags, unix.Errno) {
		mu.Lock()
		defer mu.Unlock()
		// A generation without an inode is a probe for the type.
		if req.Type == typ && len(errnos) > 0 && (req.Gen != 1 || req.Ino != 0) {
			errno := errnos[0]
			errnos = errnos[1:]
			return 0, errno
		}
		return k.DefaultScrub(req)
	}
}

// types lists the types of results, in order.
func types(results []kernel.Result) []ioctl.ScrubType {
	out := make([]ioctl.ScrubType, len(results))
	for i := range results {
		out[i] = results[i].Type
	}
	return out
}

// byType returns the result of one type.
func byType(t testing.TB, results []kernel.Result, typ ioctl.ScrubType) kernel.Result {
	t.Helper()
	for _, r := range results {
		if r.Type == typ {
			return r
		}
	}
	t.Fatalf("no result for %s among %v", typ, results)
	return kernel.Result{}
}

// scrubbed lists the types that the fake kernel was asked to check, in order.
func scrubbed(k *ioctltest.Kernel) []ioctl.ScrubType {
	var out []ioctl.ScrubType
	for _, c := range k.Calls(ioctltest.OpScrub) {
		if c.Scrub.Gen == 1 && c.Scrub.Ino == 0 {
			continue // probes for types
		}
		out = append(out, c.Scrub.Type)
	}
	return out
}
