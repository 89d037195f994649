// Package lab holds the test rigs: a User Mode Linux kernel with online scrub
// and repair, the newest xfsprogs, loop-mounted filesystems, and the gate that
// decides which of them a test may use. It is no part of the program.
//
// Start with [InKernel] for a test that needs the scrub ioctl, [Boot] for a
// campaign that boots a kernel per case, and [Require] for everything that
// needs root, loop devices or the newest tools.
//
// What is costly to make (kernel source, kernel, root with the newest tools)
// is made once by internal/lab/labctl and kept in [CacheDir].
package lab
