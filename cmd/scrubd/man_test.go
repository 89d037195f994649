package main

import (
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/scrubd/scrubd/service/config"
	"github.com/scrubd/scrubd/service/daemon"
	"github.com/scrubd/scrubd/systemd"
)

// manual is what man(1) would be given.
func manual(t *testing.T) (dir string, page func(name string) string) {
	t.Helper()
	dir = t.TempDir()
	require.Zero(t, execute([]string{"gen-man", dir}, streams{out: io.Discard, err: io.Discard}))
	return dir, func(name string) string {
		text, err := os.ReadFile(filepath.Join(dir, name))
		require.NoError(t, err)
		// What roff escapes: hyphens, dots at the start of a line, fonts.
		return regexp.MustCompile(`\\f[BIRCP]W?|\\&`).ReplaceAllString(strings.ReplaceAll(string(text), `\-`, "-"), "")
	}
}

// The pages say of settings, units, messages and requests what the program has.
func TestManualPages(t *testing.T) {
	dir, page := manual(t)
	text := page("scrubd.toml.5")
	for _, s := range config.Settings() {
		assert.Contains(t, text, "\n"+s.Name+" =\n", s.Table)
		assert.Contains(t, text, strings.ReplaceAll(s.Text, "\n", " "))
	}
	text = page("scrubd.service.8")
	files, err := systemd.Files("/usr/sbin/scrubd")
	require.NoError(t, err)
	for _, f := range files {
		if filepath.Ext(f.Name) != ".catalog" {
			assert.Contains(t, text, "\n"+f.Base()+"\n")
		}
	}
	for _, k := range systemd.Kinds() {
		assert.Contains(t, text, k.ID)
	}
	for _, e := range daemon.Endpoints() {
		assert.Contains(t, text, "\n"+e.Method+" "+e.Path+"\n")
	}
	assert.NotContains(t, text, "@SCRUBD@")
	assert.NotContains(t, text, "%f")

	// No page names one that is not there, nor does a unit.
	named := regexp.MustCompile(`\b(scrubd[a-z.-]*)\((\d)\)|man:(scrubd[a-z.-]*)\((\d)\)`)
	check := func(where, text string) {
		for _, m := range named.FindAllStringSubmatch(text, -1) {
			assert.FileExists(t, filepath.Join(dir, m[1]+m[3]+"."+m[2]+m[4]), where)
		}
	}
	entries, err := os.ReadDir(dir)
	require.NoError(t, err)
	for _, e := range entries {
		check(e.Name(), page(e.Name()))
	}
	for _, f := range files {
		check(f.Name, f.Text)
		if strings.Contains(f.Text, "[Unit]") {
			assert.Contains(t, f.Text, "\nDocumentation=man:scrubd.service(8)", f.Name)
		}
	}
}

// docs/operations.md names every request and every unit.
func TestOperationsListsRequestsAndUnits(t *testing.T) {
	doc, err := os.ReadFile("../../docs/operations.md")
	require.NoError(t, err)
	for _, e := range daemon.Endpoints() {
		if !strings.Contains(string(doc), "`"+e.Path) && !strings.Contains(string(doc), e.Path+"?") {
			t.Errorf("no %s in docs/operations.md", e.Path)
		}
	}
	files, err := systemd.Files("/usr/sbin/scrubd")
	require.NoError(t, err)
	for _, f := range files {
		name := strings.Replace(f.Base(), "@.", "@PATH.", 1)
		if filepath.Ext(name) != ".catalog" && !strings.Contains(string(doc), "`"+name+"`") {
			t.Errorf("no %s in docs/operations.md", name)
		}
	}
}

// groff, where it is there, finds nothing wrong with the pages.
func TestManualPagesAreGoodRoff(t *testing.T) {
	groff, err := exec.LookPath("groff")
	if err != nil {
		groff = "" // the text was looked at above; the format is md2man's
	}
	dir, _ := manual(t)
	for _, name := range []string{"scrubd.toml.5", "scrubd.service.8", "scrubd-run.8"} {
		text, err := os.ReadFile(filepath.Join(dir, name))
		require.NoError(t, err)
		assert.Regexp(t, `(?m)^\.TH `, string(text))
		assert.Regexp(t, `(?m)^\.SH NAME$`, string(text))
		if groff != "" {
			out, err := exec.CommandContext(t.Context(), groff, "-man", "-Tutf8", "-ww", "-z", filepath.Join(dir, name)).CombinedOutput()
			require.NoError(t, err)
			assert.Empty(t, string(out), name)
		}
	}
}

func TestCompletions(t *testing.T) {
	dir := t.TempDir()
	require.Zero(t, execute([]string{"gen-shells", dir}, streams{out: io.Discard, err: io.Discard}))
	bash := filepath.Join(dir, "bash-completion/completions/scrubd")
	out, err := exec.CommandContext(t.Context(), "bash", "-n", bash).CombinedOutput()
	require.NoError(t, err, string(out))
	for _, name := range []string{"zsh/site-functions/_scrubd", "fish/vendor_completions.d/scrubd.fish"} {
		text, err := os.ReadFile(filepath.Join(dir, name))
		require.NoError(t, err)
		assert.Contains(t, string(text), "__complete")
	}
	var b strings.Builder
	require.Zero(t, execute([]string{"__complete", "units", "show", "scrubd-a"}, streams{out: &b, err: io.Discard}))
	assert.Contains(t, b.String(), "scrubd-all.timer\n")
	mounts, err := daemon.ReadMounts()
	require.NoError(t, err)
	for _, command := range []string{"run", "due", "pause", "resume", "cancel", "wait", "history", "probe", "repair"} {
		b.Reset()
		require.Zero(t, execute([]string{"__complete", command, ""}, streams{out: &b, err: io.Discard}))
		assert.Contains(t, b.String(), ":4\n", "and no files")
		for i := range mounts {
			assert.Contains(t, b.String(), mounts[i].Point+"\t", command)
		}
	}
}
