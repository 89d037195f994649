package scrub

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/scrubd/scrubd/ioctl"
	"github.com/scrubd/scrubd/ioctl/ioctltest"
	"github.com/scrubd/scrubd/scrub/verdict"
)

// Whose fault it is that the records of an AG cannot be listed, by what the
// kernel's scrubs say. Nothing is rebuilt from records that nobody has seen.
func TestRecordsThatCannotBeListed(t *testing.T) {
	for _, c := range []struct {
		name             string
		rmapbt, refcount ioctl.ScrubFlags
		want             verdict.Structure
	}{
		{"the refcountbt's", 0, ioctl.ScrubCorrupt, verdict.Refcountbt},
		{"the rmapbt's", ioctl.ScrubCorrupt, ioctl.ScrubXCorrupt, verdict.Rmapbt},
		{"both", ioctl.ScrubCorrupt, ioctl.ScrubCorrupt, verdict.Rmapbt},
	} {
		t.Run(c.name, func(t *testing.T) {
			m := ioctltest.NewModel()
			m.AddInode(&ioctltest.Inode{Ino: 140, Gen: 2, Data: []ioctltest.Extent{{AGNo: 1, AGBno: 200, Length: 2}}})
			m.Derive()
			m.Verdicts[ioctl.ScrubRequest{Type: ioctl.ScrubTypeRMAPBT, AGNo: 1}] = c.rmapbt
			m.Verdicts[ioctl.ScrubRequest{Type: ioctl.ScrubTypeREFCNTBT, AGNo: 1}] = c.refcount
			unlisted := func(k *ioctltest.Kernel) {
				k.OnCall = func(c ioctltest.Call) unix.Errno {
					if c.Op == ioctltest.OpFSMap && !c.Unprivileged && c.FSMap.Low.Physical >= 1000*4096 && c.FSMap.Low.Physical < 2000*4096 {
						return unix.EUCLEAN
					}
					return 0
				}
			}
			withPass(t, m, Options{}, unlisted, func(t *testing.T, p *pass) {
				var of []*finding
				for _, f := range p.findings {
					t.Logf("%s %s row %d: %s; %s; %v", f.Outcome, f.AtFault, f.Row, f.Summary, f.Reason, f.steps)
					if f.HasAG && f.AGNo == 1 && f.Row == 15 {
						of = append(of, f)
					}
				}
				require.Len(t, of, 1)
				assert.Equal(t, string(c.want), of[0].AtFault)
				if c.want == verdict.Refcountbt {
					assert.Equal(t, Held, of[0].Outcome)
					assert.Contains(t, of[0].Reason, "as long as the refcountbt cannot be read")
					assert.NotEmpty(t, of[0].WaysOut)
					assert.Empty(t, of[0].steps)
					assert.Len(t, p.findings, 1, "one fault, one finding")
				}
			})
		})
	}
}
