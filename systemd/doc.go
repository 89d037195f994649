// Package systemd is how scrubd talks to the service manager and the journal:
// notifications and the watchdog, entries with fields and message IDs, names
// of units, and what other units are doing.
//
// It knows nothing of XFS beyond the names of fields. Everything works, and
// says so, where no systemd is there.
package systemd
