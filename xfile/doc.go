// Package xfile holds the data of a run in pageable memory: bytes that the
// kernel may swap out or write back, so that the Go heap stays small however
// large the filesystem under check is.
//
// It is not for data that must outlive the process (every file is anonymous
// and is gone with its descriptor), not for Go values with pointers (the
// garbage collector never looks in here), and not for I/O on the filesystem
// being checked (see [Options.AvoidDevice]).
//
// What lives here:
//
//   - [File]: a memfd, or an unnamed file in a directory, mapped in windows that
//     never move. Space is allocated before anyone touches it, so a full tmpfs or
//     disk is an error with byte counts and not a signal.
//   - [Array]: fixed-size records: append in batches, iterate, sort in place and
//     out of core.
//   - [Blob]: values of any length, each found again by a [Cookie].
//   - [Budget]: what all files of a run may take together. A memory cgroup over
//     its limit is not told, it is killed; the budget refuses before that.
//   - [Guard]: turns the fault of a mapped page that could not be read (a failing
//     disk under an unnamed file) into an error at the edge of a worker.
//
// Invariants, held by every file at every moment that its lock is free:
//
//	0 <= Size
//	held pages = pages the kernel has given = bytes charged to the budget / page size
//	every byte that a caller may touch through a mapping lies in a held page
//	a window, once mapped, stays where it is until the file is closed
package xfile
