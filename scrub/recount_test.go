package scrub

import (
	"slices"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/scrubd/scrubd/ioctl"
	"github.com/scrubd/scrubd/ioctl/ioctltest"
)

// Which sums are set right without being asked for: not link counts, which costs
// names.
func TestRecount(t *testing.T) {
	for _, c := range []struct {
		name   string
		typ    ioctl.ScrubType
		accept bool
		want   Outcome
	}{
		{"blocks and inodes", ioctl.ScrubTypeFSCOUNTERS, false, Repaired},
		{"quotas", ioctl.ScrubTypeQUOTACHECK, false, Repaired},
		{"links", ioctl.ScrubTypeNLINKS, false, Held},
		{"links, loss accepted", ioctl.ScrubTypeNLINKS, true, Repaired},
	} {
		t.Run(c.name, func(t *testing.T) {
			m := ioctltest.NewModel()
			m.Verdicts[ioctl.ScrubRequest{Type: c.typ}] = ioctl.ScrubCorrupt
			sum, calls := fakeRun(t, m, Options{AcceptLoss: c.accept})
			require.Len(t, sum.Findings, 1)
			f := sum.Findings[0]
			assert.Equal(t, c.want, f.Outcome, f.Reason)
			repaired := slices.ContainsFunc(calls, func(call ioctltest.Call) bool {
				return call.Op == ioctltest.OpScrub && call.Scrub.Type == c.typ && call.Scrub.Flags.Has(ioctl.ScrubRepair)
			})
			assert.Equal(t, c.want == Repaired, repaired)
			if c.want == Held {
				assert.Contains(t, f.Reason, "lost+found")
				require.NotEmpty(t, f.WaysOut)
				assert.Contains(t, f.WaysOut[0].Command, "--accept-loss")
				assert.Equal(t, 1, sum.ExitStatus())
			}
		})
	}
}
