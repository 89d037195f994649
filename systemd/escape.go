package systemd

import (
	"errors"
	"fmt"
	"path"
	"strings"
)

// unitNameMax is the longest name of a unit that systemd takes.
//
// Source: systemd.unit(5), "255 characters".
const unitNameMax = 255

// ErrUnitName is a path or name that no unit can be named after.
var ErrUnitName = errors.New("no name for a unit")

// EscapePath is what systemd-escape --path makes of an absolute path: the
// instance name of a unit that is there for this path.
//
// go-systemd has this too, but up to v22.7.0 it writes a line feed with one
// digit, keeps "/./", and cannot read back what is not ASCII.
//
// Source: systemd.unit(5), "String escaping for inclusion in unit names".
func EscapePath(name string) (string, error) {
	if !path.IsAbs(name) {
		return "", fmt.Errorf("escape %q: %w: not an absolute path", name, ErrUnitName)
	}
	if strings.IndexByte(name, 0) >= 0 {
		return "", fmt.Errorf("escape %q: %w: it holds a NUL", name, ErrUnitName)
	}
	for part := range strings.SplitSeq(name, "/") {
		if part == ".." {
			return "", fmt.Errorf("escape %q: %w: it holds \"..\"", name, ErrUnitName)
		}
	}
	name = path.Clean(name)
	if name == "/" {
		return "-", nil
	}
	var b strings.Builder
	for i, c := range []byte(name[1:]) {
		switch {
		case c == '/':
			b.WriteByte('-')
		case c == '.' && i == 0, !plainInUnitName(c):
			fmt.Fprintf(&b, `\x%02x`, c)
		default:
			b.WriteByte(c)
		}
	}
	return b.String(), nil
}

// UnescapePath is the inverse of [EscapePath].
func UnescapePath(name string) (string, error) {
	if name == "-" {
		return "/", nil
	}
	out := []byte{'/'}
	for i := 0; i < len(name); i++ {
		switch name[i] {
		case '-':
			out = append(out, '/')
		case '\\':
			if i+3 >= len(name) || name[i+1] != 'x' {
				return "", fmt.Errorf("unescape %q: %w: a lone backslash", name, ErrUnitName)
			}
			hi, lo := unhex(name[i+2]), unhex(name[i+3])
			if hi < 0 || lo < 0 || hi+lo == 0 {
				return "", fmt.Errorf("unescape %q: %w: %q is no character", name, ErrUnitName, name[i:i+4])
			}
			out = append(out, byte(hi<<4|lo))
			i += 3
		default:
			out = append(out, name[i])
		}
	}
	if len(out) == 1 || path.Clean(string(out)) != string(out) {
		return "", fmt.Errorf("unescape %q: %w: not a path", name, ErrUnitName)
	}
	return string(out), nil
}

// InstanceUnit is the instance of a template for a path:
// "scrubd@.service" and "/srv/a-b" give `scrubd@srv-a\x2db.service`.
func InstanceUnit(template, name string) (string, error) {
	before, after, ok := strings.Cut(template, "@.")
	if !ok {
		return "", fmt.Errorf("instance of %q: %w: not a template", template, ErrUnitName)
	}
	escaped, err := EscapePath(name)
	if err != nil {
		return "", err
	}
	unit := before + "@" + escaped + "." + after
	if len(unit) > unitNameMax {
		return "", fmt.Errorf("instance of %s for %q: %w: longer than %d characters", template, name, ErrUnitName, unitNameMax)
	}
	return unit, nil
}

func plainInUnitName(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || c == ':' || c == '_' || c == '.'
}

func unhex(c byte) int {
	switch {
	case '0' <= c && c <= '9':
		return int(c - '0')
	case 'a' <= c && c <= 'f':
		return int(c-'a') + 10
	default:
		return -1
	}
}
