package systemd

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"maps"
	"regexp"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/coreos/go-systemd/v22/journal"
	"github.com/sirupsen/logrus"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

// sent is what a journal got.
type sent struct {
	message  string
	priority journal.Priority
	vars     map[string]string
}

// fakeJournal takes entries, or not.
type fakeJournal struct {
	mu      sync.Mutex
	entries []sent
	err     error
	block   chan struct{}
}

func (j *fakeJournal) send(message string, priority journal.Priority, vars map[string]string) error {
	if j.block != nil {
		<-j.block
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.err == nil {
		j.entries = append(j.entries, sent{message, priority, maps.Clone(vars)})
	}
	return j.err
}

// journalLogger is a logger on a hook on j.
func journalLogger(j *fakeJournal, fallback io.Writer, perRun int) (*logrus.Logger, *Hook) {
	log := logrus.New()
	log.SetOutput(io.Discard)
	log.SetFormatter(nothing{})
	log.SetLevel(logrus.DebugLevel)
	hook := newHook(j.send, fallback, perRun)
	log.AddHook(hook)
	return log, hook
}

func TestHookWritesFields(t *testing.T) {
	var j fakeJournal
	log, hook := journalLogger(&j, io.Discard, 0)
	log.WithFields(logrus.Fields{
		FieldKind: KindHeld, FieldDevice: "/dev/sda1", FieldAGNo: uint32(3), FieldIno: uint64(131),
		FieldScrubType: "rmapbt", FieldRunID: "r1", FieldPath: "a\nb\x1b", "x-y z": true, FieldReason: "",
		"error": errors.New("it is\nbroken"),
	}).Info("two owners\tclaim it")
	log.WithField(FieldKind, KindRunStarted).Error("worse than its kind")
	log.WithField(FieldKind, KindDataAtRisk).Warn("no better than its kind")
	log.Debug("plain")
	require.True(t, hook.Close(time.Minute))
	require.Len(t, j.entries, 4)
	assert.Equal(t, sent{`two owners\x09claim it`, journal.PriErr, map[string]string{
		"SYSLOG_IDENTIFIER": "scrubd", "MESSAGE_ID": KindHeld.ID, "XFS_DEVICE": "/dev/sda1", "XFS_AGNO": "3", "XFS_INO": "131",
		"SCRUBD_SCRUB_TYPE": "rmapbt", "SCRUBD_RUN_ID": "r1", "XFS_PATH": `a\x0ab\x1b`, "SCRUBD_X_Y_Z": "true",
		"SCRUBD_ERROR": `it is\x0abroken`,
	}}, j.entries[0])
	assert.Equal(t, journal.PriErr, j.entries[1].priority)
	assert.Equal(t, journal.PriCrit, j.entries[2].priority)
	assert.Equal(t, sent{"plain", journal.PriDebug, map[string]string{"SYSLOG_IDENTIFIER": "scrubd"}}, j.entries[3])
}

// Whatever an entry holds: names are such that journald takes them and are none
// of its own, values are short and without control characters.
func TestAnyEntryIsClean(t *testing.T) {
	name := regexp.MustCompile(`^(MESSAGE_ID|SYSLOG_IDENTIFIER|(XFS|SCRUBD)_[A-Z0-9_]*)$`)
	rapid.Check(t, func(t *rapid.T) {
		data := rapid.MapOf(rapid.String(), rapid.StringN(-1, -1, 3000)).Draw(t, "data")
		e := logrus.NewEntry(logrus.New())
		e.Message = string(rapid.SliceOf(rapid.Byte()).Draw(t, "message"))
		for k, v := range data {
			e.Data[k] = v
		}
		out := newEntry(e)
		require.LessOrEqual(t, len(out.vars), fieldsMax)
		require.LessOrEqual(t, len(out.message), messageMax)
		require.NotRegexp(t, `[[:cntrl:]]`, out.message)
		for k, v := range out.vars {
			require.Regexp(t, name, k)
			require.LessOrEqual(t, len(k), fieldNameMax)
			require.LessOrEqual(t, len(v), valueMax)
			require.NotRegexp(t, `[[:cntrl:]]`, v)
		}
		text, err := PrefixFormatter{}.Format(e)
		require.NoError(t, err)
		require.Equal(t, 1, bytes.Count(text, []byte{'\n'}), "one line, so that one prefix is enough")
		require.True(t, bytes.HasPrefix(text, []byte("<")))
	})
}

// A run with ten thousand findings writes a bounded number of entries, and
// its end says how many were left out; what must be known is written.
func TestEntriesOfARunAreBounded(t *testing.T) {
	var j fakeJournal
	log, hook := journalLogger(&j, io.Discard, 20)
	run := log.WithField(FieldRunID, "r1")
	run.WithField(FieldKind, KindRunStarted).Info("start")
	for i := range 10000 {
		run.WithField(FieldKind, KindFinding).Info(fmt.Sprint("finding ", i))
		if i%64 == 0 {
			synchronize(log) // a queue that is full is another matter
		}
	}
	run.WithField(FieldKind, KindDataAtRisk).Info("at risk")
	log.WithFields(logrus.Fields{FieldRunID: "r2", FieldKind: KindFinding}).Info("another run")
	run.WithField(FieldKind, KindRunFinished).Info("end")
	require.True(t, hook.Close(time.Minute))
	of := map[string]int{}
	for _, e := range j.entries {
		of[e.vars["SCRUBD_RUN_ID"]]++
	}
	assert.Equal(t, 22, of["r1"], "20 and what is always written")
	assert.Equal(t, 1, of["r2"])
	last := j.entries[len(j.entries)-1]
	assert.Equal(t, "end", last.message)
	assert.Equal(t, "9981", last.vars["SCRUBD_SUPPRESSED_ENTRIES"])
	assert.Equal(t, 9981, hook.Suppressed())
}

// synchronize waits until the hook is through with what it has: it does for
// urgent entries.
func synchronize(log *logrus.Logger) { log.WithField(FieldKind, KindDataAtRisk).Warn("urgent") }

// A journal that does not read (it may be stored on what is being repaired)
// holds nobody up, and what was lost is counted.
func TestStuckJournalHoldsNobodyUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		j := fakeJournal{block: make(chan struct{})}
		log, hook := journalLogger(&j, io.Discard, 0)
		began := time.Now()
		for range 2 * queued {
			log.Info("more")
		}
		assert.Zero(t, time.Since(began))
		log.WithField(FieldKind, KindDataAtRisk).Info("urgent, and no room for it")
		assert.Zero(t, time.Since(began))
		assert.False(t, hook.Close(time.Second))
		close(j.block)
		assert.True(t, hook.Close(time.Minute))
		log.Info("after the end")
		assert.GreaterOrEqual(t, len(j.entries), queued)
		assert.LessOrEqual(t, len(j.entries), queued+1)
	})
	synctest.Test(t, func(t *testing.T) {
		j := fakeJournal{block: make(chan struct{})}
		log, hook := journalLogger(&j, io.Discard, 0)
		began := time.Now()
		log.WithField(FieldKind, KindDataAtRisk).Info("urgent")
		assert.Equal(t, urgentWait, time.Since(began), "somebody waits for it, but not for ever")
		close(j.block)
		assert.True(t, hook.Close(time.Minute))
	})
	synctest.Test(t, func(t *testing.T) {
		j := fakeJournal{block: make(chan struct{})}
		log, hook := journalLogger(&j, io.Discard, 0)
		for range queued + 5 {
			log.Info("more")
		}
		synctest.Wait()
		j.block <- struct{}{} // room for one
		synctest.Wait()
		log.Info("says what is lost")
		close(j.block)
		assert.True(t, hook.Close(time.Minute))
		last := j.entries[len(j.entries)-1]
		assert.Equal(t, "says what is lost", last.message)
		assert.Regexp(t, `^[45]$`, last.vars["SCRUBD_LOST_ENTRIES"])
	})
}

