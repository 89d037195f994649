package shadow

import "iter"

// NormalForm yields what the tree says as maximal intervals, in order of start
// block: records that continue one another are joined also where other owners'
// records stand between them.
//
// It looks each continuation up by its key, so that its memory grows with the
// mappings that cover one block and not with the tree. Blocks that a line covers
// twice, which Load lets pass, come once.
func (t *RmapTree) NormalForm() iter.Seq2[Rmap, error] {
	return func(yield func(Rmap, error) bool) {
		var lines lineTable
		for batch, err := range t.t.Batches() {
			if err != nil {
				yield(Rmap{}, err)
				return
			}
			for i := range batch {
				r := &batch[i]
				l, start := lineOf(r), uint64(r.StartBlock)
				s := lines.put(l, start)
				from := max(start, s.end[claimSide])
				if r.End() <= s.end[claimSide] {
					continue // part of what was yielded
				}
				s.end[claimSide] = r.End()
				end, err := t.continued(l, r.End())
				if err != nil {
					yield(Rmap{}, err)
					return
				}
				lines.put(l, start).end[claimSide] = end
				if !yield(l.rmap(from, end), nil) {
					return
				}
			}
		}
	}
}

// continued returns where the line's coverage ends that goes on at block end.
func (t *RmapTree) continued(l line, end uint64) (uint64, error) {
	for {
		next, ok, err := t.t.Get(keyOf(l.rmap(end, end)))
		if err != nil {
			return 0, err
		}
		if !ok || lineOf(&next) != l || next.BlockCount == 0 {
			return end, nil
		}
		end = next.End()
	}
}
