package scrub

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/scrubd/scrubd/ioctl"
	"github.com/scrubd/scrubd/scrub/confirm"
	"github.com/scrubd/scrubd/scrub/kernel"
	"github.com/scrubd/scrubd/scrub/live"
	"github.com/scrubd/scrubd/scrub/trees"
	"github.com/scrubd/scrubd/scrub/verdict"
	"github.com/scrubd/scrubd/scrub/walk"
	"github.com/scrubd/scrubd/shadow"
	"github.com/scrubd/scrubd/xfile"
)

// pass is one look at the whole filesystem: everything that the verdicts of
// this pass rest on was read in it. Repairs of one kind follow, and then
// another pass, which is both their proof and the ground of the next.
type pass struct {
	r     *run
	n     int       // 1 for the first
	began time.Time // with room for the grain of ctimes

	groups  []group
	rt      realtime
	walk    *walk.Result
	trees   *trees.Set // the claims of the walk
	settler *confirm.Settler

	stream, moments *live.Stream // what the kernel tells; nil where it does not
	log             *trees.Log   // what stream tells, until trees has it

	inodeBad map[ioctl.Ino][]kernel.Result // scrubs of inodes that are not clean
	open     uncompared                    // scrubs of inodes that could not compare everything
	// badInodesLeftOut counts inodes that inodeBad had no room for.
	badInodesLeftOut uint64
	fsBad            []kernel.Result       // scrubs of the filesystem and of rtgroups
	rmapBad          []*dispute            // confirmed disputes between forks and rmapbts
	shared           []verdict.SharedPiece // confirmed between forks and refcountbts
	// miscounted are those that blame a refcountbt, unflagged the inodes that share
	// blocks without saying so.
	miscounted map[ioctl.AGNumber][]*verdict.SharedPiece
	unflagged  map[ioctl.Ino]bool
	findings   []*finding
	hidden     map[ioctl.Ino]ioctl.AGNumber // inodes that a bad inobt hides, some of them
	ownerIn    map[ownerGroup]bool          // AGs that disputed inodes have records in
	accounted  map[ioctl.Ino]bool           // inodes with a bad fork that have all blocks in the rmapbts

	marks map[ioctl.AGNumber]ioctl.AGHealth // what the kernel had marked at its end
	held  []int                             // directories that open only as long as these are open

	fsmapBuf, freeBuf *ioctl.FSMapBuffer
}

// group is what a pass knows of one AG, or of a group of the realtime device.
type group struct {
	agno          ioctl.AGNumber // the realtime group's number with realtime
	realtime      bool
	scrubs        map[ioctl.ScrubType]verdict.Scrub
	sick          ioctl.AGHealth
	candidates    []*confirm.Candidate
	space         []*confirm.SpaceCandidate
	shared        []*confirm.SharedCandidate
	spaceCompared bool
	suspect       ioctl.ScrubType // what all other metadata of the AG speaks against; 0 for none
	headerLost    bool            // the kernel cannot read its AGF or AGI
	hidden        uint64          // blocks of inodes that a bad inobt hides
	agCounted     bool            // the AGF counts the AG's own blocks that the rmapbt has
	agflCrossed   bool            // the AGFL names blocks of others
	rmapErr       error           // the rmapbt cannot be read, or has too many differences
}

// headerTypes are scrubbed before the walk, spaceTypes after the comparison:
// the order among the latter decides which of two that disagree is marked
// sick, and so taken out of the cross-references of the others.
var (
	headerTypes = []ioctl.ScrubType{
		ioctl.ScrubTypeSB, ioctl.ScrubTypeAGF, ioctl.ScrubTypeAGFL, ioctl.ScrubTypeAGI,
		ioctl.ScrubTypeINOBT, ioctl.ScrubTypeFINOBT,
	}
	inodeTypes = []ioctl.ScrubType{ioctl.ScrubTypeINOBT, ioctl.ScrubTypeFINOBT}
	spaceTypes = []ioctl.ScrubType{
		ioctl.ScrubTypeBNOBT, ioctl.ScrubTypeCNTBT, ioctl.ScrubTypeREFCNTBT, ioctl.ScrubTypeRMAPBT,
	}
	spaceTypesRmapSuspect = []ioctl.ScrubType{
		ioctl.ScrubTypeRMAPBT, ioctl.ScrubTypeBNOBT, ioctl.ScrubTypeCNTBT, ioctl.ScrubTypeREFCNTBT,
	}
)