func TestJournalThatIsNotThere(t *testing.T) {
	j := fakeJournal{err: errors.New("no such socket")}
	var out bytes.Buffer
	log, hook := journalLogger(&j, &out, 0)
	log.WithField(FieldKind, KindDataAtRisk).Info("free space\nis used")
	log.Info("plain")
	require.True(t, hook.Close(time.Minute))
	assert.Equal(t, "<2>free space\\x0ais used (journal: no such socket)\n<6>plain (journal: no such socket)\n", out.String())
}

func TestPrefixFormatter(t *testing.T) {
	var out bytes.Buffer
	log := logrus.New()
	log.SetOutput(&out)
	log.SetFormatter(PrefixFormatter{})
	log.WithFields(logrus.Fields{FieldKind: KindFinding, FieldAGNo: 1, FieldReason: "because of it"}).Info("found")
	assert.Equal(t, "<4>found MESSAGE_ID="+KindFinding.ID+` SCRUBD_REASON="because of it" XFS_AGNO=1`+"\n", out.String())
}

func TestAttachOutsideOfTheJournal(t *testing.T) {
	t.Setenv("JOURNAL_STREAM", "1:1")
	log := logrus.New()
	before := log.Formatter
	flush, attached := Attach(log, 0)
	flush()
	assert.False(t, attached)
	assert.Equal(t, before, log.Formatter)
	assert.Empty(t, log.Hooks)
}

