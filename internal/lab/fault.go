package lab

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"

	"github.com/scrubd/scrubd/ioctl"
)

// Errors of fault injection.
var (
	ErrNoVictim     = errors.New("nothing on this image fits the fault")
	ErrUnknownClass = errors.New("no such class of faults")
)

// FaultClass names a way to damage metadata. The damaged block has a good
// checksum unless the class says otherwise.
type FaultClass string

// Fault is one damage to do. Class alone is enough: the victim is then drawn,
// by Seed, from everything on the image that fits. The other fields narrow
// the choice; nil and 0 mean any.
//
//	Fault{Class: FaultRmapOwner, Seed: 7}
//	Fault{Class: FaultForkLost, Ino: 131}
//	Fault{Class: FaultRmapUnwritten, Match: func(rec any) bool { return rec.(RmapRec).BlockCount > 16 }}
type Fault struct {
	Class FaultClass
	Seed  uint64

	AGNo  *ioctl.AGNumber    // group of the damaged record, or of the first block of an extent
	AGBno *ioctl.AGBlock     // a block that the record covers
	Ino   ioctl.Ino          // owner of the record; the inode whose fork, core or inobt bit is damaged
	Match func(rec any) bool // gets the record: RmapRec, ExtentRec, FreeRec, InodeRec or RefcountRec

	Delta int64  // how far a start, length, offset or counter moves; 0 leaves it to the class
	Owner uint64 // the wrong owner of FaultRmapOwner and FaultRmapAddedFree, FaultRmapAddedUsed
	Both  bool   // free space faults: the same in the cntbt, and the counters adapted
}

// Describe says in one line what the fault will do.
func (f Fault) Describe() string {
	var b strings.Builder
	b.WriteString(string(f.Class))
	if f.AGNo != nil {
		fmt.Fprintf(&b, ", AG %d", *f.AGNo)
	}
	if f.AGBno != nil {
		fmt.Fprintf(&b, ", agbno %d", *f.AGBno)
	}
	if f.Ino != 0 {
		fmt.Fprintf(&b, ", inode %d", f.Ino)
	}
	if f.Delta != 0 {
		fmt.Fprintf(&b, ", by %d", f.Delta)
	}
	if f.Both {
		b.WriteString(", both trees")
	}
	fmt.Fprintf(&b, ", seed %d: %s", f.Seed, f.Class.Summary())
	return b.String()
}

// Injected says exactly what an injection has changed.
type Injected struct {
	Class      FaultClass     `json:"class"`
	AGNo       ioctl.AGNumber `json:"agno"`
	AGBno      ioctl.AGBlock  `json:"agbno"`       // first block of the record as it was, or of an added one
	BlockCount uint32         `json:"block_count"` // its length in blocks; 0 where the damage is to no blocks
	Ino        ioctl.Ino      `json:"ino"`         // the inode it truly belongs to; 0 for none
	Owner      uint64         `json:"owner"`       // the owner that the damaged record names, where it has one
	Fork       ioctl.Fork     `json:"fork"`
	Offset     uint64         `json:"offset"` // in the fork, in fs blocks
	Edits      []Edit         `json:"edits"`

	writes []write
}

// Edit is one value that an injection has changed.
type Edit struct {
	Where string `json:"where"` // tree or header, block, record, field
	Old   any    `json:"old"`   // the record type of the tree or a number; nil for an added record
	New   any    `json:"new"`   // nil for a removed record
}

// String puts the edit in one line.
func (e Edit) String() string {
	switch {
	case e.Old == nil:
		return fmt.Sprintf("%s: added %v", e.Where, e.New)
	case e.New == nil:
		return fmt.Sprintf("%s: removed %v", e.Where, e.Old)
	default:
		return fmt.Sprintf("%s: %v -> %v", e.Where, e.Old, e.New)
	}
}

// Describe says in one line for each edit what has changed.
func (i Injected) Describe() string {
	lines := make([]string, len(i.Edits))
	for n, e := range i.Edits {
		lines[n] = fmt.Sprintf("%s: %s", i.Class, e)
	}
	return strings.Join(lines, "\n")
}

// Remains tells whether any byte that the injection damaged, checksums apart,
// is still as it left it. Where none is, somebody has written good values over
// the damage, as the kernel does with some counters.
func (i Injected) Remains(img *Image) (bool, error) {
	// Several writes may have changed one object: what counts is the sum.
	objects := make(map[int64]write)
	for _, w := range i.writes {
		if first, ok := objects[w.off]; ok {
			w.old = first.old
		}
		objects[w.off] = w
	}
	for _, w := range objects {
		now := make([]byte, len(w.new))
		if _, err := img.file.ReadAt(now, w.off); err != nil {
			return false, fmt.Errorf("look for %s: %w", i.Class, err)
		}
		for at := range now {
			if (at < w.crc || at >= w.crc+4) && w.old[at] != w.new[at] && now[at] == w.new[at] {
				return true, nil
			}
		}
	}
	return false, nil
}

// Undo puts the old bytes back. It is for an image that nobody has written to
// since.
func (i Injected) Undo(img *Image) error {
	for _, w := range slices.Backward(i.writes) {
		if _, err := img.file.WriteAt(w.old, w.off); err != nil {
			return fmt.Errorf("undo %s: %w", i.Class, err)
		}
	}
	img.writes = nil
	return img.readSuper()
}

