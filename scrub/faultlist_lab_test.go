package scrub_test

import (
	"errors"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/scrubd/scrubd/internal/lab"
	"github.com/scrubd/scrubd/scrub"
)

// envFaults replaces the faults of TestLabTogether: words of class:seed, or
// several of these joined by + for faults that are there together.
const envFaults = "SCRUBD_TEST_FAULTS"

// together are pairs of faults: independent ones that have to be healed both,
// each in spite of the other.
const together = "rmap-offset:1+agf-freeblks:1 nblocks:1+rmap-unwritten:1 fork-lost:1+rmap-owner:3"

// TestLabTogether injects lists of faults into copies of the sample, one after
// the other in one kernel. Whatever there is, it is noticed, nothing is harmed,
// and what is left is held and found again.
func TestLabTogether(t *testing.T) {
	needBase(t)
	list := strings.Fields(together)
	if text, ok := os.LookupEnv(envFaults); ok {
		list = strings.Fields(text)
	}
	lab.InKernel(t, func(t *testing.T) {
		healed := 0
		for _, words := range list {
			t.Run(words, func(t *testing.T) {
				if tryTogether(t, words) {
					healed++
				}
			})
		}
		t.Logf("healed %d of %d", healed, len(list))
		if _, ok := os.LookupEnv(envFaults); !ok {
			assert.Equal(t, len(list), healed)
		}
	}, lab.WithTimeout(time.Duration(60+60*len(list))*time.Second), lab.WithMem(1500))
}

// tryTogether injects the faults of one word of the list and tells whether all
// was healed.
func tryTogether(t *testing.T, words string) bool {
	r := newRig(t)
	for word := range strings.SplitSeq(words, "+") {
		class, text, _ := strings.Cut(word, ":")
		seed, err := strconv.ParseUint(text, 10, 64)
		require.NoError(t, err)
		done, err := lab.InjectImage(r.image, lab.Fault{Class: lab.FaultClass(class), Seed: seed})
		if errors.Is(err, lab.ErrNoVictim) {
			t.Logf("no victim for %s", word)
			continue
		}
		require.NoError(t, err)
		t.Log(done.Describe())
	}
	r.mount()
	before := r.snapshot()
	sum := r.run(scrub.Options{})
	require.NoError(t, r.fs.Remount())
	after := r.snapshot()
	assert.Empty(t, harmed(r.clean, before, after), "files harmed")
	assert.NotEmpty(t, sum.Findings, "not noticed")
	held := 0
	for _, f := range sum.Findings {
		if f.Outcome != scrub.Repaired {
			held++
		}
	}
	if held > 0 {
		assert.NotZero(t, sum.ExitStatus())
		t.Logf("RESULT %s: held %d of %d", words, held, len(sum.Findings))
		return false
	}
	assert.Zero(t, sum.ExitStatus())
	assert.Empty(t, lab.Diff(r.clean, after), "differs from the clean image")
	if _, ok := os.LookupEnv(envFaults); !ok {
		assert.Empty(t, r.offline())
	}
	t.Logf("RESULT %s: healed, %d findings", words, len(sum.Findings))
	return true
}
