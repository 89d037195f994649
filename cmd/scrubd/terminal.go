package main

import (
	"bytes"
	"io"
	"os"
	"sync"
	"unicode/utf8"

	"golang.org/x/sys/unix"
)

// terminal is standard error while a run lasts. When it is a terminal it can
// show one line that is drawn anew again and again; everything else that is
// written goes above that line.
type terminal struct {
	mu     sync.Mutex
	w      io.Writer
	width  func() int // nil when w is not a terminal
	status string
}

func newTerminal(w io.Writer) *terminal {
	t := &terminal{w: w}
	if file, ok := w.(*os.File); ok && terminalWidth(file) > 0 {
		t.width = func() int { return terminalWidth(file) }
	}
	return t
}

// terminalWidth returns the columns of a terminal, 0 when file is none.
func terminalWidth(file *os.File) int {
	size, err := unix.IoctlGetWinsize(int(file.Fd()), unix.TIOCGWINSZ)
	if err != nil {
		return 0
	}
	if size.Col == 0 { // a serial console does not know
		return 80
	}
	return int(size.Col)
}

// interactive tells whether a status line can be shown.
func (t *terminal) interactive() bool { return t.width != nil }

// Write writes p above the status line.
func (t *terminal) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.status == "" {
		return t.w.Write(p)
	}
	if _, err := io.WriteString(t.w, eraseLine); err != nil {
		return 0, err
	}
	n, err := t.w.Write(p)
	if err == nil && bytes.HasSuffix(p, []byte("\n")) {
		_, err = io.WriteString(t.w, t.status)
	}
	return n, err
}

const eraseLine = "\r\x1b[K"

// setStatus replaces the status line; "" takes it away. Errors are left alone:
// progress that nobody sees is no reason to end a run.
func (t *terminal) setStatus(line string) {
	if t.width == nil {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	line = cut(oneLine(line), t.width()-1)
	if line == "" && t.status == "" {
		return
	}
	t.status = line
	_, _ = io.WriteString(t.w, eraseLine+line)
}

// cut shortens s to at most width characters.
func cut(s string, width int) string {
	if utf8.RuneCountInString(s) <= width {
		return s
	}
	if width < 1 {
		return ""
	}
	runes := []rune(s)
	return string(runes[:width-1]) + "…"
}
