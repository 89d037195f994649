package lab

import (
	"cmp"
	"fmt"
	"maps"
	"slices"

	"github.com/scrubd/scrubd/ioctl"
)

// LostClasses are the classes of [SavedObject.Restore], sorted.
func LostClasses() []FaultClass {
	all := []FaultClass{FaultLostDinode}
	return slices.Sorted(slices.Values(slices.AppendSeq(all, maps.Values(lostClass))))
}

// Objects lists every object of an image to which a write of the class could
// be lost: the allocated inodes that are nobody's metadata, or the leaves of
// the trees. A filesystem without such a tree has none.
func (img *Image) Objects(class FaultClass) ([]ObjectRef, error) {
	in := &injector{img: img}
	cores, err := in.inodes()
	if err != nil {
		return nil, err
	}
	meta := img.MetaInodes()
	inos := slices.DeleteFunc(slices.SortedFunc(maps.Keys(cores), cmp.Compare), func(ino ioctl.Ino) bool { return meta[ino] })
	var out []ObjectRef
	switch class {
	case FaultLostDinode:
		for _, ino := range inos {
			agno, _ := img.InoToAG(ino)
			out = append(out, ObjectRef{Class: class, Ino: ino, AGNo: agno})
		}
		return out, nil
	case FaultLostBmbt:
		for _, ino := range inos {
			core := cores[ino]
			if core.Format != FormatBtree {
				continue
			}
			tree, err := img.BmapBT(ino, ioctl.DataFork)
			if err != nil {
				return nil, err
			}
			blocks, err := tree.Blocks(true)
			if err != nil {
				return nil, err
			}
			for _, b := range blocks {
				agno, agbno := img.FSBToAG(ioctl.FSBlock(b))
				out = append(out, ObjectRef{Class: class, Ino: ino, AGNo: agno, AGBno: agbno, kind: BmapBT})
			}
		}
		return out, nil
	}
	for kind, c := range lostClass {
		if c != class {
			continue
		}
		for agno := range ioctl.AGNumber(img.SB.AGCount) {
			blocks, err := img.leaves(kind, agno)
			if err != nil {
				return nil, err
			}
			for _, b := range blocks {
				out = append(out, ObjectRef{Class: class, AGNo: agno, AGBno: ioctl.AGBlock(b), kind: kind})
			}
		}
		return out, nil
	}
	return nil, fmt.Errorf("list the objects of %q: %w", class, ErrUnknownClass)
}

// leaves lists the leaves of a tree of a group, none where there is no such tree.
func (img *Image) leaves(kind TreeKind, agno ioctl.AGNumber) ([]uint64, error) {
	agf, err := img.AGF(agno)
	if err != nil {
		return nil, err
	}
	agi, err := img.AGI(agno)
	if err != nil {
		return nil, err
	}
	switch kind {
	case BnoBT, CntBT:
		return leavesOf[FreeRec](img, kind, agno, agf.Roots[kind], agf.Levels[kind])
	case RmapBT:
		return leavesOf[RmapRec](img, kind, agno, agf.Roots[kind], agf.Levels[kind])
	case RefcountBT:
		return leavesOf[RefcountRec](img, kind, agno, agf.RefcountRoot, agf.RefcountLevel)
	case InoBT:
		return leavesOf[InodeRec](img, kind, agno, agi.Root, agi.Level)
	default:
		return leavesOf[InodeRec](img, kind, agno, agi.FreeRoot, agi.FreeLevel)
	}
}

func leavesOf[R Record](img *Image, kind TreeKind, agno ioctl.AGNumber, root, level uint32) ([]uint64, error) {
	if level == 0 {
		return nil, nil
	}
	tree, err := newTree[R](img, kind, agno, root, level)
	if err != nil {
		return nil, err
	}
	return tree.Blocks(true)
}
