package witness

import (
	"encoding/binary"
	"hash/crc32"

	"github.com/scrubd/scrubd/ioctl"
)

// Self is what the blocks of one AG are held against when they say of themselves
// what they are: every block of metadata of a V5 filesystem names its kind, its
// own address, its filesystem and its owner.
//
// A block that names itself so was written as metadata and not as a file's data
// since: nothing that a user wrote is in it.
type Self struct {
	AGNo ioctl.AGNumber
	// UUID is the one that metadata carries; it can differ from the superblock's.
	UUID [16]byte
	// AGFL are the blocks of the AG's free list.
	AGFL []ioctl.AGBlock
	// Own is how many blocks the AGF counts for bnobt, cntbt and rmapbt, whose roots
	// its counter leaves out, and for the AGFL.
	Own uint64
	// FreeBlocks and Longest are the AGF's word about the free space, Roots those of
	// bnobt, cntbt and rmapbt.
	FreeBlocks, Longest uint32
	Roots               []Root
	// RefcountRoot and RefcountBlocks are the AGF's word about the refcountbt.
	RefcountRoot   Root
	RefcountBlocks uint32
}

// Kind is what a block says it is, "" for anything that may be data.
type Kind string

// The magic numbers.
//
// Source: fs/xfs/libxfs/xfs_format.h, xfs_da_format.h.
var (
	agBtrees = map[uint32]Kind{
		0x41423342: "bnobt", 0x41423343: "cntbt", 0x49414233: "inobt", 0x46494233: "finobt",
		0x524d4233: "rmapbt", 0x52334643: "refcountbt",
	}
	bmbtMagic    = uint32(0x424d4133)
	symlinkMagic = uint32(0x58534c4d)
	agfMagic     = uint32(0x58414746)
	agflMagic    = uint32(0x5841464c)
	agiMagic     = uint32(0x58414749)
	inodeMagic   = uint16(0x494e)
)

// Places of fields in the AGF, the AGFL and the AGI.
//
// Source: fs/xfs/libxfs/xfs_format.h (struct xfs_agf, struct xfs_agfl, struct xfs_agi).
const (
	agfSeqno, agfFirst, agfLast, agfCount        = 8, 40, 44, 48
	agfFree, agfLongest, agfBtreeBlocks, agfUUID = 52, 56, 60, 64
	agflSeqno, agflUUID, agflHeader              = 4, 8, 36
	agfRoots, agfLevels, agfRefcountRoot         = 16, 28, 88
	agiCount, agiRoot, agiFree                   = 16, 20, 28
	agiUUID, agiFreeRoot                         = 296, 328
)

// agRoots is how many btrees share the AGF's counter.
const agRoots = 3

// ReadSelf takes the AG's UUID and free list from the sectors of its AGF and
// AGFL, and tells whether they are what they should be.
func ReadSelf(agno ioctl.AGNumber, agf, agfl []byte) (*Self, bool) {
	be := binary.BigEndian
	if len(agf) < agfRefcountRoot+8 || len(agfl) < agflHeader || be.Uint32(agf) != agfMagic || be.Uint32(agf[agfSeqno:]) != uint32(agno) {
		return nil, false
	}
	s := &Self{AGNo: agno, UUID: [16]byte(agf[agfUUID:])}
	if be.Uint32(agfl) != agflMagic || be.Uint32(agfl[agflSeqno:]) != uint32(agno) || [16]byte(agfl[agflUUID:]) != s.UUID {
		return nil, false
	}
	if !SoundAGFL(agf) {
		return nil, false
	}
	slots := uint32(len(agfl)-agflHeader) / 4
	first, count := be.Uint32(agf[agfFirst:]), be.Uint32(agf[agfCount:])
	s.FreeBlocks, s.Longest = be.Uint32(agf[agfFree:]), be.Uint32(agf[agfLongest:])
	s.Own = uint64(be.Uint32(agf[agfBtreeBlocks:])) + agRoots + uint64(count)
	for i, kind := range []Kind{"bnobt", "cntbt", "rmapbt"} {
		s.Roots = append(s.Roots, Root{kind, ioctl.AGBlock(be.Uint32(agf[agfRoots+4*i:])), be.Uint32(agf[agfLevels+4*i:])})
	}
	s.RefcountRoot = Root{"refcountbt", ioctl.AGBlock(be.Uint32(agf[agfRefcountRoot:])), be.Uint32(agf[agfRefcountRoot+4:])}
	s.RefcountBlocks = be.Uint32(agf[agfRefcountRoot-4:])
	for i := range count {
		at := agflHeader + 4*int((first+i)%slots)
		s.AGFL = append(s.AGFL, ioctl.AGBlock(be.Uint32(agfl[at:])))
	}
	return s, true
}

