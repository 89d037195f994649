package health

import (
	"encoding/binary"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/scrubd/scrubd/ioctl"
)

var now = time.Date(2026, 11, 3, 12, 0, 0, 0, time.UTC)

func TestFromEvent(t *testing.T) {
	inode := Place{Kind: Inode, Ino: 131, Gen: 7}
	for _, c := range []struct {
		name  string
		event ioctl.HealthEvent
		want  Report // the text apart
		says  string // "" for no report
	}{
		{
			"met in a group",
			ioctl.HealthEvent{Domain: ioctl.HealthAG, Type: ioctl.HealthSick, AGNo: 3, Mask: uint32(ioctl.AGHealthBnobt)},
			Report{Place: Place{Kind: Group, AGNo: 3}, Cause: Met},
			"bnobt",
		},
		{
			"found by a scrub in a realtime group",
			ioctl.HealthEvent{Domain: ioctl.HealthRTGroup, Type: ioctl.HealthCorrupt, RGNo: 1, Mask: 1},
			Report{Place: Place{Kind: RTGroup, RGNo: 1}, Cause: Scrubbed},
			"corruption of",
		},
		{
			"met in an inode",
			ioctl.HealthEvent{Domain: ioctl.HealthInode, Type: ioctl.HealthSick, Ino: 131, Gen: 7, Mask: 1},
			Report{Place: inode, Cause: Met},
			"corruption of",
		},
		{"in neither", ioctl.HealthEvent{Domain: ioctl.HealthFS, Type: ioctl.HealthSick, Mask: 1}, Report{Cause: Met}, "corruption of"},
		{"lost", ioctl.HealthEvent{Domain: ioctl.HealthMount, Type: ioctl.HealthLost, Lost: 12}, Report{Lost: true}, "12 reports were lost"},
		{
			"shut down",
			ioctl.HealthEvent{Domain: ioctl.HealthMount, Type: ioctl.HealthShutdown, Shutdown: ioctl.ShutdownCorruptOndisk},
			Report{Cause: Shutdown},
			"corruption on disk",
		},
		{
			"a device failed",
			ioctl.HealthEvent{Domain: ioctl.HealthDataDev, Type: ioctl.HealthMediaError, DAddr: 8, Length: 16},
			Report{Cause: Media},
			"at sector 8, 16 sectors",
		},
		{
			"a read failed",
			ioctl.HealthEvent{Domain: ioctl.HealthFileRange, Type: ioctl.HealthBufRead, Ino: 131, Gen: 7, Pos: 4096, Len: 512},
			Report{Place: inode, Cause: Media},
			"of inode 131 failed at byte 4096",
		},
		{name: "healthy again", event: ioctl.HealthEvent{Domain: ioctl.HealthAG, Type: ioctl.HealthHealthy, AGNo: 3, Mask: 1}},
		{name: "the beginning", event: ioctl.HealthEvent{Domain: ioctl.HealthMount, Type: ioctl.HealthRunning}},
		{name: "the end", event: ioctl.HealthEvent{Domain: ioctl.HealthMount, Type: ioctl.HealthUnmount}},
		{name: "of a future kernel", event: ioctl.HealthEvent{Domain: 77, Type: ioctl.HealthSick}},
	} {
		t.Run(c.name, func(t *testing.T) {
			c.event.Time, c.want.Time = now, now
			got, ok := fromEvent(&c.event)
			require.Equal(t, c.says != "", ok)
			if !ok {
				return
			}
			assert.Contains(t, got.Text, c.says)
			c.want.Text = got.Text
			assert.Equal(t, c.want, got)
		})
	}
}

func TestPlaces(t *testing.T) {
	assert.Equal(t, "the filesystem", Place{}.String())
	assert.Equal(t, "AG 2", Place{Kind: Group, AGNo: 2}.String())
	assert.Equal(t, "realtime group 3", Place{Kind: RTGroup, RGNo: 3}.String())
	assert.Equal(t, "inode 131", Place{Kind: Inode, Ino: 131}.String())
}

// fanotifyEvent is an event with records of information.
func fanotifyEvent(mask uint64, infos ...[]byte) []byte {
	b := make([]byte, metadataSize)
	for _, info := range infos {
		b = append(b, info...)
	}
	binary.NativeEndian.PutUint32(b, uint32(len(b)))
	b[4] = unix.FANOTIFY_METADATA_VERSION
	binary.NativeEndian.PutUint16(b[6:], metadataSize)
	binary.NativeEndian.PutUint64(b[8:], mask)
	return b
}

func info(kind byte, body []byte) []byte {
	b := append([]byte{kind, 0, 0, 0}, body...)
	binary.NativeEndian.PutUint16(b[2:], uint16(len(b)))
	return b
}

// errorInfo is an error, with others that came after it.
func errorInfo(errno int32, others ...int32) []byte {
	b := binary.NativeEndian.AppendUint32(nil, uint32(errno))
	return info(unix.FAN_EVENT_INFO_TYPE_ERROR, binary.NativeEndian.AppendUint32(b, uint32(1+len(others))))
}

