package kernel_test

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/scrubd/scrubd/ioctl"
	"github.com/scrubd/scrubd/scrub/kernel"
)

func TestObjectString(t *testing.T) {
	for _, c := range []struct {
		want   string
		object kernel.Object
	}{
		{"rmapbt of AG 3", kernel.Object{Type: ioctl.ScrubTypeRMAPBT, AGNo: 3}},
		{"superblock of AG 0", kernel.Object{Type: ioctl.ScrubTypeSB}},
		{"data fork of inode 131", kernel.Object{Type: ioctl.ScrubTypeBMBTD, Ino: 131, Gen: 7}},
		{"filesystem counters", kernel.Object{Type: ioctl.ScrubTypeFSCOUNTERS}},
		{"rmapbt of rtgroup 2", kernel.Object{Type: ioctl.ScrubTypeRTRMAPBT, AGNo: 2}},
		{"path of the quota directory", kernel.Object{Type: ioctl.ScrubTypeMETAPATH, Ino: ioctl.Ino(ioctl.MetapathQuotaDir)}},
		{"path of the realtime rmapbt of rtgroup 5", kernel.Object{Type: ioctl.ScrubTypeMETAPATH, Ino: ioctl.Ino(ioctl.MetapathRTRmapbt), AGNo: 5}},
		{"path of metadata file 77", kernel.Object{Type: ioctl.ScrubTypeMETAPATH, Ino: 77}},
		{"type 99", kernel.Object{Type: 99}},
	} {
		assert.Equal(t, c.want, c.object.String())
	}
	seen := make(map[string]ioctl.ScrubType)
	for typ := range ioctl.ScrubTypeCount {
		name := kernel.Object{Type: typ}.String()
		assert.NotEmpty(t, name, "%d", typ)
		if other, twice := seen[name]; twice {
			t.Errorf("%s and %s are both called %q", other, typ, name)
		}
		seen[name] = typ
	}
}

func TestResultSaysWhatItIs(t *testing.T) {
	o := kernel.Object{Type: ioctl.ScrubTypeRMAPBT, AGNo: 3}
	for _, c := range []struct {
		result                 kernel.Result
		clean, bad, noteworthy bool
		text                   string
	}{
		{kernel.Result{Object: o, Ran: true}, true, false, false, "clean"},
		{kernel.Result{Object: o, Ran: true, Flags: ioctl.ScrubCorrupt}, false, true, true, "corrupt"},
		{kernel.Result{Object: o, Ran: true, Flags: ioctl.ScrubXCorrupt}, false, true, true, "xcorrupt"},
		{kernel.Result{Object: o, Ran: true, Flags: ioctl.ScrubXFail}, false, false, true, "xfail"},
		{kernel.Result{Object: o, Ran: true, Flags: ioctl.ScrubIncomplete}, false, false, true, "incomplete"},
		{kernel.Result{Object: o, Ran: true, Flags: ioctl.ScrubPreen}, true, false, true, "preen"},
		{kernel.Result{Object: o, Ran: true, Flags: ioctl.ScrubWarning}, true, false, true, "warning"},
		{kernel.Result{Object: o, Absent: true}, false, false, false, "absent"},
		{kernel.Result{Object: o, Unknown: true}, false, false, false, "not known to this kernel"},
		{kernel.Result{Object: o, Because: ioctl.ScrubTypeAGF}, false, false, true, "not checked: agf is corrupt"},
		{kernel.Result{Object: o, Err: fmt.Errorf("no luck")}, false, false, true, "no luck"},
		{kernel.Result{Object: o}, false, false, true, "not checked"},
	} {
		assert.Equal(t, "rmapbt of AG 3: "+c.text, c.result.String())
		assert.Equal(t, c.clean, c.result.Clean(), "clean: %s", c.text)
		assert.Equal(t, c.bad, c.result.Bad(), "bad: %s", c.text)
		assert.Equal(t, c.noteworthy, c.result.Noteworthy(), "noteworthy: %s", c.text)
	}
}
