package kernel

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/scrubd/scrubd/ioctl"
	"github.com/scrubd/scrubd/scrub/throttle"
)

// round is the state of one plan on one object. Each round of it fills a vector
// with all that can go next, and one or a few rounds do.
type round struct {
	s       *Scrubber
	w       *worker
	object  Object // its Type does not count
	plan    plan
	results []Result
	// single is set once vectors are of no use here.
	single bool
	// loadable says whether the inode can be read although its core is flagged
	// as corrupt; asked at most once.
	loadable, loadableKnown bool
}

// run makes the checks of a plan on one object and appends a result for each to
// out.
func (s *Scrubber) run(ctx context.Context, w *worker, o Object, p plan, out []Result) ([]Result, error) {
	base := len(out)
	for _, st := range p {
		o.Type = st.typ
		out = append(out, Result{Object: o})
	}
	w.done = append(w.done[:0], make([]bool, len(p))...)
	r := round{s: s, w: w, object: o, plan: p, results: out[base:], single: s.noVectors.Load()}
	for {
		if err := ctx.Err(); err != nil {
			return out, err
		}
		if !r.fill() {
			return out, nil
		}
		if err := r.submit(ctx); err != nil {
			return out, err
		}
	}
}

// fill decides what needs no call and puts what can go next into the vector.
// False means that everything is decided.
func (r *round) fill() bool {
	w := r.w
	w.vec, w.at = w.vec[:0], w.at[:0]
	var inside, unguarded typeSet // in the vector; with no barrier behind it yet
	var guard ioctl.ScrubFlags    // what the barriers so far stop at
	for i := range r.plan {
		st := &r.plan[i]
		if w.done[i] || r.decided(i) {
			continue
		}
		full := len(w.vec) > 0 && (r.single || st.alone)
		if full || len(w.vec)+2 > ioctl.MaxScrubVec {
			break
		}
		// A barrier looks at all that is before it, so that it can stop for the
		// sake of another check; what it cuts off goes into the next round.
		if st.needs&unguarded != 0 || st.needs&inside != 0 && st.spoiled&^guard != 0 {
			w.vec = append(w.vec, ioctl.ScrubVecEntry{Type: ioctl.ScrubTypeBarrier, Flags: st.spoiled})
			w.at = append(w.at, -1)
			unguarded, guard = 0, guard|st.spoiled
		}
		w.vec = append(w.vec, ioctl.ScrubVecEntry{Type: st.typ})
		w.at = append(w.at, i)
		inside, unguarded = inside|setOf(st.typ), unguarded|setOf(st.typ)
		if st.alone {
			break
		}
	}
	return len(w.vec) > 0
}

// decided settles a check that is not to be made: its type is not known to the
// kernel, what it stands on is corrupt, or it would wait for our own thaw.
func (r *round) decided(i int) bool {
	st, res := &r.plan[i], &r.results[i]
	switch {
	case r.s.lacking(st.typ):
		res.Unknown = true
	case waitsForThaw(st.typ) && r.s.freezes.Load() != 0:
		res.Err = r.s.freezeHeld(res.Object)
	default:
		res.Because = r.spoiler(i)
		if res.Because == 0 {
			return false
		}
	}
	r.w.done[i] = true
	return true
}

// spoiler returns the type whose verdict makes check i meaningless, 0 for none.
func (r *round) spoiler(i int) ioctl.ScrubType {
	st := &r.plan[i]
	for j := range i {
		before := &r.results[j]
		if !r.w.done[j] || !st.needs.has(before.Type) {
			continue
		}
		if before.Because != 0 || before.Flags.Any(st.spoiled) {
			if before.Type == ioctl.ScrubTypeINODE && r.readable() {
				continue
			}
			return before.Type
		}
	}
	return 0
}

