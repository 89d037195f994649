package lab

import (
	"encoding/binary"
	"fmt"

	"github.com/scrubd/scrubd/ioctl"
)

// Magic numbers of the header sectors, and their places in the AG in sectors.
const (
	superMagic = 0x58465342 // XFSB
	agfMagic   = 0x58414746 // XAGF
	agiMagic   = 0x58414749 // XAGI
	agflMagic  = 0x5841464c // XAFL

	agfSector  = 1
	agiSector  = 2
	agflSector = 3
)

// Offsets of the checksums in the header sectors.
const (
	superCRC = 224
	agfCRC   = 216
	agiCRC   = 312
	agflCRC  = 32
)

// agflHeader is the length in bytes of the AGFL before its block numbers.
const agflHeader = 36

// Superblock is the primary superblock as it is on disk (struct xfs_dsb).
// Block counts are in fs blocks.
type Superblock struct {
	Magic, BlockSize                  uint32
	DBlocks, RBlocks, RExtents        uint64
	UUID                              [16]byte
	LogStart                          uint64 // fsbno; 0 for an external log
	RootIno, RBMIno, RSumIno          uint64
	RExtSize, AGBlocks, AGCount       uint32
	RBMBlocks, LogBlocks              uint32
	Version, SectSize                 uint16
	InodeSize, InopBlock              uint16
	FName                             [12]byte
	BlockLog, SectLog                 uint8
	InodeLog, InopBlog                uint8
	AGBlockLog, RExtsLog              uint8
	InProgress, IMaxPct               uint8
	ICount, IFree                     uint64
	FDBlocks, FRExtents               uint64
	UQuotIno, GQuotIno                uint64
	QFlags                            uint16
	Flags, SharedVN                   uint8
	InoAlign, Unit, Width             uint32
	DirBlkLog, LogSectLog             uint8
	LogSectSize                       uint16
	LogSUnit, Features2, BadFeatures2 uint32
	Compat, ROCompat                  uint32
	Incompat, LogIncompat             uint32
	CRC                               uint32
	SpinoAlign                        uint32
	PQuotIno, LSN                     uint64
	MetaUUID                          [16]byte
	MetaDirIno                        uint64
	RGCount, RGExtents                uint32
	RGBlkLog                          uint8
	Pad                               [7]uint8
}

// incompatSparse is the feature bit of sparse inode chunks (XFS_SB_FEAT_INCOMPAT_SPINODES).
const incompatSparse = 1 << 1

// HasSparse tells whether inode chunks may have holes.
func (sb *Superblock) HasSparse() bool { return sb.Incompat&incompatSparse != 0 }

// rocompatInobtCount is the feature bit of the AGI's counts of btree blocks (XFS_SB_FEAT_RO_COMPAT_INOBTCNT).
const rocompatInobtCount = 1 << 3

// AGF is the header of an AG's free space (struct xfs_agf): roots and levels
// are those of bnobt, cntbt and rmapbt in this order.
type AGF struct {
	Magic, Version, SeqNo, Length uint32
	Roots, Levels                 [3]uint32
	FLFirst, FLLast, FLCount      uint32
	FreeBlks, Longest, BtreeBlks  uint32
	UUID                          [16]byte
	RmapBlocks, RefcountBlocks    uint32
	RefcountRoot, RefcountLevel   uint32
	Spare                         [14]uint64
	LSN                           uint64
	CRC, Spare2                   uint32
}

// AGI is the header of an AG's inodes (struct xfs_agi).
type AGI struct {
	Magic, Version, SeqNo, Length uint32
	Count, Root, Level, FreeCount uint32
	NewIno, DirIno                uint32
	Unlinked                      [64]uint32
	UUID                          [16]byte
	CRC, Pad                      uint32
	LSN                           uint64
	FreeRoot, FreeLevel           uint32
	IBlocks, FBlocks              uint32
}

// AGF reads the AGF of a group.
func (img *Image) AGF(agno ioctl.AGNumber) (AGF, error) {
	var agf AGF
	_, err := img.header(agno, agfSector, agfCRC, agfMagic, &agf)
	return agf, err
}

// AGI reads the AGI of a group.
func (img *Image) AGI(agno ioctl.AGNumber) (AGI, error) {
	var agi AGI
	_, err := img.header(agno, agiSector, agiCRC, agiMagic, &agi)
	return agi, err
}

// UpdateAGF reads the AGF of a group, lets f change it and writes it back.
func (img *Image) UpdateAGF(agno ioctl.AGNumber, f func(*AGF)) error {
	var agf AGF
	o, err := img.header(agno, agfSector, agfCRC, agfMagic, &agf)
	if err != nil {
		return err
	}
	f(&agf)
	if err := o.encode(&agf); err != nil {
		return err
	}
	return img.write(o, false)
}

// UpdateAGI reads the AGI of a group, lets f change it and writes it back.
func (img *Image) UpdateAGI(agno ioctl.AGNumber, f func(*AGI)) error {
	var agi AGI
	o, err := img.header(agno, agiSector, agiCRC, agiMagic, &agi)
	if err != nil {
		return err
	}
	f(&agi)
	if err := o.encode(&agi); err != nil {
		return err
	}
	return img.write(o, false)
}

// UpdateSB lets f change the primary superblock and writes it back.
func (img *Image) UpdateSB(f func(*Superblock)) error {
	var sb Superblock
	o, err := img.header(0, 0, superCRC, superMagic, &sb)
	if err != nil {
		return err
	}
	f(&sb)
	if err := o.encode(&sb); err != nil {
		return err
	}
	if err := img.write(o, false); err != nil {
		return err
	}
	img.SB = sb
	return nil
}

// AGFL returns the active entries of an AG's free list in their order, and the
// slot of the first.
func (img *Image) AGFL(agno ioctl.AGNumber) (blocks []ioctl.AGBlock, first uint32, err error) {
	agf, err := img.AGF(agno)
	if err != nil {
		return nil, 0, err
	}
	var head [agflHeader]byte
	o, err := img.header(agno, agflSector, agflCRC, agflMagic, &head)
	if err != nil {
		return nil, 0, err
	}
	slots := img.agflSlots()
	if agf.FLFirst >= slots || agf.FLCount > slots {
		return nil, 0, fmt.Errorf("AGFL of AG %d: first %d, count %d, but %d slots", agno, agf.FLFirst, agf.FLCount, slots)
	}
	for i := range agf.FLCount {
		slot := (agf.FLFirst + i) % slots
		blocks = append(blocks, ioctl.AGBlock(binary.BigEndian.Uint32(o.data[agflHeader+4*slot:])))
	}
	return blocks, agf.FLFirst, nil
}

// SetAGFL stores a block number in a slot of an AG's free list.
func (img *Image) SetAGFL(agno ioctl.AGNumber, slot uint32, agbno ioctl.AGBlock) error {
	var head [agflHeader]byte
	o, err := img.header(agno, agflSector, agflCRC, agflMagic, &head)
	if err != nil {
		return err
	}
	if slot >= img.agflSlots() {
		return fmt.Errorf("AGFL of AG %d has %d slots, not %d", agno, img.agflSlots(), slot)
	}
	binary.BigEndian.PutUint32(o.data[agflHeader+4*slot:], uint32(agbno))
	return img.write(o, false)
}

func (img *Image) agflSlots() uint32 { return (uint32(img.SB.SectSize) - agflHeader) / 4 }
