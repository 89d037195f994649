package lab

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
)

// aptSource is one line of apt's sources: where a Debian archive is.
type aptSource struct {
	uri        string
	suite      string
	components []string
	signedBy   string // path of a keyring, or empty
	trusted    bool
}

// debianSuites are the suites that tell a Debian archive from other archives.
var debianSuites = []string{
	"bullseye", "bookworm", "trixie", "forky", "duke",
	"oldoldstable", "oldstable", "stable", "testing", "unstable", "sid",
}

// machineMirror finds the Debian archive that this machine installs from, so
// that the lab works behind whatever mirror or proxy the machine is set up for.
func machineMirror(etcApt string) (aptSource, error) {
	files := []string{filepath.Join(etcApt, "sources.list")}
	for _, pattern := range []string{"*.list", "*.sources"} {
		more, err := filepath.Glob(filepath.Join(etcApt, "sources.list.d", pattern))
		if err != nil {
			return aptSource{}, fmt.Errorf("list apt's sources: %w", err)
		}
		files = append(files, more...)
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		if err != nil {
			return aptSource{}, fmt.Errorf("read apt's sources: %w", err)
		}
		var sources []aptSource
		if strings.HasSuffix(file, ".sources") {
			sources = parseDeb822Sources(text)
		} else {
			sources = parseOneLineSources(text)
		}
		for _, source := range sources {
			release, _, _ := strings.Cut(source.suite, "-")
			plain := source.suite == release || strings.HasSuffix(source.suite, "-updates")
			if plain && slices.Contains(debianSuites, release) && slices.Contains(source.components, "main") {
				return source, nil
			}
		}
	}
	return aptSource{}, fmt.Errorf("find a Debian mirror in %s: no source of a Debian suite with component main", etcApt)
}

// parseOneLineSources reads the format of sources.list(5): one "deb" a line.
func parseOneLineSources(text []byte) []aptSource {
	var found []aptSource
	scanner := bufio.NewScanner(bytes.NewReader(text))
	for scanner.Scan() {
		line, _, _ := strings.Cut(scanner.Text(), "#")
		rest, ok := strings.CutPrefix(strings.TrimSpace(line), "deb")
		if !ok || rest == "" || (rest[0] != ' ' && rest[0] != '\t') {
			continue
		}
		var source aptSource
		rest = strings.TrimSpace(rest)
		if options, after, ok := strings.Cut(rest, "]"); ok && strings.HasPrefix(options, "[") {
			for _, option := range strings.Fields(options[1:]) {
				switch key, value, _ := strings.Cut(option, "="); strings.ToLower(key) {
				case "signed-by":
					source.signedBy = value
				case "trusted":
					source.trusted = value == "yes"
				}
			}
			rest = after
		}
		fields := strings.Fields(rest)
		if len(fields) < 3 {
			continue
		}
		source.uri, source.suite, source.components = fields[0], fields[1], fields[2:]
		found = append(found, source)
	}
	return found
}

// parseDeb822Sources reads the stanzas of a .sources file. A stanza with
// several URIs gives its first one: they are mirrors of each other.
func parseDeb822Sources(text []byte) []aptSource {
	var found []aptSource
	fields := map[string]string{}
	flush := func() {
		uris := strings.Fields(fields["uris"])
		enabled := !strings.EqualFold(fields["enabled"], "no")
		if slices.Contains(strings.Fields(fields["types"]), "deb") && len(uris) > 0 && enabled {
			for _, suite := range strings.Fields(fields["suites"]) {
				found = append(found, aptSource{
					uri: uris[0], suite: suite,
					components: strings.Fields(fields["components"]),
					signedBy:   fields["signed-by"],
					trusted:    strings.EqualFold(fields["trusted"], "yes"),
				})
			}
		}
		clear(fields)
	}
	key := ""
	scanner := bufio.NewScanner(bytes.NewReader(text))
	for scanner.Scan() {
		line := scanner.Text()
		switch {
		case strings.TrimSpace(line) == "":
			flush()
		case strings.HasPrefix(line, "#"):
		case line[0] == ' ' || line[0] == '\t':
			fields[key] += " " + strings.TrimSpace(line)
		default:
			name, value, _ := strings.Cut(line, ":")
			key = strings.ToLower(strings.TrimSpace(name))
			fields[key] = strings.TrimSpace(value)
		}
	}
	flush()
	return found
}