// SoundAGFL tells whether the beginning and the end of the AGFL in the sector of an AGF
// agree with its length, also where there is nothing on it.
func SoundAGFL(agf []byte) bool {
	if len(agf) < agfRefcountRoot+8 {
		return false
	}
	be := binary.BigEndian
	slots := uint32(len(agf)-agflHeader) / 4
	first, last, count := be.Uint32(agf[agfFirst:]), be.Uint32(agf[agfLast:]), be.Uint32(agf[agfCount:])
	return first < slots && count <= slots && last == (first+slots+count-1)%slots
}

// LostAGF tells whether the sector of the AGF of an AG of so many blocks is one that
// the kernel is known to refuse: by its checksum, or by what cannot be in any AGF.
//
// Source: fs/xfs/libxfs/xfs_alloc.c (xfs_agf_verify).
func LostAGF(agf []byte, agno ioctl.AGNumber, length ioctl.AGBlock) bool {
	const version, lengthAt, crc, mostLevels = 4, 12, 216, 9
	if len(agf) < crc+4 {
		return false
	}
	be := binary.BigEndian
	sum := crc32.Update(0, castagnoli, agf[:crc])
	sum = crc32.Update(sum, castagnoli, make([]byte, 4))
	sum = crc32.Update(sum, castagnoli, agf[crc+4:])
	slots := uint32(len(agf)-agflHeader) / 4
	lost := sum != binary.LittleEndian.Uint32(agf[crc:]) || be.Uint32(agf) != agfMagic || be.Uint32(agf[version:]) != 1 ||
		be.Uint32(agf[agfSeqno:]) != uint32(agno) || be.Uint32(agf[lengthAt:]) != uint32(length) ||
		be.Uint32(agf[agfFree:]) > uint32(length) || be.Uint32(agf[agfLongest:]) > be.Uint32(agf[agfFree:]) ||
		be.Uint32(agf[agfBtreeBlocks:]) > uint32(length) ||
		be.Uint32(agf[agfFirst:]) >= slots || be.Uint32(agf[agfLast:]) >= slots || be.Uint32(agf[agfCount:]) > slots
	for i := range agRoots {
		levels := be.Uint32(agf[agfLevels+4*i:])
		lost = lost || levels == 0 || levels > mostLevels
	}
	return lost
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// Root is what an AGF or AGI has for the root of a btree.
type Root struct {
	Kind   Kind
	Block  ioctl.AGBlock
	Levels uint32
}

// AGI is what an AGI counts, and the roots of the inode btrees.
type AGI struct {
	Count, Free uint32
	Roots       []Root
}

// ReadAGI reads the sector of the AG's AGI; nil where that is not what it should be.
func (s *Self) ReadAGI(agi []byte, finobt bool) *AGI {
	be := binary.BigEndian
	if len(agi) < agiFreeRoot+8 || be.Uint32(agi) != agiMagic || be.Uint32(agi[agfSeqno:]) != uint32(s.AGNo) || [16]byte(agi[agiUUID:]) != s.UUID {
		return nil
	}
	root := func(kind Kind, at int) Root {
		return Root{kind, ioctl.AGBlock(be.Uint32(agi[at:])), be.Uint32(agi[at+4:])}
	}
	out := &AGI{Count: be.Uint32(agi[agiCount:]), Free: be.Uint32(agi[agiFree:]), Roots: []Root{root("inobt", agiRoot)}}
	if finobt {
		out.Roots = append(out.Roots, root("finobt", agiFreeRoot))
	}
	return out
}

// KindOf is what the block at byte offset at of the device says it is; "" where
// it does not say, or says something else than what this filesystem has at this
// place. The checksum is not looked at: a block that was damaged since still
// holds nothing but metadata.
func (s *Self) KindOf(block []byte, at ioctl.ByteOff, ino ioctl.Ino) Kind {
	const longest = 176
	if len(block) < longest {
		return ""
	}
	be := binary.BigEndian
	is := func(uuid, blkno int) bool {
		return [16]byte(block[uuid:]) == s.UUID && be.Uint64(block[blkno:]) == uint64(at/512)
	}
	switch magic := be.Uint32(block); {
	case agBtrees[magic] != "":
		if is(32, 16) && be.Uint32(block[48:]) == uint32(s.AGNo) {
			return agBtrees[magic]
		}
	case magic == bmbtMagic:
		if is(40, 24) {
			return "bmbt"
		}
	case magic == symlinkMagic:
		if is(16, 40) {
			return "symlink"
		}
	case be.Uint16(block) == inodeMagic:
		if be.Uint64(block[152:]) == uint64(ino) && [16]byte(block[160:]) == s.UUID {
			return "inode"
		}
	}
	return ""
}
