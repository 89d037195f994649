package lab

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// Diff says in one line each how b differs from a, in path order; nothing
// when every file reads the same.
func Diff(a, b Snapshot) []string {
	var out []string
	i, j := 0, 0
	for i < len(a.Entries) || j < len(b.Entries) {
		switch {
		case j == len(b.Entries) || i < len(a.Entries) && a.Entries[i].Path < b.Entries[j].Path:
			out = append(out, a.Entries[i].Path+": gone")
			i++
		case i == len(a.Entries) || b.Entries[j].Path < a.Entries[i].Path:
			out = append(out, b.Entries[j].Path+": new")
			j++
		default:
			if d := diffEntry(a.Entries[i], b.Entries[j]); len(d) > 0 {
				out = append(out, a.Entries[i].Path+": "+strings.Join(d, ", "))
			}
			i++
			j++
		}
	}
	return out
}

func diffEntry(a, b SnapshotEntry) []string {
	var out []string
	add := func(what string, differs bool, from, to any) {
		if differs {
			out = append(out, fmt.Sprintf("%s %v -> %v", what, from, to))
		}
	}
	add("type", a.Type != b.Type, a.Type, b.Type)
	add("mode", a.Mode != b.Mode, fmt.Sprintf("%#o", a.Mode), fmt.Sprintf("%#o", b.Mode))
	add("uid", a.UID != b.UID, a.UID, b.UID)
	add("gid", a.GID != b.GID, a.GID, b.GID)
	add("nlink", a.Nlink != b.Nlink, a.Nlink, b.Nlink)
	add("size", a.Size != b.Size, a.Size, b.Size)
	add("rdev", a.Rdev != b.Rdev, a.Rdev, b.Rdev)
	add("data", a.Data != b.Data, a.Data, b.Data)
	add("target", a.Target != b.Target, a.Target, b.Target)
	add("list", a.List != b.List, a.List, b.List)
	names := maps.Clone(a.Attrs)
	if names == nil {
		names = make(map[string]string)
	}
	maps.Copy(names, b.Attrs)
	for _, name := range slices.Sorted(maps.Keys(names)) {
		from, had := a.Attrs[name]
		to, has := b.Attrs[name]
		switch {
		case !has:
			out = append(out, fmt.Sprintf("attribute %q gone", name))
		case !had:
			out = append(out, fmt.Sprintf("attribute %q new", name))
		default:
			add(fmt.Sprintf("attribute %q", name), from != to, from, to)
		}
	}
	return out
}