// Inject does the damage on an image that is unmounted or frozen. The same
// fault on the same image does the same. ErrNoVictim: nothing fits; then, and
// with any other error, the image is as before.
func (f Fault) Inject(img *Image) (Injected, error) {
	class, ok := classOf(f.Class)
	if !ok {
		return Injected{}, fmt.Errorf("inject %q: %w", f.Class, ErrUnknownClass)
	}
	if f.AGNo != nil && uint32(*f.AGNo) >= img.SB.AGCount {
		return Injected{}, fmt.Errorf("inject %s: there is no AG %d", f.Class, *f.AGNo)
	}
	in := &injector{img: img, f: f, rng: rand.New(rand.NewPCG(f.Seed, 0x5c4bd)), out: Injected{Class: f.Class}}
	mark := img.mark()
	err := img.atomically(func() error { return class.inject(in) })
	if err != nil {
		return Injected{}, fmt.Errorf("inject %s: %w", f.Class, err)
	}
	in.out.writes = slices.Clone(img.writes[mark:])
	if err := img.Verify(); err != nil {
		return in.out, fmt.Errorf("inject %s: %w", f.Class, err)
	}
	return in.out, nil
}

// InjectImage opens the image at path, does the damage and closes it again.
func InjectImage(path string, f Fault) (Injected, error) {
	img, err := OpenImage(path)
	if err != nil {
		return Injected{}, err
	}
	done, err := f.Inject(img)
	return done, errors.Join(err, img.Close())
}

// injector is one injection under way.
type injector struct {
	img *Image
	f   Fault
	rng *rand.Rand
	out Injected

	cores map[ioctl.Ino]DinodeCore // filled by inodes
}

// victim is a record that a fault could be done to, with its tree.
type victim[R Record] struct {
	Entry[R]
	tree *Tree[R]
	agno ioctl.AGNumber
	next *R // the record behind it in the tree, nil for the last
	prev *R // the one before it, nil for the first
}

// where names a record in an Edit.
func (v victim[R]) where() string {
	if v.InInode {
		return fmt.Sprintf("%s, record %d", v.tree, v.Index)
	}
	return fmt.Sprintf("%s, block %d, record %d", v.tree, v.Block, v.Index)
}

// errSkip is returned for a victim that turns out not to do.
var errSkip = errors.New("unfit")

// forAny tries the victims in random order until damage succeeds with one.
func forAny[V any](in *injector, victims []V, damage func(V) error) error {
	in.rng.Shuffle(len(victims), func(i, j int) { victims[i], victims[j] = victims[j], victims[i] })
	blank := in.out
	for _, v := range victims {
		in.out = blank
		err := in.img.atomically(func() error { return damage(v) })
		switch {
		case err == nil:
			return nil
		case errors.Is(err, ErrLeafFull), errors.Is(err, ErrLastRecord), errors.Is(err, errSkip):
		default:
			return err
		}
	}
	return ErrNoVictim
}

// groups returns the groups that the fault may touch.
func (in *injector) groups() []ioctl.AGNumber {
	if in.f.AGNo != nil {
		return []ioctl.AGNumber{*in.f.AGNo}
	}
	var all []ioctl.AGNumber
	for agno := range ioctl.AGNumber(in.img.SB.AGCount) {
		all = append(all, agno)
	}
	return all
}

// covers tells whether the fault's choice of a block, if any, is in a range.
func (in *injector) covers(start ioctl.AGBlock, count uint32) bool {
	return in.f.AGBno == nil || *in.f.AGBno >= start && *in.f.AGBno < start+ioctl.AGBlock(count)
}

// amount returns the fault's Delta, or draws one from 1 to most. errSkip: most
// is less than one, or less than a Delta that was asked for.
func (in *injector) amount(most int64) (int64, error) {
	d := in.f.Delta
	if d < 0 {
		d = -d
	}
	if most < 1 || d > most {
		return 0, errSkip
	}
	if d == 0 {
		d = 1 + in.rng.Int64N(most)
	}
	return d, nil
}

// edited notes a change of a record.
func (in *injector) edited(where string, from, to any) {
	in.out.Edits = append(in.out.Edits, Edit{Where: where, Old: from, New: to})
}

// inodes returns every allocated inode of the image, by number.
func (in *injector) inodes() (map[ioctl.Ino]DinodeCore, error) {
	if in.cores != nil {
		return in.cores, nil
	}
	cores := make(map[ioctl.Ino]DinodeCore)
	for agno := range ioctl.AGNumber(in.img.SB.AGCount) {
		for core, err := range in.img.Inodes(agno) {
			if err != nil {
				return nil, err
			}
			cores[ioctl.Ino(core.Ino)] = core
		}
	}
	in.cores = cores
	return cores, nil
}

// files returns the numbers of the regular files that are nobody's metadata,
// in order.
func (in *injector) files() ([]ioctl.Ino, error) {
	cores, err := in.inodes()
	if err != nil {
		return nil, err
	}
	meta := in.img.MetaInodes()
	var files []ioctl.Ino
	for ino, core := range cores {
		if core.IsRegular() && !meta[ino] && !core.IsMetadata() {
			files = append(files, ino)
		}
	}
	slices.Sort(files)
	return files, nil
}

// victimsOf lists the records of a tree that pass keep and the fault's Match.
func victimsOf[R Record](in *injector, tree *Tree[R], agno ioctl.AGNumber, keep func(rec R) bool) ([]victim[R], error) {
	recs, err := tree.Records()
	if err != nil {
		return nil, err
	}
	var out []victim[R]
	for i, e := range recs {
		if !keep(e.Rec) || in.f.Match != nil && !in.f.Match(e.Rec) {
			continue
		}
		v := victim[R]{Entry: e, tree: tree, agno: agno}
		if i > 0 {
			v.prev = &recs[i-1].Rec
		}
		if i+1 < len(recs) {
			v.next = &recs[i+1].Rec
		}
		out = append(out, v)
	}
	return out, nil
}
