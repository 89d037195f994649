package scrub

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/scrubd/scrubd/ioctl"
	"github.com/scrubd/scrubd/ioctl/ioctltest"
)

// Blocks of a file that the bnobt has free are told of before the kernel checks the
// free space of any AG, which takes as long as there are AGs; and once.
func TestRiskIsToldAtOnce(t *testing.T) {
	for _, c := range []struct {
		name   string
		change func(m *ioctltest.Model)
		want   []Extent
	}{
		{"a file's", func(m *ioctltest.Model) { freeAlso(m, 1, 502, 3) }, []Extent{{1, 502, 3}}},
		{"of a record that no fork has", func(m *ioctltest.Model) {
			m.Rmaps = append(m.Rmaps, ioctltest.Rmap{AGNo: 1, AGBno: 600, Length: 3, Owner: 132, Offset: 8})
			m.SortRmaps()
		}, nil},
		{"none", func(*ioctltest.Model) {}, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			m := ioctltest.NewModel()
			m.AddInode(&ioctltest.Inode{Ino: 132, Gen: 5, Data: []ioctltest.Extent{{AGNo: 1, AGBno: 500, Length: 8}}})
			m.Derive()
			c.change(m)
			synctest.Test(t, func(t *testing.T) {
				fs, k := ioctltest.NewWithModel(t, m)
				var told []Extent
				found := false
				_, err := Run(t.Context(), fs, Options{NoLive: true, StateDir: t.TempDir(), Mode: ModeCheck, Events: func(e Event) {
					switch e := e.(type) {
					case *RiskEvent:
						told = append(told, e.Extents...)
						assert.False(t, found)
						assert.False(t, slices.ContainsFunc(k.Calls(), func(c ioctltest.Call) bool {
							return c.Op == ioctltest.OpScrub && c.Scrub.Type == ioctl.ScrubTypeBNOBT
						}))
					case *FindingEvent:
						found = found || e.Finding.Row == 4
					}
				}})
				require.NoError(t, err)
				assert.Equal(t, c.want, told)
				assert.Equal(t, len(c.want) > 0, found)
			})
		})
	}
}

// freeAlso has the bnobt take blocks for free.
func freeAlso(m *ioctltest.Model, agno ioctl.AGNumber, start, count ioctl.AGBlock) {
	m.Free = append(m.Free, ioctltest.Range{AGNo: agno, AGBno: start, Length: count})
	slices.SortFunc(m.Free, func(a, b ioctltest.Range) int {
		return cmp.Or(cmp.Compare(a.AGNo, b.AGNo), cmp.Compare(a.AGBno, b.AGBno))
	})
}

// A run that is told to end while somebody is asked for consent has not got through,
// and nobody has said no.
func TestStoppedWhileAsking(t *testing.T) {
	m := ioctltest.NewModel()
	m.AddInode(&ioctltest.Inode{Ino: 132, Gen: 5, Data: []ioctltest.Extent{{AGNo: 1, AGBno: 500, Length: 8}}})
	m.Derive()
	freeAlso(m, 1, 502, 3)
	synctest.Test(t, func(t *testing.T) {
		fs, k := ioctltest.NewWithModel(t, m)
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		sum, err := Run(ctx, fs, Options{NoLive: true, StateDir: t.TempDir(), BeforeRepair: func(context.Context, []string) error {
			cancel()
			return errors.New("killed")
		}})
		require.ErrorIs(t, err, context.Canceled)
		assert.False(t, sum.Complete)
		assert.Equal(t, Repairable, sum.Findings[0].Outcome)
		assert.Empty(t, sum.Findings[0].Reason)
		assert.False(t, slices.ContainsFunc(k.Calls(), func(c ioctltest.Call) bool {
			return c.Scrub.Type == ioctl.ScrubTypeBNOBT && c.Scrub.Flags.Has(ioctl.ScrubRepair)
		}))
	})
}
