package verdict_test

import (
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/scrubd/scrubd/ioctl"
	"github.com/scrubd/scrubd/scrub/verdict"
)

// Calls that hang a kernel, or do damage, are never made, and no others are refused.
func TestDenyCall(t *testing.T) {
	for typ := range ioctl.ScrubTypeCount {
		for _, forced := range []bool{false, true} {
			for _, c := range []verdict.Call{
				{Type: typ, Forced: forced},
				{Type: typ, Forced: forced, NoBlocks: true},
				{Type: typ, Forced: forced, NoExtents: true},
				{Type: typ, Forced: forced, NoBlocks: true, NoExtents: true},
				{Type: typ, Forced: forced, NoSparse: true},
			} {
				why, denied := verdict.DenyCall(c)
				hangs := typ == ioctl.ScrubTypeINODE && (c.NoBlocks || c.NoExtents)
				wrecks := (typ == ioctl.ScrubTypeINOBT || typ == ioctl.ScrubTypeFINOBT) && c.NoSparse
				assert.Equal(t, hangs || wrecks, denied, "%s %+v", typ, c)
				assert.Equal(t, denied, why != "")
			}
		}
	}
}

// Every type is in a class on purpose; what is not known here is never automatic.
func TestLossOf(t *testing.T) {
	want := map[ioctl.ScrubType]verdict.Loss{
		ioctl.ScrubTypeProbe:      verdict.LossUnknown,
		ioctl.ScrubTypeSB:         verdict.LossNone,
		ioctl.ScrubTypeAGF:        verdict.LossNone,
		ioctl.ScrubTypeAGFL:       verdict.LossNone,
		ioctl.ScrubTypeAGI:        verdict.LossNone,
		ioctl.ScrubTypeBNOBT:      verdict.LossNone,
		ioctl.ScrubTypeCNTBT:      verdict.LossNone,
		ioctl.ScrubTypeINOBT:      verdict.LossNone,
		ioctl.ScrubTypeFINOBT:     verdict.LossNone,
		ioctl.ScrubTypeRMAPBT:     verdict.LossSalvage,
		ioctl.ScrubTypeREFCNTBT:   verdict.LossNone,
		ioctl.ScrubTypeINODE:      verdict.LossSalvage,
		ioctl.ScrubTypeBMBTD:      verdict.LossNone,
		ioctl.ScrubTypeBMBTA:      verdict.LossNone,
		ioctl.ScrubTypeBMBTC:      verdict.LossUnknown,
		ioctl.ScrubTypeDIR:        verdict.LossSalvage,
		ioctl.ScrubTypeXATTR:      verdict.LossSalvage,
		ioctl.ScrubTypeSYMLINK:    verdict.LossSalvage,
		ioctl.ScrubTypePARENT:     verdict.LossSalvage,
		ioctl.ScrubTypeRTBITMAP:   verdict.LossUnknown,
		ioctl.ScrubTypeRTSUM:      verdict.LossUnknown,
		ioctl.ScrubTypeUQUOTA:     verdict.LossUnknown,
		ioctl.ScrubTypeGQUOTA:     verdict.LossUnknown,
		ioctl.ScrubTypePQUOTA:     verdict.LossUnknown,
		ioctl.ScrubTypeFSCOUNTERS: verdict.LossNone,
		ioctl.ScrubTypeQUOTACHECK: verdict.LossNone,
		ioctl.ScrubTypeNLINKS:     verdict.LossSalvage,
		ioctl.ScrubTypeHEALTHY:    verdict.LossUnknown,
		ioctl.ScrubTypeDIRTREE:    verdict.LossSalvage,
		ioctl.ScrubTypeMETAPATH:   verdict.LossUnknown,
		ioctl.ScrubTypeRGSUPER:    verdict.LossUnknown,
		ioctl.ScrubTypeRTRMAPBT:   verdict.LossUnknown,
		ioctl.ScrubTypeRTREFCBT:   verdict.LossUnknown,
	}
	assert.Len(t, want, int(ioctl.ScrubTypeCount))
	for typ := range ioctl.ScrubTypeCount {
		assert.Equal(t, want[typ], verdict.LossOf(typ), typ.String())
	}
	assert.Equal(t, verdict.LossUnknown, verdict.LossOf(ioctl.ScrubTypeCount), "a type of a kernel to come")
}