// readable says whether an inode with a corrupt core can be read. Most of what
// is wrong with a core (a flag, a count, a size) leaves the forks as they are,
// and then their verdicts count. BULKSTAT gives an inode if the kernel can load
// it.
func (r *round) readable() bool {
	if r.loadableKnown {
		return r.loadable
	}
	r.loadableKnown = true
	if r.w.stat == nil {
		r.w.stat = ioctl.NewBulkstatBuffer(1)
	}
	req := ioctl.BulkRequest{Ino: r.object.Ino, Flags: ioctl.BulkNrext64}
	if r.s.geo.Has(ioctl.FlagMetadir) {
		req.Flags |= ioctl.BulkMetadir
	}
	n, err := r.s.fs.Bulkstat(&req, r.w.stat)
	if err != nil || n == 0 {
		return false
	}
	rec := &r.w.stat.Records()[0]
	r.loadable = rec.Ino == r.object.Ino && rec.Gen == r.object.Gen
	return r.loadable
}

// submit makes the checks in the vector. Each check that ran is decided after
// it, with the retries that it took; the others stay for the next round.
func (r *round) submit(ctx context.Context) error {
	w := r.w
	turn := r.s.turn(w)
	if err := turn.Begin(ctx); err != nil {
		return err
	}
	if r.single || len(w.vec) == 1 {
		return r.submitSingle(ctx, turn)
	}
	rested, err := r.call(turn)
	_ = turn.End(ctx, rested) // what came out counts, also at the end of ctx
	switch {
	case err == nil:
	case errors.Is(err, ioctl.ErrNotSupported):
		// Before Linux 6.10. Where there is no scrub at all, the single call
		// will say so.
		r.s.noVectors.Store(true)
		r.single = true
		return nil
	case endsRun(err):
		return &FatalError{Object: r.results[w.at[0]].Object, Err: err}
	default:
		// Something about the vector as a whole (no memory for it, an
		// interruption): each check has its own retries.
		r.s.log.WithError(err).Debug("vector failed; checking one by one")
		r.single = true
		return nil
	}
	if !w.vec[0].Ran {
		r.single = true // a kernel that runs nothing: never loop on it
		return nil
	}
	return r.collect(ctx)
}

// call makes the vector call, and tells how much of its time was rest.
func (r *round) call(turn *throttle.Turn) (rested time.Duration, err error) {
	s, w := r.s, r.w
	var types typeSet
	for i := range w.vec {
		if w.at[i] >= 0 {
			types |= setOf(w.vec[i].Type)
		}
	}
	first := r.results[w.at[0]].Object
	rest := turn.Inside(time.Duration(s.perCheck.Load()))
	began := w.enter(first, types, 0)
	err = s.fs.ScrubVec(r.object.Ino, r.object.Gen, r.object.AGNo, rest, w.vec)
	w.leave()
	took := time.Since(began)
	checks := time.Duration(0)
	for i := range w.vec {
		if w.at[i] >= 0 && w.vec[i].Ran {
			checks++
		}
	}
	rested = min(checks*rest, took)
	if checks > 0 {
		s.perCheck.Store((3*s.perCheck.Load() + int64((took-rested)/checks)) / 4)
	}
	s.times.add(first.Type, false, took-rested)
	return rested, err
}

// collect takes the answers out of the vector, then repeats what the kernel
// could not do now.
func (r *round) collect(ctx context.Context) error {
	w := r.w
	w.repeat = w.repeat[:0]
	for i := range w.vec {
		at, e := w.at[i], &w.vec[i]
		if at < 0 || !e.Ran {
			continue
		}
		res := &r.results[at]
		w.done[at] = true
		switch r.s.answer(res, e.Flags, e.Err) {
		case fatal:
			return &FatalError{Object: res.Object, Err: res.Err}
		case again:
			w.repeat = append(w.repeat, at)
		case settled:
		}
	}
	for _, at := range w.repeat {
		if err := r.s.settle(ctx, w, &r.results[at]); err != nil {
			return err
		}
	}
	return nil
}

// submitSingle makes the one check in the vector by a call of its own.
func (r *round) submitSingle(ctx context.Context, turn *throttle.Turn) error {
	at := r.w.at[slices.IndexFunc(r.w.at, func(i int) bool { return i >= 0 })]
	r.w.done[at] = true
	if err := r.s.check(ctx, r.w, &r.results[at]); err != nil {
		turn.Leave()
		return err
	}
	_ = turn.End(ctx, 0)
	return nil
}
