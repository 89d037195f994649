package shadow

import "errors"

// differ is the sweep behind [Diff]. It walks over the block numbers and stops
// where something changes: where a record begins, and where one side's coverage
// of a line ends that the other side's does not. Records that both sides have
// alike change nothing and are only remembered, in lines, for as long as they
// overlap what follows.
type differ struct {
	in      [2]feed
	waiting int
	yield   func(Difference, error) bool

	lines   lineTable
	both    [2]Rmap // the last two records that both sides had alike and that are not in lines, older first
	reach   uint64  // no line in the table is covered beyond reach
	edges   edgeHeap
	touched []line // by the current step

	open    [2][]*openLine // lines that only this side covers, in no order
	changed bool           // open has changed in the current step
	loose   []*openLine    // lines without a run; some may be closed by now
	queue   diffQueue
}

var errStopped = errors.New("the consumer stopped")

func (d *differ) run() error {
	for side := range d.in {
		if err := d.in[side].fill(); err != nil {
			return err
		}
	}
	for {
		if err := d.cancelEqual(); err != nil {
			return err
		}
		x, ok := d.nextPosition()
		if !ok {
			break
		}
		if err := d.step(x); err != nil {
			return err
		}
		if err := d.drain(x); err != nil {
			return err
		}
	}
	return nil
}

// nextPosition is the least block where something happens.
func (d *differ) nextPosition() (uint64, bool) {
	x, ok := d.edges.min()
	for side := range d.in {
		if c := d.in[side].chunk; len(c) != 0 && (!ok || uint64(c[0].StartBlock) < x) {
			x, ok = uint64(c[0].StartBlock), true
		}
	}
	return x, ok
}

// cancelEqual consumes heads that both sides have alike, as long as they
// neither touch a line in dispute nor cover blocks twice.
func (d *differ) cancelEqual() error {
	a, b := &d.in[claimSide], &d.in[kernelSide]
	for {
		if len(d.edges) == 0 {
			if err := d.cancelQuiet(); err != nil {
				return err
			}
		}
		if len(a.chunk) == 0 || len(b.chunk) == 0 || a.chunk[0] != b.chunk[0] {
			break
		}
		r := &a.chunk[0]
		if err := a.check(r); err != nil {
			return err
		}
		if err := b.check(r); err != nil {
			return err
		}
		x := uint64(r.StartBlock)
		if edge, ok := d.edges.min(); ok && edge <= x {
			break
		}
		d.settleBoth(x)
		s := d.lines.put(lineOf(r), x)
		if s.last() > x {
			break // covered already
		}
		s.end = [2]uint64{r.End(), r.End()}
		d.reach = max(d.reach, r.End())
		if err := a.take(1); err != nil {
			return err
		}
		if err := b.take(1); err != nil {
			return err
		}
	}
	return nil
}

// cancelQuiet is the fast path of cancelEqual: while nothing is in dispute and
// records do not overlap, equal heads need no memory but the last of them.
func (d *differ) cancelQuiet() error {
	a, b := &d.in[claimSide], &d.in[kernelSide]
	for {
		n := min(len(a.chunk), len(b.chunk))
		ac, bc := a.chunk[:n], b.chunk[:n]
		end := max(d.reach, d.both[1].End())
		i := 0
		for i < len(ac) && i < len(bc) && ac[i] == bc[i] {
			start, count := uint64(ac[i].StartBlock), uint64(ac[i].BlockCount)
			// Starting at the end of all that was before, it is in order too.
			if start < end || count == 0 || start+count > MaxBlock {
				break
			}
			end = start + count
			i++
		}
		if i == 0 {
			return nil
		}
		if err := a.check(&ac[0]); err != nil { // the first alone may be out of order
			return err
		}
		if err := b.check(&bc[0]); err != nil {
			return err
		}
		// Nothing overlaps, so of all records before the last one only its
		// predecessor can touch what begins where the last one begins.
		d.both[0] = d.both[1]
		if i > 1 {
			d.both[0] = ac[i-2]
		}
		d.both[1] = ac[i-1]
		if err := a.take(i); err != nil {
			return err
		}
		if err := b.take(i); err != nil {
			return err
		}
		if i < n {
			return nil
		}
	}
}

