package systemd

import (
	"path"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

// What systemd-escape --path of systemd 252 answers.
func TestEscapePath(t *testing.T) {
	for in, want := range map[string]string{
		"/":           "-",
		"//":          "-",
		"/a/b-c":      `a-b\x2dc`,
		"//a//b/":     "a-b",
		"/.hid":       `\x2ehid`,
		"/a/./b":      "a-b",
		"/a\nb":       `a\x0ab`,
		"/ü":          `\xc3\xbc`,
		"/a.b":        "a.b",
		"/_x:y":       "_x:y",
		"/a b":        `a\x20b`,
		`/a\x2d`:      `a\x5cx2d`,
		"/var/lib/.x": "var-lib-.x",
	} {
		got, err := EscapePath(in)
		require.NoError(t, err)
		assert.Equal(t, want, got, in)
		back, err := UnescapePath(got)
		require.NoError(t, err)
		assert.Equal(t, path.Clean(in), back)
	}
	for _, in := range []string{"", "a/b", "/a/../b", "/..", "/a\x00b"} {
		_, err := EscapePath(in)
		require.ErrorIs(t, err, ErrUnitName, in)
	}
	for _, in := range []string{"", `a\x2`, `\`, `a\q20`, `a\x00`, `a\xzz`, "a--b", "..", "a-"} {
		_, err := UnescapePath(in)
		require.ErrorIs(t, err, ErrUnitName, in)
	}
}

// Any path comes back as it was, and the name holds nothing that a unit's may not.
func TestEscapePathReturns(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		name := "/" + string(rapid.SliceOfN(rapid.ByteRange(1, 255), 0, 40).Draw(t, "path"))
		escaped, err := EscapePath(name)
		if err != nil {
			require.ErrorIs(t, err, ErrUnitName)
			require.Contains(t, name, "..")
			return
		}
		require.Regexp(t, `^[-a-zA-Z0-9:_.\\]+$`, escaped)
		back, err := UnescapePath(escaped)
		require.NoError(t, err)
		require.Equal(t, path.Clean(name), back)
	})
}

func TestInstanceUnit(t *testing.T) {
	got, err := InstanceUnit("scrubd@.service", "/srv/a-b")
	require.NoError(t, err)
	assert.Equal(t, `scrubd@srv-a\x2db.service`, got)
	_, err = InstanceUnit("scrubd.service", "/srv")
	require.ErrorIs(t, err, ErrUnitName)
	_, err = InstanceUnit("scrubd@.service", "/"+string(make([]byte, 300)))
	require.ErrorIs(t, err, ErrUnitName)
	long := []byte("/")
	for len(long) < 250 {
		long = append(long, 'x')
	}
	_, err = InstanceUnit("scrubd@.service", string(long))
	require.ErrorContains(t, err, "longer than 255")
}
