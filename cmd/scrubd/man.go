package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/cpuguy83/go-md2man/v2/md2man"

	"github.com/scrubd/scrubd/scrub/state"
	"github.com/scrubd/scrubd/service/config"
	"github.com/scrubd/scrubd/service/daemon"
	"github.com/scrubd/scrubd/systemd"
)

// page is a manual page that belongs to no command. Its text is made of what the
// program itself works with, so that the two say the same.
type page struct {
	name, section string
	markdown      func() (string, error)
}

// pages are the pages beside those of the commands.
func pages() []page {
	return []page{
		{"scrubd.toml", "5", func() (string, error) { return tomlPage(), nil }},
		{"scrubd.service", "8", servicePage},
	}
}

// write renders a page into a directory.
func (p *page) write(dir string) error {
	text, err := p.markdown()
	if err != nil {
		return fmt.Errorf("write the page %s(%s): %w", p.name, p.section, err)
	}
	head := fmt.Sprintf("%% %q %q \"\" %q \"System Administration\"\n\n",
		strings.ToUpper(p.name), p.section, "scrubd "+version())
	name := filepath.Join(dir, p.name+"."+p.section)
	if err := os.WriteFile(name, md2man.Render([]byte(head+text)), 0o644); err != nil {
		return fmt.Errorf("write the page %s(%s): %w", p.name, p.section, err)
	}
	return nil
}

// term is an entry of a list of terms.
func term(name, text string) string { return fmt.Sprintf("**%s**\n: %s\n\n", name, text) }

// code is a block of lines as they are.
func code(text string) string {
	return "\t" + strings.ReplaceAll(strings.TrimRight(text, "\n"), "\n", "\n\t") + "\n\n"
}

func tomlPage() string {
	var b strings.Builder
	b.WriteString("# NAME\nscrubd.toml - configuration of the daemon of scrubd\n\n# SYNOPSIS\n")
	fmt.Fprintf(&b, "`%s`\n\n`%s.d/*.toml`\n\n# DESCRIPTION\n", config.Path, config.Path)
	b.WriteString("The file says when **scrubd-daemon**(8) has filesystems checked, and who may ask it. It is in TOML. " +
		"The drop-ins are read after it, by name; the last that names a setting decides. Without any of them the defaults hold.\n\n" +
		"What scrubd does not know is refused, with file and line. **scrubd config check** says what is wrong before " +
		"**systemctl reload scrubd.service** does; a configuration that is wrong changes nothing.\n\n" +
		"What a check may do to a filesystem is no setting: the filesystem's autofsck property says it, " +
		"and `SCRUBD_RUN_FLAGS` of **scrubd.service**(8).\n\n# SETTINGS\n")
	for _, table := range config.Tables() {
		name := "[" + table.Name + "]"
		if table.Many {
			name = "[" + name + "]"
		}
		fmt.Fprintf(&b, "## %s\n%s\n\n", name, table.Text)
		for _, s := range config.Settings() {
			if s.Table != table.Name {
				continue
			}
			text := strings.ToUpper(s.Value[:1]) + s.Value[1:] + ". " + s.Text
			if s.Default != "" {
				text += " Default: " + s.Default + "."
			}
			b.WriteString(term(s.Name+" =", text))
		}
	}
	b.WriteString("# EXAMPLE\n" + code(`[schedule]
period = "2w"
windows = ["01:00-05:00", "Sat,Sun 00:00-24:00"]

[[filesystem]]
mount = "/srv/scratch"
skip = true`))
	b.WriteString("# SEE ALSO\n**scrubd**(8), **scrubd-config-check**(8), **scrubd-daemon**(8), **scrubd.service**(8)\n")
	return b.String()
}