// ctimeGrain is more than the clock of ctimes lags behind that of the process.
const ctimeGrain = time.Second

// check makes one pass up to its findings; nothing is repaired in it.
func (r *run) check(ctx context.Context, n int) (p *pass, err error) {
	geo, err := r.fs.RefreshGeometry(ctx)
	if err != nil {
		return nil, err
	}
	p = &pass{
		r: r, n: n, began: time.Now().Add(-ctimeGrain), groups: make([]group, geo.AGCount),
		inodeBad: make(map[ioctl.Ino][]kernel.Result), hidden: make(map[ioctl.Ino]ioctl.AGNumber),
		fsmapBuf: ioctl.NewFSMapBuffer(fsmapBatch), freeBuf: ioctl.NewFSMapBuffer(fsmapBatch),
	}
	defer func() {
		if err != nil {
			p.close()
			p = nil
		}
	}()
	for i := range p.groups {
		p.groups[i] = group{agno: ioctl.AGNumber(i), scrubs: make(map[ioctl.ScrubType]verdict.Scrub)}
	}
	p.rt.groups = r.realtimeGroups()
	if err := p.follow(); err != nil {
		return p, err
	}
	steps := []struct {
		phase Phase
		need  bool
		do    func(context.Context) error
	}{
		{PhaseMetadata, r.coverage.KernelScrub, p.scrubHeaders},
		{PhaseWalk, true, p.walkInodes},
		{PhaseInodes, r.coverage.KernelScrub, p.scrubInodes},
		{PhaseCompare, true, p.compare},
		{PhaseConfirm, true, p.settle},
		{PhaseConfirm, r.coverage.KernelScrub, p.scrubSpace},
		{PhaseConfirm, r.coverage.KernelScrub, p.findSuspects},
		{PhaseConfirm, r.coverage.KernelScrub, p.rescrubInodes},
		{PhaseConfirm, r.coverage.KernelScrub, p.scrubRealtime},
		{PhaseConfirm, true, p.judge},
	}
	for _, s := range steps {
		if !s.need {
			continue
		}
		r.progress.enter(s.phase, n)
		if err := xfile.Guard(func() error { return s.do(ctx) }); err != nil {
			return p, err
		}
	}
	return p, nil
}

func (p *pass) close() {
	p.hushed()
	if p.settler != nil {
		for look, n := range p.settler.DroppedAtLook() {
			p.r.sum.DroppedAtLook[look] += n
		}
		p.settler.Close()
	}
	p.letGo()
	if err := errors.Join(p.log.Close(), p.trees.Close(), p.walk.Close()); err != nil {
		p.r.log.WithError(err).Warn("give the walk's memory back")
	}
}

// scrubGroups scrubs the given types of each AG, AGs in parallel.
func (p *pass) scrubGroups(ctx context.Context, types func(*group) []ioctl.ScrubType) error {
	eg, ctx := errgroup.WithContext(ctx)
	eg.SetLimit(p.r.workers)
	for i := range p.groups {
		g := &p.groups[i]
		eg.Go(func() error {
			turn := p.r.opts.Throttle.Turn()
			defer turn.Leave()
			for _, t := range types(g) {
				if err := turn.Begin(ctx); err != nil {
					return err
				}
				if err := p.scrubGroup(ctx, g, t); err != nil {
					return err
				}
				if err := turn.End(ctx, 0); err != nil {
					return err
				}
			}
			if err := p.readSick(g); err != nil {
				return err
			}
			p.r.progress.one(uint64(len(p.groups)))
			return nil
		})
	}
	return eg.Wait()
}

