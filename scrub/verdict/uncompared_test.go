package verdict_test

import (
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/scrubd/scrubd/ioctl"
	"github.com/scrubd/scrubd/scrub/verdict"
)

// What excuses that the scrubs of inodes left something out, by what is rebuilt.
func TestUncompared(t *testing.T) {
	const (
		bnobt  = ioctl.AGHealthBnobt
		cntbt  = ioctl.AGHealthCntbt
		rmapbt = ioctl.AGHealthRmapbt
		refcbt = ioctl.AGHealthRefcountbt
		inodes = ioctl.AGHealthInodes
	)
	for _, c := range []struct {
		name        string
		count       uint64
		marks       ioctl.AGHealth
		bno, refcnt bool // stands against a rebuild of the free space, of the reference counts
		owners      bool // of the rmapbt, as owners there
	}{
		{"none left anything out", 0, rmapbt | bnobt, false, false, false},
		{"nothing was marked", 1, 0, true, true, true},
		{"something else than a btree was", 1, inodes | ioctl.AGHealthAGF, true, true, true},
		{"free space", 2, bnobt | cntbt, false, true, true},
		{"one of the two", 2, cntbt | inodes, false, true, true},
		{"the rmapbt", 2, rmapbt, true, true, false},
		{"the refcountbt", 2, refcbt, true, false, false},
		{"both", 2, refcbt | rmapbt, true, true, false},
		{"the rmapbt and the free space", 2, rmapbt | bnobt, true, true, true},
		{"an inode btree", 2, ioctl.AGHealthInobt, true, true, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			u := verdict.Uncompared{Count: c.count, Marks: c.marks, Here: c.marks}
			ag := soundAG()
			ag.ForksUncompared = u
			assert.Equal(t, c.bno, len(verdict.MayRebuildBnobt(ag)) > 0)
			assert.Equal(t, c.refcnt, len(u.Why(ioctl.ScrubTypeREFCNTBT, 0)) > 0)
			ag = soundAG()
			ag.OwnersUncompared = u
			assert.Equal(t, c.owners, len(verdict.MayRebuildRmapbt(soundFS(), ag)) > 0)
			core := verdict.Scrub{Ran: true}
			if c.count > 0 {
				core.Flags = xfail
			}
			assert.Equal(t, c.owners, len(verdict.SoundCore(core, c.marks)) > 0)
		})
	}
	for _, flags := range []ioctl.ScrubFlags{corrupt, xcorrupt, incomplete} {
		assert.NotEmpty(t, verdict.SoundCore(verdict.Scrub{Ran: true, Flags: flags | xfail}, rmapbt), "%s", flags)
	}
	assert.NotEmpty(t, verdict.SoundCore(verdict.Scrub{}, 0), "no verdict")
	assert.Empty(t, verdict.SoundCore(verdict.Scrub{Ran: true, Flags: ioctl.ScrubPreen}, 0))
}
