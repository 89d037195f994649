// Package live listens to the kernel while it changes space metadata.
//
// A [Stream] is a tracing instance of our own, with the events of one
// filesystem: what the rmapbts of its allocation groups gain and lose, the
// intents that are pending in a group, repairs and foreign scrubs. It delivers
// the changes to a [Feed], in the kernel's order within each group, and it can
// tell whether an observation was made in a moment in which no chain of
// transactions was under way ([Stream.Quiet]).
//
// It is not for deciding anything, and nothing depends on it: without tracefs
// ([ErrNoTracing]), or when events were lost, what it would have told is found
// out in other ways.
//
// # How events are read
//
// Each CPU has a ring buffer, read in pages as the kernel has them. What is
// where in a page, and in an event, comes from the kernel's own descriptions of
// them (events/header_page, the format file of each event). The buffers do not
// overwrite: when one is full the kernel drops what comes, and counts it.
//
// # Order
//
// The events of one group are made under its AGF lock, so their times are in
// the order of the changes. A round reads a clock, then all buffers until each
// was found empty, and delivers what is older than the clock. An event that is
// older and was not found is one that a CPU was still writing down; whatever
// comes after it in its group is then younger than the clock, and waits for
// the next round as well.
package live
