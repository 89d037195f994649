package live

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/scrubd/scrubd/ioctl"
	"github.com/scrubd/scrubd/shadow"
)

// kind is what an event is about.
type kind uint8

const (
	kindChange kind = iota + 1
	kindIntent
	kindRepair
	kindScrub
)

// source is one tracepoint that a stream may listen to.
type source struct {
	path  string // below events
	kind  kind
	op    Op     // of a change
	delta int8   // of an intent
	also  string // beside the device, for the filter
}

// The tracepoints. Per-inode scrubs are left out: there are several for each
// inode of our own run, and a foreign run makes others too.
//
// Source: fs/xfs/xfs_trace.h, fs/xfs/scrub/trace.h.
var (
	changeSources = []source{
		{path: "xfs/xfs_rmap_map_done", kind: kindChange, op: OpMap},
		{path: "xfs/xfs_rmap_unmap_done", kind: kindChange, op: OpUnmap},
		{path: "xfs/xfs_rmap_convert_done", kind: kindChange, op: OpConvert},
	}
	intentSources = []source{
		{path: "xfs/xfs_group_intent_hold", kind: kindIntent, delta: 1},
		{path: "xfs/xfs_group_intent_rele", kind: kindIntent, delta: -1},
	}
	scrubSources = []source{
		{path: "xfs_scrub/xrep_attempt", kind: kindRepair},
		{path: "xfs_scrub/xchk_start", kind: kindScrub, also: fmt.Sprintf(" && (type < %d || type > %d)",
			ioctl.ScrubTypeINODE, ioctl.ScrubTypePARENT)},
	}
)

// event is one decoded event.
type event struct {
	time  uint64
	kind  kind
	delta int8        // kindIntent
	op    Op          // kindChange
	agno  uint32      // but for scrubs of inodes
	group bool        // agno is an allocation group
	rt    bool        // agno is a realtime group
	rmap  shadow.Rmap // kindChange
	pid   int32
	typ   ioctl.ScrubType // kindRepair, kindScrub
	ino   uint64          // kindRepair, kindScrub
}

// layout is where an event's fields are.
type layout struct {
	source
	pid, group, start, count, owner, offset, flags, ino, typ field

	hasType bool   // realtime groups have events too
	ag, rtg uint64 // the types of allocation groups and of realtime groups
}

// of is the group of an event of a group of any type.
func (e *event) of() Group { return Group{AGNo: ioctl.AGNumber(e.agno), Realtime: e.rt} }

// decoder knows the events of one kernel.
type decoder struct {
	typeField field // common_type
	byID      map[uint64]*layout
}

func newDecoder() *decoder { return &decoder{byID: make(map[uint64]*layout)} }

// read learns events by their descriptions below dir, an events directory.
// Errors: [fs.ErrNotExist] where the kernel does not have one of them.
func (d *decoder) read(dir string, sources []source) error {
	for _, s := range sources {
		text, err := os.ReadFile(filepath.Join(dir, s.path, "format"))
		if err != nil {
			return fmt.Errorf("read how %s is described: %w", s.path, err)
		}
		if err := d.add(s, string(text)); err != nil {
			return fmt.Errorf("understand how %s is described: %w", s.path, err)
		}
	}
	return nil
}

// add learns one event.
func (d *decoder) add(s source, text string) error {
	f, err := parseFormat(text)
	if err != nil {
		return err
	}
	l := &layout{source: s}
	var errs []error
	number := func(to *field, names ...string) {
		v, err := f.number(names...)
		errs = append(errs, err)
		*to = v
	}
	number(&d.typeField, "common_type")
	number(&l.pid, "common_pid")
	if _, ok := f.fields["dev"]; !ok {
		errs = append(errs, fmt.Errorf("no field dev: %w", errFormat)) // the filter needs it
	}
	switch s.kind {
	case kindChange:
		// Before Linux 6.13 only allocation groups had rmaps, in agbno.
		number(&l.group, "agno")
		number(&l.start, "gbno", "agbno")
		number(&l.count, "len")
		number(&l.owner, "owner")
		number(&l.offset, "offset")
		number(&l.flags, "flags")
	case kindIntent:
		number(&l.group, "index", "agno")
	case kindRepair, kindScrub:
		number(&l.typ, "type")
		number(&l.group, "agno")
		number(&l.ino, "inum")
	}
	if s.kind == kindChange || s.kind == kindIntent {
		_, l.hasType = f.fields["type"]
		if l.hasType {
			number(&l.typ, "type")
			// Should the kernel not say: as they are numbered.
			l.ag, l.rtg = f.symbols["ag"], 1
			if rtg, ok := f.symbols["rtg"]; ok {
				l.rtg = rtg
			}
		}
	}
	if err := errors.Join(errs...); err != nil {
		return err
	}
	d.byID[f.id] = l
	return nil
}

// Flag bits of a reverse mapping as the kernel has them in memory.
//
// Source: fs/xfs/libxfs/xfs_types.h (XFS_RMAP_ATTR_FORK, …).
const (
	rmapAttr      = 1 << 0
	rmapBmbt      = 1 << 1
	rmapUnwritten = 1 << 2
)

// decode reads one event; false for one that is of no interest here.
// Errors: the event is shorter than described.
func (d *decoder) decode(rec []byte, e *event) (bool, error) {
	id, ok := d.typeField.get(rec)
	if !ok {
		return false, fmt.Errorf("event of %d bytes: %w", len(rec), errFormat)
	}
	l := d.byID[id]
	if l == nil {
		return false, nil
	}
	get := func(f field) uint64 {
		v, has := f.get(rec)
		ok = ok && has
		return v
	}
	*e = event{kind: l.kind, op: l.op, delta: l.delta, pid: int32(get(l.pid)), agno: uint32(get(l.group))}
	switch l.kind {
	case kindChange:
		flags := get(l.flags)
		e.rmap = shadow.Rmap{StartBlock: uint32(get(l.start)), BlockCount: uint32(get(l.count)), Owner: get(l.owner)}
		if e.rmap.IsInode() {
			e.rmap.Offset = packOffset(get(l.offset), flags)
		}
	case kindIntent:
	case kindRepair, kindScrub:
		e.typ, e.ino = ioctl.ScrubType(get(l.typ)), get(l.ino)
		e.group, e.rt = e.typ.Object() == ioctl.ScrubObjectAG, e.typ.Object() == ioctl.ScrubObjectRTGroup
	}
	if l.kind == kindChange || l.kind == kindIntent {
		e.group = !l.hasType || get(l.typ) == l.ag
		e.rt = l.hasType && get(l.typ) == l.rtg
	}
	if !ok {
		return false, fmt.Errorf("event %s of %d bytes: %w", l.path, len(rec), errFormat)
	}
	return true, nil
}

// packOffset gives an inode's mapping the form of [shadow.Rmap].Offset. The
// blocks of a fork's own btree have no offset, whatever the event says.
func packOffset(offset, flags uint64) uint64 {
	var f uint64
	if flags&rmapAttr != 0 {
		f |= shadow.OffsetAttrFork
	}
	if flags&rmapUnwritten != 0 {
		f |= shadow.OffsetUnwritten
	}
	if flags&rmapBmbt != 0 {
		return shadow.PackOffset(0, f|shadow.OffsetBmbtBlock)
	}
	return shadow.PackOffset(offset, f)
}
