// Package verdict decides which of several disagreeing structures is wrong,
// and whether rebuilding it may cost anything.
//
// Everything here is a pure function: confirmed evidence in, a [Decision] or a
// list of [Blocker] out. It never talks to the kernel and never relaxes a rule
// because a repair would otherwise not happen.
//
// Above all rows of the table stand two rules. Do no harm: a repair whose
// source is a disputed structure is not run, and a repair that would change
// what a file reads is run only to restore what another witness proves. The
// reap rule: a repair that would free a block needs a second witness that
// denies the record which owns it.
package verdict
