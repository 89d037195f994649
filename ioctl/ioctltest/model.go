package ioctltest

import (
	"cmp"
	"math"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/scrubd/scrubd/ioctl"
	"github.com/scrubd/scrubd/ioctl/internal/abi"
)

// Model is a filesystem in memory, and the kernel around it.
type Model struct {
	FSType   int64 // XFS unless changed
	Release  string
	Geometry ioctl.Geometry
	DevMajor uint32
	DevMinor uint32
	// LogDevMajor and LogDevMinor are the external log's device; used when Geometry.LogStart is 0.
	LogDevMajor uint32
	LogDevMinor uint32
	FSID        [8]byte

	RootIno ioctl.Ino
	Inodes  map[ioctl.Ino]*Inode
	// Paths are directories that can be opened besides the root.
	Paths map[string]ioctl.Ino
	// Chunks are inobt records besides those that the inodes make: chunks of free inodes. Only
	// StartIno counts.
	Chunks []ioctl.Ino

	// Rmaps is the rmapbt, Free the bnobt, Shared the SHARED records of the refcountbt, without
	// their counts. Derive fills them in as they should be.
	Rmaps  []Rmap
	Free   []Range
	Shared []Range
	// Fixed are rmaps that Derive adds to those it finds out: more AG metadata, CoW staging.
	Fixed []Rmap

	AGSick   map[ioctl.AGNumber]ioctl.AGHealth
	Xattrs   map[string]string // of the root directory
	Counts   ioctl.Counts
	RTGroups []ioctl.RTGroupGeometry

	// What the kernel is built with, and the state of the mount.
	NoScrub    bool // no online scrub: ENOTTY
	NoRepair   bool // no online repair: EOPNOTSUPP
	NoAdmin    bool // the caller has no CAP_SYS_ADMIN
	Shutdown   bool
	ReadOnly   bool
	NoRecovery bool
	// Verdicts are what scrubs find; what is not listed is clean. A repair clears its entry.
	Verdicts map[ioctl.ScrubRequest]ioctl.ScrubFlags
}

// Inode is a file.
type Inode struct {
	Ino   ioctl.Ino
	Gen   ioctl.Gen
	Mode  uint16 // 0 is a regular file, 0644
	Nlink uint32 // 0 is 1, unless Unlinked
	Size  uint64 // bytes; 0 is the end of the last data extent
	// Data and Attr are the forks, in order of Offset.
	Data, Attr []Extent
	// DataBmbt and AttrBmbt are the blocks of the extent map btrees.
	DataBmbt, AttrBmbt []Range
	Inline             bool // the data fork is in the inode: bs_blocks is 0
	HasAttrFork        bool // even if Attr is empty
	Reflink            bool // the reflink flag; without it GETBMAPX shows no SHARED
	Unlinked           bool // nlink 0, but open
	Private            bool // quota and the like: cannot be opened, not in BULKSTAT
	Inactive           bool // waiting for inodegc: not in BULKSTAT, cannot be opened
	Metadir            bool // a metadata file: in BULKSTAT with BulkMetadir only
	CTime              ioctl.Timestamp
	Sick, Checked      ioctl.InodeHealth
	ExtraBlocks        int64 // added to bs_blocks and st_blocks, in fs blocks
	ExtraExtents       int64 // added to bs_extents
	Parents            []ioctl.Parent
	DamagedData        bool // GETBMAPX of the data fork fails with EUCLEAN
	DamagedAttr        bool // GETBMAPX of the attr fork fails with EUCLEAN
}

// Extent is part of a fork. Offset and Length are in fs blocks.
type Extent struct {
	Offset    uint64
	AGNo      ioctl.AGNumber
	AGBno     ioctl.AGBlock
	Length    ioctl.AGBlock
	Unwritten bool
	Delalloc  bool // no blocks yet; AGNo and AGBno do not count
}

// Range is blocks of a group.
type Range struct {
	AGNo   ioctl.AGNumber
	AGBno  ioctl.AGBlock
	Length ioctl.AGBlock
}

// Rmap is a record of the rmapbt. Offset is in fs blocks; Flags are FSMapPrealloc, FSMapAttrFork,
// FSMapExtentMap and FSMapSpecialOwner, of which the last says that Owner is an ioctl.FSMapOwner.
type Rmap struct {
	AGNo   ioctl.AGNumber
	AGBno  ioctl.AGBlock
	Length ioctl.AGBlock
	Owner  uint64
	Offset uint64
	Flags  ioctl.FSMapFlags
}