func servicePage() (string, error) {
	files, err := systemd.Files("/usr/sbin/scrubd")
	if err != nil {
		return "", err
	}
	var b strings.Builder
	b.WriteString("# NAME\nscrubd.service - scheduled checks of XFS filesystems\n\n# SYNOPSIS\n")
	units := ""
	for i := range files {
		if f := &files[i]; filepath.Ext(f.Base()) != ".catalog" {
			fmt.Fprintf(&b, "`%s`\n\n", f.Base())
			description, comment := describe(f.Text)
			units += term(f.Base(), description+". "+comment)
		}
	}
	b.WriteString("# DESCRIPTION\n" +
		"The daemon starts a check of each mounted XFS filesystem once a period, as a unit of its own. Without the daemon, " +
		"timers do. A filesystem is checked once a period however many of them there are.\n\n" +
		"An instance is named after the mount point, as **systemd-escape --path** does it.\n\n")
	b.WriteString(code("systemctl enable --now scrubd.service\nsystemctl start \"$(systemd-escape --path --template=scrubd@.service /srv/data)\""))
	b.WriteString("# UNITS\n" + units + "# SETTINGS\n")
	b.WriteString(term("SCRUBD_RUN_FLAGS", "Flags of **scrubd-run**(8) for all runs, in `/etc/default/scrubd`: `SCRUBD_RUN_FLAGS=--check`. "+
		"For one filesystem: **systemctl edit** its instance, with `Environment=SCRUBD_RUN_FLAGS=--check`."))
	b.WriteString(term(config.Path, "When, and who may ask: **scrubd.toml**(5)."))
	b.WriteString(term("/etc/scrubd/on-failure", "A program that is started with the mount point when a run fails."))
	fmt.Fprintf(&b, "# EXIT STATUS\nThat of **scrubd-run**(8), and two more that are no failure of the unit:\n\n%s%s",
		term(fmt.Sprint(exitSkipped), "The filesystem's autofsck property forbids any check."),
		term(fmt.Sprint(exitStopped), "The run was stopped."))
	b.WriteString("# JOURNAL\nEvery entry of a run has the fields " + fieldNames() + "; " +
		"`journalctl -x` explains each kind, and `journalctl MESSAGE_ID=ID` finds it:\n\n")
	priorities := []string{"emerg", "alert", "crit", "err", "warning", "notice", "info", "debug"}
	for _, k := range systemd.Kinds() {
		b.WriteString(term(k.Name, "`"+k.ID+"`, priority "+priorities[k.Priority]))
	}
	fmt.Fprintf(&b, "# CONTROL SOCKET\nHTTP at `%s`, with answers in JSON. Root may do all; members of `control.status_group` may GET. "+
		"An answer that is an error has the field `error`: 403 not allowed, 404 no such filesystem or run, 409 paused, forbidden by the property, or a copy.\n\n",
		daemon.Socket)
	for _, e := range daemon.Endpoints() {
		b.WriteString(term(e.Method+" "+e.Path, e.Text))
	}
	b.WriteString("# FILES\n")
	b.WriteString(term(state.DefaultDir+"/UUID/", "History, reports, sums for the metrics, and evidence of repairs, of each filesystem."))
	b.WriteString(term(state.DefaultDir+"/daemon.json", "What the daemon remembers: what is paused, cancelled, and since when a filesystem is known."))
	b.WriteString(term(state.RuntimeDir+"/", "What may not, or could not, be written to "+state.DefaultDir+"; the next run that can brings it there."))
	b.WriteString("# SEE ALSO\n**scrubd**(8), **scrubd.toml**(5), **scrubd-daemon**(8), **scrubd-due**(8), **scrubd-run**(8), **systemd.timer**(5)\n")
	return b.String(), nil
}

func fieldNames() string {
	var names []string
	for _, f := range []string{systemd.FieldRunID, systemd.FieldMount, systemd.FieldDevice, systemd.FieldUUID} {
		names = append(names, "`"+systemd.JournalField(f)+"`")
	}
	return strings.Join(names, ", ")
}

// describe is what a unit says of itself: its description, and the first
// paragraph of its comment without commands to type.
func describe(text string) (description, comment string) {
	_, text, _ = strings.Cut(text, "\n") // who installed it
	head, _, _ := strings.Cut(text, "\n[")
	var words []string
	for line := range strings.Lines(head) {
		line = strings.TrimRight(line, "\n")
		if rest, ok := strings.CutPrefix(line, "# "); ok && !strings.HasPrefix(rest, " ") {
			words = append(words, rest)
		}
	}
	comment = strings.Join(words, " ")
	if before, ok := strings.CutSuffix(comment, ":"); ok { // a command followed
		comment = before + "."
	}
	for line := range strings.Lines(text) {
		if d, ok := strings.CutPrefix(line, "Description="); ok {
			description = strings.TrimSpace(d)
		}
	}
	return strings.ReplaceAll(description, "%f", "PATH"), strings.ReplaceAll(comment, "%f", "PATH")
}
