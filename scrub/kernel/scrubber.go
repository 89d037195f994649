package kernel

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync/atomic"
	"time"

	"github.com/sirupsen/logrus"

	"github.com/scrubd/scrubd/ioctl"
	"github.com/scrubd/scrubd/scrub/throttle"
)

// Options of a [Scrubber]. The zero value works.
type Options struct {
	// Throttle paces the checks of whole objects: AGs, realtime groups, inodes, the
	// filesystem's own. [Scrubber.One], barriers and repairs are never paced: who
	// asks for those waits for the answer. nil paces nothing.
	Throttle *throttle.Throttle
	// Log receives what a report does not need; nil discards.
	Log logrus.FieldLogger
	// Sleep pauses between two attempts; nil is time.Sleep under the context.
	// Tests replace it.
	Sleep func(ctx context.Context, d time.Duration) error
}

// Scrubber checks and repairs the metadata of one filesystem. Its methods may
// be called by several goroutines at once; repairs wait for one another.
type Scrubber struct {
	fs   *ioctl.FS
	geo  *ioctl.Geometry
	opts Options
	log  logrus.FieldLogger

	workers workers
	times   times
	drains  drains
	// perCheck is what a check of a vector takes on average, in nanoseconds.
	perCheck atomic.Int64

	// inodePlans has, by kind, the plan without and with an attr fork.
	inodePlans [kindCount][2]plan
	agPlan     plan
	rtPlan     plan

	noVectors atomic.Bool
	// known has, by type, whether the kernel knows it: see lacks.
	known    [ioctl.ScrubTypeCount]atomic.Int32
	ioErrors atomic.Int32
	// repairing is held by the repair that runs: a mutex that a context can
	// give up on.
	repairing chan struct{}
	freezes   atomic.Int32
}

// New returns a scrubber on fs. No call is made yet.
func New(fs *ioctl.FS, o Options) *Scrubber {
	if o.Log == nil {
		discard := logrus.New()
		discard.SetOutput(io.Discard)
		o.Log = discard
	}
	if o.Sleep == nil {
		o.Sleep = sleep
	}
	s := &Scrubber{
		fs: fs, geo: fs.Geometry(), opts: o, log: o.Log,
		repairing: make(chan struct{}, 1),
	}
	features := s.geo.Flags
	s.agPlan, s.rtPlan = agPlan.on(features), rtPlan.on(features)
	for kind := range kindCount {
		s.inodePlans[kind][0] = inodePlan(kind, false).on(features)
		s.inodePlans[kind][1] = inodePlan(kind, true).on(features)
	}
	return s
}

// AG checks the metadata of one allocation group: headers, inobt, finobt, bnobt,
// cntbt, refcountbt and, last, rmapbt, as far as the filesystem has them. There
// is a result for each, in this order.
func (s *Scrubber) AG(ctx context.Context, agno ioctl.AGNumber) ([]Result, error) {
	return s.checkAll(ctx, Object{AGNo: agno}, s.agPlan)
}

// RTGroups returns how many realtime groups there are to check: what the
// geometry says, and 1 for a filesystem without groups, whose realtime bitmap
// and summary are those of group 0.
func (s *Scrubber) RTGroups() uint32 {
	if s.geo.Has(ioctl.FlagMetadir) {
		return s.geo.RGCount
	}
	return 1
}

// RTGroup checks the metadata of one realtime group, and the paths of its files
// in the metadata directory.
func (s *Scrubber) RTGroup(ctx context.Context, rgno ioctl.RGNumber) ([]Result, error) {
	out, err := s.checkAll(ctx, Object{AGNo: ioctl.AGNumber(rgno)}, s.rtPlan)
	if err != nil || !s.geo.Has(ioctl.FlagMetadir) {
		return out, err
	}
	return s.metapaths(ctx, out, rgMetapaths, ioctl.AGNumber(rgno))
}

// Filesystem checks what belongs to no allocation group and is no sum over
// others: quotas, the metadata directory, and all realtime groups.
func (s *Scrubber) Filesystem(ctx context.Context) ([]Result, error) {
	out, err := s.checkAll(ctx, Object{}, quotaPlan)
	if err != nil {
		return out, err
	}
	if s.geo.Has(ioctl.FlagMetadir) {
		if out, err = s.metapaths(ctx, out, fsMetapaths, 0); err != nil {
			return out, err
		}
	}
	for rgno := range s.RTGroups() {
		group, err := s.RTGroup(ctx, ioctl.RGNumber(rgno))
		out = append(out, group...)
		if err != nil {
			return out, err
		}
	}
	return out, nil
}

// Summary checks the sums: link counts, quota counters and, last, the
// filesystem counters. The last may freeze the filesystem for a moment, and gives
// [ErrFreezeHeld] while this process does.
//
// The first two read every inode. Without inodes they are left out: of an inode
// that a wrong inobt has and that is free, the kernel waits for 30 seconds that
// somebody lets go of it (fs/xfs/scrub/iscan.c), and then begins anew.
func (s *Scrubber) Summary(ctx context.Context, inodes bool) ([]Result, error) {
	todo := summaryPlan
	if !inodes {
		todo = countersPlan
	}
	return s.checkAll(ctx, Object{}, todo)
}

// ForgetSickness has the kernel forget what it knows at second hand of sick
// metadata (type HEALTHY). It is for the end of a run that has checked
// everything and found nothing. CORRUPT means that something is sick still.
func (s *Scrubber) ForgetSickness(ctx context.Context) (Result, error) {
	return s.One(ctx, Object{Type: ioctl.ScrubTypeHEALTHY})
}