// handleInfo names an inode by a handle of some kind.
func handleInfo(kind int32, id []byte) []byte {
	b := make([]byte, fsidSize)
	b = binary.NativeEndian.AppendUint32(b, uint32(len(id)))
	b = binary.NativeEndian.AppendUint32(b, uint32(kind))
	return info(unix.FAN_EVENT_INFO_TYPE_FID, append(b, id...))
}

func id32(ino, gen uint32) []byte {
	return binary.NativeEndian.AppendUint32(binary.NativeEndian.AppendUint32(nil, ino), gen)
}

func id64(ino uint64, gen uint32) []byte {
	return binary.NativeEndian.AppendUint32(binary.NativeEndian.AppendUint64(nil, ino), gen)
}

func TestFromFanotify(t *testing.T) {
	const clean, io, down = -int32(unix.EUCLEAN), int32(unix.EIO), -int32(unix.ESHUTDOWN)
	none := handleInfo(0xff, nil)
	for _, c := range []struct {
		name string
		b    []byte
		want Report
	}{
		{
			"an inode of 32 bits", fanotifyEvent(unix.FAN_FS_ERROR, errorInfo(clean), handleInfo(handle32, id32(131, 7))),
			Report{Place: Place{Kind: Inode, Ino: 131, Gen: 7}, Text: "structure needs cleaning"},
		},
		{
			"an inode of 64 bits, with its parent", fanotifyEvent(unix.FAN_FS_ERROR, handleInfo(handle64Parent, append(id64(1<<33, 9), id64(128, 1)...)), errorInfo(-clean)),
			Report{Place: Place{Kind: Inode, Ino: 1 << 33, Gen: 9}, Text: "structure needs cleaning"},
		},
		{
			"data of an inode", fanotifyEvent(unix.FAN_FS_ERROR, errorInfo(io), handleInfo(handle32, id32(131, 7))),
			Report{Place: Place{Kind: Inode, Ino: 131, Gen: 7}, Cause: Media, Text: "input/output error"},
		},
		{"no inode", fanotifyEvent(unix.FAN_FS_ERROR, errorInfo(clean), none), Report{Text: "structure needs cleaning"}},
		{"shut down", fanotifyEvent(unix.FAN_FS_ERROR, errorInfo(down), none), Report{Cause: Shutdown, Text: "it has shut down"}},
		{"lost", fanotifyEvent(unix.FAN_Q_OVERFLOW), Report{Lost: true, Text: "reports were lost"}},
		{"a handle of another kind", fanotifyEvent(unix.FAN_FS_ERROR, errorInfo(clean), handleInfo(0x40, id32(131, 7))), Report{Text: "structure needs cleaning"}},
		{"a handle that is cut", fanotifyEvent(unix.FAN_FS_ERROR, errorInfo(clean), handleInfo(handle64, id32(131, 7))), Report{Text: "structure needs cleaning"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			c.want.Time = now
			got, err := fromFanotify(append(fanotifyEvent(unix.FAN_OPEN), c.b...), now)
			require.NoError(t, err)
			assert.Equal(t, []Report{c.want}, got)
		})
	}
	got, err := fromFanotify(fanotifyEvent(unix.FAN_FS_ERROR, errorInfo(clean, clean, clean), handleInfo(handle32, id32(131, 7))), now)
	require.NoError(t, err)
	require.Len(t, got, 2, "the first, and that there were more")
	assert.Equal(t, Report{Time: now, Lost: true, Text: "2 more errors, of what is not said"}, got[1])
	got, err = fromFanotify(fanotifyEvent(unix.FAN_FS_ERROR, errorInfo(io, io), handleInfo(handle32, id32(131, 7))), now)
	require.NoError(t, err)
	assert.Len(t, got, 1, "reads that fail say nothing of metadata")
	whole := fanotifyEvent(unix.FAN_FS_ERROR, errorInfo(clean), none)
	got, err = fromFanotify(append(whole, whole[:len(whole)-1]...), now)
	require.ErrorIs(t, err, errMalformed)
	assert.Len(t, got, 1, "the event before it counts")
	short := fanotifyEvent(unix.FAN_FS_ERROR, info(unix.FAN_EVENT_INFO_TYPE_FID, nil))
	_, err = fromFanotify(short, now)
	require.ErrorIs(t, err, errMalformed)
	short[metadataSize+2] = 0 // a record of no size would never end
	_, err = fromFanotify(short, now)
	require.ErrorIs(t, err, errMalformed)
}

// Whatever a kernel says, nothing panics, and the reports are no more than the
// events that there is room for.
func FuzzFromFanotify(f *testing.F) {
	f.Add(fanotifyEvent(unix.FAN_FS_ERROR, errorInfo(1), handleInfo(handle32, id32(1, 2))))
	f.Add(fanotifyEvent(unix.FAN_Q_OVERFLOW))
	f.Fuzz(func(t *testing.T, b []byte) {
		got, err := fromFanotify(b, now)
		assert.LessOrEqual(t, len(got), 2*len(b)/metadataSize)
		if err != nil {
			require.ErrorIs(t, err, errMalformed)
		}
	})
}
