package lab

import (
	"fmt"

	"github.com/scrubd/scrubd/ioctl"
)

// AGLength returns the number of blocks of a group; the last may be shorter.
func (img *Image) AGLength(agno ioctl.AGNumber) ioctl.AGBlock {
	if uint32(agno)+1 < img.SB.AGCount {
		return ioctl.AGBlock(img.SB.AGBlocks)
	}
	return ioctl.AGBlock(img.SB.DBlocks - uint64(agno)*uint64(img.SB.AGBlocks))
}

// FSBToAG splits an fsbno into group and block.
func (img *Image) FSBToAG(fsb ioctl.FSBlock) (ioctl.AGNumber, ioctl.AGBlock) {
	return ioctl.AGNumber(fsb >> img.SB.AGBlockLog), ioctl.AGBlock(fsb & (1<<img.SB.AGBlockLog - 1))
}

// AGBToFSB joins group and block.
func (img *Image) AGBToFSB(agno ioctl.AGNumber, agbno ioctl.AGBlock) ioctl.FSBlock {
	return ioctl.FSBlock(agno)<<img.SB.AGBlockLog | ioctl.FSBlock(agbno)
}

// InoToAG splits an inode number into its group and the number inside it.
func (img *Image) InoToAG(ino ioctl.Ino) (ioctl.AGNumber, ioctl.AGIno) {
	bits := img.SB.AGBlockLog + img.SB.InopBlog
	return ioctl.AGNumber(ino >> bits), ioctl.AGIno(ino & (1<<bits - 1))
}

// AGToIno joins a group and an inode number inside it.
func (img *Image) AGToIno(agno ioctl.AGNumber, agino ioctl.AGIno) ioctl.Ino {
	return ioctl.Ino(agno)<<(img.SB.AGBlockLog+img.SB.InopBlog) | ioctl.Ino(agino)
}

// agStart is the byte where a group begins.
func (img *Image) agStart(agno ioctl.AGNumber) int64 {
	return int64(agno) * int64(img.SB.AGBlocks) * int64(img.SB.BlockSize)
}

// blockStart is the byte where a block begins.
func (img *Image) blockStart(agno ioctl.AGNumber, agbno ioctl.AGBlock) (int64, error) {
	if uint32(agno) >= img.SB.AGCount || agbno >= img.AGLength(agno) {
		return 0, fmt.Errorf("block %d of AG %d lies outside the filesystem", agbno, agno)
	}
	return img.agStart(agno) + int64(agbno)*int64(img.SB.BlockSize), nil
}

// inodeStart is the byte where a dinode begins.
func (img *Image) inodeStart(ino ioctl.Ino) (int64, error) {
	agno, agino := img.InoToAG(ino)
	block, err := img.blockStart(agno, ioctl.AGBlock(agino>>img.SB.InopBlog))
	if err != nil {
		return 0, fmt.Errorf("inode %d: %w", ino, err)
	}
	return block + int64(agino&(1<<img.SB.InopBlog-1))*int64(img.SB.InodeSize), nil
}
