package lab

import (
	"fmt"
	"slices"
	"strings"

	"github.com/scrubd/scrubd/ioctl"
)

// headerField is a field of a header that a random fault may change.
type headerField[H any] struct {
	name  string
	value func(*H) *uint32
}

var agfFields = []headerField[AGF]{
	{"bnobt root", func(a *AGF) *uint32 { return &a.Roots[BnoBT] }},
	{"cntbt root", func(a *AGF) *uint32 { return &a.Roots[CntBT] }},
	{"rmapbt root", func(a *AGF) *uint32 { return &a.Roots[RmapBT] }},
	{"bnobt level", func(a *AGF) *uint32 { return &a.Levels[BnoBT] }},
	{"cntbt level", func(a *AGF) *uint32 { return &a.Levels[CntBT] }},
	{"rmapbt level", func(a *AGF) *uint32 { return &a.Levels[RmapBT] }},
	{"flfirst", func(a *AGF) *uint32 { return &a.FLFirst }},
	{"fllast", func(a *AGF) *uint32 { return &a.FLLast }},
	{"flcount", func(a *AGF) *uint32 { return &a.FLCount }},
	{"freeblks", func(a *AGF) *uint32 { return &a.FreeBlks }},
	{"longest", func(a *AGF) *uint32 { return &a.Longest }},
	{"btreeblks", func(a *AGF) *uint32 { return &a.BtreeBlks }},
	{"rmapblocks", func(a *AGF) *uint32 { return &a.RmapBlocks }},
	{"refcntblocks", func(a *AGF) *uint32 { return &a.RefcountBlocks }},
	{"refcountbt root", func(a *AGF) *uint32 { return &a.RefcountRoot }},
	{"refcountbt level", func(a *AGF) *uint32 { return &a.RefcountLevel }},
}

// agiFields leaves out newino, which is a hint that no value of makes wrong.
var agiFields = []headerField[AGI]{
	{"count", func(a *AGI) *uint32 { return &a.Count }},
	{"freecount", func(a *AGI) *uint32 { return &a.FreeCount }},
	{"inobt root", func(a *AGI) *uint32 { return &a.Root }},
	{"inobt level", func(a *AGI) *uint32 { return &a.Level }},
	{"finobt root", func(a *AGI) *uint32 { return &a.FreeRoot }},
	{"finobt level", func(a *AGI) *uint32 { return &a.FreeLevel }},
	{"ino_blocks", func(a *AGI) *uint32 { return &a.IBlocks }},
	{"fino_blocks", func(a *AGI) *uint32 { return &a.FBlocks }},
}

func (in *injector) randomAGF() error {
	return in.anyGroup(func(agno ioctl.AGNumber) error {
		return in.img.UpdateAGF(agno, func(agf *AGF) { randomField(in, "AGF of "+agName(agno), agfFields, agf) })
	})
}

func (in *injector) randomAGI() error {
	return in.anyGroup(func(agno ioctl.AGNumber) error {
		agi, err := in.img.AGI(agno)
		if err != nil {
			return err
		}
		fields := agiFields
		if agi.FreeLevel == 0 { // there is no finobt, and what is said of it means nothing
			fields = slices.DeleteFunc(slices.Clone(fields), func(f headerField[AGI]) bool { return strings.HasPrefix(f.name, "fino") })
		}
		return in.img.UpdateAGI(agno, func(agi *AGI) { randomField(in, "AGI of "+agName(agno), fields, agi) })
	})
}

func randomField[H any](in *injector, where string, fields []headerField[H], header *H) {
	field := fields[in.rng.IntN(len(fields))]
	value := field.value(header)
	old := *value
	*value = in.another32(old)
	in.edited(where+", "+field.name, old, *value)
}

func (in *injector) randomAGFL() error {
	return in.anyGroup(func(agno ioctl.AGNumber) error {
		blocks, first, err := in.img.AGFL(agno)
		if err != nil {
			return err
		}
		if len(blocks) == 0 {
			return errSkip
		}
		i := in.rng.IntN(len(blocks))
		slot := (first + uint32(i)) % in.img.agflSlots()
		to := ioctl.AGBlock(in.another32(uint32(blocks[i])))
		if in.rng.IntN(3) == 0 {
			to = ioctl.AGBlock(in.rng.Uint32N(uint32(in.img.AGLength(agno))))
		}
		in.out.AGBno, in.out.BlockCount, in.out.Owner = to, 1, OwnerAG
		in.edited(fmt.Sprintf("AGFL of %s, slot %d", agName(agno), slot), blocks[i], to)
		return in.img.SetAGFL(agno, slot, to)
	})
}
