package soak

import (
	"fmt"
	"slices"
	"strings"
)

// Geometry is how a filesystem is made and mounted, and what that means for
// its writers.
type Geometry struct {
	Name  string
	About string // in a few words
	// Size is the data device's, in bytes; the filesystem begins with Begin of
	// it and is grown to the rest while it is in use.
	Size, Begin int64
	// LogSize and RTSize make devices of their own, 0 none.
	LogSize, RTSize int64
	Mkfs, Mount     []string
	// Block is the grain of clones and shifts in bytes: the block, or the
	// realtime extent.
	Block int
	// NoReflink: nothing is cloned.
	NoReflink bool
	// Full leaves that many bytes free before the writers begin; 0 all.
	Full int64
}

const (
	mib = 1 << 20
	// usualSize is where a filesystem ends, usualBegin where it begins: the
	// smallest that mkfs.xfs makes.
	usualSize  = 640 * mib
	usualBegin = 320 * mib
	usualBlock = 4096
)

var geometries = []Geometry{
	{Name: "4k", About: "4 KiB blocks, as mkfs.xfs makes it"},
	{Name: "1k", About: "1 KiB blocks", Mkfs: []string{"-b", "size=1024"}, Block: 1024},
	{
		Name: "nrext64", About: "64-bit extent counters, 1 KiB blocks, small AGs", Size: 960 * mib, Begin: 640 * mib,
		Mkfs: []string{"-b", "size=1024", "-i", "nrext64=1", "-d", "agcount=8"}, Block: 1024,
	},
	{Name: "nrext32", About: "32-bit extent counters", Mkfs: []string{"-i", "nrext64=0"}},
	{Name: "noreflink", About: "no reflink", Mkfs: []string{"-m", "reflink=0"}, NoReflink: true},
	{Name: "normapbt", About: "no rmapbt", Mkfs: []string{"-m", "rmapbt=0"}},
	{Name: "nosparse", About: "no sparse inode chunks", Mkfs: []string{"-i", "sparse=0"}},
	{Name: "extlog", About: "log on a device of its own", LogSize: 64 * mib},
	{
		Name: "rt", About: "realtime device without groups (and so no rmapbt), extents of 16 KiB", RTSize: 320 * mib,
		Mkfs: []string{"-m", "metadir=0,rmapbt=0,reflink=0", "-r", "extsize=16384", "-d", "rtinherit=1"}, Block: 16384, NoReflink: true,
	},
	{
		Name: "rtgroups", About: "realtime device with groups, rmapbt and reflink", RTSize: 640 * mib,
		Mkfs: []string{"-m", "metadir=1", "-r", "rgsize=128m", "-d", "rtinherit=1"},
	},
	{Name: "full", About: "nearly full, 1 KiB blocks", Mkfs: []string{"-b", "size=1024"}, Block: 1024, Full: 24 * mib},
	{Name: "quota", About: "quotas for users, groups and projects", Mount: []string{"uquota", "gquota", "pquota"}},
	{Name: "smalllog", About: "a log of 8 MiB", Mkfs: []string{"--unsupported", "-l", "size=8m"}},
}

// telling are the geometries that the tests soak: between them they have most
// of what the others have.
var telling = []string{"4k", "1k", "rtgroups", "full"}

// Geometries returns those of that name, in that order; all without names, and
// those that the tests use for "telling".
func Geometries(names ...string) ([]Geometry, error) {
	if len(names) == 0 || slices.Equal(names, []string{"all"}) {
		return complete(geometries), nil
	}
	var list []Geometry
	for _, name := range names {
		if name == "telling" {
			more, err := Geometries(telling...)
			if err != nil {
				return nil, err
			}
			list = append(list, more...)
			continue
		}
		i := slices.IndexFunc(geometries, func(g Geometry) bool { return g.Name == name })
		if i < 0 {
			var have []string
			for _, g := range geometries {
				have = append(have, g.Name)
			}
			return nil, fmt.Errorf("geometry %q is none of all, telling, %s", name, strings.Join(have, ", "))
		}
		list = append(list, geometries[i])
	}
	return complete(list), nil
}

// complete fills in what most of them share.
func complete(list []Geometry) []Geometry {
	list = slices.Clone(list)
	for i := range list {
		g := &list[i]
		if g.Size == 0 {
			g.Size, g.Begin = usualSize, usualBegin
		}
		if g.Full > 0 {
			g.Size = g.Begin // room to grow into would not stay full
		}
		if g.Block == 0 {
			g.Block = usualBlock
		}
	}
	return list
}