// readSick takes over what the kernel has marked in an AG.
func (p *pass) readSick(g *group) error {
	geo, err := p.r.fs.AGGeometry(g.agno)
	if err != nil && !errors.Is(err, ioctl.ErrCorrupt) {
		return err
	}
	g.sick, g.headerLost = geo.Sick, err != nil
	return nil
}

func (p *pass) scrubGroup(ctx context.Context, g *group, t ioctl.ScrubType) error {
	if p.skips(g, t) {
		return nil
	}
	res, err := p.scrubObject(ctx, kernel.Object{Type: t, AGNo: g.agno})
	if err != nil {
		return err
	}
	p.noteChecked(g, &res)
	if res.Absent {
		g.scrubs[t] = verdict.Scrub{Ran: true} // this filesystem has none: nothing to be wrong
		return nil
	}
	g.scrubs[t] = verdict.Scrub{Ran: res.Ran && res.Err == nil, Flags: res.Flags}
	return nil
}

func (p *pass) scrubHeaders(ctx context.Context) error {
	if err := p.scrubGroups(ctx, func(*group) []ioctl.ScrubType { return headerTypes }); err != nil {
		return err
	}
	if err := p.scrubMarked(ctx); err != nil {
		return err
	}
	// What was left out because of a mark that is gone now can be compared.
	err := p.scrubGroups(ctx, func(g *group) []ioctl.ScrubType {
		return slices.DeleteFunc(slices.Clone(headerTypes), func(t ioctl.ScrubType) bool { return !g.scrubs[t].Flags.Has(ioctl.ScrubXFail) })
	})
	if err != nil {
		return err
	}
	return p.scrubFiles(ctx)
}

// scrubMarked scrubs the btrees that were marked sick before this pass, in a
// cross-reference with what has been repaired since, say. The kernel takes the
// mark off those that are well, and inodes can be compared with them again. The
// rmapbt goes first: if it is bad, the others are not held against it any more.
func (p *pass) scrubMarked(ctx context.Context) error {
	return p.scrubGroups(ctx, func(g *group) []ioctl.ScrubType {
		var marked []ioctl.ScrubType
		for _, t := range spaceTypesRmapSuspect {
			if g.sick&verdict.SickBit(t) != 0 {
				marked = append(marked, t)
			}
		}
		return marked
	})
}

func notClean(results []kernel.Result) []kernel.Result {
	return slices.DeleteFunc(results, func(r kernel.Result) bool { return !r.Noteworthy() })
}

func (p *pass) walkInodes(ctx context.Context) error {
	began := time.Now()
	var err error
	o := walk.Options{
		Workers: p.r.workers, Budget: p.r.budget, Dir: p.r.spill, Throttle: p.r.opts.Throttle,
		Progress: p.r.progress.walked, Reach: p.reach,
	}
	if p.log != nil {
		o.Watcher = p.log
	}
	p.walk, err = walk.Run(ctx, p.r.fs, o)
	if err != nil {
		return fmt.Errorf("walk inodes: %w", err)
	}
	p.r.sum.Inodes, p.r.sum.Extents = p.walk.Inodes, p.walk.Extents
	p.r.sum.WalkSeconds += time.Since(began).Seconds()
	claims := slices.Concat(p.walk.Claims, p.walk.RTClaims)
	p.walk.Claims, p.walk.RTClaims = nil, nil // the set's from here on
	p.trees, err = trees.New(claims, p.treeOptions())
	p.log = nil // the set's as well
	return err
}

func (p *pass) compare(ctx context.Context) error {
	o := confirm.Options{
		Drain:           p.r.drain(),
		MultigrainCtime: p.r.multigrain,
		Static:          p.r.static,
		RTStatic:        p.r.rtStatic,
		Progress: func(_, pending, total int) {
			p.r.progress.step(uint64(total-pending), uint64(total))
		},
	}
	if p.r.coverage.KernelScrub {
		o.DrainRT = p.r.kern.DrainRT
	}
	p.settler = confirm.New(p.r.fs, p.r.bnobt, o)
	p.r.sum.ComparedBytes = 0 // every pass compares anew
	groups := p.everyGroup()
	for i, g := range groups {
		if err := p.compareGroup(ctx, g); err != nil {
			if !errors.Is(err, errTooMany) {
				return err
			}
			g.rmapErr = err
		}
		if g.rmapErr == nil {
			p.r.sum.ComparedBytes += uint64(p.r.fs.Geometry().BlocksToBytes(uint64(p.blocks(g))))
		}
		p.r.progress.step(uint64(i+1), uint64(len(groups)))
	}
	return nil
}

