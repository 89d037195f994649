package xfile

import (
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
	"pgregory.net/rapid"
)

// TestBudgetTwin takes and gives for several purposes and compares with sums.
func TestBudgetTwin(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		limit := rapid.Int64Range(0, 1000).Draw(t, "limit")
		diskLimit := rapid.Int64Range(0, 1000).Draw(t, "disk limit")
		b := NewBudget(limit)
		b.SetLimit(Disk, diskLimit)
		type key struct {
			purpose string
			place   Place
		}
		held := map[key]int64{}
		sum := func(place Place) (n int64) {
			for k, v := range held {
				if k.place == place {
					n += v
				}
			}
			return n
		}
		limits := map[Place]int64{Memory: limit, Disk: diskLimit}
		peaks := map[Place]int64{}
		t.Repeat(map[string]func(*rapid.T){
			"": func(t *rapid.T) {
				purposes := map[string]Use{}
				for _, u := range b.Uses() {
					purposes[u.Purpose] = u
				}
				for place := range limits {
					now, peak := b.Used(place)
					require.Equal(t, sum(place), now)
					require.Equal(t, peaks[place], peak)
					require.Equal(t, limits[place], b.Limit(place))
					require.Equal(t, limits[place]-sum(place), b.Left(place))
				}
				for k, v := range held {
					u := purposes[k.purpose]
					require.Equal(t, v, map[Place]int64{Memory: u.Memory, Disk: u.Disk}[k.place])
					require.GreaterOrEqual(t, u.Peak, u.Memory+u.Disk)
				}
				left := limit - sum(Memory)
				require.True(t, b.WouldFit(left))
				require.False(t, b.WouldFit(left+1))
			},
			"take": func(t *rapid.T) {
				k := key{rapid.SampledFrom([]string{"a", "b"}).Draw(t, "purpose"), Place(rapid.IntRange(0, 1).Draw(t, "place"))}
				n := rapid.Int64Range(0, 400).Draw(t, "n")
				err := b.take(k.purpose, k.place, n)
				if sum(k.place)+n > limits[k.place] {
					require.Equal(t, &BudgetError{Purpose: k.purpose, Want: n, Used: sum(k.place), Limit: limits[k.place]}, err)
					return
				}
				require.NoError(t, err)
				b.settle(k.place, n)
				held[k] += n
				peaks[k.place] = max(peaks[k.place], sum(k.place))
			},
			"give": func(t *rapid.T) {
				for k, v := range held {
					n := rapid.Int64Range(0, v).Draw(t, "n")
					b.give(k.purpose, k.place, n)
					held[k] -= n
					break
				}
			},
		})
	})
}