// Every kind is explained, and nothing else is; the fields that the texts name
// are such that entries have.
func TestCatalog(t *testing.T) {
	blocks := strings.Split(Catalog, "\n-- ")[1:]
	explained := map[string]bool{}
	known := map[string]bool{}
	for _, f := range []string{
		FieldDevice, FieldMount, FieldMode, FieldRunID, FieldStatus, FieldReason, FieldToDo, FieldVerdict, FieldOutcome,
		FieldFindingID, "not_checked", "call",
	} {
		known[JournalField(f)] = true
	}
	for _, block := range blocks {
		id, text, _ := strings.Cut(block, "\n")
		require.Regexp(t, `^[0-9a-f]{32}$`, id)
		require.False(t, explained[id], "twice: %s", id)
		explained[id] = true
		head, body, ok := strings.Cut(text, "\n\n")
		require.True(t, ok, id)
		assert.Regexp(t, `^Subject: .+\nDefined-By: scrubd\nDocumentation: man:scrubd\(8\)$`, head)
		assert.NotEmpty(t, strings.TrimSpace(body))
		for _, f := range regexp.MustCompile(`\b(XFS|SCRUBD)_[A-Z_]+\b`).FindAllString(text, -1) {
			assert.True(t, known[f], "%s: no entry has %s", id, f)
		}
	}
	ids := map[string]bool{}
	for _, k := range Kinds() {
		assert.True(t, explained[k.ID], "%s is not explained", k.Name)
		ids[k.ID] = true
	}
	assert.Len(t, ids, len(Kinds()))
	assert.Len(t, explained, len(Kinds()))
}

// logging a finding costs what a finding is worth.
func BenchmarkHook(b *testing.B) {
	hook := newHook(func(string, journal.Priority, map[string]string) error { return nil }, io.Discard, 1<<30)
	log := logrus.New()
	log.SetOutput(io.Discard)
	log.SetFormatter(nothing{})
	log.AddHook(hook)
	e := log.WithFields(logrus.Fields{FieldKind: KindFinding, FieldAGNo: uint32(3), FieldIno: uint64(1 << 40), FieldRunID: "r"})
	for b.Loop() {
		e.Info("the rmapbt is wrong about 16 blocks at block 24 of AG 0")
	}
	hook.Close(time.Minute)
}
