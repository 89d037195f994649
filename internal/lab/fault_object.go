package lab

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"

	"github.com/scrubd/scrubd/ioctl"
)

// ErrUnchanged means that an object is as it was when it was saved, so that no
// write to it can be lost.
var ErrUnchanged = errors.New("the object has not changed since it was saved")

// ObjectRef names an inode or a btree block.
type ObjectRef struct {
	Class FaultClass // what losing a write to it is called
	Ino   ioctl.Ino  // of FaultLostDinode and FaultLostBmbt
	AGNo  ioctl.AGNumber
	AGBno ioctl.AGBlock // of a btree block
	kind  TreeKind
}

// String names the object.
func (r ObjectRef) String() string {
	switch r.Class {
	case FaultLostDinode:
		return fmt.Sprintf("inode %d", r.Ino)
	case FaultLostBmbt:
		return fmt.Sprintf("bmbt block %d of AG %d of inode %d", r.AGBno, r.AGNo, r.Ino)
	default:
		return fmt.Sprintf("%s block %d of AG %d", r.kind, r.AGBno, r.AGNo)
	}
}

// lostClass names the loss of a write to a tree's block.
var lostClass = map[TreeKind]FaultClass{
	BnoBT: FaultLostBnobt, CntBT: FaultLostCntbt, RmapBT: FaultLostRmapbt, InoBT: FaultLostInobt, FinoBT: FaultLostFinobt,
	RefcountBT: FaultLostRefcount, BmapBT: FaultLostBmbt,
}

// DinodeObject is the inode itself: one sector in a cluster of inodes.
func (img *Image) DinodeObject(ino ioctl.Ino) (ObjectRef, error) {
	if _, err := img.dinode(ino); err != nil {
		return ObjectRef{}, err
	}
	agno, _ := img.InoToAG(ino)
	return ObjectRef{Class: FaultLostDinode, Ino: ino, AGNo: agno}, nil
}

// FreeLeafObject is the leaf of the bnobt or the cntbt where the free space
// from a block on would be.
func (img *Image) FreeLeafObject(kind TreeKind, agno ioctl.AGNumber, rec FreeRec) (ObjectRef, error) {
	tree, err := img.freeTree(kind, agno)
	if err != nil {
		return ObjectRef{}, err
	}
	return leafObject(tree, agno, rec)
}

// RmapLeafObject is the leaf of the rmapbt where a record is or would be.
func (img *Image) RmapLeafObject(agno ioctl.AGNumber, rec RmapRec) (ObjectRef, error) {
	tree, err := img.RmapBT(agno)
	if err != nil {
		return ObjectRef{}, err
	}
	return leafObject(tree, agno, rec)
}

// RefcountLeafObject is the leaf of the refcountbt where a record is or would be.
func (img *Image) RefcountLeafObject(agno ioctl.AGNumber, rec RefcountRec) (ObjectRef, error) {
	tree, err := img.RefcountBT(agno)
	if err != nil {
		return ObjectRef{}, err
	}
	return leafObject(tree, agno, rec)
}

// InobtLeafObject is the leaf of the inobt that has the chunk of an inode.
func (img *Image) InobtLeafObject(ino ioctl.Ino) (ObjectRef, error) {
	agno, agino := img.InoToAG(ino)
	tree, err := img.InoBT(agno)
	if err != nil {
		return ObjectRef{}, err
	}
	return leafObject(tree, agno, InodeRec{StartIno: agino})
}

// BmbtLeafObject is the leaf of a fork's bmbt that maps an offset in fs
// blocks. A fork that lies in its inode has none: ErrNoVictim.
func (img *Image) BmbtLeafObject(ino ioctl.Ino, fork ioctl.Fork, offset uint64) (ObjectRef, error) {
	tree, err := img.BmapBT(ino, fork)
	if err != nil {
		return ObjectRef{}, err
	}
	n, _, _, err := tree.search(ExtentRec{Offset: offset})
	if err != nil {
		return ObjectRef{}, err
	}
	if n.inode != nil {
		return ObjectRef{}, fmt.Errorf("%s has no blocks: %w", tree, ErrNoVictim)
	}
	agno, agbno := img.FSBToAG(ioctl.FSBlock(n.block))
	return ObjectRef{Class: FaultLostBmbt, Ino: ino, AGNo: agno, AGBno: agbno, kind: BmapBT}, nil
}

func leafObject[R Record](tree *Tree[R], agno ioctl.AGNumber, rec R) (ObjectRef, error) {
	n, _, _, err := tree.search(rec)
	if err != nil {
		return ObjectRef{}, err
	}
	return ObjectRef{Class: lostClass[tree.kind], AGNo: agno, AGBno: ioctl.AGBlock(n.block), kind: tree.kind}, nil
}

func (img *Image) object(ref ObjectRef) (*object, error) {
	if ref.Class == FaultLostDinode {
		off, err := img.inodeStart(ref.Ino)
		if err != nil {
			return nil, err
		}
		return img.read(off, int(img.SB.InodeSize), dinodeCRC)
	}
	off, err := img.blockStart(ref.AGNo, ref.AGBno)
	if err != nil {
		return nil, err
	}
	return img.read(off, int(img.SB.BlockSize), treeLayouts[ref.kind].crc)
}

// SavedObject is an older state of a piece of metadata.
type SavedObject struct {
	Ref ObjectRef
	old *object
}

// SaveObject remembers an object of an image that is unmounted or frozen.
func SaveObject(img *Image, ref ObjectRef) (SavedObject, error) {
	o, err := img.object(ref)
	if err != nil {
		return SavedObject{}, fmt.Errorf("save %s: %w", ref, err)
	}
	if !o.good() {
		return SavedObject{}, fmt.Errorf("save %s: %w", ref, ErrBadCRC)
	}
	return SavedObject{Ref: ref, old: o}, nil
}

