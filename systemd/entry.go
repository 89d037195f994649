package systemd

import (
	"fmt"
	"strconv"

	"github.com/coreos/go-systemd/v22/journal"
	"github.com/sirupsen/logrus"
)

// The bounds of one entry. It then always fits into one datagram: a larger one
// would have to go through a file.
const (
	messageMax = 2048
	valueMax   = 1024
	fieldsMax  = 48
)

// entry is one entry of the journal.
type entry struct {
	message  string
	priority journal.Priority
	vars     map[string]string
	kind     *Kind
	run      string // its run ID
}

// newEntry makes an entry of a logrus entry.
func newEntry(e *logrus.Entry) entry {
	out := entry{message: cut(printable(e.Message), messageMax), priority: priorityOf(e.Level), vars: make(map[string]string, len(e.Data)+2)}
	// Without it journald takes the name of the thread.
	out.vars["SYSLOG_IDENTIFIER"] = "scrubd"
	if kind, ok := e.Data[FieldKind].(*Kind); ok && kind != nil {
		out.kind = kind
		out.vars["MESSAGE_ID"] = kind.ID
		// The level says how bad this one is, the kind how bad such events are.
		if e.Level == logrus.InfoLevel || kind.Priority < out.priority {
			out.priority = kind.Priority
		}
	}
	for name, value := range e.Data {
		if name == FieldKind || len(out.vars) == fieldsMax {
			continue
		}
		text := valueOf(value)
		if text == "" {
			continue
		}
		out.vars[JournalField(name)] = cut(text, valueMax)
		if name == FieldRunID {
			out.run = text
		}
	}
	return out
}

// priorityOf maps the levels of logrus to those of syslog(3).
func priorityOf(level logrus.Level) journal.Priority {
	if level < logrus.ErrorLevel {
		return journal.PriCrit
	}
	switch level {
	case logrus.ErrorLevel:
		return journal.PriErr
	case logrus.WarnLevel:
		return journal.PriWarning
	case logrus.InfoLevel:
		return journal.PriInfo
	default:
		return journal.PriDebug
	}
}

// valueOf is the text of a field's value.
func valueOf(value any) string {
	switch v := value.(type) {
	case nil:
		return ""
	case string:
		return printable(v)
	case error:
		return printable(v.Error())
	case bool:
		return strconv.FormatBool(v)
	default:
		return printable(fmt.Sprint(v))
	}
}
