package xfile

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// Advice says where data should go.
type Advice struct {
	Place Place
	Dir   string // for [Options.Dir]; empty for [Memory]
	// AtOnce is how many bytes may be held at the same time. Where it is less
	// than the total that was asked about, the work has to be done in groups.
	AtOnce int64
}

// Advise says where total bytes should go that can be split into parts of up
// to largest bytes each: to memory if all of it fits; else, with a directory
// given, to disk; else in groups, in memory rather than on disk. A directory
// on tmpfs is memory and helps nothing.
//
// Both numbers are the caller's estimates of the bytes held. Nothing is reserved: what is free now may be gone later,
// and then the allocation fails with a [*BudgetError] or [*SpaceError].
//
// Errors: [*BudgetError] if not even one part fits anywhere; the errno of
// statfs, wrapped.
func (b *Budget) Advise(total, largest int64, dir string) (Advice, error) {
	memory := b.Left(Memory)
	if total <= memory {
		return Advice{Place: Memory, AtOnce: total}, nil
	}
	var disk int64
	if dir != "" {
		free, place, err := dirRoom(dir)
		if err != nil {
			return Advice{}, err
		}
		if place == Disk {
			disk = min(free, b.Left(Disk))
		}
	}
	switch {
	case total <= disk:
		return Advice{Place: Disk, Dir: dir, AtOnce: total}, nil
	case largest <= memory:
		return Advice{Place: Memory, AtOnce: memory}, nil
	case largest <= disk:
		return Advice{Place: Disk, Dir: dir, AtOnce: disk}, nil
	}
	used, _ := b.Used(Memory)
	return Advice{}, &BudgetError{Purpose: "the largest part", Want: largest, Used: used, Limit: b.Limit(Memory), Bound: b.Bound()}
}

// dirRoom returns the bytes that may be taken of a directory's filesystem,
// leaving it a twentieth of its size, and whether that is disk or memory.
func dirRoom(dir string) (int64, Place, error) {
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return 0, Disk, fmt.Errorf("ask how much room %s has: %w", dir, err)
	}
	size := int64(st.Blocks) * blockSize(&st)
	return max(0, freeBytes(&st)-size/20), placeOfType(int64(st.Type)), nil
}

// freeBytes returns what an ordinary user may still take of a filesystem.
func freeBytes(st *unix.Statfs_t) int64 { return int64(st.Bavail) * blockSize(st) }

// blockSize returns the unit of statfs's block counts: f_frsize, which old
// filesystems leave 0, and then f_bsize.
func blockSize(st *unix.Statfs_t) int64 {
	if st.Frsize > 0 {
		return int64(st.Frsize)
	}
	return int64(st.Bsize)
}
