// Package state keeps what must outlive a run: the evidence that is saved
// before a repair, and the intents, which say what repair was under way when a
// run came to an end that it did not choose.
//
// It is not for reports, and it decides nothing: what belongs into the evidence
// of a finding is the run's business.
//
// Everything lies in one directory for each filesystem, named by its UUID,
// below /var/lib/scrubd or a directory that the user has chosen. Where that is
// on the very filesystem under repair, it is below /run/scrubd instead: what is
// to be kept must not depend on what is being repaired, and writing to it would
// change what is being looked at. What is in /run is gone after a reboot, so
// the intents are then kept in a second place as well: a file on the filesystem
// itself that was made when all was well, and that is only overwritten in place.
//
// Directories have mode 0700 and files 0600, since raw metadata holds the names
// and attributes of everybody's files. A file is there as a whole or not at
// all, and Close returns once everything would survive a crash.
package state
