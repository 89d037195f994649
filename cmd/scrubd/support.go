package main

import (
	"errors"
	"fmt"

	"github.com/scrubd/scrubd/ioctl"
)

// support says whether something can be done here, and if not, why not.
type support struct {
	Has bool
	Why string
}

// supportOf turns the answer of a probe into words.
func supportOf(err error) support {
	var missing *ioctl.UnsupportedFeatureError
	switch {
	case err == nil:
		return support{Has: true}
	case errors.As(err, &missing) && missing.Reason != "":
		return support{Why: missing.Reason}
	case errors.As(err, &missing) && missing.MinimumVersion != "":
		return support{Why: "needs Linux " + missing.MinimumVersion}
	case errors.Is(err, ioctl.ErrNoEntry):
		return support{Why: "this filesystem has none"}
	case errors.Is(err, ioctl.ErrReadOnly):
		return support{Why: ioctl.ErrReadOnly.Error()}
	case errors.Is(err, ioctl.ErrPrivilege):
		return support{Why: "cannot be told without CAP_SYS_ADMIN"}
	default:
		return support{Why: err.Error()}
	}
}

// repairSources are the features of the filesystem that the kernel's repair of
// a type reads or works with; without one of them it answers EOPNOTSUPP.
//
// Source: fs/xfs/scrub/*_repair.c of Linux 7.2.
var repairSources = map[ioctl.ScrubType][]ioctl.Feature{
	ioctl.ScrubTypeAGF:      {ioctl.FeatureRmapbt},
	ioctl.ScrubTypeAGFL:     {ioctl.FeatureRmapbt},
	ioctl.ScrubTypeAGI:      {ioctl.FeatureRmapbt},
	ioctl.ScrubTypeBNOBT:    {ioctl.FeatureRmapbt},
	ioctl.ScrubTypeCNTBT:    {ioctl.FeatureRmapbt},
	ioctl.ScrubTypeINOBT:    {ioctl.FeatureRmapbt},
	ioctl.ScrubTypeFINOBT:   {ioctl.FeatureRmapbt},
	ioctl.ScrubTypeRMAPBT:   {ioctl.FeatureRmapbt},
	ioctl.ScrubTypeREFCNTBT: {ioctl.FeatureRmapbt},
	ioctl.ScrubTypeBMBTD:    {ioctl.FeatureRmapbt},
	ioctl.ScrubTypeBMBTA:    {ioctl.FeatureRmapbt},
	ioctl.ScrubTypeBMBTC:    {ioctl.FeatureReflink, ioctl.FeatureRmapbt},
	ioctl.ScrubTypeDIR:      {ioctl.FeatureRmapbt, ioctl.FeatureExchangeRange},
	ioctl.ScrubTypeXATTR:    {ioctl.FeatureRmapbt, ioctl.FeatureExchangeRange},
	ioctl.ScrubTypeSYMLINK:  {ioctl.FeatureRmapbt, ioctl.FeatureExchangeRange},
	ioctl.ScrubTypePARENT:   {ioctl.FeatureRmapbt, ioctl.FeatureExchangeRange},
	ioctl.ScrubTypeRTBITMAP: {ioctl.FeatureRTGroups, ioctl.FeatureRmapbt},
	ioctl.ScrubTypeRTSUM:    {ioctl.FeatureExchangeRange},
	ioctl.ScrubTypeRTRMAPBT: {ioctl.FeatureRmapbt},
	ioctl.ScrubTypeRTREFCBT: {ioctl.FeatureRmapbt},
	ioctl.ScrubTypeDIRTREE:  {ioctl.FeatureParentPointers},
}

// prober is the part of ioctl.Features that the tables below ask.
type prober interface {
	Check(f ioctl.Feature) error
	ScrubType(t ioctl.ScrubType) error
}

// checkSupport tells whether the kernel can check a type on this filesystem.
func checkSupport(p prober, g *ioctl.Geometry, t ioctl.ScrubType) support {
	if err := p.Check(ioctl.FeatureScrub); err != nil {
		return supportOf(err)
	}
	s := supportOf(p.ScrubType(t))
	switch t {
	case ioctl.ScrubTypeUQUOTA, ioctl.ScrubTypeGQUOTA, ioctl.ScrubTypePQUOTA, ioctl.ScrubTypeQUOTACHECK:
		if s.Has && !g.Has(ioctl.FlagQuota) {
			return support{Why: "no quotas are in use"}
		}
	}
	return s
}

// repairSupport tells whether the kernel can repair a type on this filesystem.
func repairSupport(p prober, g *ioctl.Geometry, t ioctl.ScrubType) support {
	if s := checkSupport(p, g, t); !s.Has {
		return s
	}
	if t == ioctl.ScrubTypeHEALTHY {
		return support{Why: "there is nothing to repair: it records health"}
	}
	if err := p.Check(ioctl.FeatureRepair); err != nil {
		return supportOf(err)
	}
	for _, f := range repairSources[t] {
		if p.Check(f) != nil {
			return support{Why: fmt.Sprintf("the repair needs %s, and this filesystem was made without it", f)}
		}
	}
	if t == ioctl.ScrubTypeSB {
		return support{Has: true, Why: "the secondary superblocks; the primary one only offline"}
	}
	return support{Has: true}
}
