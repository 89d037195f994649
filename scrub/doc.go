// Package scrub is one run over one mounted XFS filesystem, from the first
// probe to the proof that what was repaired is well.
//
// It is not for talking to the kernel (ioctl), nor for deciding how a result
// is shown (cmd/scrubd): it hands out events and returns a [Summary].
//
// A run goes one way: geometry and probes, the kernel's own scrub of the AG
// and filesystem metadata, the walk that collects what every fork claims, the
// kernel's scrub of every inode, the comparison of the claims with the
// kernel's rmapbt and bnobt, the confirmation of every difference that this
// shows, the verdict on which of the structures is wrong, the plan, the
// repairs one at a time, and the proof.
//
// A finding is data; an error is an operation that failed.
package scrub