// TestBudgetShared has files of several goroutines under one budget: the limit
// holds at every moment and all is given back.
func TestBudgetShared(t *testing.T) {
	const limit = 4 << 20
	b := NewBudget(limit)
	var wg sync.WaitGroup
	var refused sync.Map
	for w := range 4 {
		wg.Go(func() {
			f, err := New(Options{Name: string(rune('a' + w)), Budget: b})
			if err != nil {
				t.Error(err)
				return
			}
			for range 60 {
				if _, err := f.AllocPages(8); errors.Is(err, ErrBudget) {
					refused.Store(w, true)
				} else if err != nil {
					t.Error(err)
				}
				if f.Pages() > 300 {
					if err := f.Truncate(f.Size() / 2); err != nil {
						t.Error(err)
					}
				}
			}
			if err := f.Close(); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	now, peak := b.Used(Memory)
	require.Zero(t, now)
	require.LessOrEqual(t, peak, int64(limit))
	require.Len(t, b.Uses(), 4)
	for i, u := range b.Uses() {
		require.Equal(t, string(rune('a'+i)), u.Purpose)
		require.Zero(t, u.Memory+u.Disk)
		require.Positive(t, u.Peak)
	}
}

func TestNilBudget(t *testing.T) {
	var b *Budget
	require.NoError(t, b.take("x", Memory, Unlimited))
	b.settle(Memory, 1)
	b.give("x", Memory, 1)
	require.Equal(t, int64(Unlimited), b.Limit(Memory))
	require.Equal(t, int64(Unlimited), b.Left(Disk))
	require.True(t, b.WouldFit(1<<60))
	require.Nil(t, b.Uses())
	require.Empty(t, b.Bound())
	now, peak := b.Used(Memory)
	require.Zero(t, now+peak)
	a, err := b.Advise(1<<60, 1, "")
	require.NoError(t, err)
	require.Equal(t, Advice{Place: Memory, AtOnce: 1 << 60}, a)
}

// TestBudgetFollows: a budget with a source reads it again, as often as it
// must and no more, and a reading does not count what is under way twice.
func TestBudgetFollows(t *testing.T) {
	b := NewBudget(100 << 20)
	left, reads := int64(100<<20), 0
	var fail error
	b.source = &source{last: time.Now(), read: func() (int64, string, error) {
		reads++
		return left, "the test", fail
	}}
	take := func(n int64) error {
		err := b.take("x", Memory, n)
		if err == nil {
			left -= n // the kernel gives it
			b.settle(Memory, n)
		}
		return err
	}
	require.NoError(t, take(1<<20))
	require.Zero(t, reads, "nothing to ask yet")
	require.NoError(t, take(sourceStep))
	require.Equal(t, 1, reads, "a step is taken")
	require.EqualValues(t, 100<<20, b.Limit(Memory))
	require.Equal(t, "the test", b.Bound())

	left -= 60 << 20 // a neighbour takes it
	b.source.last = time.Now()
	b.source.taken = 0
	reads = 0
	require.NoError(t, take(20<<20), "not asked yet, and within the last reading")
	require.Zero(t, reads)
	left += 20 << 20
	b.give("x", Memory, 20<<20)
	err := take(30 << 20)
	var over *BudgetError
	require.ErrorAs(t, err, &over)
	require.Equal(t, BudgetError{Purpose: "x", Want: 30 << 20, Used: 33 << 20, Limit: 40 << 20, Bound: "the test"}, *over)
	require.ErrorContains(t, err, "bounded by the test")

	left += 60 << 20 // and gives it back: asked again before refusing
	require.NoError(t, take(30<<20))

	// Under way: charged, and not yet to be seen in a reading.
	require.NoError(t, b.take("x", Memory, 10<<20))
	was := b.Limit(Memory)
	require.Equal(t, left-10<<20, b.Left(Memory))
	require.Equal(t, was, b.Limit(Memory))
	b.settle(Memory, 10<<20)
	left -= 10 << 20

	fail = errors.New("unreadable")
	require.Equal(t, left, b.Left(Memory), "the last number stands")
	fail = nil
	b.source.last = time.Now().Add(-2 * sourceInterval)
	was = int64(reads)
	require.NoError(t, take(1))
	require.EqualValues(t, was+1, reads, "an interval has passed")

	b.SetLimit(Memory, 5)
	require.EqualValues(t, 5, b.Limit(Memory))
	require.Empty(t, b.Bound())
	require.Zero(t, b.Left(Memory))
}

func TestAdvise(t *testing.T) {
	dir := t.TempDir()
	free, place, err := dirRoom(dir)
	require.NoError(t, err)
	require.Equal(t, Disk, place, "this test needs a directory on disk")
	require.Greater(t, free, int64(8<<20))

	b := NewBudget(1 << 20)
	for _, test := range []struct {
		name           string
		total, largest int64
		dir            string
		disk           int64
		want           Advice
	}{
		{"all in memory", 1 << 20, 1 << 20, dir, Unlimited, Advice{Place: Memory, AtOnce: 1 << 20}},
		{"all on disk", 2 << 20, 1, dir, Unlimited, Advice{Place: Disk, Dir: dir, AtOnce: 2 << 20}},
		{"groups in memory", 2 << 20, 1 << 20, "", Unlimited, Advice{Place: Memory, AtOnce: 1 << 20}},
		{"groups in memory rather than on disk", 1 << 60, 1 << 20, dir, 4 << 20, Advice{Place: Memory, AtOnce: 1 << 20}},
		{"groups on disk", 1 << 60, 2 << 20, dir, 4 << 20, Advice{Place: Disk, Dir: dir, AtOnce: 4 << 20}},
	} {
		b.SetLimit(Disk, test.disk)
		got, err := b.Advise(test.total, test.largest, test.dir)
		require.NoError(t, err, test.name)
		require.Equal(t, test.want, got, test.name)
	}
	_, err = b.Advise(2<<20, 2<<20, "")
	require.ErrorIs(t, err, ErrBudget)
	_, err = b.Advise(2<<20, 2<<20, "/nonexistent/dir")
	require.ErrorIs(t, err, unix.ENOENT)
	// tmpfs is memory and helps nothing.
	_, place, err = dirRoom("/dev/shm")
	if err == nil && place == Memory {
		_, err = b.Advise(2<<20, 2<<20, "/dev/shm")
		require.ErrorIs(t, err, ErrBudget)
	}
}