// Restore puts the older state back, as if the writes since then had never
// reached the disk. The edits say what the object has forgotten (Old) and what
// it knows again (New). ErrUnchanged: there was no write.
func (s SavedObject) Restore(img *Image) (Injected, error) {
	out, lost, err := s.compare(img)
	if err != nil {
		return Injected{}, fmt.Errorf("restore %s: %w", s.Ref, err)
	}
	mark := img.mark()
	if err := img.store(lost); err != nil {
		return Injected{}, fmt.Errorf("restore %s: %w", s.Ref, err)
	}
	out.writes = slices.Clone(img.writes[mark:])
	return out, nil
}

// Compare says what Restore would change, and changes nothing.
func (s SavedObject) Compare(img *Image) (Injected, error) {
	out, _, err := s.compare(img)
	if err != nil {
		return Injected{}, fmt.Errorf("compare %s with its older state: %w", s.Ref, err)
	}
	return out, nil
}

func (s SavedObject) compare(img *Image) (Injected, write, error) {
	now, err := img.object(s.Ref)
	if err != nil {
		return Injected{}, write{}, err
	}
	if bytes.Equal(now.data, s.old.data) {
		return Injected{}, write{}, ErrUnchanged
	}
	out := Injected{Class: s.Ref.Class, AGNo: s.Ref.AGNo, AGBno: s.Ref.AGBno, Ino: s.Ref.Ino, Owner: uint64(s.Ref.Ino)}
	where, from, to := s.Ref.String(), blockRecords(s.Ref.kind, now.data), blockRecords(s.Ref.kind, s.old.data)
	if s.Ref.Class == FaultLostDinode {
		if out.Edits, err = dinodeEdits(where, now.data, s.old.data); err != nil {
			return Injected{}, write{}, err
		}
		from, to = nil, nil
	} else {
		out.BlockCount = 1
	}
	for _, rec := range from {
		if !slices.Contains(to, rec) {
			out.Edits = append(out.Edits, Edit{Where: where, Old: rec})
		}
	}
	for _, rec := range to {
		if !slices.Contains(from, rec) {
			out.Edits = append(out.Edits, Edit{Where: where, New: rec})
		}
	}
	return out, write{off: now.off, old: now.data, new: s.old.data, crc: s.old.crc}, nil
}

// blockRecords decodes the records of a leaf. A block that is a leaf of this
// tree no longer has none.
func blockRecords(kind TreeKind, data []byte) []any {
	lay := treeLayouts[kind]
	if len(data) < lay.header || binary.BigEndian.Uint32(data) != lay.magic || binary.BigEndian.Uint16(data[4:]) != 0 {
		return nil
	}
	count := min(int(binary.BigEndian.Uint16(data[6:])), (len(data)-lay.header)/lay.recLen)
	return decodeRecords(kind, data[lay.header:], count)
}

func decodeRecords(kind TreeKind, data []byte, count int) []any {
	var out []any
	for i := range count {
		b := data[i*treeLayouts[kind].recLen:]
		switch kind {
		case BnoBT, CntBT:
			out = append(out, decodeRecord[FreeRec](b))
		case RmapBT:
			out = append(out, decodeRecord[RmapRec](b))
		case InoBT, FinoBT:
			out = append(out, decodeRecord[InodeRec](b))
		case RefcountBT:
			out = append(out, decodeRecord[RefcountRec](b))
		case BmapBT:
			out = append(out, decodeRecord[ExtentRec](b))
		}
	}
	return out
}

// dinodeEdits lists the fields and the extents inside the inode in which two
// states of it differ.
func dinodeEdits(where string, now, then []byte) ([]Edit, error) {
	from, to := dinode{object: &object{data: now}}, dinode{object: &object{data: then}}
	for _, d := range []*dinode{&from, &to} {
		if _, err := binary.Decode(d.data, binary.BigEndian, &d.core); err != nil {
			return nil, err
		}
	}
	var out []Edit
	add := func(field string, was, is uint64) {
		if was != is {
			out = append(out, Edit{Where: where + ", " + field, Old: was, New: is})
		}
	}
	add("mode", uint64(from.core.Mode), uint64(to.core.Mode))
	add("nlink", uint64(from.core.Nlink), uint64(to.core.Nlink))
	add("size", from.core.Size, to.core.Size)
	add("nblocks", from.core.NBlocks, to.core.NBlocks)
	add("format", uint64(from.core.Format), uint64(to.core.Format))
	add("flags2", from.core.Flags2, to.core.Flags2)
	for _, fork := range []ioctl.Fork{ioctl.DataFork, ioctl.AttrFork} {
		add(fork.String()+" extents", from.core.Extents(fork), to.core.Extents(fork))
		was, is := from.inlineExtents(fork), to.inlineExtents(fork)
		for _, rec := range was {
			if !slices.Contains(is, rec) {
				out = append(out, Edit{Where: fmt.Sprintf("%s, %s fork", where, fork), Old: rec})
			}
		}
		for _, rec := range is {
			if !slices.Contains(was, rec) {
				out = append(out, Edit{Where: fmt.Sprintf("%s, %s fork", where, fork), New: rec})
			}
		}
	}
	return out, nil
}

// inlineExtents returns the extents that lie in the inode itself.
func (d *dinode) inlineExtents(fork ioctl.Fork) []any {
	if d.core.ForkFormat(fork) != FormatExtents || int(d.core.ForkOff)*8 > len(d.data)-dinodeCore {
		return nil
	}
	off, size := d.fork(fork)
	count := min(int(min(d.core.Extents(fork), uint64(size))), size/treeLayouts[BmapBT].recLen)
	return decodeRecords(BmapBT, d.data[off:], count)
}
