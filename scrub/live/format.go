package live

import (
	"encoding/binary"
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"
)

// errFormat is wrapped by errors about descriptions and pages that do not make
// sense.
var errFormat = errors.New("not as the kernel describes its trace")

// maxField bounds where a field may lie.
const maxField = 1 << 16

// field is where a number lies in an event or in a page's header.
type field struct {
	offset, size int
	signed       bool
}

// get reads the field, sign-extended if it is signed; false where the bytes end
// before it.
func (f field) get(b []byte) (uint64, bool) {
	if f.offset+f.size > len(b) {
		return 0, false
	}
	b = b[f.offset:]
	switch f.size {
	case 1:
		if f.signed {
			return uint64(int64(int8(b[0]))), true
		}
		return uint64(b[0]), true
	case 2:
		v := binary.NativeEndian.Uint16(b)
		if f.signed {
			return uint64(int64(int16(v))), true
		}
		return uint64(v), true
	case 4:
		v := binary.NativeEndian.Uint32(b)
		if f.signed {
			return uint64(int64(int32(v))), true
		}
		return uint64(v), true
	case 8:
		return binary.NativeEndian.Uint64(b), true
	}
	return 0, false
}

// format is the description of an event, or of a page's header.
//
// Source: events/SYSTEM/NAME/format; kernel/trace/trace_events.c.
type format struct {
	id      uint64 // 0 for a page's header
	fields  map[string]field
	symbols map[string]uint64 // words that numbers are printed as, where the kernel resolved them
}

// number returns the first of the fields that is there and is a number.
func (f *format) number(names ...string) (field, error) {
	for _, name := range names {
		if d, ok := f.fields[name]; ok {
			switch d.size {
			case 1, 2, 4, 8:
				return d, nil
			}
			return field{}, fmt.Errorf("field %s of %d bytes: %w", name, d.size, errFormat)
		}
	}
	return field{}, fmt.Errorf("no field %s: %w", strings.Join(names, " or "), errFormat)
}

// symbol is one pair of __print_symbolic in a print format.
var symbol = regexp.MustCompile(`\{\s*(\d+|0x[0-9a-fA-F]+)\s*,\s*"(\w+)"\s*\}`)

// parseFormat reads a description. Lines that it does not know are skipped.
func parseFormat(text string) (*format, error) {
	f := &format{fields: make(map[string]field), symbols: make(map[string]uint64)}
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		switch {
		case strings.HasPrefix(line, "ID:"):
			id, err := strconv.ParseUint(strings.TrimSpace(strings.TrimPrefix(line, "ID:")), 10, 16)
			if err != nil {
				return nil, fmt.Errorf("event number in %q: %w", line, errFormat)
			}
			f.id = id
		case strings.HasPrefix(line, "field:"):
			name, d, err := parseField(line)
			if err != nil {
				return nil, err
			}
			f.fields[name] = d
		case strings.HasPrefix(line, "print fmt:"):
			for _, m := range symbol.FindAllStringSubmatch(line, -1) {
				if v, err := strconv.ParseUint(m[1], 0, 64); err == nil {
					f.symbols[m[2]] = v
				}
			}
		}
	}
	if len(f.fields) == 0 {
		return nil, fmt.Errorf("no fields: %w", errFormat)
	}
	return f, nil
}

// parseField reads "field:unsigned short common_type; offset:0; size:2; signed:0;".
func parseField(line string) (string, field, error) {
	bad := func() (string, field, error) { return "", field{}, fmt.Errorf("field in %q: %w", line, errFormat) }
	var d field
	var name string
	for part := range strings.SplitSeq(line, ";") {
		key, value, ok := strings.Cut(strings.TrimSpace(part), ":")
		if !ok {
			continue
		}
		if key == "field" {
			words := strings.FieldsFunc(value, func(r rune) bool { return r == ' ' || r == '*' })
			if len(words) == 0 {
				return bad()
			}
			name, _, _ = strings.Cut(words[len(words)-1], "[")
			continue
		}
		n, err := strconv.ParseUint(value, 10, 32)
		if err != nil || n > maxField {
			return bad()
		}
		switch key {
		case "offset":
			d.offset = int(n)
		case "size":
			d.size = int(n)
		case "signed":
			d.signed = n != 0
		}
	}
	if name == "" {
		return bad()
	}
	return name, d, nil
}
