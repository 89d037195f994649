package live

import (
	"os"
	"path/filepath"
	"slices"
	"strconv"

	"github.com/scrubd/scrubd/ioctl"
)

// Foreign is a scrub or repair that begins, and is not of this process. Of
// scrubs only those that are not of an inode are told of.
type Foreign struct {
	Time   uint64 // of the clock of [Now]
	PID    int32  // the thread
	Type   ioctl.ScrubType
	AGNo   ioctl.AGNumber // for types of a group
	Ino    ioctl.Ino      // for types of an inode; 0 for the one that was open
	Repair bool
}

// foreignKept bounds what Foreign returns.
const foreignKept = 64

// noteForeign keeps a scrub or repair of somebody else. In another pid
// namespace than the first one our own threads cannot be told from others: then
// none counts as foreign.
func (s *Stream) noteForeign(e *event) {
	if !s.native || isOwnThread(e.pid) {
		return
	}
	f := Foreign{
		Time: e.time, PID: e.pid, Type: e.typ, AGNo: ioctl.AGNumber(e.agno), Ino: ioctl.Ino(e.ino),
		Repair: e.kind == kindRepair,
	}
	s.foreignMu.Lock()
	if len(s.foreign) == foreignKept {
		s.foreign = slices.Delete(s.foreign, 0, 1)
	}
	s.foreign = append(s.foreign, f)
	s.foreignMu.Unlock()
	if s.opts.Foreign != nil {
		s.opts.Foreign(f)
	}
}

// Foreign returns the last foreign scrubs and repairs, oldest first.
func (s *Stream) Foreign() []Foreign {
	s.foreignMu.Lock()
	defer s.foreignMu.Unlock()
	return slices.Clone(s.foreign)
}

// isOwnThread tells whether a thread is one of this process.
func isOwnThread(tid int32) bool {
	_, err := os.Stat(filepath.Join("/proc/self/task", strconv.Itoa(int(tid))))
	return err == nil
}
