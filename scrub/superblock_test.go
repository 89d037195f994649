package scrub

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/scrubd/scrubd/ioctl"
	"github.com/scrubd/scrubd/ioctl/ioctltest"
	"github.com/scrubd/scrubd/scrub/kernel"
)

// A superblock that is behind while the filesystem grows is no fault, one that
// stays bad is; everything else is taken at the first word.
func TestSuperblockIsAskedAgain(t *testing.T) {
	for _, c := range []struct {
		name  string
		typ   ioctl.ScrubType
		good  int // the call at which it is good
		bad   bool
		calls int
	}{
		{"good", ioctl.ScrubTypeSB, 1, false, 1},
		{"behind for a moment", ioctl.ScrubTypeSB, 4, false, 4},
		{"damaged", ioctl.ScrubTypeSB, 1000, true, superblockTries},
		{"another header", ioctl.ScrubTypeAGF, 2, true, 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				fs, k := ioctltest.New(t)
				calls := 0
				k.OnScrub = func(ioctl.ScrubRequest) (ioctl.ScrubFlags, unix.Errno) {
					if calls++; calls >= c.good {
						return 0, 0
					}
					return ioctl.ScrubCorrupt, 0
				}
				p := &pass{r: &run{kern: kernel.New(fs, kernel.Options{})}}
				res, err := p.scrubObject(t.Context(), kernel.Object{Type: c.typ, AGNo: 1})
				require.NoError(t, err)
				assert.Equal(t, c.bad, res.Bad())
				assert.Equal(t, c.calls, calls)

				ctx, cancel := context.WithTimeout(t.Context(), superblockNap/2)
				defer cancel()
				calls = 0
				began := time.Now()
				_, err = p.scrubObject(ctx, kernel.Object{Type: c.typ, AGNo: 1})
				if c.calls > 1 {
					require.ErrorIs(t, err, context.DeadlineExceeded)
				}
				assert.LessOrEqual(t, time.Since(began), superblockNap/2)
			})
		})
	}
}
