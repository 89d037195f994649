package lab_test

import (
	"bytes"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/scrubd/scrubd/internal/lab"
)

// The announcement is found however the output is cut, and all that is not the
// announcement is passed on, even where it begins like one.
func TestMarkScanner(t *testing.T) {
	const head = "\x1escrubd-lab N "
	rapid.Check(t, func(t *rapid.T) {
		parts := rapid.SliceOf(rapid.SampledFrom([]string{
			"\x1e", "\x1escrubd", "\x1escrubd-lab ", head, head + "x\x1e", head + "999\x1e", "text\n", "\x1e\x1escrubd-lab N",
		})).Draw(t, "parts")
		job := strings.Join(parts, "")
		code := rapid.IntRange(0, 255).Draw(t, "code")
		finished := rapid.Bool().Draw(t, "finished")
		stream := job
		if finished {
			stream += head + strconv.Itoa(code) + "\x1e" + "late output"
		}
		scanner := lab.NewMarkScanner("N")
		var out bytes.Buffer
		found := false
		for stream != "" && !found {
			n := rapid.IntRange(1, len(stream)).Draw(t, "cut")
			piece, got, ok := scanner.Feed([]byte(stream[:n]))
			out.Write(piece)
			stream = stream[n:]
			if found = ok; ok && got != code {
				t.Fatalf("got status %d, want %d", got, code)
			}
		}
		if found != finished {
			t.Fatalf("found: %v, announced: %v", found, finished)
		}
		if !found {
			out.Write(scanner.Rest())
		}
		if out.String() != job {
			t.Fatalf("passed on %q, want %q", out.String(), job)
		}
	})
}

func TestLastLines(t *testing.T) {
	assert.Equal(t, "b\nc", lab.LastLines("a\r\nb\r\nc\r\n\r\n", 2))
	assert.Equal(t, "a", lab.LastLines("a", 5))
	assert.Empty(t, lab.LastLines("", 5))
}

func TestTailBuffer(t *testing.T) {
	tail := lab.NewTailBuffer(10)
	for i := range 1000 {
		n, err := tail.Write([]byte(strconv.Itoa(i % 10)))
		require.NoError(t, err)
		assert.Equal(t, 1, n)
	}
	assert.Equal(t, "0123456789", tail.String())
	_, err := tail.Write(bytes.Repeat([]byte("x"), 100))
	require.NoError(t, err)
	assert.Equal(t, "xxxxxxxxxx", tail.String())
}

func TestConsoleTailBeginsAtTheJob(t *testing.T) {
	assert.Equal(t, "BUG: x", lab.ConsoleTail("boot\r\nRun /b as init process\r\nBUG: x\r\n"))
	assert.Equal(t, "boot\nhang", lab.ConsoleTail("boot\nhang\n"))
	assert.Len(t, strings.Split(lab.ConsoleTail(strings.Repeat("line\n", 100)), "\n"), 40)
}

func TestComplaints(t *testing.T) {
	result := lab.Result{Console: "fine\nWARNING: fs/xfs/x.c:1\r\nINFO: task x:1 blocked for more than 40 seconds.\nfine\n"}
	assert.Equal(t, []string{"WARNING: fs/xfs/x.c:1", "INFO: task x:1 blocked for more than 40 seconds."}, result.Complaints())
}
