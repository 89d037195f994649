// Package kernel runs the kernel's own checks and repairs of metadata: every
// scrub type, in the order in which one relies on another, with the retries
// that the kernel asks for.
//
// It is not for deciding anything. What a finding means is the verdict's
// business, and a repair runs here because somebody else has decided it.
//
// A check of one [Object] gives a [Result]. An error beside results is a
// [*FatalError] or the context's: nothing more can be done on this filesystem.
// All other trouble is in the result of the object that it is about, so that a
// filesystem with one bad sector is checked everywhere else.
//
// Types of one object go to the kernel as a vector. A type is not run where
// another has found what it stands on to be corrupt, since its own verdict
// would only repeat that; it is listed all the same, as not checked, with the
// type that it waited for. What merely disagrees with another structure holds
// nothing back: which of the two is wrong is not known yet, and every further
// verdict helps to tell.
//
// Source: man 2 ioctl_xfs_scrub_metadata, ioctl_xfs_scrubv_metadata;
// fs/xfs/scrub/scrub.c of Linux 7.2.
package kernel