// keyring picks what the archive's signature is checked with: Debian's own
// keyring where it is installed, else what the machine's source names. An
// inline key of a .sources file has no path and counts as none.
func (s aptSource) keyring() string {
	for _, path := range []string{
		"/usr/share/keyrings/debian-archive-keyring.pgp",
		"/usr/share/keyrings/debian-archive-keyring.gpg",
		s.signedBy,
	} {
		if filepath.IsAbs(path) {
			if _, err := os.Stat(path); err == nil {
				return path
			}
		}
	}
	return ""
}

// privateApt is an apt configuration of the lab's own: other suites than the
// machine's, with lists and downloads in the cache, so that neither the
// machine's suites nor what it would install from them changes.
type privateApt struct {
	dir     string
	options []string
}

// openPrivateApt writes the configuration for those suites of the machine's
// mirror. Nothing is fetched yet.
func openPrivateApt(dir string, mirror aptSource, suites ...string) (*privateApt, error) {
	for _, sub := range []string{"etc", "lists/partial", "archives/partial"} {
		if err := os.MkdirAll(filepath.Join(dir, sub), 0o755); err != nil {
			return nil, fmt.Errorf("create the lab's apt directory: %w", err)
		}
	}
	var text strings.Builder
	for _, suite := range suites {
		fmt.Fprintf(&text, "Types: deb\nURIs: %s\nSuites: %s\nComponents: main\n", mirror.uri, suite)
		if keyring := mirror.keyring(); keyring != "" {
			fmt.Fprintf(&text, "Signed-By: %s\n", keyring)
		}
		if mirror.trusted {
			text.WriteString("Trusted: yes\n")
		}
		text.WriteString("\n")
	}
	if err := os.WriteFile(filepath.Join(dir, "etc", "lab.sources"), []byte(text.String()), 0o644); err != nil {
		return nil, fmt.Errorf("write the lab's apt sources: %w", err)
	}
	// Options on the command line are read last and so win over apt.conf.d.
	// A mirror's Release file may be past its date; signatures are still checked.
	settings := []string{
		"Dir::Etc::SourceList=/dev/null",
		"Dir::Etc::SourceParts=" + filepath.Join(dir, "etc"),
		"Dir::State::Lists=" + filepath.Join(dir, "lists"),
		"Dir::Cache=" + dir,
		"Dir::Cache::pkgcache=",
		"Dir::Cache::srcpkgcache=",
		"Acquire::Check-Valid-Until=false",
		"Acquire::Languages=none",
		"Acquire::IndexTargets::deb::DEP-11::DefaultEnabled=false",
		"Acquire::Retries=3",
		// The cache may lie where apt's own download user may not write.
		"APT::Sandbox::User=root",
	}
	apt := &privateApt{dir: dir}
	for _, setting := range settings {
		apt.options = append(apt.options, "-o", setting)
	}
	return apt, nil
}

// update fetches the suites' package lists.
func (a *privateApt) update(ctx context.Context, log io.Writer) error {
	return runLogged(ctx, log, a.dir, "apt-get", append(slices.Clone(a.options), "-qq", "update")...)
}

// names lists the packages whose name matches the regular expression.
func (a *privateApt) names(ctx context.Context, pattern string) ([]string, error) {
	args := append(slices.Clone(a.options), "search", "--names-only", pattern)
	out, err := exec.CommandContext(ctx, "apt-cache", args...).Output()
	if err != nil {
		return nil, fmt.Errorf("search %s in the lab's suites: %w", pattern, err)
	}
	var names []string
	for line := range strings.Lines(string(out)) {
		name, _, _ := strings.Cut(line, " ")
		names = append(names, name)
	}
	return names, nil
}

// download fetches one package and returns the path of the .deb, which the
// caller removes.
func (a *privateApt) download(ctx context.Context, log io.Writer, name string) (string, error) {
	dir := filepath.Join(a.dir, "archives")
	if err := runLogged(ctx, log, dir, "apt-get", append(slices.Clone(a.options), "-qq", "download", name)...); err != nil {
		return "", err
	}
	debs, err := filepath.Glob(filepath.Join(dir, name+"_*.deb"))
	if err != nil || len(debs) == 0 {
		return "", fmt.Errorf("download %s: apt-get left no .deb in %s", name, dir)
	}
	slices.Sort(debs)
	return debs[len(debs)-1], nil
}