// NewModel returns an empty filesystem on a Linux 7.2 that has everything: four groups of 1000 blocks
// of 4096 bytes, the last one short (900), inodes of 512 bytes, an internal log in group 2, rmapbt, reflink
// and parent pointers, and nothing in it but the root directory, inode 128. Its mappings are derived.
func NewModel() *Model {
	g := ioctl.Geometry{
		BlockSize: 4096, RTExtSize: 1, AGBlocks: 1000, AGCount: 4, LogBlocks: 64, SectorSize: 512, InodeSize: 512,
		IMaxPct: 25, DataBlocks: 3900, UUID: [16]byte{1, 2, 3}, Version: 5,
		Flags: ioctl.FlagAttr | ioctl.FlagNlink | ioctl.FlagDirV2 | ioctl.FlagLogV2 | ioctl.FlagAttr2 | ioctl.FlagProjID32 |
			ioctl.FlagLazySB | ioctl.FlagV5 | ioctl.FlagFtype | ioctl.FlagFinobt | ioctl.FlagSparseInodes | ioctl.FlagRmapbt |
			ioctl.FlagReflink | ioctl.FlagBigtime | ioctl.FlagInobtCount | ioctl.FlagNrext64 | ioctl.FlagExchangeRange | ioctl.FlagParent,
		LogSectSize: 512, RTSectSize: 4096, DirBlockSize: 4096,
	}
	g.LogStart = g.AGToFSB(2, 500)
	m := &Model{
		FSType: abi.XFSSuperMagic, Release: "7.2.13", Geometry: g, DevMajor: 7, DevMinor: 300, LogDevMajor: 7, LogDevMinor: 301,
		FSID: [8]byte{9, 8, 7, 6, 5, 4, 3, 2}, RootIno: 128,
		Inodes: make(map[ioctl.Ino]*Inode), Paths: make(map[string]ioctl.Ino),
		AGSick: make(map[ioctl.AGNumber]ioctl.AGHealth), Xattrs: make(map[string]string),
		Verdicts: make(map[ioctl.ScrubRequest]ioctl.ScrubFlags),
	}
	m.AddInode(&Inode{Ino: m.RootIno, Gen: 1, Mode: unix.S_IFDIR | 0o755, Inline: true})
	m.Derive()
	return m
}

// AddInode adds or replaces a file, and fills in what is left at zero. Mappings change with the next Derive.
func (m *Model) AddInode(i *Inode) *Inode {
	if i.Mode == 0 {
		i.Mode = unix.S_IFREG | 0o644
	}
	if i.Nlink == 0 && !i.Unlinked {
		i.Nlink = 1
	}
	if i.Size == 0 && len(i.Data) > 0 {
		last := i.Data[len(i.Data)-1]
		i.Size = (last.Offset + uint64(last.Length)) * uint64(m.Geometry.BlockSize)
	}
	if i.CTime == (ioctl.Timestamp{}) {
		i.CTime = ioctl.Timestamp{Sec: 1_700_000_000, Nsec: uint32(i.Ino)}
	}
	m.Inodes[i.Ino] = i
	return i
}

// Touch gives an inode a new ctime, as a change of it does.
func (m *Model) Touch(ino ioctl.Ino) {
	i := m.Inodes[ino]
	i.CTime.Nsec++
	if i.CTime.Nsec == 1e9 {
		i.CTime = ioctl.Timestamp{Sec: i.CTime.Sec + 1}
	}
}

// InodeNumbers returns the numbers of all inodes, in order.
func (m *Model) InodeNumbers() []ioctl.Ino {
	numbers := make([]ioctl.Ino, 0, len(m.Inodes))
	for ino := range m.Inodes {
		numbers = append(numbers, ino)
	}
	slices.Sort(numbers)
	return numbers
}

// chunkStarts returns the first inode of each inobt record, in order.
func (m *Model) chunkStarts() []ioctl.Ino {
	var starts []ioctl.Ino
	for ino := range m.Inodes {
		starts = append(starts, ino&^(ioctl.InodesPerChunk-1))
	}
	for _, ino := range m.Chunks {
		starts = append(starts, ino&^(ioctl.InodesPerChunk-1))
	}
	slices.Sort(starts)
	return slices.Compact(starts)
}

// headerBlocks is how many blocks at the start of a group the model gives to superblock and headers.
const headerBlocks = 1

// Derive fills in Rmaps, Shared and Free from the inodes, the log, the group headers and Fixed, as an
// undamaged filesystem has them.
func (m *Model) Derive() {
	g := &m.Geometry
	m.Rmaps = slices.Clone(m.Fixed)
	for agno := range ioctl.AGNumber(g.AGCount) {
		m.addSpecial(agno, 0, headerBlocks, ioctl.FSMapOwnerFS)
		m.addSpecial(agno, headerBlocks, 3, ioctl.FSMapOwnerAG)      // bnobt, cntbt, rmapbt
		m.addSpecial(agno, headerBlocks+3, 2, ioctl.FSMapOwnerInobt) // inobt, finobt
		m.addSpecial(agno, headerBlocks+5, 1, ioctl.FSMapOwnerRefcount)
		m.addSpecial(agno, headerBlocks+6, 4, ioctl.FSMapOwnerAG) // AGFL
	}
	if agno, agbno, ok := g.InternalLog(); ok {
		m.addSpecial(agno, agbno, ioctl.AGBlock(g.LogBlocks), ioctl.FSMapOwnerLog)
	}
	for _, start := range m.chunkStarts() {
		agno, agbno, _ := g.InoToAG(start)
		m.addSpecial(agno, agbno, ioctl.AGBlock(ioctl.InodesPerChunk/g.InodesPerBlock()), ioctl.FSMapOwnerInodes)
	}
	for _, ino := range m.InodeNumbers() {
		m.addForks(m.Inodes[ino])
	}
	m.SortRmaps()
	m.DeriveShared()
	m.DeriveFree()
}

