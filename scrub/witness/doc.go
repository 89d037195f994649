// Package witness reads the kernel's own records of an allocation group's
// space: the rmapbt and, from a thread without CAP_SYS_ADMIN, the bnobt, both
// through GETFSMAP.
//
// It is not for judging what it reads, and not for the forks (package walk).
//
// # Continuation
//
// A whole group rarely fits one call. GETFSMAP's own way of going on, with the
// last record as the low key, adds that record's length to the place where it
// looks next, and so skips every record that begins inside: none in a healthy
// tree, and just the bogus ones in a damaged tree. The readers here never let
// the kernel do that; see reader for what they do instead.
//
// # Atomicity
//
// One call holds the group's lock: up to [ioctl.MaxFSMapRecords] records are
// one picture of rmapbt and refcountbt. A stream over several calls is not.
package witness
