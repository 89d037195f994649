package health

import (
	"errors"
	"time"

	"github.com/scrubd/scrubd/ioctl"
)

// marks are the marks that the kernel keeps of what it knows to be damaged, as
// they were when they were last read.
type marks struct {
	fs  ioctl.FSHealth
	ags []ioctl.AGHealth
	rgs []ioctl.RGHealth
}

// read reports every mark that was not there the last time, of a filesystem that was just opened. Inodes have marks too,
// but to read them would take a walk over all.
//
// Errors: those of the calls; what was read before is reported.
func (m *marks) read(fs *ioctl.FS, report func(Report)) error {
	now := time.Now()
	tell := func(p Place, text string) { report(Report{Place: p, Cause: Marked, Time: now, Text: text}) }
	geo := fs.Geometry() // of when fs was opened
	if added := geo.Sick &^ m.fs; added != 0 {
		tell(Place{}, sick(added))
	}
	m.fs = geo.Sick
	if grow := int(geo.AGCount) - len(m.ags); grow > 0 {
		m.ags = append(m.ags, make([]ioctl.AGHealth, grow)...)
	}
	for agno := range ioctl.AGNumber(geo.AGCount) {
		ag, err := fs.AGGeometry(agno)
		if err != nil {
			return err
		}
		if added := ag.Sick &^ m.ags[agno]; added != 0 {
			tell(Place{Kind: Group, AGNo: agno}, sick(added))
		}
		m.ags[agno] = ag.Sick
	}
	if grow := int(geo.RGCount) - len(m.rgs); grow > 0 {
		m.rgs = append(m.rgs, make([]ioctl.RGHealth, grow)...)
	}
	for rgno := range ioctl.RGNumber(geo.RGCount) {
		rg, err := fs.RTGroupGeometry(rgno)
		if errors.Is(err, ioctl.ErrNotSupported) {
			break
		} else if err != nil {
			return err
		}
		if added := rg.Sick &^ m.rgs[rgno]; added != 0 {
			tell(Place{Kind: RTGroup, RGNo: rgno}, sick(added))
		}
		m.rgs[rgno] = rg.Sick
	}
	return nil
}

// readAt is read of what is mounted at a path, which is open for that long only.
func (m *marks) readAt(mountPoint string, report func(Report)) error {
	fs, err := ioctl.Open(mountPoint)
	if err != nil {
		return err
	}
	return errors.Join(m.read(fs, report), fs.Close())
}
