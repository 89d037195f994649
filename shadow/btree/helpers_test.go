package btree

import (
	"context"
	"iter"
	"slices"

	"github.com/stretchr/testify/require"
)

func ctxOf(require.TestingT) context.Context { return context.Background() }

// all copies what batches yield.
func all[R any](seq iter.Seq2[[]R, error]) ([]R, error) {
	var out []R
	for batch, err := range seq {
		if err != nil {
			return out, err
		}
		out = append(out, batch...)
	}
	return out, nil
}

func all1[R any](seq iter.Seq2[R, error]) ([]R, error) {
	var out []R
	for r, err := range seq {
		if err != nil {
			return out, err
		}
		out = append(out, r)
	}
	return out, nil
}

func inBatches[R any](records []R, n int) iter.Seq2[[]R, error] {
	return func(yield func([]R, error) bool) {
		if !yield(nil, nil) { // an empty batch is no end
			return
		}
		for c := range slices.Chunk(records, n) {
			if !yield(c, nil) {
				return
			}
		}
	}
}

func loadOrNil(t *spanTree, records []span) error {
	if len(records) == 0 {
		return nil
	}
	return t.Load(inBatches(records, 10))
}

func errIf(is bool, err error) error {
	if is {
		return err
	}
	return nil
}

// same is Equal for slices, of which nil is an empty one.
func same(t require.TestingT, want, got []span) {
	if !slices.Equal(want, got) {
		require.Equal(t, want, got)
	}
}

// only takes the first of what comes and stops.
func only[T any](t require.TestingT, seq iter.Seq2[T, error]) (v T) {
	for v, err := range seq {
		require.NoError(t, err)
		return v
	}
	return v
}
