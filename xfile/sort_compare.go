package xfile

import (
	"math/bits"
	"math/rand/v2"
)

// compareSort is the sample sort behind [Array.Sort].
type compareSort[T any] struct {
	compare func(x, y *T) int
	team    *team
}

const (
	// classesMin and classesMax bound the ranges of one division, powers of
	// two. What is too long to remember compares every record about three times
	// for each bit, so more ranges than keep the team busy are waste.
	classesMin = 8
	classesMax = 64
	// oversample is how many samples stand behind each splitter.
	oversample = 24
)

// sort sorts s with the whole team.
func (c *compareSort[T]) sort(s []T) error {
	if len(s) < c.team.minShare || c.team.size == 1 && byteLen(s) < c.team.bigCompared {
		return c.alone(s)
	}
	tree, err := c.sample(s)
	if err != nil {
		return err
	}
	bounds, err := partition(c.team, s, tree.classes(), tree.classify, true)
	if err != nil {
		return err
	}
	step := 1
	if tree.equals {
		step = 2 // odd classes are equal to their splitter, and done
	}
	whole := func(part []T) error {
		if len(part) == len(s) {
			return c.alone(part) // the samples did not divide it and would not again
		}
		return c.sort(part)
	}
	return sortParts(c.team, s, spans(bounds, step), c.team.bigCompared, whole, func() func([]T) error {
		return func(part []T) error { return introsort(c.team, part, c.compare) }
	})
}

// alone sorts s with one worker.
func (c *compareSort[T]) alone(s []T) error {
	return c.team.run(1, func(int) error { return introsort(c.team, s, c.compare) })
}

// splitters divide the order into ranges.
type splitters[T any] struct {
	compare func(x, y *T) int
	// split is in strictly ascending order.
	split []T
	// equals gives what is equal to a splitter a class of its own; it is set
	// when the samples had duplicates, which would make ranges that cannot be
	// divided any further.
	equals bool
}

// sample takes splitters from records all over s.
func (c *compareSort[T]) sample(s []T) (*splitters[T], error) {
	want := max(4*c.team.size, 2*byteLen(s)/c.team.bigCompared, classesMin)
	want = min(1<<bits.Len(uint(want-1)), classesMax)
	rng := rand.New(rand.NewPCG(uint64(len(s)), 0))
	samples := make([]T, want*oversample)
	err := c.team.run(1, func(int) error {
		for i := range samples {
			// In ascending order, for the sake of swapped pages.
			lo, hi := share(len(s), i, len(samples)), share(len(s), i+1, len(samples))
			samples[i] = s[lo+rng.IntN(max(1, hi-lo))]
		}
		return introsort(c.team, samples, c.compare)
	})
	if err != nil {
		return nil, err
	}
	t := &splitters[T]{compare: c.compare}
	for i := 1; i < want; i++ {
		v := &samples[i*oversample]
		if n := len(t.split); n > 0 && c.compare(&t.split[n-1], v) >= 0 {
			t.equals = true
			continue
		}
		t.split = append(t.split, *v)
	}
	return t, nil
}

func (t *splitters[T]) classes() int {
	if t.equals {
		return 2*len(t.split) + 1
	}
	return len(t.split) + 1
}

// classify is a [classifier].
func (t *splitters[T]) classify(s []T, out *[classBatch]uint8) {
	for i := range s {
		v := &s[i]
		lo, hi := 0, len(t.split)
		for lo < hi {
			m := int(uint(lo+hi) >> 1)
			if t.compare(&t.split[m], v) < 0 {
				lo = m + 1
			} else {
				hi = m
			}
		}
		class := lo
		if t.equals {
			class = 2 * lo
			if lo < len(t.split) && t.compare(&t.split[lo], v) == 0 {
				class++
			}
		}
		out[i&(classBatch-1)] = uint8(class)
	}
}