// settleBoth moves the records kept aside into the table if they touch what
// begins at x.
func (d *differ) settleBoth(x uint64) {
	for i := range d.both {
		r := d.both[i]
		if r.BlockCount == 0 {
			continue
		}
		d.both[i] = Rmap{}
		if r.End() < x {
			continue
		}
		// The table may hold its line only with coverage that ended before it.
		s := d.lines.put(lineOf(&r), uint64(r.StartBlock))
		s.end = [2]uint64{r.End(), r.End()}
		d.reach = max(d.reach, r.End())
	}
}

// step does all that happens at block x: coverage that ends, records that begin
// on either side, and what follows for the differences.
func (d *differ) step(x uint64) error {
	d.touched = d.touched[:0]
	d.changed = false
	d.settleBoth(x)
	for {
		edge, ok := d.edges.min()
		if !ok || edge > x {
			break
		}
		if s := d.lines.get(d.edges.pop().line); s != nil {
			d.touch(s, x)
		}
	}
	for side := range d.in {
		f := &d.in[side]
		for len(f.chunk) != 0 && uint64(f.chunk[0].StartBlock) <= x {
			r := &f.chunk[0]
			if err := f.check(r); err != nil {
				return err
			}
			d.apply(side, r, x)
			if err := f.take(1); err != nil {
				return err
			}
		}
	}
	for _, l := range d.touched {
		d.settleLine(d.lines.get(l), x)
	}
	if d.changed {
		d.match(x)
	}
	return nil
}

// touch notes a line for the end of the step, with the coverage just before x.
func (d *differ) touch(s *lineState, x uint64) {
	if s.seen == x+1 {
		return
	}
	s.seen = x + 1
	s.before = [2]bool{s.end[claimSide] != 0 && s.end[claimSide] >= x, s.end[kernelSide] != 0 && s.end[kernelSide] >= x}
	d.touched = append(d.touched, s.line)
}

// apply adds one record that begins at x.
func (d *differ) apply(side int, r *Rmap, x uint64) {
	s := d.lines.put(lineOf(r), x)
	d.touch(s, x)
	if covered := min(s.end[side], r.End()); covered > x {
		dup := Difference{Kind: DiffDuplicate}
		dup.set(side, s.rmap(x, covered))
		d.queue.push(slot{diff: dup, done: true})
	}
	s.end[side] = max(s.end[side], r.End())
	d.reach = max(d.reach, r.End())
}

func (d *Difference) set(side int, r Rmap) {
	if side == claimSide {
		d.Claim, d.HasClaim = r, true
	} else {
		d.Kernel, d.HasKernel = r, true
	}
}

// settleLine compares the two sides of a touched line from block x on.
func (d *differ) settleLine(s *lineState, x uint64) {
	claim, kernel := s.end[claimSide] > x, s.end[kernelSide] > x
	if s.end[claimSide] != s.end[kernelSide] && (claim || kernel) {
		next := s.last()
		if claim && kernel {
			next = min(s.end[claimSide], s.end[kernelSide])
		}
		d.edges.push(edge{next, s.line})
	}
	if o := s.open; o != nil {
		other := [2]bool{claim, kernel}[1-o.side]
		if claim != kernel && !other {
			return // still the same side alone
		}
		s.open = nil
		d.closeLine(o, x, other)
	}
	if claim != kernel {
		side := claimSide
		if kernel {
			side = kernelSide
		}
		s.open = d.openLine(s.line, side, s.before[1-side])
	}
}

// drain yields the differences that are complete and wait for nothing.
func (d *differ) drain(x uint64) error {
	for d.queue.len() > 0 {
		head := d.queue.head()
		if !head.done {
			if d.queue.len() <= d.waiting || head.run.start >= x {
				break
			}
			d.cutRun(head.run, x)
		}
		if !d.yield(d.queue.pop().diff, nil) {
			return errStopped
		}
	}
	return nil
}
