package lab_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/scrubd/scrubd/internal/lab"
)

func TestParseOneLineSources(t *testing.T) {
	got := lab.ParseOneLineSources([]byte(`# comment
deb-src http://a.example/debian sid main
#deb http://off.example/debian sid main
deb http://a.example/debian bookworm main contrib # trailing
  deb	[arch=amd64 signed-by=/k.gpg trusted=yes]  http://b.example/debian trixie-updates main
deb http://broken.example/debian
debris http://c.example/debian sid main
`))
	require.Len(t, got, 2)
	assert.Equal(t, "http://a.example/debian", got[0].URI())
	assert.Equal(t, "bookworm", got[0].Suite())
	assert.Empty(t, got[0].SignedBy())
	assert.False(t, got[0].Trusted())
	assert.Equal(t, "http://b.example/debian", got[1].URI())
	assert.Equal(t, "trixie-updates", got[1].Suite())
	assert.Equal(t, "/k.gpg", got[1].SignedBy())
	assert.True(t, got[1].Trusted())
}

func TestParseDeb822Sources(t *testing.T) {
	got := lab.ParseDeb822Sources([]byte(`Types: deb-src
URIs: http://src.example/debian
Suites: sid
Components: main

Enabled: no
Types: deb
URIs: http://off.example/debian
Suites: sid
Components: main

# a comment
Types: deb deb-src
URIs: http://one.example/debian http://two.example/debian
Suites: trixie trixie-updates
Components: main
Signed-By:
 -----BEGIN PGP PUBLIC KEY BLOCK-----
 .
 x: y
`))
	require.Len(t, got, 2)
	for i, suite := range []string{"trixie", "trixie-updates"} {
		assert.Equal(t, "http://one.example/debian", got[i].URI())
		assert.Equal(t, suite, got[i].Suite())
	}
}

func TestMachineMirrorPassesOverOtherArchives(t *testing.T) {
	dir := t.TempDir()
	require.NoError(t, os.Mkdir(filepath.Join(dir, "sources.list.d"), 0o755))
	write := func(name, text string) {
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600))
	}
	_, err := lab.MachineMirror(dir)
	require.ErrorContains(t, err, "find a Debian mirror in "+dir)

	write("sources.list.d/a.list", "deb http://other.example/apt nodistro main\ndeb http://other.example/apt stable contrib\n")
	write("sources.list.d/b.list", "deb http://security.example/debian-security trixie-security main\n")
	_, err = lab.MachineMirror(dir)
	require.Error(t, err, "a security archive has no kernel source of another suite")

	write("sources.list.d/c.sources", "Types: deb\nURIs: http://right.example/debian\nSuites: trixie\nComponents: main\n")
	got, err := lab.MachineMirror(dir)
	require.NoError(t, err)
	assert.Equal(t, "http://right.example/debian", got.URI())
}
