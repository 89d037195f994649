package shadow

import "slices"

// openLine is a line that one side alone covers at the sweep's position.
type openLine struct {
	line
	side  int
	index int  // its place in differ.open[side], -1 when closed
	run   *run // the difference it is part of, nil until matched
	// mate is the line of the other side that it was matched with the last time;
	// it holds as long as run does.
	mate  *openLine
	abuts bool // the other side covered the block before the line opened
}

// run is a difference whose end is not known yet.
type run struct {
	start uint64
	lines [2]*openLine // one of them may be nil
	slot  uint64
	abuts bool
}

func (d *differ) openLine(l line, side int, abuts bool) *openLine {
	o := &openLine{line: l, side: side, index: len(d.open[side]), abuts: abuts}
	d.open[side] = append(d.open[side], o)
	d.loose = append(d.loose, o)
	d.changed = true
	return o
}

// closeLine ends the disagreement about o at x; abuts says whether the other
// side covers the line from x on.
func (d *differ) closeLine(o *openLine, x uint64, abuts bool) {
	set := d.open[o.side]
	last := set[len(set)-1]
	set[o.index], last.index = last, o.index
	set[len(set)-1] = nil
	d.open[o.side] = set[:len(set)-1]
	d.changed = true
	o.index = -1
	if o.mate != nil {
		o.mate.mate, o.mate = nil, nil
	}
	if o.run == nil {
		return
	}
	o.run.abuts = o.run.abuts || abuts
	d.closeRun(o.run, x)
}

func (d *differ) openRun(claim, kernel *openLine, x uint64) {
	r := &run{start: x, lines: [2]*openLine{claim, kernel}}
	for _, o := range r.lines {
		if o != nil {
			r.abuts = r.abuts || o.abuts
			o.abuts = false // true of its first block only
			o.run = r
		}
	}
	r.slot = d.queue.push(slot{run: r})
}

func (d *differ) closeRun(r *run, x uint64) {
	s := d.queue.at(r.slot)
	s.run, s.done = nil, true
	s.diff = r.difference(x)
	for _, o := range r.lines {
		if o != nil {
			o.run = nil
			d.loose = append(d.loose, o)
		}
	}
}

// cutRun ends a run at x and lets it go on as a new one.
func (d *differ) cutRun(r *run, x uint64) {
	d.closeRun(r, x)
	d.openRun(r.lines[claimSide], r.lines[kernelSide], x)
	d.loose = d.loose[:0]
}

func (r *run) difference(end uint64) Difference {
	var d Difference
	for side, o := range r.lines {
		if o != nil {
			d.set(side, o.rmap(r.start, end))
		}
	}
	switch claim, kernel := r.lines[claimSide], r.lines[kernelSide]; {
	case kernel == nil:
		d.Kind, d.Abuts = DiffMissing, r.abuts
	case claim == nil:
		d.Kind, d.Abuts = DiffExtra, r.abuts
	case claim.owner != kernel.owner:
		d.Kind = DiffOwner
	case claim.flags() != kernel.flags():
		d.Kind = DiffFlags
	default:
		d.Kind = DiffOffset
	}
	return d
}

// match pairs the open lines of the two sides from block x on, and ends and
// begins runs where the pairing has changed.
func (d *differ) match(x uint64) {
	claims, kernel := d.open[claimSide], d.open[kernelSide]
	if len(claims) != 0 && len(kernel) != 0 {
		for _, set := range d.open {
			sortLines(set)
			for i, o := range set {
				o.index, o.mate = i, nil
			}
		}
		pairOwners(claims, kernel)
		for _, o := range claims {
			if o.run != nil && o.run.lines[kernelSide] != o.mate {
				d.closeRun(o.run, x)
			}
		}
		for _, o := range kernel {
			if o.run != nil && o.run.lines[claimSide] != o.mate {
				d.closeRun(o.run, x)
			}
		}
	}
	// The order in which runs begin is the order in which they are yielded: it
	// depends on the lines alone.
	sortLines(d.loose)
	for _, o := range d.loose {
		switch {
		case o.index < 0 || o.run != nil: // closed, or begun with its mate
		case o.side == claimSide:
			d.openRun(o, o.mate, x)
		default:
			d.openRun(o.mate, o, x)
		}
	}
	clear(d.loose)
	d.loose = d.loose[:0]
}

func sortLines(set []*openLine) {
	slices.SortFunc(set, func(a, b *openLine) int {
		if c := compareLines(a.line, b.line); c != 0 {
			return c
		}
		return a.side - b.side
	})
}

// pairOwners gives every line of the shorter list a mate, both lists being
// sorted.
func pairOwners(claims, kernel []*openLine) {
	for i, j := 0, 0; i < len(claims) && j < len(kernel); {
		switch a, b := claims[i].owner, kernel[j].owner; {
		case a < b:
			i++
		case a > b:
			j++
		default:
			ni, nj := i, j
			for ni < len(claims) && claims[ni].owner == a {
				ni++
			}
			for nj < len(kernel) && kernel[nj].owner == a {
				nj++
			}
			pairOne(claims[i:ni], kernel[j:nj])
			i, j = ni, nj
		}
	}
	pairRest(claims, kernel, func(*openLine, *openLine) bool { return true })
}

// pairOne pairs the lines of one owner.
func pairOne(claims, kernel []*openLine) {
	pairRest(claims, kernel, func(a, b *openLine) bool { return a.place&offsetBits == b.place&offsetBits })
	pairRest(claims, kernel, func(a, b *openLine) bool { return a.flags() == b.flags() })
	pairRest(claims, kernel, func(*openLine, *openLine) bool { return true })
}

// pairRest pairs each claim without a mate with the first line of the kernel
// without one that fits.
func pairRest(claims, kernel []*openLine, fits func(a, b *openLine) bool) {
	first := 0 // kernel lines before it have mates
	for _, a := range claims {
		if a.mate != nil {
			continue
		}
		for first < len(kernel) && kernel[first].mate != nil {
			first++
		}
		if first == len(kernel) {
			return
		}
		for _, b := range kernel[first:] {
			if b.mate == nil && fits(a, b) {
				a.mate, b.mate = b, a
				break
			}
		}
	}
}
