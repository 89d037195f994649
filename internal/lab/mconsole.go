package lab

import (
	"encoding/binary"
	"net"
	"path/filepath"
	"time"
)

// A User Mode Linux kernel listens for requests on a datagram socket. The
// layout is that of struct mconsole_request in arch/um/include/shared: magic,
// version, length, then the command's text.
const (
	mconsoleMagic   = 0xcafebabe
	mconsoleVersion = 2
	mconsoleText    = 512
)

// lastQuestions have a hung kernel print what runs on its CPUs and which tasks
// are blocked, with their stacks.
var lastQuestions = []string{"sysrq l", "sysrq w"}

// askWhereItHangs puts the last questions to the kernel and waits a moment for
// the answers to reach its console. A kernel that no longer takes interrupts
// answers nothing; that is no error, it is killed anyway.
func (m *machine) askWhereItHangs() {
	socket := filepath.Join(m.dir, "uml", "mconsole")
	ours := filepath.Join(m.dir, "ask")
	conn, err := net.DialUnix("unixgram",
		&net.UnixAddr{Name: ours, Net: "unixgram"}, &net.UnixAddr{Name: socket, Net: "unixgram"})
	if err != nil {
		return
	}
	defer func() { _ = conn.Close() }()
	for _, question := range lastQuestions {
		request := make([]byte, 12+mconsoleText)
		binary.NativeEndian.PutUint32(request[0:], mconsoleMagic)
		binary.NativeEndian.PutUint32(request[4:], mconsoleVersion)
		binary.NativeEndian.PutUint32(request[8:], uint32(len(question)))
		copy(request[12:], question)
		if _, err := conn.Write(request); err != nil {
			return
		}
		// The answer comes in pieces, and goes to the console in any case. The
		// backtraces of other CPUs are printed after it: hence the pause.
		_ = conn.SetReadDeadline(time.Now().Add(lastWordsPatience))
		if _, err := conn.Read(make([]byte, 4096)); err != nil {
			return
		}
		time.Sleep(300 * time.Millisecond)
	}
}
