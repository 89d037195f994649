package systemd

import (
	"path"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

func TestUnitRunning(t *testing.T) {
	for state, want := range map[string]bool{
		"active": true, "activating": true, "deactivating": true, "reloading": true, "refreshing": true,
		"inactive": false, "failed": false, "maintenance": false, "": false,
	} {
		u := Unit{Active: state}
		assert.Equal(t, want, u.Running(), state)
	}
}

// A pattern made of a name matches that name alone. (path.Match is fnmatch but
// for slashes, which no name has.)
func TestPattern(t *testing.T) {
	assert.Equal(t, `xfs_scrub@srv-a\\x2db.service`, Pattern(`xfs_scrub@srv-a\x2db.service`))
	names := rapid.StringMatching(`[a-z*?\[\]\\@.]{1,8}`)
	rapid.Check(t, func(t *rapid.T) {
		name, other := names.Draw(t, "name"), names.Draw(t, "other")
		ok, err := path.Match(Pattern(name), other)
		require.NoError(t, err)
		require.Equal(t, name == other, ok)
		ok, err = path.Match(Pattern(name), name)
		require.NoError(t, err)
		require.True(t, ok)
	})
}

func TestPeersOfNoPath(t *testing.T) {
	_, err := Peers(t.Context(), "srv")
	require.ErrorIs(t, err, ErrUnitName)
}
