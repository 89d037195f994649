package lab

import (
	"bytes"
	"strconv"
)

// markScanner finds the announcement of the job's end in the job's output,
// however the output is cut into pieces.
type markScanner struct {
	head    []byte
	pending []byte
}

// feed takes the next piece and returns what of the output can be passed on.
// found says that the announcement was complete; what follows it is no output.
// The returned slice is valid until the next call.
func (s *markScanner) feed(piece []byte) (out []byte, code int, found bool) {
	s.pending = append(s.pending, piece...)
	from := 0
	for {
		at := bytes.Index(s.pending[from:], s.head)
		if at < 0 {
			return s.take(len(s.pending) - s.partial()), 0, false
		}
		at += from
		rest := s.pending[at+len(s.head):]
		end := bytes.IndexByte(rest, markEnd[0])
		if end < 0 && len(rest) < 4 {
			return s.take(at), 0, false
		}
		if end >= 0 {
			if code, err := strconv.ParseUint(string(rest[:end]), 10, 8); err == nil {
				return s.take(at), int(code), true
			}
		}
		// The head without a status is output like any other.
		from = at + 1
	}
}

// rest returns what was held back, when no more output comes.
func (s *markScanner) rest() []byte { return s.take(len(s.pending)) }

// partial is how many of the last bytes may be the begin of an announcement.
func (s *markScanner) partial() int {
	for n := min(len(s.head)-1, len(s.pending)); n > 0; n-- {
		if bytes.HasSuffix(s.pending, s.head[:n]) {
			return n
		}
	}
	return 0
}

// take removes the first n pending bytes and returns a copy of them.
func (s *markScanner) take(n int) []byte {
	out := bytes.Clone(s.pending[:n])
	s.pending = append(s.pending[:0], s.pending[n:]...)
	return out
}
