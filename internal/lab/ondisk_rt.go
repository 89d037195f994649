package lab

import (
	"encoding/binary"
	"fmt"

	"github.com/scrubd/scrubd/ioctl"
)

// dinodeMetadata is the bit of DinodeCore.Flags2 of a file of the filesystem's own
// (XFS_DIFLAG2_METADATA).
const dinodeMetadata = 1 << 5

// Metafile is what a metadata file is for (enum xfs_metafile_type).
type Metafile uint16

// The files that each realtime group has.
const (
	MetafileRTBitmap   Metafile = 5
	MetafileRTSummary  Metafile = 6
	MetafileRTRmap     Metafile = 7
	MetafileRTRefcount Metafile = 8
)

// IsMetadata tells whether the inode is one of the filesystem's own.
func (c *DinodeCore) IsMetadata() bool { return c.Flags2&dinodeMetadata != 0 }

// RTFile returns the inode of a file of a realtime group. It goes by what the
// inodes say of themselves: their kind, and the group in place of the project.
func (img *Image) RTFile(rgno ioctl.RGNumber, kind Metafile) (ioctl.Ino, error) {
	for agno := range ioctl.AGNumber(img.SB.AGCount) {
		for core, err := range img.Inodes(agno) {
			if err != nil {
				return 0, err
			}
			if core.IsMetadata() && core.OnLink == uint16(kind) && ioctl.RGNumber(core.ProjLo) == rgno {
				return ioctl.Ino(core.Ino), nil
			}
		}
	}
	return 0, fmt.Errorf("realtime group %d has no metadata file of kind %d", rgno, kind)
}

// RTRmapBT opens the rtrmapbt of a realtime group.
func (img *Image) RTRmapBT(rgno ioctl.RGNumber) (*Tree[RmapRec], error) {
	return rtTree[RmapRec](img, rgno, RTRmapBT, MetafileRTRmap)
}

// RTRefcountBT opens the rtrefcountbt of a realtime group.
func (img *Image) RTRefcountBT(rgno ioctl.RGNumber) (*Tree[RefcountRec], error) {
	return rtTree[RefcountRec](img, rgno, RTRefcountBT, MetafileRTRefcount)
}

func rtTree[R Record](img *Image, rgno ioctl.RGNumber, kind TreeKind, file Metafile) (*Tree[R], error) {
	ino, err := img.RTFile(rgno, file)
	if err != nil {
		return nil, err
	}
	t := &Tree[R]{img: img, kind: kind, agno: ioctl.AGNumber(rgno), ino: ino}
	_, err = t.rootNode()
	return t, err
}

// RGExtents is the number of realtime extents of a group.
func (img *Image) RGExtents(rgno ioctl.RGNumber) uint64 {
	if uint32(rgno)+1 < img.SB.RGCount {
		return uint64(img.SB.RGExtents)
	}
	return img.SB.RExtents - uint64(rgno)*uint64(img.SB.RGExtents)
}

// Layout of the blocks of rtbitmap and rtsummary files (struct xfs_rtbuf_blkinfo).
const (
	rtbufHeader     = 48
	rtbufCRC        = 4
	rtbitmapMagic   = 0x424d505a // BMPZ
	rtsummaryMagic  = 0x53554d59 // SUMY
	rtbufWord       = 4
	rtbitsOfOneWord = 32
)

// rtbuf reads block off of the bitmap or summary of a realtime group.
func (img *Image) rtbuf(rgno ioctl.RGNumber, kind Metafile, off uint64) (*object, error) {
	ino, err := img.RTFile(rgno, kind)
	if err != nil {
		return nil, err
	}
	tree, err := img.BmapBT(ino, ioctl.DataFork)
	if err != nil {
		return nil, err
	}
	magic := uint32(rtbitmapMagic)
	if kind == MetafileRTSummary {
		magic = rtsummaryMagic
	}
	for e, err := range tree.All() {
		if err != nil {
			return nil, err
		}
		if off < e.Rec.Offset || off >= e.Rec.Offset+uint64(e.Rec.BlockCount) {
			continue
		}
		at, err := img.blockStart(img.FSBToAG(e.Rec.StartBlock + ioctl.FSBlock(off-e.Rec.Offset)))
		if err != nil {
			return nil, err
		}
		o, err := img.read(at, int(img.SB.BlockSize), rtbufCRC)
		if err != nil {
			return nil, err
		}
		if got := binary.BigEndian.Uint32(o.data); got != magic {
			return nil, fmt.Errorf("block %d of metadata file %d has magic %#x: %w", off, ino, got, ErrBadMagic)
		}
		return o, nil
	}
	return nil, fmt.Errorf("metadata file %d has no block %d", ino, off)
}

// rtxOf is the block of the bitmap, and the word and the bit in it, of a realtime
// extent.
func (img *Image) rtxOf(rtx uint64) (block, word uint64, bit uint32) {
	words := uint64(img.SB.BlockSize-rtbufHeader) / rtbufWord
	n := rtx / rtbitsOfOneWord
	return n / words, n % words, uint32(1) << (rtx % rtbitsOfOneWord)
}

// RTExtentFree tells whether the rtbitmap of a group has a realtime extent free.
func (img *Image) RTExtentFree(rgno ioctl.RGNumber, rtx uint64) (bool, error) {
	block, word, bit := img.rtxOf(rtx)
	o, err := img.rtbuf(rgno, MetafileRTBitmap, block)
	if err != nil {
		return false, err
	}
	return binary.BigEndian.Uint32(o.data[rtbufHeader+word*rtbufWord:])&bit != 0, nil
}

// SetRTExtentFree changes what RTExtentFree tells, and nothing else.
func (img *Image) SetRTExtentFree(rgno ioctl.RGNumber, rtx uint64, free bool) error {
	block, word, bit := img.rtxOf(rtx)
	o, err := img.rtbuf(rgno, MetafileRTBitmap, block)
	if err != nil {
		return err
	}
	at := o.data[rtbufHeader+word*rtbufWord:]
	v := binary.BigEndian.Uint32(at) &^ bit
	if free {
		v |= bit
	}
	binary.BigEndian.PutUint32(at, v)
	return img.write(o, false)
}
