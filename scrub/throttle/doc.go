// Package throttle paces a run that is to stay out of everybody's way: how many
// of its workers are at work at once, how long each rests after a piece of work,
// and how large the pieces are.
//
// It is not for deciding what may be slowed down. Whoever looks at something
// again to confirm it, holds a freeze or is about to repair never asks for a
// [Turn]; and [Throttle.Hurry] ends all rests of a run that has found something
// urgent.
//
// # How it works
//
// There is one number, the speed: how many workers are at work at a time, on
// average. It grows by a step a second while nobody waits, and is halved each
// second that somebody does (AIMD, as TCP does it with its window). Others wait
// when the kernel's pressure stall information says so of tasks that are not in
// our own control group, or when the disk takes more than twice as long for a
// request as it does when it is quiet, and others use it. While others use the
// disks at all it stays low: most of what they wait for is not counted.
//
// The speed has a floor ([Slowest]), so that a run always ends: whatever the
// load, all the work takes 1/Slowest times as long as with one worker that
// never rests, and no longer.
//
// # Why not the idle classes of CPU and disk
//
// A kernel call that checks an AG holds its locks. A caller that only gets a
// CPU when nobody else wants one holds them for as long as others have work,
// and every writer of that AG waits with it. So the politeness lies between the
// pieces of work, where no lock is held.
//
// Source: Documentation/accounting/psi.rst, admin-guide/iostats.rst, and
// filesystems/proc.rst (io).
package throttle
