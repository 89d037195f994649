package lab

import (
	"encoding/binary"
	"fmt"
	"iter"

	"golang.org/x/sys/unix"

	"github.com/scrubd/scrubd/ioctl"
)

const (
	dinodeMagic = 0x494e // IN
	dinodeCRC   = 100
	dinodeCore  = 176 // where the data fork begins
)

// Formats of a fork (enum xfs_dinode_fmt).
const (
	FormatDev = iota
	FormatLocal
	FormatExtents
	FormatBtree
	_
	FormatMetaBtree // the root of a btree of the filesystem's own
)

// Bits of DinodeCore.Flags2.
const (
	dinodeReflink = 1 << 1
	dinodeNrext64 = 1 << 4
)

// DinodeCore is the fixed part of a V3 inode (struct xfs_dinode).
type DinodeCore struct {
	Magic, Mode         uint16
	Version, Format     uint8
	OnLink              uint16 // of metadata files: which it is
	UID, GID, Nlink     uint32
	ProjLo, ProjHi      uint16
	BigNextents         uint64 // extents of the data fork with nrext64
	ATime, MTime, CTime uint64
	Size, NBlocks       uint64
	ExtSize, NExtents   uint32 // NExtents: of the data fork, with nrext64 of the attr fork
	ANExtents           uint16
	ForkOff, AFormat    uint8 // ForkOff: in units of 8 bytes
	DMEvMask            uint32
	DMState, Flags      uint16
	Gen, NextUnlinked   uint32
	CRC                 uint32
	ChangeCount, LSN    uint64
	Flags2              uint64
	CoWExtSize          uint32
	Pad                 [12]uint8
	CRTime, Ino         uint64
	UUID                [16]byte
}

// Reflink tells whether the inode says that it may share blocks.
func (c *DinodeCore) Reflink() bool { return c.Flags2&dinodeReflink != 0 }

// IsRegular tells whether the inode is a regular file.
func (c *DinodeCore) IsRegular() bool { return c.Mode&unix.S_IFMT == unix.S_IFREG }

// ForkFormat returns the format of a fork. A missing attr fork has the format
// of extents, and none.
func (c *DinodeCore) ForkFormat(fork ioctl.Fork) uint8 {
	switch {
	case fork == ioctl.DataFork:
		return c.Format
	case c.ForkOff == 0:
		return FormatExtents
	default:
		return c.AFormat
	}
}

// Extents returns the number of extents that the inode says a fork has.
func (c *DinodeCore) Extents(fork ioctl.Fork) uint64 {
	big := c.Flags2&dinodeNrext64 != 0
	switch {
	case fork == ioctl.DataFork && big:
		return c.BigNextents
	case fork == ioctl.DataFork || big:
		return uint64(c.NExtents)
	default:
		return uint64(c.ANExtents)
	}
}

// SetExtents changes what Extents returns.
func (c *DinodeCore) SetExtents(fork ioctl.Fork, n uint64) {
	big := c.Flags2&dinodeNrext64 != 0
	switch {
	case fork == ioctl.DataFork && big:
		c.BigNextents = n
	case fork == ioctl.DataFork || big:
		c.NExtents = uint32(n)
	default:
		c.ANExtents = uint16(n)
	}
}

// dinode is an inode with the raw bytes of its forks.
type dinode struct {
	*object
	core DinodeCore
}

func (img *Image) dinode(ino ioctl.Ino) (*dinode, error) {
	off, err := img.inodeStart(ino)
	if err != nil {
		return nil, err
	}
	o, err := img.read(off, int(img.SB.InodeSize), dinodeCRC)
	if err != nil {
		return nil, fmt.Errorf("inode %d: %w", ino, err)
	}
	d := &dinode{object: o}
	if _, err := binary.Decode(o.data, binary.BigEndian, &d.core); err != nil {
		return nil, fmt.Errorf("inode %d: %w", ino, err)
	}
	if d.core.Magic != dinodeMagic || d.core.Version != 3 {
		return nil, fmt.Errorf("inode %d: magic %#x, version %d: %w", ino, d.core.Magic, d.core.Version, ErrBadMagic)
	}
	if int(d.core.ForkOff)*8 > len(o.data)-dinodeCore {
		return nil, fmt.Errorf("inode %d: the attr fork begins outside the inode", ino)
	}
	return d, nil
}

// fork returns where a fork lies in the inode and how many bytes it has.
func (d *dinode) fork(fork ioctl.Fork) (off, size int) {
	attr := dinodeCore + int(d.core.ForkOff)*8
	switch {
	case d.core.ForkOff == 0 && fork == ioctl.DataFork:
		return dinodeCore, len(d.data) - dinodeCore
	case d.core.ForkOff == 0:
		return len(d.data), 0
	case fork == ioctl.DataFork:
		return dinodeCore, attr - dinodeCore
	default:
		return attr, len(d.data) - attr
	}
}

// Inode reads the core of an inode.
func (img *Image) Inode(ino ioctl.Ino) (DinodeCore, error) {
	d, err := img.dinode(ino)
	if err != nil {
		return DinodeCore{}, err
	}
	return d.core, nil
}

// UpdateInode reads an inode, lets f change its core and writes it back.
func (img *Image) UpdateInode(ino ioctl.Ino, f func(*DinodeCore)) error {
	d, err := img.dinode(ino)
	if err != nil {
		return err
	}
	f(&d.core)
	if err := d.encode(&d.core); err != nil {
		return err
	}
	return img.write(d.object, false)
}

// Inodes yields all inodes of a group that its inobt calls allocated, in
// order. An inode that cannot be read is left out: a damaged inobt may call
// an inode allocated that never was.
func (img *Image) Inodes(agno ioctl.AGNumber) iter.Seq2[DinodeCore, error] {
	return func(yield func(DinodeCore, error) bool) {
		tree, err := img.InoBT(agno)
		if err != nil {
			yield(DinodeCore{}, err)
			return
		}
		for e, err := range tree.All() {
			if err != nil {
				yield(DinodeCore{}, err)
				return
			}
			for i := range inodesPerChunk {
				if !e.Rec.Allocated(i) {
					continue
				}
				core, err := img.Inode(img.AGToIno(agno, e.Rec.StartIno+ioctl.AGIno(i)))
				if err == nil && !yield(core, nil) {
					return
				}
			}
		}
	}
}

// MetaInodes returns the inodes that the superblock names: no user's files.
func (img *Image) MetaInodes() map[ioctl.Ino]bool {
	meta := make(map[ioctl.Ino]bool)
	sb := &img.SB
	for _, ino := range []uint64{sb.RBMIno, sb.RSumIno, sb.UQuotIno, sb.GQuotIno, sb.PQuotIno} {
		meta[ioctl.Ino(ino)] = true
	}
	return meta
}

// IsDirectory tells whether the inode is a directory.
func (c *DinodeCore) IsDirectory() bool { return c.Mode&unix.S_IFMT == unix.S_IFDIR }