// Inode checks all that there is to check of one inode, with one vector where
// nothing is wrong. mode is as in stat(2), and its type bits count only. The
// results are appended to buf, which may be reused; forks that the inode does
// not have are among them as Absent, and where all are, it was freed.
func (s *Scrubber) Inode(ctx context.Context, ino ioctl.Ino, gen ioctl.Gen, mode uint16, buf []Result) ([]Result, error) {
	w := s.workers.acquire()
	defer s.workers.release(w)
	return s.run(ctx, w, Object{Ino: ino, Gen: gen}, s.inodePlans[kindOf(mode)][1], buf)
}

// One checks one object. It repairs nothing.
func (s *Scrubber) One(ctx context.Context, o Object) (Result, error) {
	w := s.workers.acquire()
	defer s.workers.release(w)
	r := Result{Object: o}
	if err := ctx.Err(); err != nil {
		return r, err
	}
	err := s.check(ctx, w, &r)
	return r, err
}

// Uncovered lists the types that this filesystem has metadata of, that were
// asked for, and that the kernel turned out not to know.
func (s *Scrubber) Uncovered() []ioctl.ScrubType {
	var out []ioctl.ScrubType
	for t := range ioctl.ScrubTypeCount {
		if s.known[t].Load() == typeLacking {
			out = append(out, t)
		}
	}
	return out
}

// HoldFreeze says that this process is about to freeze the filesystem. Until
// the returned function is called, everything that would wait for the thaw is
// refused with [ErrFreezeHeld]: repairs, the filesystem counters, and inodes.
// The metadata of groups can be checked.
func (s *Scrubber) HoldFreeze() (release func()) {
	s.freezes.Add(1)
	var done atomic.Bool
	return func() {
		if done.CompareAndSwap(false, true) {
			s.freezes.Add(-1)
		}
	}
}

// waitsForThaw says whether a check of that type could.
func waitsForThaw(t ioctl.ScrubType) bool {
	return t == ioctl.ScrubTypeFSCOUNTERS || t.Object() == ioctl.ScrubObjectInode ||
		t == ioctl.ScrubTypeNLINKS || t == ioctl.ScrubTypeQUOTACHECK
}

func (s *Scrubber) freezeHeld(o Object) error {
	if s.freezes.Load() == 0 {
		return nil
	}
	return fmt.Errorf("%s of %s: %w", o, s.fs.Path(), ErrFreezeHeld)
}

func (s *Scrubber) checkAll(ctx context.Context, o Object, p plan) ([]Result, error) {
	w := s.workers.acquire()
	defer s.workers.release(w)
	return s.run(ctx, w, o, p, nil)
}

func (s *Scrubber) metapaths(ctx context.Context, out []Result, paths []ioctl.Metapath, agno ioctl.AGNumber) ([]Result, error) {
	turn := s.opts.Throttle.Turn()
	defer turn.Leave()
	for _, path := range paths {
		if err := turn.Begin(ctx); err != nil {
			return out, err
		}
		r, err := s.One(ctx, Object{Type: ioctl.ScrubTypeMETAPATH, Ino: ioctl.Ino(path), AGNo: agno})
		out = append(out, r)
		if err == nil {
			err = turn.End(ctx, 0)
		}
		if err != nil {
			return out, err
		}
	}
	return out, nil
}

// check makes one object's check, with the retries that it takes.
func (s *Scrubber) check(ctx context.Context, w *worker, r *Result) error {
	if waitsForThaw(r.Type) {
		if err := s.freezeHeld(r.Object); err != nil {
			r.Err = err
			return nil
		}
	}
	flags, err := s.call(w, r.Object, 0)
	switch s.answer(r, flags, err) {
	case again:
		return s.settle(ctx, w, r)
	case fatal:
		return &FatalError{Object: r.Object, Err: r.Err}
	case settled:
	}
	return nil
}

// turn is a worker's leave to make a check, nil in a run that is not paced.
func (s *Scrubber) turn(w *worker) *throttle.Turn {
	if w.turn == nil {
		w.turn = s.opts.Throttle.Turn()
	}
	return w.turn
}

// call is one single call, seen by InFlight.
func (s *Scrubber) call(w *worker, o Object, flags ioctl.ScrubFlags) (ioctl.ScrubFlags, error) {
	began := w.enter(o, setOf(o.Type), flags)
	out, err := s.fs.Scrub(o.request(flags))
	w.leave()
	s.times.add(o.Type, flags.Has(ioctl.ScrubRepair), time.Since(began))
	return out, err
}

// What is known of a type.
const (
	typeUnasked int32 = iota
	typeKnown
	typeLacking
)

// lacks says whether the kernel does not know the type. ENOENT alone does not
// tell: it is also the answer for metadata that is not there.
func (s *Scrubber) lacks(t ioctl.ScrubType) bool {
	if t >= ioctl.ScrubTypeCount {
		return true
	}
	switch s.known[t].Load() {
	case typeKnown:
		return false
	case typeLacking:
		return true
	}
	if errors.Is(s.fs.Features().ScrubType(t), ioctl.ErrNotSupported) {
		s.known[t].Store(typeLacking)
		return true
	}
	s.known[t].Store(typeKnown)
	return false
}

func (s *Scrubber) setLacks(t ioctl.ScrubType) {
	if t < ioctl.ScrubTypeCount {
		s.known[t].Store(typeLacking)
	}
}

// lacking is lacks for a type that has been asked about; it makes no call.
func (s *Scrubber) lacking(t ioctl.ScrubType) bool {
	return t >= ioctl.ScrubTypeCount || s.known[t].Load() == typeLacking
}
