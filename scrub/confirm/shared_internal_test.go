package confirm

import (
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/scrubd/scrubd/scrub/verdict"
	"github.com/scrubd/scrubd/scrub/witness"
	"github.com/scrubd/scrubd/shadow"
)

// truth is the twin: per block, who has it, and whether the refcountbt counts it.
const twinBlocks = 48

type truth struct {
	recs    []witness.Record
	counted [twinBlocks]bool
	flagged map[uint64]bool
}

func (tr *truth) owners(b int, flaggedOnly bool) (n int) {
	for i := range tr.recs {
		r := &tr.recs[i]
		if r.IsShareable() && int(r.StartBlock) <= b && b < int(r.End()) && (!flaggedOnly || tr.flagged[r.Owner]) {
			n++
		}
	}
	return n
}

// forks is what the forks of the inodes with the reflink flag show.
func (tr *truth) forks() forkMarks {
	var m forkMarks
	for b := range twinBlocks {
		if tr.owners(b, true) == 0 {
			continue
		}
		m.shown = append(m.shown, verdict.Range{Start: uint32(b), Count: 1})
		if tr.counted[b] {
			m.marked = append(m.marked, verdict.Range{Start: uint32(b), Count: 1})
		}
	}
	m.shown, m.marked = merged(m.shown), merged(m.marked)
	return m
}

func drawTruth(t *rapid.T) *truth {
	tr := &truth{flagged: make(map[uint64]bool)}
	for owner := uint64(128); owner < 132; owner++ {
		tr.flagged[owner] = rapid.Bool().Draw(t, "flag")
	}
	for b := range tr.counted {
		tr.counted[b] = rapid.IntRange(0, 3).Draw(t, "counted") == 0
	}
	for range rapid.IntRange(0, 8).Draw(t, "records") {
		start := rapid.Uint32Range(0, twinBlocks-1).Draw(t, "start")
		r := witness.Record{Rmap: shadow.Rmap{
			StartBlock: start, BlockCount: rapid.Uint32Range(1, twinBlocks-start).Draw(t, "blocks"),
			Owner: rapid.Uint64Range(128, 131).Draw(t, "owner"),
		}}
		if rapid.IntRange(0, 4).Draw(t, "written") == 0 {
			r.Offset |= shadow.OffsetUnwritten
		}
		for b := int(r.StartBlock); b < int(r.End()); b++ {
			r.Shared = r.Shared || tr.counted[b] && r.IsShareable()
		}
		tr.recs = append(tr.recs, r)
	}
	return tr
}

// in tells whether block b lies in ranges.
func in(ranges []verdict.Range, b int) bool {
	for _, r := range ranges {
		if int(r.Start) <= b && b < int(r.Start)+int(r.Count) {
			return true
		}
	}
	return false
}

func TestDisagreeingTwin(t *testing.T) {
	w := Window{Count: twinBlocks}
	rapid.Check(t, func(t *rapid.T) {
		tr := drawTruth(t)
		m := tr.forks()
		missing, coarse := disagreeing(w, tr.recs, &m, true)
		for b := range twinBlocks {
			unmarkedRecord := false
			for i := range tr.recs {
				r := &tr.recs[i]
				unmarkedRecord = unmarkedRecord || r.IsShareable() && !r.Shared && int(r.StartBlock) <= b && b < int(r.End())
			}
			known := tr.owners(b, true) > 0 || unmarkedRecord
			want := tr.owners(b, false) >= 2 && !tr.counted[b] && known
			if coarse {
				require.False(t, want, "block %d is known for sure", b)
				want = tr.owners(b, false) >= 2 && !known
			}
			require.Equal(t, want, in(missing, b), "block %d, coarse %t", b, coarse)
		}

		extra, coarse := disagreeing(w, tr.recs, &m, false)
		for b := range twinBlocks {
			sure := tr.counted[b] && tr.owners(b, true) > 0 && tr.owners(b, false) < 2
			if coarse {
				require.False(t, sure, "block %d is known for sure", b)
			} else {
				require.Equal(t, sure, in(extra, b), "block %d", b)
			}
		}
		if !coarse {
			return
		}
		for i := range tr.recs {
			r := &tr.recs[i]
			if !r.IsShareable() || !in(extra, int(r.StartBlock)) {
				continue
			}
			stray := false
			for b := int(r.StartBlock); b < int(r.End()); b++ {
				stray = stray || tr.counted[b] && tr.owners(b, false) < 2
			}
			require.True(t, stray, "%v has no mark too many", r)
		}
	})
}

// Where the records alone agree, no marks of forks change that.
func TestAgreeingWhateverTheForksShow(t *testing.T) {
	agreed := 0
	rapid.Check(t, func(t *rapid.T) {
		w := Window{Start: 10, Count: 10}
		var recs []witness.Record
		for range rapid.IntRange(0, 5).Draw(t, "records") {
			recs = append(recs, witness.Record{
				Rmap: shadow.Rmap{
					StartBlock: rapid.Uint32Range(5, 20).Draw(t, "start"), BlockCount: rapid.Uint32Range(1, 14).Draw(t, "count"),
					Owner: rapid.Uint64Range(131, 133).Draw(t, "owner"),
				},
				Shared: rapid.Bool().Draw(t, "shared"),
			})
		}
		var m forkMarks
		for range rapid.IntRange(0, 4).Draw(t, "marks") {
			lo := rapid.Uint64Range(8, 20).Draw(t, "lo")
			hi := lo + rapid.Uint64Range(1, 8).Draw(t, "n")
			m.shown = appendRange(m.shown, w, lo, hi)
			if rapid.Bool().Draw(t, "marked") {
				m.marked = appendRange(m.marked, w, lo, hi)
			}
		}
		m.marked, m.shown = merged(m.marked), merged(m.shown)
		unmarked := rapid.Bool().Draw(t, "unmarked")
		if !agreeing(w, recs, unmarked) {
			return
		}
		agreed++
		parts, coarse := disagreeing(w, recs, &m, unmarked)
		require.Empty(t, parts)
		require.False(t, coarse)
	})
	require.Positive(t, agreed)
}
