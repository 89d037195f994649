package scrub

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/scrubd/scrubd/ioctl"
	"github.com/scrubd/scrubd/scrub/kernel"
)

func (p *pass) scrubInodes(ctx context.Context) error {
	began := time.Now()
	p.open.before = p.addMarks()
	var mu sync.Mutex
	tally, err := p.r.kern.InodesLeft(ctx, p.r.workers, p.resumeInodes(), func(res kernel.Result) {
		mu.Lock()
		defer mu.Unlock()
		p.noteLook(&res)
		p.noteInode(res)
	}, func(n uint64) { p.r.progress.step(n, p.walk.Inodes) })
	if err != nil {
		return fmt.Errorf("scrub inodes: %w", err)
	}
	p.addMarks()
	p.r.sum.InodeScrubSeconds += time.Since(began).Seconds()
	p.r.noteTally(&tally)
	if p.r.partial() {
		p.r.sum.Resumed.Inodes = tally.LeftOut
	}
	return nil
}

// rescrubInodes scrubs the inodes once more where comparisons were left out
// because of marks that are gone by now: a btree that only disagreed with another
// one is cleared when that one is marked in its stead.
func (p *pass) rescrubInodes(ctx context.Context) error {
	if p.open.forks+p.open.cores == 0 || !p.marksGone() {
		return nil
	}
	p.r.log.Info("inodes are scrubbed once more: what they could not be compared with before is well")
	p.inodeBad, p.badInodesLeftOut = make(map[ioctl.Ino][]kernel.Result), 0
	p.open, p.fsBad = uncompared{}, nil
	p.r.progress.enter(PhaseInodes, p.n)
	if err := p.scrubFiles(ctx); err != nil {
		return err
	}
	return p.scrubInodes(ctx)
}

// scrubFiles scrubs what belongs to no AG: quotas, the realtime device, and the
// other files of the filesystem's own.
func (p *pass) scrubFiles(ctx context.Context) error {
	p.addMarks()
	results, err := p.r.kern.Filesystem(ctx)
	p.fsBad = append(p.fsBad, notClean(results)...)
	for _, res := range results {
		if !res.Bad() && res.Err == nil && res.Flags.Has(ioctl.ScrubXFail) {
			p.open.note(res)
		}
	}
	p.addMarks()
	return err
}

// maxBadInodes bounds the inodes that a pass keeps results of. With so many
// the first ones tell what there is to tell.
const maxBadInodes = 1 << 14

// noteInode keeps what the kernel's scrub of an inode says, if it says that
// something is wrong or could be better. Comparisons that could not be made
// are counted: one btree that is marked sick leaves every inode without.
func (p *pass) noteInode(res kernel.Result) {
	if !res.Bad() && res.Err == nil {
		if !res.Clean() {
			p.open.note(res)
		}
		if !res.Flags.Any(ioctl.ScrubPreen | ioctl.ScrubWarning) {
			return
		}
	}
	if _, known := p.inodeBad[res.Ino]; !known && len(p.inodeBad) == maxBadInodes {
		p.badInodesLeftOut++
		return
	}
	p.inodeBad[res.Ino] = append(p.inodeBad[res.Ino], res)
}

// How often the kernel is asked once more about an inode. On a file that is cloned
// and punched all the time, every other scrub may meet a chain under way.
const (
	recheckTries       = 10
	recheckTriesOfMany = 2
	recheckFew         = 64
)

// recheckInodes asks the kernel once more about every inode that it found bad:
// its scrub of an inode does not wait for chains of transactions on other
// owners of the same blocks, so that one complaint on a busy filesystem may be
// a moment's.
func (p *pass) recheckInodes(ctx context.Context) error {
	tries := recheckTries
	if len(p.inodeBad) > recheckFew { // no moment's doing
		tries = recheckTriesOfMany
	}
	for ino, results := range p.inodeBad {
		var kept []kernel.Result
		for _, res := range results {
			if !res.Bad() {
				kept = append(kept, res)
				continue
			}
			again, err := p.recheck(ctx, res, tries)
			if err != nil {
				return err
			}
			switch {
			case again.Absent, again.Clean():
			case again.Bad() || again.Err != nil:
				kept = append(kept, again)
			default:
				p.open.note(again)
			}
		}
		forks, err := p.askSpoiled(ctx, results)
		if err != nil {
			return err
		}
		kept = append(kept, forks...)
		if len(kept) == 0 {
			delete(p.inodeBad, ino)
		} else {
			p.inodeBad[ino] = kept
		}
	}
	p.addMarks()
	return nil
}

// recheck asks about res again until it is clean, or as often as tries says.
func (p *pass) recheck(ctx context.Context, res kernel.Result, tries int) (kernel.Result, error) {
	again := res
	for range tries {
		if again.Flags.Has(ioctl.ScrubXCorrupt) {
			if err := p.barriers(ctx, res.Ino); err != nil {
				return again, err
			}
		}
		var err error
		if again, err = p.r.kern.One(ctx, res.Object); err != nil {
			return again, err
		}
		if again.Absent || again.Clean() {
			break
		}
	}
	return again, nil
}

// askSpoiled asks for the forks of an inode by themselves where its core was
// found corrupt, be it for a moment: they were left out because of it, and blocks
// of theirs may lack a record all the same. It returns those that are bad.
func (p *pass) askSpoiled(ctx context.Context, results []kernel.Result) (bad []kernel.Result, err error) {
	at := slices.IndexFunc(results, func(r kernel.Result) bool {
		return r.Type == ioctl.ScrubTypeINODE && r.Flags.Has(ioctl.ScrubCorrupt)
	})
	if at < 0 {
		return nil, nil
	}
	for _, t := range []ioctl.ScrubType{ioctl.ScrubTypeBMBTD, ioctl.ScrubTypeBMBTA} {
		fork := results[at].Object
		fork.Type = t
		if slices.ContainsFunc(results, func(r kernel.Result) bool { return r.Type == t && r.Ran }) {
			continue // it was scrubbed all the same
		}
		res, err := p.r.kern.One(ctx, fork)
		switch {
		case err != nil:
			return nil, err
		case res.Absent, res.Clean():
		case res.Bad() || res.Err != nil:
			bad = append(bad, res)
		default:
			p.open.note(res)
		}
	}
	return bad, nil
}

// barriers waits for what is under way in every AG that an inode has blocks in,
// and in its own: its scrub compares its forks with the rmapbts of these.
func (p *pass) barriers(ctx context.Context, ino ioctl.Ino) error {
	groups := []ioctl.AGNumber{agOf(p.r.fs, ino)}
	for _, fork := range []ioctl.Fork{ioctl.DataFork, ioctl.AttrFork} {
		recs, err := p.settler.Fork(uint64(ino), fork)
		if err != nil && endsRun(ctx, err) {
			return err
		}
		if fork == ioctl.DataFork && p.isRealtime(ino) {
			if err := p.rtBarriers(ctx, recs); err != nil {
				return err
			}
			continue
		}
		for i := range recs {
			agno, _ := p.r.fs.Geometry().DAddrToAG(recs[i].Block)
			if uint64(agno) < uint64(len(p.groups)) && !slices.Contains(groups, agno) {
				groups = append(groups, agno)
			}
		}
	}
	for _, agno := range groups {
		if _, err := p.settler.Barrier(ctx, agno); err != nil {
			return err
		}
	}
	return nil
}