func (m *Model) addSpecial(agno ioctl.AGNumber, agbno, length ioctl.AGBlock, owner ioctl.FSMapOwner) {
	m.Rmaps = append(m.Rmaps, Rmap{AGNo: agno, AGBno: agbno, Length: length, Owner: uint64(owner), Flags: ioctl.FSMapSpecialOwner})
}

func (m *Model) addForks(i *Inode) {
	extents := func(fork []Extent, flags ioctl.FSMapFlags) {
		for _, e := range fork {
			if e.Delalloc {
				continue
			}
			f := flags
			if e.Unwritten {
				f |= ioctl.FSMapPrealloc
			}
			m.Rmaps = append(m.Rmaps, Rmap{AGNo: e.AGNo, AGBno: e.AGBno, Length: e.Length, Owner: uint64(i.Ino), Offset: e.Offset, Flags: f})
		}
	}
	bmbt := func(blocks []Range, flags ioctl.FSMapFlags) {
		for _, b := range blocks {
			m.Rmaps = append(m.Rmaps, Rmap{
				AGNo: b.AGNo, AGBno: b.AGBno, Length: b.Length, Owner: uint64(i.Ino), Flags: flags | ioctl.FSMapExtentMap,
			})
		}
	}
	extents(i.Data, 0)
	extents(i.Attr, ioctl.FSMapAttrFork)
	bmbt(i.DataBmbt, 0)
	bmbt(i.AttrBmbt, ioctl.FSMapAttrFork)
}

// SortRmaps brings Rmaps into the order of the rmapbt. Call it after changing them by hand.
func (m *Model) SortRmaps() {
	slices.SortStableFunc(m.Rmaps, func(a, b Rmap) int { return compareRmaps(&a, &b) })
}

// DeriveFree makes Free what no rmap covers.
func (m *Model) DeriveFree() {
	var free []Range
	for agno := range ioctl.AGNumber(m.Geometry.AGCount) {
		next, end := ioctl.AGBlock(0), m.Geometry.AGLength(agno)
		for i := range m.Rmaps {
			r := &m.Rmaps[i]
			if r.AGNo != agno {
				continue
			}
			if r.AGBno > next {
				free = append(free, Range{agno, next, r.AGBno - next})
			}
			next = max(next, r.AGBno+r.Length)
		}
		if next < end {
			free = append(free, Range{agno, next, end - next})
		}
	}
	m.Free = free
}

// DeriveShared makes Shared what two or more rmaps of written data cover.
func (m *Model) DeriveShared() {
	m.Shared = nil
	if !m.Geometry.Has(ioctl.FlagReflink) {
		return
	}
	var shared []Range
	for agno := range ioctl.AGNumber(m.Geometry.AGCount) {
		type edge struct {
			at    ioctl.AGBlock
			delta int
		}
		var edges []edge
		for i := range m.Rmaps {
			r := &m.Rmaps[i]
			if r.AGNo == agno && r.Flags == 0 {
				edges = append(edges, edge{r.AGBno, 1}, edge{r.AGBno + r.Length, -1})
			}
		}
		slices.SortFunc(edges, func(a, b edge) int { return cmp.Compare(a.at, b.at) })
		depth, start := 0, ioctl.AGBlock(0)
		for i := 0; i < len(edges); {
			at, before := edges[i].at, depth
			for ; i < len(edges) && edges[i].at == at; i++ {
				depth += edges[i].delta
			}
			switch {
			case before < 2 && depth >= 2:
				start = at
			case before >= 2 && depth < 2:
				shared = append(shared, Range{agno, start, at - start})
			}
		}
	}
	m.Shared = shared
}

// rmapOwner returns the owner as the rmapbt has it on disk, which decides the order.
func (r *Rmap) rmapOwner() uint64 {
	if r.Flags&ioctl.FSMapSpecialOwner == 0 {
		return r.Owner
	}
	return specialToDisk(ioctl.FSMapOwner(r.Owner))
}

// diskOwners are the owners on disk, as negative numbers.
var diskOwners = map[ioctl.FSMapOwner]uint64{
	ioctl.FSMapOwnerFree:     math.MaxUint64,
	ioctl.FSMapOwnerUnknown:  math.MaxUint64 - 1,
	ioctl.FSMapOwnerFS:       math.MaxUint64 - 2,
	ioctl.FSMapOwnerLog:      math.MaxUint64 - 3,
	ioctl.FSMapOwnerAG:       math.MaxUint64 - 4,
	ioctl.FSMapOwnerInobt:    math.MaxUint64 - 5,
	ioctl.FSMapOwnerInodes:   math.MaxUint64 - 6,
	ioctl.FSMapOwnerRefcount: math.MaxUint64 - 7,
	ioctl.FSMapOwnerCoW:      math.MaxUint64 - 8,
}

func specialToDisk(o ioctl.FSMapOwner) uint64 {
	if disk, ok := diskOwners[o]; ok {
		return disk
	}
	return uint64(o)
}
