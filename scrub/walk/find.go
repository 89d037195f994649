package walk

import (
	"fmt"
	"sort"

	"github.com/scrubd/scrubd/ioctl"
	"github.com/scrubd/scrubd/xfile"
)

// FindChunk returns the chunk that ino lies in; ok is false if INUMBERS did not
// list any.
func (r *Result) FindChunk(ino ioctl.Ino) (c Chunk, ok bool, err error) {
	agno, _ := r.Geometry.InoToAGIno(ino)
	if uint64(agno) >= uint64(len(r.Chunks)) {
		return Chunk{}, false, nil
	}
	c, ok, err = lastAtOrBefore(r.Chunks[agno], func(c Chunk) bool { return c.StartIno <= ino })
	if err != nil || !ok || ino-c.StartIno >= ioctl.InodesPerChunk {
		return Chunk{}, false, err
	}
	return c, true, nil
}

// FindOpaque returns the entry of ino in Opaque.
func (r *Result) FindOpaque(ino ioctl.Ino) (o Opaque, ok bool, err error) {
	o, ok, err = lastAtOrBefore(r.Opaque, func(o Opaque) bool { return o.Ino <= ino })
	if err != nil || !ok || o.Ino != ino {
		return Opaque{}, false, err
	}
	return o, true, nil
}

// IsSilent tells whether ino is in Silent.
func (r *Result) IsSilent(ino ioctl.Ino) (bool, error) {
	found, ok, err := lastAtOrBefore(r.Silent, func(i ioctl.Ino) bool { return i <= ino })
	return err == nil && ok && found == ino, err
}

// lastAtOrBefore returns the last record of a sorted array for which before
// holds: it holds for a prefix of the array.
func lastAtOrBefore[T any](a *xfile.Array[T], before func(T) bool) (rec T, ok bool, err error) {
	i := sort.Search(int(a.Len()), func(i int) bool {
		var at T
		if err == nil {
			at, err = a.Get(int64(i))
		}
		return err != nil || !before(at)
	})
	if err != nil {
		return rec, false, fmt.Errorf("search the walk's records: %w", err)
	}
	if i == 0 {
		return rec, false, nil
	}
	rec, err = a.Get(int64(i - 1))
	return rec, err == nil, err
}
