package systemd

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestFiles(t *testing.T) {
	files, err := Files("/usr/local/sbin/scrubd")
	require.NoError(t, err)
	byName := map[string]string{}
	for _, f := range files {
		byName[f.Base()] = f.Text
		assert.NotContains(t, f.Text, "@SCRUBD@")
		assert.True(t, strings.HasPrefix(f.Text, installedBy))
	}
	assert.Contains(t, byName["scrubd@.service"], "\nExecStart=/usr/local/sbin/scrubd run --now --service ")
	assert.Contains(t, byName["scrubd.catalog"], "\n-- "+KindHeld.ID+"\n")
	// Every unit of ours that a unit names is there.
	for name, text := range byName {
		for _, m := range regexp.MustCompile(`(?m)^[A-Z]\w+=.*?\b(scrubd[a-z-]*)(@%i)?\.(service|socket|slice|timer)`).FindAllStringSubmatch(text, -1) {
			unit := m[1] + strings.TrimSuffix(m[2], "%i") + "." + m[3]
			assert.Contains(t, byName, unit, name)
		}
	}
	files, err = Files("/opt/my tools/scrubd")
	require.NoError(t, err)
	var all strings.Builder
	for _, f := range files {
		all.WriteString(f.Text)
	}
	assert.Contains(t, all.String(), "ExecStart=\"/opt/my tools/scrubd\" run")
	for _, bad := range []string{"scrubd", "", "/a%b", "/a\nb", `/a"b`, "/a$b", `/a\b`} {
		_, err := Files(bad)
		require.Error(t, err, bad)
	}
}

func TestInstall(t *testing.T) {
	prefix := t.TempDir()
	files, err := Files("/usr/sbin/scrubd")
	require.NoError(t, err)
	require.NoError(t, Install(prefix, files))
	for _, f := range files {
		text, err := os.ReadFile(filepath.Join(prefix, f.Name))
		require.NoError(t, err)
		assert.Equal(t, f.Text, string(text))
	}
	newer, err := Files("/usr/bin/scrubd")
	require.NoError(t, err)
	require.NoError(t, Install(prefix, newer), "over an older installation")
	removed, err := Uninstall(prefix, files)
	require.NoError(t, err)
	assert.Len(t, removed, len(files))
	for _, f := range files {
		assert.NoFileExists(t, filepath.Join(prefix, f.Name))
	}
	removed, err = Uninstall(prefix, files)
	require.NoError(t, err)
	assert.Empty(t, removed)
}

// What somebody else wrote stays, and nothing is half installed.
func TestInstallBesideAForeignFile(t *testing.T) {
	prefix := t.TempDir()
	files, err := Files("/usr/sbin/scrubd")
	require.NoError(t, err)
	foreign := filepath.Join(prefix, files[len(files)-1].Name)
	require.NoError(t, os.MkdirAll(filepath.Dir(foreign), 0o755))
	require.NoError(t, os.WriteFile(foreign, []byte("mine\n"), 0o600))
	require.ErrorIs(t, Install(prefix, files), ErrForeign)
	assert.NoFileExists(t, filepath.Join(prefix, files[0].Name))

	require.NoError(t, Install(prefix, files[:len(files)-1]))
	removed, err := Uninstall(prefix, files)
	require.ErrorIs(t, err, ErrForeign)
	assert.Len(t, removed, len(files)-1)
	text, err := os.ReadFile(foreign)
	require.NoError(t, err)
	assert.Equal(t, "mine\n", string(text))
}