// settle confirms or drops every candidate.
func (p *pass) settle(ctx context.Context) error {
	began := time.Now()
	if err := p.catchUp(ctx); err != nil {
		return err
	}
	var cands []*confirm.Candidate
	var space []*confirm.SpaceCandidate
	var shared []*confirm.SharedCandidate
	groups := p.everyGroup()
	for _, g := range groups {
		cands = append(cands, g.candidates...)
		space = append(space, g.space...)
		shared = append(shared, g.shared...)
	}
	if err := p.settler.Settle(ctx, cands); err != nil {
		return fmt.Errorf("confirm differences: %w", err)
	}
	if err := p.settler.SettleSpace(ctx, space); err != nil {
		return fmt.Errorf("confirm free space: %w", err)
	}
	if err := p.settler.SettleShared(ctx, shared); err != nil {
		return fmt.Errorf("confirm shared blocks: %w", err)
	}
	if err := p.proveExact(ctx, cands, space); err != nil {
		return fmt.Errorf("confirm in a quiet moment: %w", err)
	}
	for _, g := range groups {
		p.r.sum.Dropped += dropped(&g.candidates, func(c *confirm.Candidate) bool { return c.Status == confirm.Dropped })
		p.r.sum.Dropped += dropped(&g.space, func(c *confirm.SpaceCandidate) bool { return c.Status == confirm.Dropped })
		p.r.sum.Dropped += dropped(&g.shared, func(c *confirm.SharedCandidate) bool { return c.Status == confirm.Dropped })
	}
	p.atRisk()
	if err := p.sharedPieces(ctx); err != nil {
		return err
	}
	p.hurry()
	p.r.sum.ConfirmSeconds += time.Since(began).Seconds()
	return nil
}

func dropped[C any](list *[]C, is func(C) bool) uint64 {
	before := len(*list)
	*list = slices.DeleteFunc(*list, is)
	return uint64(before - len(*list))
}

// scrubSpace scrubs the free space, refcount and rmap btrees. Where the claims
// and the bnobt both speak against the rmapbt it goes first and is marked, so
// that the free space btrees are compared with each other alone; otherwise it
// goes last.
func (p *pass) scrubSpace(ctx context.Context) error {
	return p.scrubGroups(ctx, func(g *group) []ioctl.ScrubType {
		for _, s := range g.space {
			if s.Conflict == confirm.OwnedFree && p.unclaimed(g, s) {
				return spaceTypesRmapSuspect
			}
		}
		return spaceTypes
	})
}

// unclaimed tells whether a confirmed extra record explains blocks that the
// rmapbt owns and the bnobt has free.
func (p *pass) unclaimed(g *group, s *confirm.SpaceCandidate) bool {
	for _, c := range g.candidates {
		for i := range c.Diffs {
			d := &c.Diffs[i]
			start, end := d.Blocks()
			if d.HasKernel && !d.HasClaim && start < uint64(s.Start)+uint64(s.Count) && uint64(s.Start) < end {
				return true
			}
		}
	}
	return false
}

// static are the claims on an AG that the geometry alone makes.
func (r *run) static(agno ioctl.AGNumber) []shadow.Rmap {
	geo := r.fs.Geometry()
	claims := []shadow.Rmap{{BlockCount: 3*geo.SectorSize/geo.BlockSize + 1, Owner: shadow.OwnerFS}}
	if log, agbno, ok := geo.InternalLog(); ok && log == agno {
		claims = append(claims, shadow.Rmap{StartBlock: uint32(agbno), BlockCount: geo.LogBlocks, Owner: shadow.OwnerLog})
	}
	return claims
}
