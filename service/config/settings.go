package config

// Setting describes one setting of the file, for the manual page. That there is
// one for each that the program reads, and no other, is tested.
type Setting struct {
	// Table is the table that it stands in, and Name its key there.
	Table, Name string
	// Value is what it takes, in words; Default what holds without it, as one
	// would write it, "" for nothing.
	Value, Default string
	// Text says what it does: one sentence or several.
	Text string
}

// Table describes a table of the file.
type Table struct {
	Name string
	// Many says that there may be several: [[name]].
	Many bool
	Text string
}

// Kinds of values.
const (
	aTime    = `time ("36h", "7d", "2w", or "never")`
	windows  = `list of windows ("01:00-05:00", "Sat,Sun 22:00-06:00", "Mon..Fri 00:00-24:00")`
	aPath    = "absolute path"
	aPolicy  = `"background" or "foreground"`
	yesNo    = "true or false"
	ofTheOne = "that of [schedule]"
)

// Tables lists the tables of the file in their order.
func Tables() []Table {
	return []Table{
		{"schedule", false, "When filesystems are checked."},
		{"run", false, "How checks are made."},
		{"health", false, "What is done about corruption that the kernel reports while others use a filesystem."},
		{"control", false, "Who may ask the daemon."},
		{"metrics", false, "What is told to Prometheus."},
		{"filesystem", true, "What is different for one filesystem. Where several fit, all do, and the last that names a setting decides."},
	}
}

// Settings lists all settings, by table.
func Settings() []Setting {
	return []Setting{
		{"schedule", "period", aTime, `"7d"`, "Each filesystem is checked once in that time, at a moment that its UUID decides. " +
			`With "never" the daemon starts no checks but those that a timer or a person asks for.`},
		{"schedule", "overdue", aTime, `"21d"`, "When the last complete check is older than that, the daemon says so daily."},
		{"schedule", "windows", windows, "[]", "Checks are made at these times only; what a person asks for is made at any time. " +
			"A check that is still there when its window closes is stopped, and goes on in the next. An empty list means always. " +
			"Times are local. A window that ends before it begins goes over midnight and belongs to the day it begins on."},
		{"schedule", "max_runs", "number from 1 to 64", "1", "So many checks are made at once at most. Filesystems that share a disk are never checked at once."},

		{"run", "policy", aPolicy, `"background"`, "A check in the background rests between its steps while others wait for the CPUs, the disk or memory; " +
			"one in the foreground is as fast as it can. For checks in units; by hand, flags say it."},

		{"health", "listen", yesNo, "true", "The daemon hears what the kernel reports, has it check the allocation group or inode that it is about, and, where that is corrupt, " +
			"starts a check of the whole filesystem as soon as a window is open. It uses the filesystem's health monitor, or, where xfs_healer has that, fanotify and the kernel's marks."},
		{"health", "quiet", aTime, `"1h"`, "A place that was looked at is not looked at again for that long."},

		{"control", "status_group", "name of a group", `""`, "Members of this group may ask how things are (status, history, wait, metrics). Root may do everything, others nothing."},

		{"metrics", "textfile_dir", aPath, `""`, "The directory of node_exporter's textfile collector. The file scrubd.prom there is written when a check has ended, and every five minutes. Empty for none."},

		{"filesystem", "mount", aPath, "", "The filesystem that is mounted there. Each [[filesystem]] has either this or uuid."},
		{"filesystem", "uuid", "UUID", "", "The filesystem that has this UUID (xfs_admin -u)."},
		{"filesystem", "skip", yesNo, "false", "The daemon starts no checks of it but those that a person asks for."},
		{"filesystem", "period", aTime, ofTheOne, "As in [schedule]."},
		{"filesystem", "overdue", aTime, ofTheOne, "As in [schedule]."},
		{"filesystem", "windows", windows, ofTheOne, "As in [schedule]."},
		{"filesystem", "policy", aPolicy, "that of [run]", "As in [run]."},
	}
}
